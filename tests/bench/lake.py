"""The lake: rows a second from the receiver's store into Parquet, bytes a reading there, and one question to all of it.

The rows are what 24 simulated rooms measure in a week, once all of it and once only what the boards' filter reports.
The writer runs in this process, so its processor time is ours; the store is filled beforehand.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path

from host_tools.cloud.store import Store
from host_tools.cloud.store_log import StoreLog
from host_tools.cloud.wire import Batch, Device, Reading
from host_tools.lake.query import ask
from host_tools.lake.snapshot import Snapshot, load
from host_tools.lake.storage import open_storage
from host_tools.lake.upkeep import Policy, upkeep
from host_tools.lake.writer import catch_up
from host_tools.rooms import fleet
from host_tools.sensing import Source
from tests.bench.common import BenchError, Result, Settings
from tests.bench.uplink import BOARDS, EPOCH_UNIX_MS, Sample, reports_of, samples_of

DAYS = 7
GATEWAYS = 3
BATCH_ROWS = 1000
ERROR_MILLI = 500
QUESTION = "SELECT device, name, count(*), avg(value), max(value) FROM readings GROUP BY ALL"


def run(settings: Settings) -> list[Result]:
    """Each figure for all samples and for reports only."""
    folder = settings.workdir("lake")
    sources = list[Source](fleet(BOARDS, duration_s=DAYS * 86_400, faults=None))
    samples = sorted(samples_of(sources))
    results = []
    for name, rows in (("raw samples", samples), ("reports only at 0.5 °C", sorted(reports_of(samples, ERROR_MILLI)))):
        data = folder / f"data-{len(results)}"
        _fill(data, rows)
        results += _measure(settings, name, data, len(rows))
    return results


def _measure(settings: Settings, name: str, data: Path, rows: int) -> list[Result]:
    rates, costs_us, asks_ms = [], [], []
    size = 0.0
    files = 0
    for number in range(settings.runs):
        lake = data.with_name(f"{data.name}-lake-{number}")
        storage = open_storage(str(lake))
        began_s, used_s = time.perf_counter(), time.process_time()
        with StoreLog(data) as log:
            catch_up(log, storage)
        costs_us.append((time.process_time() - used_s) / rows * 1e6)
        rates.append(rows / (time.perf_counter() - began_s))
        snapshot = load(storage) or Snapshot()
        upkeep(storage, Policy(), snapshot.received_unix_ms)
        began_s = time.perf_counter()
        answer = ask(storage, QUESTION)
        asks_ms.append((time.perf_counter() - began_s) * 1000)
        if sum(row[2] for row in answer.rows) != rows:
            raise BenchError(f"{name}: the lake does not hold the store's {rows} rows")
        held = (load(storage) or Snapshot()).of("readings")
        size, files = sum(file.bytes for file in held) / rows, len(held)
        shutil.rmtree(lake)
        settings.say(f"  {name}: {rates[-1]:,.0f} rows/s, {size:.2f} B a reading")
    note = f"{rows:,} rows of {BOARDS} boards and {DAYS} days, {GATEWAYS} gateways"
    return [
        Result(f"lake, rows written, {name}", "rows/s", rates, note=note),
        Result(f"lake, writer's processor time, {name}", "µs a row", costs_us, digits=1),
        Result(f"lake, Parquet, {name}", "B/reading", [size], note=f"in {files} files of a day and gateway", digits=2),
        Result(f"lake, count, mean and greatest of each channel, {name}", "ms", asks_ms, note="one query, all rows"),
    ]


def _fill(folder: Path, rows: list[Sample]) -> None:
    """Three gateways' stores of the same kind: boards by turns, a batch whenever a gateway has a thousand rows."""
    waiting: dict[int, list[tuple[int, Reading]]] = {number: [] for number in range(GATEWAYS)}
    seqs = dict.fromkeys(range(BOARDS), 0)
    sent = 0
    clock_ms = 0
    with Store(folder, lambda: EPOCH_UNIX_MS + clock_ms) as store:
        for place, (uptime_ms, board, channel, value, kind) in enumerate(rows, start=1):
            seqs[board] += 1
            epoch_ms = EPOCH_UNIX_MS - board * 1777
            reading = Reading(0, 1, seqs[board], kind, channel, value, 0, uptime_ms, epoch_ms, 1)
            waiting[board % GATEWAYS].append((board, reading))
            clock_ms = uptime_ms
            for gateway, found in waiting.items():
                if len(found) == BATCH_ROWS or (found and place == len(rows)):
                    sent += 1
                    store.submit(_batch(gateway, sent, found), 1).result()
                    found.clear()


def _batch(gateway: int, number: int, rows: list[tuple[int, Reading]]) -> Batch:
    boards = sorted({board for board, _ in rows})
    channels = (("temperature", "degC"), ("humidity", "%RH"))
    devices = tuple(Device(f"board-{board}", "room", channels) for board in boards)
    readings = [reading._replace(device=boards.index(board)) for board, reading in rows]
    digest = hashlib.sha256(b"%d %d" % (gateway, number)).digest()
    return Batch(f"gw-{gateway}", number, digest, "live", devices, readings)
