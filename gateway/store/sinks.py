"""Which sinks the store works for: the SQL of their coming and going, inside the writer's transaction.

A sink that comes later than the store begins with the oldest row that is kept, or with the next one; then what was
stored before is counted as skipped for it. A sink that is configured no more stays known, with its cursors and its
ledger, but holds nothing back: retention looks at `live` only. It never commits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from gateway.messages import LANE_ALARMS, LANE_LIVE
from gateway.store import batches

OLDEST = "oldest"
NEWEST = "newest"

_SKIP = (
    "INSERT INTO ledger_sink (sink, device, skipped_reports, skipped_events, skipped_windows, skipped_notices)"
    " SELECT ?, device, stored_reports, stored_events, stored_windows, stored_notices FROM ledger"
)

# What had left before, and the windows that thinning had made of it.
_SKIP_LEFT = (
    "INSERT INTO ledger_sink (sink, device, skipped_reports, skipped_events, skipped_windows, skipped_notices,"
    " made_windows) SELECT ?, l.device, sum(l.reports), sum(l.events), sum(l.windows), sum(l.notices), k.made_windows"
    " FROM ledger_left l JOIN ledger k USING (device) GROUP BY l.device"
)


def enrol(db: sqlite3.Connection, starts: Mapping[str, str], head_row: int, now_unix_ms: int) -> list[str]:
    """Make `starts` (sink: where it begins if it is new) the live sinks. Returns those that are new."""
    known = {str(sink): gone for sink, gone in db.execute("SELECT sink, gone_unix_ms FROM sinks")}
    new = [sink for sink in starts if sink not in known]
    for sink in new:
        db.execute("INSERT INTO sinks VALUES (?,?,NULL)", (sink, now_unix_ms))
        if starts[sink] == NEWEST:
            db.execute(_SKIP, (sink,))
            for lane in (LANE_ALARMS, LANE_LIVE):
                batches.advance(db, sink, lane, head_row + 1)
        else:
            db.execute(_SKIP_LEFT, (sink,))
    for sink, gone in known.items():
        if sink in starts and gone is not None:
            db.execute("UPDATE sinks SET gone_unix_ms = NULL WHERE sink = ?", (sink,))
        elif sink not in starts and gone is None:
            db.execute("UPDATE sinks SET gone_unix_ms = ? WHERE sink = ?", (now_unix_ms, sink))
    return new


def live(db: sqlite3.Connection) -> list[str]:
    """The sinks that may hold rows back."""
    return [str(row[0]) for row in db.execute("SELECT sink FROM sinks WHERE gone_unix_ms IS NULL ORDER BY sink")]


def known(db: sqlite3.Connection) -> list[str]:
    """Every sink that has a ledger to be kept."""
    return [str(row[0]) for row in db.execute("SELECT sink FROM sinks ORDER BY sink")]
