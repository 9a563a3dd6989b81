"""Bytes a reading up: request line, headers and body, as counted by a receiver in a process of its own.

Minute samples of the simulated rooms of host_tools/rooms.py, and recorded traces where ISOTHERM_TRACES names them, go
through the gateway's own encoder and sink, once all of them and once only what the board's filter reports. Batches are
full ones, as while a backlog drains; a quiet site that sends every ten seconds pays its headers for fewer readings.
Counts, not times: one run says it all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from gateway import wire
from gateway.messages import LANE_LIVE, Batch, DeviceInfo, Row
from gateway.sinks.https import HttpSink
from host_tools.convert import convert
from host_tools.rooms import SimulatedBoard, fleet
from host_tools.sensing import Source
from host_tools.traces import load_traces
from isocore.filter import ChannelFilter
from isocore.model import ChannelParams
from isocore.record import SAMPLE, is_report
from tests.bench.common import Result, Settings
from tests.bench.receiver import Server

BOARDS = 24
DAYS = 3
BATCH_ROWS = (1000, 5000)  # sinks.live_rows and sinks.backfill_rows
EPOCH_UNIX_MS = 1_767_225_600_000
ERRORS_MILLI = (500, 100)
AIMS = {500: "0.27", 100: "1.15"}  # of recorded minute samples; fridges and freezers that cycle report more
HUMIDITY_ERROR_FACTOR = 4
UNITS = ("degC", "%RH")
NAMES = ("temperature", "humidity")
Sample = tuple[int, int, int, int, int]  # uptime_ms, board, channel, value, kind


def run(settings: Settings) -> list[Result]:
    """Bytes and shares for each set of sources."""
    folder = settings.workdir("uplink")
    sets: dict[str, list[Source]] = {
        "simulated rooms": list[Source](fleet(BOARDS, duration_s=DAYS * 86_400, faults=None))
    }
    traces = os.environ.get("ISOTHERM_TRACES")
    if traces:
        for name in sorted(path.name for path in Path(traces).iterdir() if path.is_dir()):
            convert([Path(traces) / name], folder / name)
            sets[f"trace set {name}"] = list[Source](load_traces([folder / name]).values())
    else:
        settings.say("  recorded traces: not measured, ISOTHERM_TRACES is not set")
    results = []
    with Server(folder) as cloud:
        for name, sources in sets.items():
            results += _measure(name, sources, cloud)
    return results


def _measure(name: str, sources: list[Source], cloud: Server) -> list[Result]:
    samples = sorted(samples_of(sources))
    infos = _infos(sources)
    raw_json = sum(len(_plain_json(sample, infos)) for sample in samples) / len(samples)
    comparable = not isinstance(sources[0], SimulatedBoard) and _spacing_s(sources[0]) == 60
    results = []
    for size in BATCH_ROWS:
        results.append(_bytes(f"{name}, raw samples", samples, infos, size, cloud, raw_json, "2.5"))
    for error_milli in ERRORS_MILLI:
        reports = sorted(reports_of(samples, error_milli))
        humidity_pct = error_milli * HUMIDITY_ERROR_FACTOR / 1000
        results.append(
            Result(
                f"{name}: share of samples sent at {error_milli / 1000:g} °C", "%", [100 * len(reports) / len(samples)],
                note=f"{len(samples):,} samples, predictor hold; humidity at {humidity_pct:g} %RH",
                aim=AIMS[error_milli] if comparable else "", digits=2,
            )
        )  # fmt: skip
        if error_milli == ERRORS_MILLI[0]:
            results.append(
                _bytes(f"{name}, reports only at 0.5 °C", reports, infos, BATCH_ROWS[0], cloud, raw_json, "5")
            )
    return results


def _spacing_s(source: Source) -> int:
    """Seconds between most of its rows."""
    times_ms = [row.t_ms for row in source.rows()]
    steps = sorted(b - a for a, b in pairwise(times_ms))
    return round(steps[len(steps) // 2] / 1000)


def samples_of(sources: list[Source]) -> Iterable[Sample]:
    """What the boards read. Each board came up at a moment of its own."""
    for board, source in enumerate(sources):
        sensing = source.sensing
        lead_ms = 5000 + board * 1777 % 60_000
        for row in source.rows():
            if row.fault:
                continue
            yield row.t_ms + lead_ms, board, 0, sensing.quantise_temp(row.temp_milli), SAMPLE
            if row.humidity_milli is not None:
                yield row.t_ms + lead_ms, board, 1, sensing.quantise_humidity(row.humidity_milli), SAMPLE


def reports_of(samples: list[Sample], error_milli: int) -> Iterable[Sample]:
    """What is left of them after the board's own filter."""
    filters: dict[tuple[int, int], Any] = {}
    for uptime_ms, board, channel, value, _ in samples:
        found = filters.get((board, channel))
        if found is None:
            params = ChannelParams()
            params.error_milli = error_milli * (HUMIDITY_ERROR_FACTOR if channel else 1)
            found = filters[board, channel] = ChannelFilter(params)
        for i in range(found.step(uptime_ms // 1000, uptime_ms % 1000, value)):
            if is_report(found.kinds[i]):
                yield uptime_ms, board, channel, found.values[i], found.kinds[i]


def _infos(sources: list[Source]) -> dict[int, DeviceInfo]:
    infos = {}
    for board, source in enumerate(sources):
        kind = source.kind if isinstance(source, SimulatedBoard) else "recorded"
        count = 2 if source.sensing.humidity else 1
        infos[board] = DeviceInfo(board, source.board, kind, tuple(zip(NAMES[:count], UNITS[:count], strict=True)))
    return infos


def _bytes(
    name: str, samples: list[Sample], infos: dict[int, DeviceInfo], size: int, cloud: Server, beside: float, aim: str
) -> Result:
    """Send them through the gateway's own encoder and sink, and let the receiver count."""
    cloud.ask("reset")
    encoding, compress = wire.compressor("auto")
    sink = HttpSink(cloud.url, "gw-bench", connections=1)
    seqs = dict.fromkeys(infos, 0)
    rows = []
    for number, (uptime_ms, board, channel, value, kind) in enumerate(samples, start=1):
        seqs[board] += 1
        epoch_ms = EPOCH_UNIX_MS - board * 1777
        rows.append(Row(board, 1, seqs[board], kind, channel, value, 0, uptime_ms, epoch_ms, 1, 0, number))
    for number, start in enumerate(range(0, len(rows), size), start=1):
        part = rows[start : start + size]
        known = {board: infos[board] for board in {row.device for row in part}}
        body = wire.document("gw-bench", number, LANE_LIVE, part[0].row, part[-1].row, part, known)
        data, digest = wire.encode(body, compress)
        counts = wire.counts(part)
        sink.send(
            Batch("cloud", number, LANE_LIVE, part[0].row, part[-1].row, len(part), counts, encoding, digest, data)
        )
    sink.close()
    stats = cloud.ask("stats")
    note = f"{stats['identities']:,} readings in {stats['posts']} batches of up to {size}, {encoding}"
    return Result(
        f"uplink, {name}, batches of {size}", "B/reading", [stats["bytes_up"] / stats["identities"]], note=note,
        beside_name="one JSON object a reading, no header, no compression", beside=[beside], aim=aim, digits=2,
    )  # fmt: skip


def _plain_json(sample: Sample, infos: dict[int, DeviceInfo]) -> str:
    """What a plain JSON publisher would send of it."""
    uptime_ms, board, channel, value, _ = sample
    fields = {"device": infos[board].name, "ts": EPOCH_UNIX_MS + uptime_ms, NAMES[channel]: value / 1000}
    return json.dumps(fields, separators=(",", ":"))
