"""What the uplink would have cost had every sample been sent: the very codec of the gateway, in the same rhythm.

The one place where the host tools call the gateway's code: the demo runs both sides, and a price from a formula would
be a guess. Pure: samples in, bytes out.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway import wire
from gateway.messages import LANE_LIVE, DeviceInfo, Row
from host_tools.demo.plan import EPOCH_UNIX_S, GATEWAY_ID, Plan
from host_tools.demo.reconcile import BoardBooks, share_out
from isocore.record import SAMPLE

BATCH_ROWS_MAX = 5000
HEADER_BYTES = 330  # request line and headers of one POST of the gateway, as sent in a run


def bytes_per_board(plan: Plan, books: Mapping[str, BoardBooks], posts: int) -> dict[str, int]:
    """Bytes up, headers counted, if all samples had gone in as many requests as the run made; shared out by samples."""
    rows: list[Row] = []
    infos: dict[int, DeviceInfo] = {}
    for device, board in enumerate(plan.boards):
        channels = tuple((name, "degC" if name == "temperature" else "%RH") for name in board.channels)
        infos[device] = DeviceInfo(device, board.name, board.device_class, channels)
        for seq, sample in enumerate(books[board.name].samples, start=1):
            value, uptime_ms = sample.value_milli, sample.uptime_ms
            epoch_ms = EPOCH_UNIX_S * 1000
            rows.append(Row(device, sample.boot, seq, SAMPLE, sample.channel, value, 0, uptime_ms, epoch_ms, 1, 0, seq))
    rows.sort(key=lambda row: row.uptime_ms)
    if not rows:
        return dict.fromkeys(books, 0)
    requests = max(1, posts, -(-len(rows) // BATCH_ROWS_MAX))
    _, compress = wire.compressor("auto")
    total = requests * HEADER_BYTES
    for number in range(requests):
        part = rows[len(rows) * number // requests : len(rows) * (number + 1) // requests]
        if part:
            body = wire.document(GATEWAY_ID, number + 1, LANE_LIVE, 1, len(part), part, infos)
            total += len(wire.encode(body, compress)[0])
    return share_out(total, {name: len(b.samples) for name, b in books.items()})
