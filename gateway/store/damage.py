"""A segment that can no longer be read: what it held is booked, so that the loss shows and the ledger still reconciles.

What a sink had not frozen of it is known from the catalogue when that is all or nothing. In between it is what remains:
all that the sink has not got, less what of that is still elsewhere. It runs in the writer's transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import cast

from gateway.store import catalog, segments
from gateway.store.disk import Disk
from gateway.store.segments import DeviceCounts, Segment

_PENDING = "SELECT l.device, {0} FROM ledger l LEFT JOIN ledger_sink s ON s.device = l.device AND s.sink = ?"
_OUTCOMES = ("uploaded", "quarantined", "dropped", "skipped", "withheld")
_CLASSES = ("reports", "events", "windows", "notices")


def book(db: sqlite3.Connection, disk: Disk, sinks: Sequence[str], segment: Segment) -> bool:
    """Take a damaged segment out of the catalogue. False when it is not in there any more."""
    if not catalog.stands(db, segment):
        return False
    missing = {sink: _unsent(db, disk, sink, segment) for sink in sinks}
    catalog.leave(db, segment, "damaged", missing)
    return True


def _unsent(db: sqlite3.Connection, disk: Disk, sink: str, segment: Segment) -> list[DeviceCounts]:
    if catalog.unfrozen(db, sink, segment.first_row, segment.last_row) is None:
        return []
    if catalog.whole(db, sink, segment.first_row, segment.last_row):
        return catalog.counts(db, segment.segment)
    left = {entry[0]: list(entry[1:]) for entry in _pending(db, sink)}
    elsewhere = [*_frozen(db, sink), *_hot(db, sink)]
    for other in catalog.segments(db, "segment != ?", segment.segment):
        where = catalog.unfrozen(db, sink, other.first_row, other.last_row)
        if where:
            with segments.opened(disk, other.file) as file:
                elsewhere += catalog.counter(file)(where)
    for device, *counts in elsewhere:
        left[device] = [a - b for a, b in zip(left[device], counts, strict=True)]
    return [(device, max(0, r), max(0, e), max(0, w), max(0, n)) for device, (r, e, w, n) in left.items()]


def _pending(db: sqlite3.Connection, sink: str) -> list[DeviceCounts]:
    """Per device what the sink has not got yet, by its ledger."""
    parts = []
    for what in _CLASSES:
        done = " - ".join(f"coalesce(s.{outcome}_{what}, 0)" for outcome in _OUTCOMES)
        more = {
            "reports": " - coalesce(s.thinned_reports, 0) - coalesce(s.aggregated_reports, 0)",
            "windows": " + coalesce(s.made_windows, 0)",
        }
        parts.append(f"l.stored_{what} - {done}{more.get(what, '')}")
    return [tuple(row) for row in db.execute(_PENDING.format(", ".join(parts)), (sink,))]


def _frozen(db: sqlite3.Connection, sink: str) -> list[DeviceCounts]:
    rows = db.execute("SELECT counts FROM batches WHERE sink = ? AND state = 'pending'", (sink,))
    return [cast(DeviceCounts, tuple([*entry, 0][:5])) for row in rows for entry in json.loads(row[0])]


def _hot(db: sqlite3.Connection, sink: str) -> list[DeviceCounts]:
    first, last = db.execute("SELECT min(id), max(id) FROM readings").fetchone()
    where = catalog.unfrozen(db, sink, first, last) if first is not None else None
    return catalog.counter(db)(where) if where else []
