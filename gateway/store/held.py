"""Which identities the store has, or had: hot rows, sealed rows, and rows that are gone. For the frame table.

Rows of a segment are read from its file; those that are gone, or whose file cannot be read, are known by identity only.
It writes nothing.
"""

from __future__ import annotations

import heapq
import sqlite3
from contextlib import ExitStack

from gateway.errors import StoreUnusable
from gateway.messages import LOST, Record
from gateway.store import segments
from gateway.store.disk import Disk

_RECORD = (
    "SELECT seq, kind, channel, value, uptime_ms, trend FROM readings"
    " WHERE device = ? AND boot = ? AND seq BETWEEN ? AND ?"
)
_SEALED = (
    "SELECT s.first_seq, s.last_seq, g.file FROM sealed s LEFT JOIN segments g USING (segment)"
    " WHERE s.device = ? AND s.boot = ? AND s.first_seq <= ? AND s.last_seq >= ? ORDER BY s.first_seq"
)


class Held:
    """Answers for one connection; `done` after each transaction lets go of segment files."""

    def __init__(self, connection: sqlite3.Connection, disk: Disk) -> None:
        self._db = connection
        self._disk = disk
        self._files = ExitStack()
        self._open: dict[str, sqlite3.Connection] = {}

    def done(self) -> None:
        self._files.close()
        self._open.clear()

    def records(self, key: tuple[int, int], first: int, last: int) -> dict[int, Record | None]:
        """seq -> the record held, or None where only the identity is known, for seqs of [first, last]."""
        out: dict[int, Record | None] = {row[0]: row for row in self._db.execute(_RECORD, (*key, first, last))}
        for begin, end, file in self._db.execute(_SEALED, (*key, last, first)).fetchall():
            begin, end = max(begin, first), min(end, last)
            out.update(dict.fromkeys(range(begin, end + 1)))
            if file is not None:
                out.update((row[0], row) for row in self._rows(file, key, begin, end))
        return out

    def _rows(self, file: str, key: tuple[int, int], first: int, last: int) -> list[Record]:
        try:
            if file not in self._open:
                self._open[file] = self._files.enter_context(segments.opened(self._disk, file))
            return self._open[file].execute(_RECORD, (*key, first, last)).fetchall()
        except (StoreUnusable, sqlite3.Error):
            segments.suspect(self._disk, file)
            return []

    def count(self, key: tuple[int, int], first: int, last: int) -> int:
        """Identities of [first, last] that are or were held. A LOST record is none: it lies in a hole always."""
        (hot,) = self._db.execute(
            "SELECT count(*) FROM readings WHERE device = ? AND boot = ? AND seq BETWEEN ? AND ? AND kind != ?",
            (*key, first, last, LOST),
        ).fetchone()
        spans = self._db.execute(_SEALED, (*key, last, first))
        return int(hot) + sum(int(min(end, last) - max(begin, first) + 1) for begin, end, _ in spans)

    def covered_from(self, key: tuple[int, int], covered: int) -> int:
        """The watermark moved over all that adjoins it: rows held, rows sealed, runs accounted for as lost."""
        hot = self._db.execute(
            "SELECT max(1, CASE WHEN kind = ?4 AND value > 1 THEN seq - value + 1 ELSE seq END), seq FROM readings"
            " WHERE device = ?1 AND boot = ?2 AND seq > ?3 ORDER BY seq",
            (*key, covered, LOST),
        )
        others = self._db.execute(
            "SELECT first_seq, last_seq FROM sealed WHERE device = ?1 AND boot = ?2 AND last_seq > ?3"
            " UNION ALL SELECT first_seq, last_seq FROM holes WHERE device = ?1 AND boot = ?2 AND last_seq > ?3"
            " ORDER BY 2",
            (*key, covered),
        )
        # In order of their ends: what adjoins is found without reading all that came early.
        for first, last in heapq.merge(hot, others, key=lambda run: run[1]):
            if first > covered + 1:
                break
            covered = max(covered, last)
        return covered
