"""Frozen batches, cursors and backfill ranges: the SQL of the way up, inside the writer's transaction.

A lane's cursor is the next row it will freeze, and moves in the transaction that keeps the frozen bytes. A batch leaves
the table, and enters the ledger, only on the sink's explicit word. It never commits and knows no network.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Sequence
from typing import Any

from gateway.messages import LANE_BACKFILL, LANE_LIVE, LANE_MODELS, LANE_WINDOWS, Batch, Counts, Unsent
from gateway.store import aggregates, catalog, models

_BATCH_START_BITS = 40

_SINK_LEDGER = (
    "INSERT INTO ledger_sink (sink, device, {0}_reports, {0}_events, {0}_windows, {0}_notices) VALUES (?,?,?,?,?,?)"
    " ON CONFLICT (sink, device) DO UPDATE SET {0}_reports={0}_reports+excluded.{0}_reports,"
    " {0}_events={0}_events+excluded.{0}_events, {0}_windows={0}_windows+excluded.{0}_windows,"
    " {0}_notices={0}_notices+excluded.{0}_notices"
)
_AGGREGATED = (
    "INSERT INTO ledger_sink (sink, device, aggregated_reports) VALUES (?,?,?) ON CONFLICT (sink, device) DO UPDATE SET"
    " aggregated_reports=aggregated_reports+excluded.aggregated_reports"
)
_BATCH = "SELECT sink, batch, lane, first_row, last_row, rows, counts, encoding, digest, body FROM batches"


def reserve(db: sqlite3.Connection, count: int) -> int:
    """The first of `count` batch numbers in a row that this gateway id never used before.

    A new store starts at a random number: it must not meet the numbers of a store that was set aside or deleted.
    """
    row = db.execute("SELECT value FROM properties WHERE key = 'next_batch'").fetchone()
    number = int(row[0]) if row else secrets.randbits(_BATCH_START_BITS) + 1
    db.execute("INSERT OR REPLACE INTO properties VALUES ('next_batch', ?)", (number + count,))
    return number


def freeze(
    db: sqlite3.Connection, batch: Batch, next_row: int, cuts: int | None, unsent: Unsent, now_unix_ms: int
) -> bool:
    """Keep a batch and move its lane past it, and past what the sink's policy leaves out.

    False when retention took rows since they were read, at `cuts`.
    """
    if not leave_out(db, batch.sink, batch.lane, next_row, cuts, unsent):
        return False
    _keep(db, batch, now_unix_ms)
    return True


def leave_out(db: sqlite3.Connection, sink: str, lane: str, next_row: int, cuts: int | None, unsent: Unsent) -> bool:
    """Move a lane past rows of which some do not go up, and say so in the ledger. False as for `freeze`."""
    if cuts is not None and catalog.cuts(db) != cuts:
        return False
    _count(db, sink, unsent.withheld, "withheld")
    db.executemany(_AGGREGATED, [(sink, counts.device, counts.reports) for counts in unsent.aggregated])
    advance(db, sink, lane, next_row)
    return True


def replace(db: sqlite3.Connection, sink: str, number: int, new: Sequence[Batch], now_unix_ms: int) -> bool:
    """New batches, holding its rows, in the place of one that its sink cannot take. False when it is not pending."""
    if _counts(db, sink, number, "pending") is None:
        return False
    db.execute("DELETE FROM batches WHERE sink = ? AND batch = ?", (sink, number))
    for batch in new:
        _keep(db, batch, now_unix_ms)
    return True


def _keep(db: sqlite3.Connection, batch: Batch, now_unix_ms: int) -> None:
    db.execute(
        "INSERT INTO batches VALUES (?,?,?,?,?,?,?,?,?,?,'pending',NULL,?)",
        (
            batch.sink,
            batch.batch,
            batch.lane,
            batch.first_row,
            batch.last_row,
            batch.rows,
            json.dumps(batch.counts),
            batch.encoding,
            batch.digest,
            batch.body,
            now_unix_ms,
        ),
    )


def advance(db: sqlite3.Connection, sink: str, lane: str, next_row: int) -> None:
    """Move a lane's cursor; for the backfill lane, that of the range the row lies in; without rows, the revision's."""
    if lane == LANE_WINDOWS:
        aggregates.advance(db, sink, next_row)
        return
    if lane == LANE_MODELS:
        models.advance(db, sink, next_row)
        return
    if lane == LANE_BACKFILL:
        db.execute(
            "UPDATE backfill SET next_row = ?2 WHERE sink = ?1 AND next_row < ?2 AND last_row >= ?2 - 1",
            (sink, next_row),
        )
        db.execute("DELETE FROM backfill WHERE sink = ? AND next_row > last_row", (sink,))
        return
    db.execute(
        "INSERT INTO cursors VALUES (?,?,?) ON CONFLICT (sink, lane) DO UPDATE SET next_row = excluded.next_row",
        (sink, lane, next_row),
    )


def leave_behind(db: sqlite3.Connection, sink: str, first_row: int, last_row: int) -> None:
    """Hand [first_row, last_row] from the live lane to the backfill lane."""
    db.execute("INSERT INTO backfill VALUES (?,?,?)", (sink, last_row, first_row))
    advance(db, sink, LANE_LIVE, last_row + 1)


def uploaded(db: sqlite3.Connection, sink: str, batch: int) -> bool:
    """The sink has it. Returns False when that was known already."""
    return _leave(db, sink, batch, "uploaded")


def quarantine(db: sqlite3.Connection, sink: str, batch: int, reason: str) -> bool:
    """The sink will never take it: keep it with the reason, out of the way."""
    counts = _counts(db, sink, batch, "pending")
    if counts is None:
        return False
    db.execute(
        "UPDATE batches SET state = 'quarantined', reason = ? WHERE sink = ? AND batch = ?", (reason, sink, batch)
    )
    _count(db, sink, counts, "quarantined")
    return True


def retry(db: sqlite3.Connection, sink: str, batch: int) -> Batch | None:
    """Take a batch out of quarantine, to be sent once more, byte for byte. None when it is not there."""
    counts = _counts(db, sink, batch, "quarantined")
    if counts is None:
        return None
    _count(db, sink, counts, "quarantined", -1)
    db.execute("UPDATE batches SET state = 'pending', reason = NULL WHERE sink = ? AND batch = ?", (sink, batch))
    return _batch(db.execute(f"{_BATCH} WHERE sink = ? AND batch = ?", (sink, batch)).fetchone())


def drop(db: sqlite3.Connection, sink: str, batch: int) -> bool:
    """Give up a batch in quarantine for this sink: its rows stay stored, the ledger calls them dropped."""
    counts = _counts(db, sink, batch, "quarantined")
    if counts is None:
        return False
    _count(db, sink, counts, "quarantined", -1)
    _count(db, sink, counts, "dropped")
    db.execute("DELETE FROM batches WHERE sink = ? AND batch = ?", (sink, batch))
    return True


def _leave(db: sqlite3.Connection, sink: str, batch: int, outcome: str) -> bool:
    counts = _counts(db, sink, batch, "pending")
    if counts is None:
        return False
    _count(db, sink, counts, outcome)
    db.execute("DELETE FROM batches WHERE sink = ? AND batch = ?", (sink, batch))
    return True


def _counts(db: sqlite3.Connection, sink: str, batch: int, state: str) -> list[Counts] | None:
    row = db.execute(
        "SELECT counts FROM batches WHERE sink = ? AND batch = ? AND state = ?", (sink, batch, state)
    ).fetchone()
    return None if row is None else [Counts(*entry) for entry in json.loads(row[0])]


def _count(db: sqlite3.Connection, sink: str, counts: Sequence[Counts], outcome: str, sign: int = 1) -> None:
    rows = [(sink, c.device, *(sign * n for n in (c.reports, c.events, c.windows, c.notices))) for c in counts]
    db.executemany(_SINK_LEDGER.format(outcome), rows)


def pending(db: sqlite3.Connection, sink: str) -> list[Batch]:
    """Batches frozen and not answered, oldest first: what a restart must send again, byte for byte."""
    return [_batch(row) for row in db.execute(f"{_BATCH} WHERE sink = ? AND state = 'pending' ORDER BY batch", (sink,))]


def _batch(row: tuple[Any, ...]) -> Batch:
    *head, counts, encoding, digest, body = row
    sink, number, lane, first_row, last_row, rows = head
    split = tuple(Counts(*entry) for entry in json.loads(counts))
    return Batch(sink, number, lane, first_row, last_row, rows, split, encoding, digest, body)
