"""The receiver's store read as a log: rows in the order of the batches that brought them, from any batch on.

A batch's number in the store (`batch.id`) rises with each commit, one writer commits, and a batch's rows come with it:
so what is at or below a number never grows. A row that a later batch changes is told again with that batch. Read-only,
from any process, while the receiver runs: within one transaction of SQLite's, which WAL lets the receiver write beside.

It knows nothing of lakes: what becomes of the rows is the caller's business.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from host_tools.cloud.store_file import FILE_NAME, open_reading
from host_tools.errors import StoreError

BLOCK_ROWS = 20_000
_READINGS = """
    SELECT r.device, b.gateway, r.boot, r.seq, r.kind, r.channel, r.value, r.trend, r.uptime_ms, r.epoch_unix_ms,
           r.trusted, r.verdict, b.recv_unix_ms, b.id
    FROM batch b CROSS JOIN arrival a CROSS JOIN reading r
    WHERE b.id > ? AND b.id <= ? AND a.batch = b.id
    AND r.device = a.device AND r.boot = a.boot AND r.seq BETWEEN a.first_seq AND a.last_seq AND r.batch = a.batch
"""
_BATCHES = """
    SELECT id, digest, recv_unix_ms, new_count + (SELECT count(*) FROM window WHERE window.batch = batch.id)
    FROM batch WHERE id > ? ORDER BY id
"""
_CHANGED = """
    SELECT r.device, b.gateway, r.boot, r.seq, r.kind, r.channel, r.value, r.trend, r.uptime_ms, r.epoch_unix_ms,
           r.trusted, r.verdict, b.recv_unix_ms, b.id
    FROM reading r CROSS JOIN batch b
    WHERE r.changed > ? AND r.changed <= ? AND b.id = r.batch AND b.id <= ?
"""
_WINDOWS = """
    SELECT w.device, b.gateway, w.channel, w.length_s, w.start_unix_s, w.revision, w.least, w.mean, w.greatest, w.last,
           w.reports, w.covered_ms, w.alarm_ms, w.fault_ms, b.id
    FROM batch b CROSS JOIN window w WHERE b.id > ? AND b.id <= ? AND w.batch = b.id
"""


class LogReading(NamedTuple):
    """One row. device and gateway are the store's numbers, named in `Names`; epoch_unix_ms: unix time at uptime 0."""

    device: int
    gateway: int
    boot: int
    seq: int
    kind: int
    channel: int
    value: int
    trend: int
    uptime_ms: int
    epoch_unix_ms: int | None
    trusted: int
    verdict: int
    recv_unix_ms: int
    batch: int


class LogWindow(NamedTuple):
    """One window, at the highest revision that had come. Figures in milli-units."""

    device: int
    gateway: int
    channel: int
    length_s: int
    start_unix_s: int
    revision: int
    least: int | None
    mean: int | None
    greatest: int | None
    last: int | None
    reports: int
    covered_ms: int
    alarm_ms: int
    fault_ms: int
    batch: int


class Names(NamedTuple):
    """What the numbers stand for. channels: (device, number) -> name and unit; devices: name and class."""

    gateways: dict[int, str]
    devices: dict[int, tuple[str, str | None]]
    channels: dict[tuple[int, int], tuple[str, str | None]]


class Span(NamedTuple):
    """Batches to read: above `after`, up to `upto`, which has this digest and came at this time."""

    after: int
    upto: int
    digest: bytes
    recv_unix_ms: int


class StoreLog:
    """Reads one store's log. Use as a context manager. One thread at a time."""

    def __init__(self, folder: Path) -> None:
        """Raises StoreError where there is no store, or one that an older receiver wrote."""
        self.path = path = folder / FILE_NAME
        self._db = open_reading(folder, "SELECT 1 FROM sqlite_schema")
        known = self._db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'reading_changed'").fetchone()
        if known is None:
            self._db.close()
            raise StoreError(f"{path}: an older receiver wrote it; start `isotherm cloud serve --data {folder}` once")

    def __enter__(self) -> StoreLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """One state of the store for all that is read meanwhile. Raises StoreError for what SQLite cannot read."""
        try:
            self._db.execute("BEGIN")
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: cannot be read: {error}") from error
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def digest(self, batch: int) -> bytes | None:
        """SHA-256 of a batch's body, or None where the store has no such batch."""
        row = self._db.execute("SELECT digest FROM batch WHERE id = ?", (batch,)).fetchone()
        return None if row is None else bytes(row[0])

    def span(self, after: int, rows_max: int) -> Span | None:
        """The batches above `after` with no more than `rows_max` rows and windows together, but at least one batch.

        None where there is none.
        """
        rows = 0
        found = None
        for number, digest, recv_unix_ms, count in self._db.execute(_BATCHES, (after,)):
            rows += count
            if found is not None and rows > rows_max:
                break
            found = Span(after, number, bytes(digest), recv_unix_ms)
        return found

    def behind(self, after: int) -> tuple[int, int]:
        """How many batches and rows lie above a number."""
        query = "SELECT count(*), coalesce(sum(new_count), 0) FROM batch WHERE id > ?"
        batches, rows = self._db.execute(query, (after,)).fetchone()
        return batches, rows

    def readings(self, span: Span) -> Iterator[list[LogReading]]:
        """The rows of these batches, in blocks."""
        yield from map(_readings, self._blocks(_READINGS, span))

    def changed(self, span: Span) -> Iterator[list[LogReading]]:
        """Rows of batches before the span that its batches changed, as they are now, in blocks."""
        yield from map(_readings, self._blocks(_CHANGED, span, span.after))

    def windows(self, span: Span) -> Iterator[list[LogWindow]]:
        """The windows whose latest revision these batches brought, in blocks."""
        for block in self._blocks(_WINDOWS, span):
            yield [LogWindow._make(row) for row in block]

    def names(self) -> Names:
        """All that is known."""
        db = self._db
        return Names(
            dict(db.execute("SELECT id, name FROM gateway")),
            {number: (name, label) for number, name, label in db.execute("SELECT id, name, class FROM device")},
            {(d, number): (name, unit) for d, number, name, unit in db.execute("SELECT * FROM channel")},
        )

    def _blocks(self, query: str, span: Span, *more: int) -> Iterator[list[tuple[int, ...]]]:
        cursor = self._db.execute(query, (span.after, span.upto, *more))
        while block := cursor.fetchmany(BLOCK_ROWS):
            yield block


def _readings(block: list[tuple[int, ...]]) -> list[LogReading]:
    return list(map(LogReading._make, block))
