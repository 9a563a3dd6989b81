"""Absence alarms: a device or gateway that was heard and then is silent for too long, until it speaks again.

Silence is measured on the monotonic clock of this process only, so a clock that is set neither raises nor hides an
alarm; wall time is what people are told. A receiver that was away cannot know who spoke meanwhile, so every silence
begins anew when it starts; alarms that stand, stand on. It runs inside the store's transactions, on its connection.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from typing import NamedTuple

DEVICE, GATEWAY = "device", "gateway"
HISTORY_MAX = 10_000  # silences that ended, kept for people; the oldest go


class SilenceLimits(NamedTuple):
    """How long each may be silent; 0: for ever. not_missed: names that are never missed.

    The defaults suit boards without a heartbeat: a steady room may have nothing to report for hours.
    """

    device_s: int = 86_400
    gateway_s: int = 21_600
    not_missed: frozenset[str] = frozenset()


class SilenceWatch:
    """Of one receiver. `clock_s` is monotonic."""

    def __init__(self, db: sqlite3.Connection, limits: SilenceLimits, clock_s: Callable[[], float]) -> None:
        self._db = db
        self._limits_s = {DEVICE: limits.device_s, GATEWAY: limits.gateway_s}
        self._not_missed = limits.not_missed
        self._clock_s = clock_s
        now_s = clock_s()
        self._heard_s: dict[tuple[str, str], float] = {}
        for kind in (DEVICE, GATEWAY):
            for (name,) in db.execute(f"SELECT name FROM {kind}"):
                self._heard_s[kind, name] = now_s
        self._open: set[tuple[str, str]] = set()
        self.forget()

    def forget(self) -> None:
        """A transaction was rolled back."""
        self._open = set(self._db.execute("SELECT kind, name FROM silence WHERE until_unix_ms IS NULL"))

    def heard(self, kind: str, names: Iterable[str], now_unix_ms: int) -> None:
        """They spoke: what stood of their silence is over."""
        now_s = self._clock_s()
        for name in names:
            self._heard_s[kind, name] = now_s
            if (kind, name) in self._open:
                self._end(kind, name, now_unix_ms)

    def look(self, now_unix_ms: int) -> None:
        """Miss who is silent for too long."""
        for kind, name in [key for key in self._open if key[1] in self._not_missed or not self._limits_s[key[0]]]:
            self._end(kind, name, now_unix_ms)
        now_s = self._clock_s()
        for (kind, name), heard_s in self._heard_s.items():
            limit_s = self._limits_s[kind]
            if not limit_s or now_s - heard_s <= limit_s or (kind, name) in self._open or name in self._not_missed:
                continue
            self._db.execute(
                "INSERT INTO silence (kind, name, after_s, since_unix_ms) VALUES (?, ?, ?, ?)",
                (kind, name, limit_s, now_unix_ms),
            )
            self._open.add((kind, name))
        self._db.execute(
            "DELETE FROM silence WHERE until_unix_ms IS NOT NULL AND id <= "
            "(SELECT id FROM silence WHERE until_unix_ms IS NOT NULL ORDER BY id DESC LIMIT 1 OFFSET ?)",
            (HISTORY_MAX,),
        )

    def _end(self, kind: str, name: str, now_unix_ms: int) -> None:
        self._db.execute(
            "UPDATE silence SET until_unix_ms = ? WHERE kind = ? AND name = ? AND until_unix_ms IS NULL",
            (now_unix_ms, kind, name),
        )
        self._open.discard((kind, name))
