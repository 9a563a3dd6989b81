"""Merges the small files that each round adds to a partition into one, and drops revisions of windows that others beat.

A merge is one commit: who reads by the snapshot sees the files of before or the one of after. Who reads by a pattern
may see both for the moment between the new file and the removal of the old ones: a row twice, never none; docs/lake.md
says what helps.
"""

from __future__ import annotations

from dataclasses import replace

from host_tools.lake import tables
from host_tools.lake.files import new_file, read
from host_tools.lake.snapshot import DataFile, Snapshot, commit
from host_tools.lake.storage import Storage

OPEN_FILES_MAX = 8  # of a day that still fills; a day that is over has one
MERGED_ROWS_MAX = 500_000  # a merged file; one of half of that and more is left alone, lest it be copied for ever


def merge(storage: Storage, snapshot: Snapshot, closed_before: str) -> tuple[Snapshot, int]:
    """Merge what is due. closed_before: the first day that still fills. Returns how many files went into others."""
    merged = 0
    for group in _groups(snapshot):
        limit = 2 if group[0].day < closed_before else OPEN_FILES_MAX
        if len(group) < limit:
            continue
        for files in _piles(group):
            snapshot = _merge(storage, snapshot, files)
            merged += len(files)
    return snapshot, merged


def _groups(snapshot: Snapshot) -> list[list[DataFile]]:
    """Files that may become one: of a table, day, gateway, length and origin."""
    groups: dict[tuple[str, str, str, int, str], list[DataFile]] = {}
    for file in snapshot.files:
        groups.setdefault((file.table, file.day, file.gateway, file.length_s, file.origin), []).append(file)
    return [groups[key] for key in sorted(groups)]


def _piles(group: list[DataFile]) -> list[list[DataFile]]:
    """The small files of a group in piles of at most MERGED_ROWS_MAX rows; no pile of one."""
    piles: list[list[DataFile]] = []
    rows = 0
    for file in sorted(group, key=lambda file: file.first_batch):
        if file.rows > MERGED_ROWS_MAX // 2:
            continue
        if not piles or rows + file.rows > MERGED_ROWS_MAX:
            piles.append([])
            rows = 0
        piles[-1].append(file)
        rows += file.rows
    return [pile for pile in piles if len(pile) > 1]


def _merge(storage: Storage, snapshot: Snapshot, files: list[DataFile]) -> Snapshot:
    first = files[0]
    rows = read(storage, first.table, files)
    if first.table == tables.WINDOWS:
        rows = tables.latest(rows)
    batches = (min(file.first_batch for file in files), max(file.last_batch for file in files))
    made = [new_file(snapshot, first.table, part, batches, first.origin) for part in tables.parts(first.table, rows)]
    gone = set(files)
    kept = tuple(file for file in snapshot.files if file not in gone)
    after = replace(snapshot, files=(*kept, *(file for file, _ in made)))
    return commit(storage, snapshot, after, {file.path: data for file, data in made})
