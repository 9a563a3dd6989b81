"""Windows of 15 min and 1 h for days that are over, folded from the lake's readings where no gateway sent them.

The figures are isocore.aggregate's, which gateways use, so they equal a gateway's. A day is folded with the day before
it, whose last value stands into it, and with the alarms and faults of a month before, which may stand still; rows that
come late fold their day anew, and the day after it. Made windows have revision 0: a gateway's, from 1, beats them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from host_tools.lake import tables
from host_tools.lake.files import new_file, read
from host_tools.lake.snapshot import DataFile, Snapshot, commit
from host_tools.lake.storage import Storage
from isocore.aggregate import fold
from isocore.record import KIND_NAMES

LENGTHS_S = (900, 3600)
HOLD_S = 7500  # gateway/config/upload.py, windows.hold_s: another value there makes other windows there
ALARMS_BACK_DAYS = 31  # an alarm that stands for longer without a record of it is no alarm here
ORIGIN = "fold"
_NUMBERS = {name: number for number, name in enumerate(KIND_NAMES)}


def fold_days(storage: Storage, snapshot: Snapshot, closed_before: str) -> tuple[Snapshot, int]:
    """Fold each day before `closed_before` of which rows came since it was folded. Returns how many days that were."""
    folded = 0
    newest: dict[str, int] = {}
    for file in snapshot.of(tables.READINGS):
        newest[file.day] = max(newest.get(file.day, 0), file.last_batch)
    for day in sorted(newest):
        if day >= closed_before or (snapshot.retired and day <= snapshot.retired):
            continue  # still fills; or is retired, or stands on a day that is: what came of it by then is folded
        upto = max(newest[day], newest.get(_before(day, 1), 0))
        if snapshot.folded.get(day, 0) < upto:
            snapshot = _fold_day(storage, snapshot, day, upto)
            folded += 1
    return snapshot, folded


def _fold_day(storage: Storage, snapshot: Snapshot, day: str, upto: int) -> Snapshot:
    sent = read(storage, tables.WINDOWS, [file for file in _of(snapshot, tables.WINDOWS, day) if file.origin == "log"])
    known = set(zip(*(sent[name].to_pylist() for name in ("device", "channel", "length_s", "start")), strict=True))
    rows = [row for row in _windows(storage, snapshot, day, upto) if (*row[:2], row[4], row[5]) not in known]
    former = {file for file in _of(snapshot, tables.WINDOWS, day) if file.origin == ORIGIN}
    schema = tables.partitioned(tables.WINDOWS)
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=schema)
    made = [new_file(snapshot, tables.WINDOWS, part, (1, upto), ORIGIN) for part in tables.parts(tables.WINDOWS, table)]
    kept = tuple(file for file in snapshot.files if file not in former)
    after = replace(snapshot, files=(*kept, *(file for file, _ in made)), folded={**snapshot.folded, day: upto})
    return commit(storage, snapshot, after, {file.path: data for file, data in made})


def _windows(storage: Storage, snapshot: Snapshot, day: str, upto: int) -> Iterator[tuple[Any, ...]]:
    """Rows of `windows` that begin on this day, in the columns' order."""
    begin = date.fromisoformat(day)
    begin_s = tables.unix_ms(day) // 1000
    for device, channel, rows in _channels(_records(storage, snapshot, day)):
        windows = fold(_told(rows), LENGTHS_S, HOLD_S, (begin_s + 86400) * 1000)
        gateway, name, unit = (rows[column][-1].as_py() for column in ("gateway", "name", "unit"))
        for (length_s, start_s), window in windows.items():
            if begin_s <= start_s < begin_s + 86400:
                least, mean, greatest, last, reports, covered_ms, alarm_ms, fault_ms = window.figures()
                yield (
                    *(device, channel, name, unit, length_s, tables.at(start_s * 1000), 0),
                    *(least, mean, greatest, last, reports, covered_ms, alarm_ms, fault_ms, upto, begin, gateway),
                )


def _records(storage: Storage, snapshot: Snapshot, day: str) -> Any:
    """Readings of this day and the one before, and older alarms and faults; without a time they are in no window."""
    begin_ms = tables.unix_ms(day)
    first, end = tables.at(begin_ms - tables.DAY_MS), tables.at(begin_ms + tables.DAY_MS)
    rows = read(storage, tables.READINGS, _days(snapshot, tables.READINGS, _before(day, 1), day))
    standing = _days(snapshot, tables.ALARMS, _before(day, ALARMS_BACK_DAYS), _before(day, 2))
    older = read(storage, tables.ALARMS, standing)
    return tables.concat(
        [older.filter(pc.field("time") < first), rows.filter((pc.field("time") >= first) & (pc.field("time") < end))]
    )


def _channels(records: Any) -> Iterator[tuple[str, int, Any]]:
    """Each channel with its rows in order of (boot, seq): one at a time: as Python's they take ten times as much."""
    keys = ["device", "channel"]
    records = records.sort_by([(key, "ascending") for key in (*keys, "boot", "seq")])
    start = 0
    for group in records.group_by(keys, use_threads=False).aggregate([([], "count_all")]).to_pylist():
        yield group["device"], group["channel"], records.slice(start, group["count_all"])
        start += group["count_all"]


def _told(rows: Any) -> list[tuple[int, ...]]:
    """A channel's rows as isocore.aggregate takes them."""
    names = ("boot", "seq", "kind", "value_milli", "trend", "uptime_ms")
    boot, seq, kind, *rest = (rows[name].to_pylist() for name in names)
    unix_ms = pc.divide(rows["time"].cast(pa.int64()), 1000).to_pylist()
    return list(zip(boot, seq, (_NUMBERS[name] for name in kind), *rest, unix_ms, strict=True))


def _of(snapshot: Snapshot, table: str, day: str) -> list[DataFile]:
    return _days(snapshot, table, day, day)


def _days(snapshot: Snapshot, table: str, first: str, last: str) -> list[DataFile]:
    return [file for file in snapshot.of(table) if first <= file.day <= last]


def _before(day: str, days: int) -> str:
    return (date.fromisoformat(day) - timedelta(days=days)).isoformat()
