"""The main file's tables about segments, inside the writer's transaction: which count, what they hold, what has left.

The rules (docs/adr/0008-store-segments.md):
 - A row is in `readings` or in exactly one segment of the catalogue, and moves in one transaction of this file.
 - An identity that was sealed stays in `sealed` for ever, merged with its neighbours once its segment is gone.
 - What leaves is booked: in `ledger_left` for the store, in `ledger_sink` for each sink that had not frozen it.

It never commits, and removes no file: the caller does after the commit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence

from gateway.messages import EVENT_FIRST, EVENT_LAST, LANE_ALARMS, LANE_LIVE, REVISED_LANES
from gateway.store.segments import CLASS_COUNTS, Built, DeviceCounts, Segment

GONE = 0  # `sealed.segment` of identities whose rows are here no more
_COLUMNS = "segment, file, first_row, last_row, rows, events, bytes, digest, lived_s, stage"
_LEFT = (
    "INSERT INTO ledger_left VALUES (?,?,?,?,?,?) ON CONFLICT (device, why) DO UPDATE SET"
    " reports=reports+excluded.reports, events=events+excluded.events, windows=windows+excluded.windows,"
    " notices=notices+excluded.notices"
)
_EVENTS = f"kind BETWEEN {EVENT_FIRST} AND {EVENT_LAST}"

Counter = Callable[[str], list[DeviceCounts]]  # a WHERE clause on a segment's readings -> counts per device


def segments(db: sqlite3.Connection, where: str = "1", *values: object) -> list[Segment]:
    """Segments in order of their rows."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM segments WHERE {where} ORDER BY last_row", values)
    return [Segment._make(row) for row in rows]


def sealed_row(db: sqlite3.Connection) -> int:
    """The highest row id that was ever sealed."""
    row = db.execute("SELECT value FROM properties WHERE key = 'sealed_row'").fetchone()
    return int(row[0]) if row else 0


def next_number(db: sqlite3.Connection) -> int:
    """The number of the next segment."""
    row = db.execute("SELECT value FROM properties WHERE key = 'next_segment'").fetchone()
    return int(row[0]) if row else 1


def cuts(db: sqlite3.Connection) -> int:
    """Rises whenever rows leave that a sink may be about to freeze."""
    row = db.execute("SELECT value FROM properties WHERE key = 'cuts'").fetchone()
    return int(row[0]) if row else 0


def add(db: sqlite3.Connection, built: Built) -> bool:
    """The segment counts from here on, and its rows leave `readings`. False when they are not what was copied."""
    segment = built.segment
    inside = (segment.first_row, segment.last_row)
    (rows,) = db.execute("SELECT count(*) FROM readings WHERE id BETWEEN ? AND ?", inside).fetchone()
    if rows != segment.rows or next_number(db) != segment.segment:
        return False
    enter(db, built)
    db.execute("DELETE FROM tags WHERE last_row <= ?", (segment.last_row,))
    db.execute("DELETE FROM readings WHERE id BETWEEN ? AND ?", inside)
    return True


def enter(db: sqlite3.Connection, built: Built) -> None:
    """Write a segment, its counts and its identities into the catalogue."""
    segment = built.segment
    _describe(db, built)
    db.executemany("INSERT INTO sealed VALUES (?,?,?,?,?)", [(*entry, segment.segment) for entry in built.ranges])
    _put(db, "sealed_row", max(sealed_row(db), segment.last_row))
    _put(db, "next_segment", max(next_number(db), segment.segment + 1))


def _describe(db: sqlite3.Connection, built: Built) -> None:
    segment = built.segment
    db.execute(f"INSERT OR REPLACE INTO segments ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)", segment)
    db.execute("DELETE FROM segment_counts WHERE segment = ?", (segment.segment,))
    db.executemany(
        "INSERT INTO segment_counts VALUES (?,?,?,?,?,?)", [(segment.segment, *entry) for entry in built.counts]
    )


def counts(db: sqlite3.Connection, segment: int) -> list[DeviceCounts]:
    """Rows of a segment per device."""
    return [
        tuple(row)
        for row in db.execute(
            "SELECT device, reports, events, windows, notices FROM segment_counts WHERE segment = ?", (segment,)
        )
    ]


