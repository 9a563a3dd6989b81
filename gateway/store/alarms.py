"""Alarms and what is still to be told of them: SQL to write inside the writer's transaction, and to read.

It never commits and knows no rule.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from gateway.messages import Alarm, Notice, Vitals
from gateway.store.aggregates import WindowReader

HISTORY_MAX = 2000
_ALARM = (
    "SELECT alarm, rule, device, channel, severity, text, value_milli, raised_unix_ms, acked_unix_ms, cleared_unix_ms"
    " FROM alarms"
)


def save(
    connection: sqlite3.Connection, follower: str, next_row: int, alarms: Sequence[Alarm], notices: Sequence[Notice]
) -> None:
    """Keep alarms as they are now, what is to be told of them, and how far their rules have read."""
    connection.execute("INSERT OR REPLACE INTO followers VALUES (?,?)", (follower, next_row))
    connection.executemany("INSERT OR REPLACE INTO alarms VALUES (?,?,?,?,?,?,?,?,?,?)", alarms)
    connection.executemany("INSERT OR REPLACE INTO notices VALUES (?,?,?)", notices)
    if alarms:
        connection.execute(
            "DELETE FROM alarms WHERE cleared_unix_ms IS NOT NULL AND alarm <="
            " (SELECT alarm FROM alarms WHERE cleared_unix_ms IS NOT NULL ORDER BY alarm DESC LIMIT 1 OFFSET ?)",
            (HISTORY_MAX,),
        )


def told(connection: sqlite3.Connection, notice: int) -> None:
    """An output knows, or is given up."""
    connection.execute("DELETE FROM notices WHERE notice = ?", (notice,))


class AlarmReader(WindowReader):
    """The same kind of connection, for alarms and for what rules look at."""

    def standing(self) -> list[Alarm]:
        return [Alarm._make(row) for row in self._all(f"{_ALARM} WHERE cleared_unix_ms IS NULL ORDER BY alarm")]

    def history(self, limit: int) -> list[Alarm]:
        """The latest that are cleared, newest first."""
        rows = self._all(f"{_ALARM} WHERE cleared_unix_ms IS NOT NULL ORDER BY alarm DESC LIMIT ?", limit)
        return [Alarm._make(row) for row in rows]

    def next_numbers(self) -> tuple[int, int]:
        """Numbers for the next alarm and the next notice."""
        rows: list[Any] = self._all(
            "SELECT coalesce((SELECT max(alarm) FROM alarms), 0) + 1,"
            " coalesce((SELECT max(notice) FROM notices), 0) + 1"
        )
        return int(rows[0][0]), int(rows[0][1])

    def untold(self) -> list[Notice]:
        return [Notice._make(row) for row in self._all("SELECT notice, output, event FROM notices ORDER BY notice")]

    def vitals(self) -> list[Vitals]:
        """Every device's."""
        return [
            Vitals(device, name, kind, bool(own), seen, conflicts, gap)
            for device, name, kind, own, seen, conflicts, gap in self._all(
                "SELECT d.device, d.name, d.class, d.own, d.last_seen_unix_ms, coalesce(l.conflicts, 0),"
                " coalesce(l.gap, 0) FROM devices d LEFT JOIN ledger l USING (device)"
            )
        ]
