"""Runs of analyses, and the windows that they are made of: SQL to write inside the writer's transaction, and to read.

It never commits and knows neither where a run goes nor what it finds.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence

from gateway.messages import Run, WindowPrint
from gateway.store.aggregates import WindowReader
from isocore.aggregate import mean_of

_RUN = "SELECT name, length_s, start_s, place, request, outcome FROM analyses"
# Revisions name contents, so their sum tells whether two sides have the same windows.
_PRINT = "count(*), coalesce(sum(revision), 0), coalesce(max(revision), 0)"


def save(connection: sqlite3.Connection, run: Run, before_s: int) -> None:
    """Keep where a run goes, or what it found; forget those that judged windows before `before_s`."""
    connection.execute("INSERT OR REPLACE INTO analyses VALUES (?,?,?,?,?,?,0)", run)
    connection.execute("DELETE FROM analyses WHERE start_s < ? AND name = ?", (before_s, run.name))


def sent(connection: sqlite3.Connection, runs: Sequence[Run]) -> None:
    """These are frozen as they are here; one that was changed meanwhile goes again."""
    connection.executemany(
        "UPDATE analyses SET sent = 1 WHERE name = ? AND length_s = ? AND start_s = ? AND place = ? AND request = ?"
        " AND outcome IS ?",
        runs,
    )


class AnalysisReader(WindowReader):
    """The same kind of connection, for runs."""

    def last_start_s(self, name: str, length_s: int) -> int | None:
        """The latest window that was judged, or handed over."""
        rows = self._all("SELECT max(start_s) FROM analyses WHERE name = ? AND length_s = ?", name, length_s)
        return None if rows[0][0] is None else int(rows[0][0])

    def unsent(self, limit: int) -> list[Run]:
        """What waits to be frozen, oldest first."""
        sql = f"{_RUN} WHERE sent = 0 ORDER BY start_s, name, length_s LIMIT ?"
        return [Run._make(row) for row in self._all(sql, limit)]

    def latest_outcome(self, name: str) -> Run | None:
        """The latest that was found here."""
        rows = self._all(f"{_RUN} WHERE name = ? AND outcome IS NOT NULL ORDER BY start_s DESC LIMIT 1", name)
        return Run._make(rows[0]) if rows else None

    def runs(self, limit: int) -> list[Run]:
        """The latest, newest first."""
        sql = f"{_RUN} ORDER BY start_s DESC, name, length_s LIMIT ?"
        return [Run._make(row) for row in self._all(sql, limit)]

    def settled(self, length_s: int, start_s: int, before_s: int) -> bool:
        """Whether no window of this length that begins in [start_s, before_s) is being folded anew."""
        sql = "SELECT 1 FROM windows WHERE revision = 0 AND length_s = ? AND start_s >= ? AND start_s < ? LIMIT 1"
        return not self._all(sql, length_s, start_s, before_s)

    def places(self, length_s: int, start_s: int, before_s: int) -> list[tuple[int, int]]:
        """(device, channel) with closed windows of this length that begin in [start_s, before_s)."""
        sql = (
            "SELECT DISTINCT device, channel FROM windows WHERE length_s = ? AND start_s >= ? AND start_s < ?"
            " AND revision > 0 ORDER BY device, channel"
        )
        return [(device, channel) for device, channel in self._all(sql, length_s, start_s, before_s)]

    def head_revision(self) -> int:
        """The highest there is; 0: no window is closed."""
        return int(self._all("SELECT coalesce(max(revision), 0) FROM windows")[0][0])

    def print_of(self, sensors: Iterable[tuple[int, int]], length_s: int, start_s: int, before_s: int) -> WindowPrint:
        """What tells these windows from others."""
        sql = (
            f"SELECT {_PRINT} FROM windows WHERE length_s = ? AND start_s >= ? AND start_s < ? AND revision > 0 AND"
            " (device, channel) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))"
        )
        rows = self._all(sql, length_s, start_s, before_s, json.dumps(list(sensors)))
        return WindowPrint._make(rows[0])

    def means(self, device: int, channel: int, length_s: int, start_s: int, before_s: int) -> dict[int, int]:
        """{start_s: mean in milli-units} of one channel's closed windows that have a mean."""
        sql = (
            "SELECT start_s, area, covered_ms, least, greatest FROM windows WHERE device = ? AND channel = ?"
            " AND length_s = ? AND start_s >= ? AND start_s < ? AND revision > 0"
        )
        found = {}
        for at_s, area, covered_ms, least, most in self._all(sql, device, channel, length_s, start_s, before_s):
            mean = mean_of(area, covered_ms, least, most)
            if mean is not None:
                found[at_s] = mean
        return found

    def begin(self) -> None:
        """From here to `end` everything is read as it stands now."""
        self._all("BEGIN")
        self._all("SELECT 1 FROM windows LIMIT 1")

    def end(self) -> None:
        self._all("COMMIT")

    def numbers(self, names: Sequence[str]) -> dict[str, int]:
        """Device numbers by id."""
        sql = "SELECT name, device FROM devices WHERE name IN (SELECT value FROM json_each(?))"
        return dict(self._all(sql, json.dumps(list(names))))
