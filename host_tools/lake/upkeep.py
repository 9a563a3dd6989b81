"""What is done to a lake after each round: days that are over are folded, old rows dropped by policy, files merged.

The days are counted from the newest receipt in the lake, and from the clock where that is behind it: neither a receiver
that stands still nor a clock that runs ahead alone makes rows old. Nothing is dropped unless the policy says so, and no
readings before their windows are made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from host_tools.lake import tables
from host_tools.lake.fold import fold_days
from host_tools.lake.merge import merge
from host_tools.lake.snapshot import DataFile, Snapshot, commit, load_existing
from host_tools.lake.storage import Storage

CLOSED_MS = 2 * 3_600_000 + 300_000  # after its end a day is over: hold_s of windows, and what is under way
RAW_DAYS_MIN = 3  # a day is folded with the one before it
MONTH_DAYS = 31
SHORT_S, MIDDLE_S = 60, 900


@dataclass(frozen=True)
class Policy:
    """How long what is kept; None: for ever. Windows of 1 min go with the readings; of 1 h and alarms never do."""

    raw_days: int | None = None
    window_months: int | None = None


class Done(NamedTuple):
    """What a round of upkeep did: days folded, files merged away, rows dropped."""

    folded: int
    merged: int
    dropped: int


def upkeep(storage: Storage, policy: Policy, now_unix_ms: int) -> Done:
    """One round. The caller holds the writer's lock."""
    snapshot = load_existing(storage)
    now_unix_ms = min(now_unix_ms, snapshot.received_unix_ms)
    closed_before = _day(now_unix_ms - CLOSED_MS)
    snapshot, folded = fold_days(storage, snapshot, closed_before)
    snapshot, dropped = _retire(storage, snapshot, policy, now_unix_ms)
    snapshot, merged = merge(storage, snapshot, closed_before)
    return Done(folded, merged, dropped)


def _retire(storage: Storage, snapshot: Snapshot, policy: Policy, now_unix_ms: int) -> tuple[Snapshot, int]:
    """Drop what the policy keeps no longer, in one commit, and count it."""
    raw_before = _oldest(now_unix_ms, policy.raw_days)
    windows_before = _oldest(now_unix_ms, policy.window_months and policy.window_months * MONTH_DAYS)
    longest: dict[tuple[str, str], int] = {}
    for file in snapshot.of(tables.WINDOWS):
        key = (file.day, file.gateway)
        longest[key] = max(longest.get(key, 0), file.length_s)

    def old(file: DataFile) -> bool:
        if file.table == tables.READINGS:
            return file.day < raw_before and (file.day <= snapshot.retired or _folded(snapshot, file.day))
        if file.table != tables.WINDOWS or file.length_s >= longest[file.day, file.gateway]:
            return False  # the longest that there is stays, whatever a gateway was told to send
        return file.day < (raw_before if file.length_s <= SHORT_S else windows_before) and file.length_s <= MIDDLE_S

    gone = {file for file in snapshot.files if old(file)}
    if not gone:
        return snapshot, 0
    dropped = dict(snapshot.dropped)
    for file in gone:
        dropped[file.table] = dropped.get(file.table, 0) + file.rows
    retired = max([snapshot.retired, *(_next(file.day) for file in gone if file.table == tables.READINGS)])
    folded = {day: upto for day, upto in snapshot.folded.items() if day >= retired}
    files = tuple(file for file in snapshot.files if file not in gone)
    after = replace(snapshot, files=files, dropped=dropped, retired=retired, folded=folded)
    return commit(storage, snapshot, after, {}), sum(file.rows for file in gone)


def _folded(snapshot: Snapshot, day: str) -> bool:
    """Whether this day and the one after it, which needs it, are folded with all that came."""
    files = [file for file in snapshot.of(tables.READINGS) if file.day == day]
    upto = max(file.last_batch for file in files)
    after = _next(day)
    present = any(file.day == after for file in snapshot.of(tables.READINGS))
    return snapshot.folded.get(day, 0) >= upto and (not present or snapshot.folded.get(after, 0) >= upto)


def _oldest(now_unix_ms: int, days: int | None) -> str:
    """The first day that is kept."""
    return "" if days is None else _day(now_unix_ms - days * tables.DAY_MS)


def _day(unix_ms: int) -> str:
    return tables.at(unix_ms).date().isoformat()


def _next(day: str) -> str:
    return _day(tables.unix_ms(day) + tables.DAY_MS)
