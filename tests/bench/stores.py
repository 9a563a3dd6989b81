"""Fills a gateway's store with rows that were received long ago, by SQL, since that is no part of what is measured.

The schema is the gateway's own, made by its own migration. Rows, watermarks and ledger agree, as the daemon's would,
and the gateway's own keeper has sealed what it seals.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from gateway.metrics import Metrics
from gateway.store import Keep, Store, db
from tests.bench.load import BOARDS, device_name

_AGE_MS = 3_600_000  # older than sinks.backfill_after_s: all of it goes up by the backfill lane
_FILL = """
    WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < :rows - 1)
    INSERT INTO readings
    SELECT i + 1, i % :boards + 1, 1, i / :boards + 1, 1, 0, 20000 + i % :boards * 50 + abs(random() % 8) * 100, 0,
           (i / :boards) * 60000 + i % :boards * 37, :epoch, 1, :received
    FROM n
"""


def fill(path: Path, rows: int, boards: int = BOARDS) -> None:
    """`rows` one-minute samples of `boards` boards, all of boot 1, none uploaded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection, _ = db.open_writer(path, 500, time.time)
    rows -= rows % boards
    each = rows // boards
    now_ms = int(time.time() * 1000)
    epoch_ms = now_ms - _AGE_MS - each * 60_000
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -200000")
    connection.execute("BEGIN")
    connection.execute(_FILL, {"rows": rows, "boards": boards, "epoch": epoch_ms, "received": now_ms - _AGE_MS})
    for number in range(boards):
        device = number + 1
        name = device_name(number)
        connection.execute("INSERT INTO devices (device, name, class) VALUES (?,?,'room')", (device, name))
        connection.execute("INSERT INTO boots VALUES (?,1,?,?,?,2,0)", (device, each, each, epoch_ms))
        connection.execute("INSERT INTO ledger (device, received, stored_reports) VALUES (?,?,?)", (device, each, each))
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    seal(path)


def seal(path: Path, keep: Keep | None = None) -> int:
    """Let the keeper do all that is due. Returns how many steps that took."""
    store = Store(
        path,
        Metrics(),
        queue_rows=1000,
        commit_rows=1000,
        commit_ms=0,
        check_ms=500,
        on_commit=lambda news: None,
        on_fatal=lambda exc: None,
        keep=keep,
    )
    store.open()
    store.start()
    try:
        return store.tidy()
    finally:
        store.stop(10.0)


def copy(source: Path, folder: Path) -> None:
    """Put a store, all its files, where a daemon with this folder looks for its own, replacing what is there."""
    data = folder / "data"
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    for part in source.parent.glob(f"{source.name}*"):
        shutil.copyfile(part, data / part.name)


def size_bytes(path: Path) -> int:
    """Main file and segments."""
    return sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*"))


def remove(path: Path) -> None:
    """All of a store."""
    for part in path.parent.glob(f"{path.name}*"):
        part.unlink()
