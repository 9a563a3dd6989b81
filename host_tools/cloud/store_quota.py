"""What one gateway may bring in a day, in rows and bytes: counted in the transaction that stores them.

A day is UTC's. A quota is used up once it is reached, so the batch that crosses it is still stored: one larger than a
day's quota would come for ever otherwise. Alarms have as much again for themselves. A batch that is stored already
costs nothing. The gateway keeps what is refused, and comes again (docs/uplink.md, "Replies").
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

DAY_MS = 86_400_000
RETRY_AFTER_S_MAX = 900  # sooner than the day's end, so that a quota that was raised is noticed
ALARM_SHARE = 2  # of a quota, up to which alarms are taken


class Quota(NamedTuple):
    """Of each gateway; 0: without bound."""

    rows_a_day: int = 0
    bytes_a_day: int = 0


class QuotaSpent(Exception):
    """This gateway has brought what it may bring today; retryable."""

    def __init__(self, text: str, retry_after_s: int) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


def spent(db: sqlite3.Connection, quota: Quota, gateway: int, lane: str, now_unix_ms: int) -> QuotaSpent | None:
    """What to answer to a new batch of this gateway, or None when it may come in."""
    day, of_day_ms = divmod(now_unix_ms, DAY_MS)
    brought = db.execute("SELECT rows, bytes FROM brought WHERE gateway = ? AND unix_day = ?", (gateway, day))
    rows, size = brought.fetchone() or (0, 0)
    share = ALARM_SHARE if lane == "alarms" else 1
    for used, most, what in ((rows, quota.rows_a_day, "rows"), (size, quota.bytes_a_day, "bytes")):
        if most and used >= most * share:
            left_s = (DAY_MS - of_day_ms + 999) // 1000
            return QuotaSpent(f"{used} {what} came today of at most {most}", min(left_s, RETRY_AFTER_S_MAX))
    return None


def take(db: sqlite3.Connection, gateway: int, rows: int, size: int, now_unix_ms: int) -> None:
    """Count a batch that is being stored."""
    db.execute(
        "INSERT INTO brought VALUES (?1, ?2, ?3, ?4) ON CONFLICT (gateway) DO UPDATE SET "
        "rows = ?3 + iif(unix_day = ?2, rows, 0), bytes = ?4 + iif(unix_day = ?2, bytes, 0), unix_day = ?2",
        (gateway, now_unix_ms // DAY_MS, rows, size),
    )
