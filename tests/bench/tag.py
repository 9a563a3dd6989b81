"""What a tag costs: on the board's processor, on the air, and on the way up, a frame and a reading.

The processor is this machine's; bytes are the same everywhere. Frames of one reading, as a quiet board sends them, and
of 32, as a backlog drains. Upwards the same rows go with and without their frames' tags, which no compression shortens.
"""

from __future__ import annotations

import random

from gateway import wire
from gateway.messages import DeviceInfo, Row, Tag
from host_tools.virtual.interpreter import find_micropython
from tests.bench.board import FIRMWARE, script
from tests.bench.common import Result, Settings
from tests.support.daemon import ROOT

ROWS = 320
EPOCH_UNIX_MS = 1_767_225_600_000


def run(settings: Settings) -> list[Result]:
    """All of it."""
    interpreter = find_micropython(root=ROOT)
    if interpreter.bits != 32:
        settings.say(f"  {interpreter.notice}")
    found: list[Result] = []
    for records in (1, 32):
        once = [script(interpreter, "tag.py", FIRMWARE, records) for _ in range(settings.runs)]
        size = f"{once[0]['tag_bytes']} B instead of {once[0]['crc_bytes']} B"
        heap = f"{max(o['tag_heap'] for o in once)} B of heap instead of {max(o['crc_heap'] for o in once)} B"
        extra = [(o["tag_bytes"] - o["crc_bytes"]) / records for o in once]
        time = [o["tag"] / 1000 for o in once]
        beside = [o["crc"] / 1000 for o in once]
        found += [
            Result(f"sealing a frame of {records} with a tag", "µs", time, heap, "with a CRC", beside, digits=1),
            Result(f"more on the air a reading, frames of {records}", "B", extra, size, digits=2),
            Result(
                f"more upwards a reading, frames of {records}", "B", [_up(records)], f"{ROWS} rows a batch", digits=2
            ),
        ]
    return found


def _up(records: int) -> float:
    """Compressed bytes a reading that tags add to a batch."""
    dice = random.Random(1)
    rows = [
        Row(1, 1, seq, 1, 0, 21000 + dice.randrange(-500, 500), 0, seq * 60_000, EPOCH_UNIX_MS, 1, 0, seq)
        for seq in range(1, ROWS + 1)
    ]
    tags = [
        Tag(first, first + records - 1, 1, 1, EPOCH_UNIX_MS, first, records, [], dice.randbytes(16))
        for first in range(1, ROWS + 1, records)
    ]
    devices = {1: DeviceInfo(1, "fridge-1", "fridge", (("temperature", "degC"),))}
    compress = wire.compressor("auto")[1]
    plain, _ = wire.encode(wire.document("gw-1", 1, "live", 1, ROWS, rows, devices), compress)
    tagged, _ = wire.encode(wire.document("gw-1", 1, "live", 1, ROWS, rows, devices, tags), compress)
    return (len(tagged) - len(plain)) / ROWS