def leave(db: sqlite3.Connection, segment: Segment, why: str, unsent: dict[str, list[DeviceCounts]]) -> None:
    """The segment counts no more. `unsent`: per sink what it had not frozen, which it now will never get."""
    book(db, why, counts(db, segment.segment))
    _put(db, "cuts", cuts(db) + 1)
    for sink, entries in unsent.items():
        count_sink(db, sink, "dropped", entries)
    keys = db.execute("SELECT DISTINCT device, boot FROM sealed WHERE segment = ?", (segment.segment,)).fetchall()
    db.execute("UPDATE sealed SET segment = ? WHERE segment = ?", (GONE, segment.segment))
    for device, boot in keys:
        _merge(db, device, boot)
    db.execute("DELETE FROM segment_counts WHERE segment = ?", (segment.segment,))
    db.execute("DELETE FROM segments WHERE segment = ?", (segment.segment,))


def replace(db: sqlite3.Connection, built: Built, why: str, unsent: dict[str, list[DeviceCounts]]) -> None:
    """A new edition of a segment counts instead of the old one; the difference is booked.

    why "thinned": reports became windows, and `unsent` is what a sink had not frozen of the old edition, which is all
    of it or nothing. Otherwise rows were dropped, and `unsent` is what a sink had not frozen of those.
    """
    number = built.segment.segment
    before = {entry[0]: entry for entry in counts(db, number)}
    after = {entry[0]: entry for entry in built.counts}
    lost: list[DeviceCounts] = []
    made: list[tuple[int, int]] = []
    for device, (_, *old) in before.items():
        new = after.get(device, (device, 0, 0, 0, 0))[1:]
        reports, events, windows, notices = (a - b for a, b in zip(old, new, strict=True))
        if windows < 0:
            made.append((device, -windows))
            windows = 0
        lost.append((device, reports, events, windows, notices))
    book(db, why, lost)
    _put(db, "cuts", cuts(db) + 1)
    db.executemany("UPDATE ledger SET made_windows = made_windows + ?2 WHERE device = ?1", made)
    for sink, entries in unsent.items():
        if why == "thinned":
            if entries:
                _count_thinned(db, sink, lost, made)
        else:
            count_sink(db, sink, "dropped", entries)
    _describe(db, built)


def _count_thinned(db: sqlite3.Connection, sink: str, lost: list[DeviceCounts], made: list[tuple[int, int]]) -> None:
    windows = dict(made)
    db.executemany(
        "INSERT INTO ledger_sink (sink, device, thinned_reports, made_windows) VALUES (?,?,?,?)"
        " ON CONFLICT (sink, device) DO UPDATE SET thinned_reports=thinned_reports+excluded.thinned_reports,"
        " made_windows=made_windows+excluded.made_windows",
        [(sink, entry[0], entry[1], windows.get(entry[0], 0)) for entry in lost],
    )


def book(db: sqlite3.Connection, why: str, entries: Iterable[DeviceCounts]) -> None:
    """Rows that are here no more."""
    db.executemany(_LEFT, [(entry[0], why, *entry[1:]) for entry in entries if any(entry[1:])])


def count_sink(db: sqlite3.Connection, sink: str, outcome: str, entries: Iterable[DeviceCounts]) -> None:
    """Add to a sink's ledger. `outcome`: dropped | skipped."""
    classes = ("reports", "events", "windows", "notices")
    names = ", ".join(f"{outcome}_{c}" for c in classes)
    updates = ", ".join(f"{outcome}_{c} = {outcome}_{c} + excluded.{outcome}_{c}" for c in classes)
    db.executemany(
        f"INSERT INTO ledger_sink (sink, device, {names}) VALUES (?,?,?,?,?,?)"
        f" ON CONFLICT (sink, device) DO UPDATE SET {updates}",
        [(sink, *entry) for entry in entries if any(entry[1:])],
    )


def unfrozen_events(db: sqlite3.Connection, sink: str, last_row: int) -> str | None:
    """A WHERE clause for events up to `last_row` that a sink has not frozen; None when there can be none.

    The alarm lane's cursor stands behind its last event, however long ago that was: only a count tells.
    """
    cursor = _cursor(db, sink, LANE_ALARMS)
    return f"({_EVENTS} AND id >= {cursor})" if cursor <= last_row else None


def unfrozen_others(db: sqlite3.Connection, sink: str, first_row: int, last_row: int) -> str | None:
    """A WHERE clause for what is no event in [first_row, last_row] and not frozen; None when all of it is."""
    live = _cursor(db, sink, LANE_LIVE)
    spans = [
        (max(int(a), first_row), min(int(b), last_row))
        for a, b in db.execute(
            "SELECT next_row, last_row FROM backfill WHERE sink = ? AND next_row <= ? AND last_row >= ?",
            (sink, last_row, first_row),
        )
    ]
    if live <= last_row:
        spans.append((max(live, first_row), last_row))
    inside = " OR ".join(f"id BETWEEN {a} AND {b}" for a, b in spans)
    return f"(NOT ({_EVENTS}) AND ({inside}))" if spans else None


