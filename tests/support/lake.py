"""A receiver's store with rows of known content, and a lake's rows beside the store's: both as sorted tuples.

As a program it kills lake writers: `python -m tests.support.lake DATA LAKE WORK...` copies LAKE, does WORK in a child
that is killed (SIGKILL) at its first step, lets the next writer go on, compares, and so on for every step there is. It
prints one JSON line a step. One process is forked for each, since importing Arrow anew each time would take minutes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from host_tools.cloud import verdict
from host_tools.cloud.store import FILE_NAME, Store
from host_tools.cloud.store_log import StoreLog
from host_tools.cloud.windows import Window
from host_tools.cloud.wire import Batch, Device, Reading
from host_tools.lake import tables
from host_tools.lake.reader import dataset
from host_tools.lake.snapshot import Snapshot, load, recover
from host_tools.lake.storage import LocalStorage, Storage, open_storage
from host_tools.lake.upkeep import Policy, upkeep
from host_tools.lake.writer import catch_up
from isocore.record import DELTA, KIND_NAMES

DAY_MS = 86_400_000
NOON_UNIX_MS = 1_767_268_800_000  # 2026-01-01T12:00:00Z
FRIDGE = Device("fridge-1", "fridge", (("temperature", "degC"), ("humidity", "%RH")))
BARE = Device("bare-1", None, None)
Row = tuple[Any, ...]


def reading(seq: int, at_unix_ms: int | None = NOON_UNIX_MS, **other: Any) -> Reading:
    """A row of the batch's first device: boot 1, one a second, reported 4 °C and seq m°C."""
    plain = Reading(0, 1, seq, DELTA, 0, 4000 + seq, 0, seq * 1000, at_unix_ms, 1)
    return plain._replace(**other)


def batch(
    number: int,
    *readings: Reading,
    gateway: str = "gw-1",
    device: Device = FRIDGE,
    windows: tuple[Window, ...] = (),
) -> Batch:
    """A batch as the store takes it."""
    digest = hashlib.sha256(repr((number, gateway, readings, windows)).encode()).digest()
    return Batch(gateway, number, digest, "live", (device,), list(readings), windows)


def fill(folder: Path, *batches: Batch, now_unix_ms: int = NOON_UNIX_MS + 60_000) -> None:
    """Bring batches into a store, each in a commit of its own."""
    with Store(folder, lambda: now_unix_ms) as store:
        for item in batches:
            store.submit(item, 100).result(timeout=20)


def write(folder: Path, storage: Storage, rows: int = 1_000_000) -> None:
    """One round of the writer."""
    with StoreLog(folder) as log:
        catch_up(log, storage, rows)


def stored(folder: Path, upto: int = 1 << 60) -> list[Row]:
    """The store's rows up to a batch: device, gateway, boot, seq, kind, channel, value, uptime, trend, trusted,
    verdict, time, received."""
    db = sqlite3.connect(folder / FILE_NAME)
    try:
        rows = db.execute(
            "SELECT d.name, g.name, r.boot, r.seq, r.kind, r.channel, r.value, r.uptime_ms, r.trend, r.trusted,"
            " r.verdict, r.epoch_unix_ms + r.uptime_ms, b.recv_unix_ms FROM reading r JOIN device d ON d.id = r.device"
            " JOIN batch b ON b.id = r.batch JOIN gateway g ON g.id = b.gateway WHERE b.id <= ?",
            (upto,),
        ).fetchall()
    finally:
        db.close()
    named = ((*row[:4], KIND_NAMES[row[4]], *row[5:9], bool(row[9]), verdict.NAMES[row[10]], *row[11:]) for row in rows)
    return sorted(named, key=lambda row: row[:4])


def in_lake(storage: Storage, snapshot: Snapshot | None = None, table: str = tables.READINGS) -> list[Row]:
    """The lake's rows in the same form."""
    found = dataset(storage, snapshot or load(storage) or Snapshot(), table)
    return _rows(found if hasattr(found, "column_names") else found.to_table())


