"""Rows that the receiver changed after they went into the lake: a board's tag proved or disproved them.

Each is taken out of the file that holds it, which is written anew without it, and goes into a new file as it is now;
both in the commit that brings the position past the batch that changed it. What went by policy stays away.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from host_tools.lake import tables
from host_tools.lake.files import new_file, read
from host_tools.lake.snapshot import DataFile, Snapshot
from host_tools.lake.storage import Storage

KEYS = ["device", "boot", "seq"]
ORIGIN = "log"
_Files = list[tuple[DataFile, bytes]]


class Amended(NamedTuple):
    """Files that go, and those that come instead."""

    gone: frozenset[DataFile]
    made: _Files


def amend(storage: Storage, snapshot: Snapshot, rows: Any, upto: int) -> Amended:
    """What a commit up to batch `upto` must do about these rows: `readings` with `day` and `gateway`, as they are."""
    gone: set[DataFile] = set()
    made: _Files = []
    brought = set(zip(rows["gateway"].to_pylist(), rows["batch"].to_pylist(), strict=True))
    first = min(number for _, number in brought)
    here = rows.slice(0, 0)  # those of these rows that the lake holds
    for table in (tables.READINGS, tables.ALARMS):
        for file in snapshot.of(table):
            if not any(file.gateway == name and file.first_batch <= n <= file.last_batch for name, n in brought):
                continue
            content = read(storage, table, [file])
            left = _join(content, rows, "left anti")
            if left.num_rows == content.num_rows:
                continue
            gone.add(file)
            here = tables.concat([here, _join(_join(rows, content, "left semi"), here, "left anti")])
            made += _files(snapshot, table, left, (file.first_batch, max(file.last_batch, upto)), f"less{len(gone)}")
        # The alarms come second: there it is also those whose readings went by policy, which an alarm outlives.
        now = here if table == tables.READINGS else tables.alarms_of(here)
        made += _files(snapshot, table, now, (first, upto), "now")
    return Amended(frozenset(gone), made)


def _join(left: Any, right: Any, kind: str) -> Any:
    """Rows of `left` whose identity is (left semi) or is not (left anti) in `right`."""
    found = left.join(right.select(KEYS), KEYS, join_type=kind, use_threads=False)
    return found.select(left.column_names).cast(left.schema)


def _files(snapshot: Snapshot, table: str, rows: Any, batches: tuple[int, int], mark: str) -> _Files:
    return [new_file(snapshot, table, part, batches, ORIGIN, mark) for part in tables.parts(table, rows)]