def unfrozen(db: sqlite3.Connection, sink: str, first_row: int, last_row: int) -> str | None:
    """A WHERE clause for rows of [first_row, last_row] that a sink has not frozen; None when there can be none."""
    parts = (unfrozen_events(db, sink, last_row), unfrozen_others(db, sink, first_row, last_row))
    return " OR ".join(part for part in parts if part) or None


def half_frozen(db: sqlite3.Connection, sink: str, first_row: int, last_row: int) -> bool:
    """True when a sink has frozen some of what is no event in [first_row, last_row], and some not."""
    live = _cursor(db, sink, LANE_LIVE)
    if live <= first_row:
        return False
    spans = db.execute(
        "SELECT next_row, last_row FROM backfill WHERE sink = ? AND next_row <= ? AND last_row >= ?",
        (sink, last_row, first_row),
    ).fetchall()
    if live > last_row and not spans:
        return False
    return not any(a <= first_row and b >= last_row for a, b in spans)


def whole(db: sqlite3.Connection, sink: str, first_row: int, last_row: int) -> bool:
    """True when a sink has frozen nothing of [first_row, last_row]."""
    if _cursor(db, sink, LANE_ALARMS) > first_row or half_frozen(db, sink, first_row, last_row):
        return False
    return unfrozen_others(db, sink, first_row, last_row) is not None


def answered(db: sqlite3.Connection, sinks: Sequence[str], segment: Segment) -> bool:
    """False while a batch with rows of the segment is on its way to one of the sinks, or in quarantine."""
    found = db.execute(
        "SELECT DISTINCT sink FROM batches WHERE lane NOT IN (?, ?) AND first_row <= ? AND last_row >= ?",
        (*REVISED_LANES, segment.last_row, segment.first_row),
    )
    return not any(row[0] in sinks for row in found)


def stands(db: sqlite3.Connection, segment: Segment) -> bool:
    """True while the catalogue names this very edition."""
    found = db.execute("SELECT file FROM segments WHERE segment = ?", (segment.segment,)).fetchone()
    return found is not None and found[0] == segment.file


def unsent(
    db: sqlite3.Connection, sinks: Sequence[str], segment: Segment, count: Counter, of: str = "1"
) -> dict[str, list[DeviceCounts]]:
    """Per sink, rows of a segment for which `of` holds that it has not frozen."""
    out = {}
    for sink in sinks:
        where = unfrozen(db, sink, segment.first_row, segment.last_row)
        out[sink] = count(f"({of}) AND ({where})") if where else []
    return out


def counter(connection: sqlite3.Connection) -> Counter:
    """Counts rows of an opened segment."""

    def count(where: str) -> list[DeviceCounts]:
        query = f"SELECT device, {CLASS_COUNTS} FROM readings WHERE {where} GROUP BY device"
        return [tuple(row) for row in connection.execute(query)]

    return count


def _cursor(db: sqlite3.Connection, sink: str, lane: str) -> int:
    row = db.execute("SELECT next_row FROM cursors WHERE sink = ? AND lane = ?", (sink, lane)).fetchone()
    return int(row[0]) if row else 1


def _merge(db: sqlite3.Connection, device: int, boot: int) -> None:
    """Join adjoining ranges of a boot whose rows are gone: one range a boot in the end."""
    key = (device, boot, GONE)
    found = db.execute(
        "SELECT first_seq, last_seq FROM sealed WHERE device = ? AND boot = ? AND segment = ? ORDER BY first_seq", key
    ).fetchall()
    joined: list[list[int]] = []
    for first, last in found:
        if joined and joined[-1][1] + 1 == first:
            joined[-1][1] = last
        else:
            joined.append([first, last])
    if len(joined) < len(found):
        db.execute("DELETE FROM sealed WHERE device = ? AND boot = ? AND segment = ?", key)
        db.executemany("INSERT INTO sealed VALUES (?,?,?,?,?)", [(device, boot, a, b, GONE) for a, b in joined])


def _put(db: sqlite3.Connection, key: str, value: int | str) -> None:
    db.execute("INSERT OR REPLACE INTO properties VALUES (?,?)", (key, value))