def by_glob(folder: Path, table: str = tables.READINGS) -> list[tuple[str, int, int]]:
    """Identities as a reader sees them that knows nothing of snapshots: every *.parquet below the table's folder."""
    found = []
    for path in folder.glob(f"{table}/*/*/*.parquet"):
        rows = pq.read_table(path, columns=["device", "boot", "seq"], partitioning=None)
        found += [(row["device"], row["boot"], row["seq"]) for row in rows.to_pylist()]
    return sorted(found)


def _rows(table: Any) -> list[Row]:
    columns = ["device", "gateway", "boot", "seq", "kind", "channel", "value_milli", "uptime_ms"]
    columns += ["trend", "trusted", "verdict"]
    plain = [table[column].to_pylist() for column in columns]
    times = [[None if at is None else _unix_ms(at) for at in table[name].to_pylist()] for name in ("time", "received")]
    return sorted(zip(*plain, *times, strict=True), key=lambda row: row[:4])


def _unix_ms(at: Any) -> int:
    return round(at.timestamp() * 1000)


# --- the killer -----------------------------------------------------------------------------------------------------


class Killed(LocalStorage):
    """A local lake whose writer is killed at its nth step: before, amid and after each file, before and after each
    removal."""

    def __init__(self, fs: Any, root: str, at: int) -> None:
        super().__init__(fs, root)
        self._left = at

    def put(self, path: str, data: bytes) -> None:
        self._step()
        super().put(path, data)
        self._step()

    def remove(self, path: str) -> None:
        self._step()
        super().remove(path)
        self._step()

    def _show(self, partial: Path, target: Path) -> None:
        self._step()
        super()._show(partial, target)

    def _step(self) -> None:
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)


def _work(name: str, data: Path) -> Callable[[Storage], None]:
    """What the writer does: "write", in commits of few rows, or "upkeep" of what is written, which drops nothing."""
    if name == "write":
        return lambda storage: write(data, storage, rows=40)
    assert name == "upkeep"
    return lambda storage: _upkeep(storage)


def _upkeep(storage: Storage) -> None:
    recover(storage)
    upkeep(storage, Policy(), NOON_UNIX_MS + 10 * DAY_MS)


def _forked(run: Callable[[], None]) -> int:
    """The status of a child that runs it."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        run()
    except BaseException as error:
        print(json.dumps({"error": repr(error)}), flush=True)
        os._exit(1)
    os._exit(0)


def _look(data: Path, lake: Path, step: int, work: Callable[[Storage], None]) -> None:
    """Compare right after the kill, then after the next writer; print what was seen."""
    storage = open_storage(str(lake))
    snapshot = load(storage) or Snapshot()
    rows = stored(data, snapshot.position)
    whole = in_lake(storage, snapshot) == rows
    bare = by_glob(lake)
    recover(storage)
    strays = set(storage.list("readings")) - {file.path for file in (load(storage) or Snapshot()).of("readings")}
    work(storage)
    after = load(storage)
    assert after is not None
    found = {
        "step": step,
        "snapshot_is_whole": whole,
        "glob_doubles": len(bare) - len(set(bare)),
        "glob_lacks": len({(row[0], *row[2:4]) for row in rows} - set(bare)),
        "strays": len(strays),
        "whole_after": in_lake(storage) == stored(data),
        "glob_after": by_glob(lake) == sorted((row[0], *row[2:4]) for row in stored(data)),
        "alarms_after": len(in_lake(storage, table=tables.ALARMS)),
        "folded": len(after.folded),
        "files_after": len(after.of("readings")),
        "hidden": sum(path.name.endswith(".partial") for path in lake.rglob("*")),
    }
    print(json.dumps(found), flush=True)


def kill_at_every_step(data: Path, lake: Path, name: str) -> Iterator[int]:
    """Yields the step of each kill, until the work comes to its end alive."""
    work = _work(name, data)
    for step in count(1):
        copy = lake.with_name(f"{lake.name}-{step}")
        if lake.exists():
            shutil.copytree(lake, copy)
        else:
            copy.mkdir()
        fs = open_storage(str(copy)).filesystem()
        status = _forked(lambda copy=copy, fs=fs, step=step: work(Killed(fs, str(copy), step)))
        if status == 0:
            return
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        yield step
        assert _forked(lambda copy=copy, step=step: _look(data, copy, step, work)) == 0


if __name__ == "__main__":
    for _ in kill_at_every_step(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]):
        pass
