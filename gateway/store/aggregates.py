"""Windows, and the places of those who follow the store: SQL to write inside the writer's transaction, and to read.

A window keeps where its folding began, so that a record that comes late is folded in from there. Its revision is given
here, in the transaction that closes it: it rises over all windows and never comes twice (revisions.py). It never
commits and knows no policy.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway.errors import StoreUnusable
from gateway.messages import ChannelRecord, KeptWindow, WindowRow
from gateway.store import db, revisions
from gateway.store.disk import Disk
from gateway.store.segments import opened
from isocore.aggregate import KINDS, mean_of

_KEPT = (
    "device, channel, length_s, start_s, revision, least, greatest, last, area, count, covered_ms, alarm_ms, fault_ms,"
    " opening"
)
_SAVE = f"INSERT OR REPLACE INTO windows ({_KEPT}, open_boot, open_uptime_ms, open_seq) VALUES ({','.join('?' * 17)})"
_KINDS = ",".join(map(str, KINDS))
# Where a device's sealed rows lie. A record may stand before an older one in the order of seq (docs/filter.md, delay).
_DISORDER_SEQS = 1000
_SEGMENTS = (
    "SELECT DISTINCT g.file FROM sealed s JOIN segments g USING (segment)"
    " WHERE s.device = ? AND s.boot >= ? AND NOT (s.boot = ? AND s.last_seq < ?)"
)
CLOSING = -1  # as a revision: give it the next one


def begin(connection: sqlite3.Connection, follower: str, next_row: int) -> None:
    """Note where a follower that never was begins."""
    connection.execute("INSERT OR IGNORE INTO followers VALUES (?,?)", (follower, next_row))


def save(
    connection: sqlite3.Connection,
    follower: str,
    next_row: int,
    windows: Sequence[KeptWindow],
    states: Sequence[tuple[int, int, str]],
    now_unix_ms: int,
) -> None:
    """Keep what a follower made of the rows before `next_row`. `states`: (device, channel, text)."""
    connection.execute("INSERT OR REPLACE INTO followers VALUES (?,?)", (follower, next_row))
    connection.executemany("INSERT OR REPLACE INTO window_channels VALUES (?,?,?)", states)
    closing = sum(window.revision == CLOSING for window in windows)
    revision = revisions.reserve(connection, closing, now_unix_ms) if closing else 0
    rows = []
    for window in windows:
        if window.revision == CLOSING:
            window = window._replace(revision=revision)
            revision += 1
        key = window.opening_key or (None, None, None)
        rows.append((*window[:-1], *key))
    connection.executemany(_SAVE, rows)


def prune(connection: sqlite3.Connection, before_s: int, sinks: Sequence[str]) -> int:
    """Forget windows that ended before `before_s` and that each of `sinks` has frozen. Returns how many."""
    marks = ",".join("?" * len(sinks))
    (reached,) = connection.execute(
        f"SELECT CASE WHEN count(*) = ? THEN min(next_revision) ELSE 0 END FROM window_cursors WHERE sink IN ({marks})",
        (len(sinks), *sinks),
    ).fetchone()
    found = connection.execute(
        "DELETE FROM windows WHERE revision > 0 AND revision < ? AND start_s + length_s < ?",
        ((1 << 62) if not sinks else reached or 0, before_s),
    )
    return found.rowcount


def advance(connection: sqlite3.Connection, sink: str, next_revision: int) -> None:
    """Move a sink past the revisions it has frozen."""
    connection.execute("INSERT OR REPLACE INTO window_cursors VALUES (?,?)", (sink, next_revision))


class WindowReader:
    """A read-only connection of its own; one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._db = db.open_reader(path)
        self._disk = Disk(path.parent)
        self._lock = threading.RLock()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _all(self, sql: str, *values: object) -> list[Any]:
        with self._lock:
            try:
                return self._db.execute(sql, values).fetchall()
            except sqlite3.Error as exc:
                raise StoreUnusable(f"cannot read the store: {exc}") from exc

    # -- for whoever folds

    def follower(self, name: str) -> int | None:
        """Next row that a follower has to work in; None when it never did."""
        rows = self._all("SELECT next_row FROM followers WHERE name = ?", name)
        return int(rows[0][0]) if rows else None

    def states(self) -> list[tuple[int, int, str]]:
        """Where each channel's folding stands."""
        return [(d, c, text) for d, c, text in self._all("SELECT device, channel, state FROM window_channels")]

    def open_windows(self) -> list[KeptWindow]:
        """Those that are not closed."""
        return [_kept(row) for row in self._all(f"SELECT {_KEPT} FROM windows WHERE revision = 0")]

    def window(self, device: int, channel: int, length_s: int, start_s: int) -> KeptWindow | None:
        rows = self._all(
            f"SELECT {_KEPT} FROM windows WHERE device = ? AND channel = ? AND length_s = ? AND start_s = ?",
            device,
            channel,
            length_s,
            start_s,
        )
        return _kept(rows[0]) if rows else None

    def windows_from(self, device: int, channel: int, start_s: int) -> list[KeptWindow]:
        """A channel's windows of all lengths that begin at `start_s` or later."""
        sql = f"SELECT {_KEPT} FROM windows WHERE device = ? AND channel = ? AND start_s >= ?"
        return [_kept(row) for row in self._all(sql, device, channel, start_s)]

    def opening_before(
        self, device: int, channel: int, length_s: int, start_s: int, key: tuple[int, int, int]
    ) -> KeptWindow | None:
        """The last window that begins by `start_s` and was opened before the record `key` (boot, uptime_ms, seq)."""
        rows = self._all(
            f"SELECT {_KEPT} FROM windows WHERE device = ? AND channel = ? AND length_s = ? AND start_s <= ?"
            " AND (open_boot, open_uptime_ms, open_seq) < (?, ?, ?) ORDER BY start_s DESC LIMIT 1",
            device,
            channel,
            length_s,
            start_s,
            *key,
        )
        return _kept(rows[0]) if rows else None

    def channel_records(
        self, device: int, channel: int, after: tuple[int, int, int], last_row: int
    ) -> list[ChannelRecord]:
        """A channel's records behind `after` (boot, uptime_ms, seq) in that order, of rows up to `last_row`."""
        boot, uptime_ms, seq = after
        query = (
            "SELECT boot, seq, kind, value, trend, uptime_ms, epoch_unix_ms + uptime_ms FROM readings WHERE device = ?"
            f" AND boot >= ? AND channel = ? AND kind IN ({_KINDS}) AND id <= ? AND (boot, uptime_ms, seq) > (?, ?, ?)"
        )
        values = (device, boot, channel, last_row, boot, uptime_ms, seq)
        found: list[Any] = []
        with self._lock:
            self._all("BEGIN")
            try:
                for (file,) in self._all(_SEGMENTS, device, boot, boot, seq - _DISORDER_SEQS):
                    with opened(self._disk, file) as segment:
                        found += segment.execute(query, values).fetchall()
                found += self._all(query, *values)
            finally:
                self._db.execute("COMMIT")
        return sorted(map(ChannelRecord._make, found), key=lambda record: (record.boot, record.uptime_ms, record.seq))

    # -- for the way up

    def cursor(self, sink: str) -> int:
        """Next revision that a sink will freeze."""
        rows = self._all("SELECT next_revision FROM window_cursors WHERE sink = ?", sink)
        return int(rows[0][0]) if rows else 1

    def closed(self, first_revision: int, limit: int) -> list[WindowRow]:
        """Closed windows in order of revision."""
        return [
            WindowRow(
                d, c, length, start, rev, least, mean_of(area, cov, least, most), most, last, n, cov, alarm, fault
            )
            for d, c, length, start, rev, least, most, last, area, n, cov, alarm, fault, _ in self._all(
                f"SELECT {_KEPT} FROM windows WHERE revision >= ? AND revision > 0 ORDER BY revision LIMIT ?",
                first_revision,
                limit,
            )
        ]


def _kept(row: tuple[Any, ...]) -> KeptWindow:
    return KeptWindow._make((*row, tuple(json.loads(row[-1])[0][:3])))
