"""Brings the receiver's log into the lake, each row once: reads it from the snapshot's position on and commits both.

One writer a store, held by a lock beside the store; it only reads the store, from a process of its own, so that the
receiver neither waits for it nor shares its memory. Merging, folding and dropping are in `upkeep`.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from host_tools.cloud.store_log import Names, Span, StoreLog
from host_tools.lake import tables
from host_tools.lake.amend import amend
from host_tools.lake.errors import LakeError
from host_tools.lake.files import new_file
from host_tools.lake.snapshot import DataFile, Snapshot, commit, load, recover
from host_tools.lake.storage import Storage

COMMIT_ROWS = 200_000  # read, sorted and written together; what the writer's memory is bound by
LOCK_NAME = "lake.lock"


@dataclass(frozen=True)
class Written:
    """What a round did. rows: by table."""

    commits: int
    batches_upto: int
    rows: Mapping[str, int]


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the lock of a store's lake. Raises LakeError when another process has it."""
    path = folder / LOCK_NAME
    try:
        handle = path.open("w")
    except OSError as error:
        raise LakeError(f"{path}: cannot be written: {error.strerror or error}") from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LakeError(f"{folder}: another process is writing this store's lake; let it finish") from None
        yield


def catch_up(log: StoreLog, storage: Storage, commit_rows: int = COMMIT_ROWS) -> Written:
    """Write all that the store has and the lake lacks. Raises LakeError for a lake of another store.

    The caller holds the lock.
    """
    recover(storage)
    snapshot = load(storage) or Snapshot()
    commits = 0
    rows: dict[str, int] = {}
    while True:
        with log.at_rest():
            _same_store(log, snapshot, storage)
            span = log.span(snapshot.position, commit_rows)
            if span is None:
                break
            names = log.names()
            made = _rows(log, span, names)
            changed = [tables.records(block, names) for block in log.changed(span)]
        counts = {name: table.num_rows for name, table in made.items()}
        snapshot = _commit(storage, snapshot, span, made, changed, names)
        commits += 1
        for name, count in counts.items():
            rows[name] = rows.get(name, 0) + count
    return Written(commits, snapshot.position, rows)


def _rows(log: StoreLog, span: Span, names: Names) -> dict[str, Any]:
    made = {}
    readings = [tables.records(block, names) for block in log.readings(span)]
    if readings:
        made[tables.READINGS] = tables.concat(readings)
        alarms = tables.alarms_of(made[tables.READINGS])
        if alarms.num_rows:
            made[tables.ALARMS] = alarms
    windows = [tables.windows(block, names) for block in log.windows(span)]
    if windows:
        made[tables.WINDOWS] = tables.concat(windows)
    return made


def _commit(
    storage: Storage, before: Snapshot, span: Span, made: Mapping[str, Any], changed: Sequence[Any], names: Names
) -> Snapshot:
    """changed: rows of before that these batches changed, in blocks."""
    files = []
    written = dict(before.written)
    for name, table in made.items():
        written[name] = written.get(name, 0) + table.num_rows
        files += [new_file(before, name, part, (span.after + 1, span.upto)) for part in tables.parts(name, table)]
    gone: frozenset[DataFile] = frozenset()
    if changed:
        gone, amended = amend(storage, before, tables.concat(changed), span.upto)
        files += amended
    contents = {file.path: data for file, data in files}
    contents[tables.DEVICES_PATH] = tables.pack(tables.DEVICES, tables.devices(names))
    after = replace(
        before,
        position=span.upto,
        digest=span.digest.hex(),
        received_unix_ms=span.recv_unix_ms,
        files=(*(file for file in before.files if file not in gone), *(file for file, _ in files)),
        written=written,
    )
    return commit(storage, before, after, contents, others=(tables.DEVICES_PATH,))


def _same_store(log: StoreLog, snapshot: Snapshot, storage: Storage) -> None:
    """The batch that the lake ended with must still be the store's: else it is another store, or an old copy of it."""
    if not snapshot.position:
        return
    digest = log.digest(snapshot.position)
    if digest is None or digest.hex() != snapshot.digest:
        raise LakeError(
            f"{storage.name}: was written from another store than {log.path}, or from a newer copy of it: its last "
            f"batch, {snapshot.position}, is not there; give another --lake"
        )
