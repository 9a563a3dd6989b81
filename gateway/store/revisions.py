"""Numbers that name states of windows and models: each is given once, and a later one is greater.

It holds when a store is replaced by a new one as well, since none is below the time in ms. It never commits.
"""

from __future__ import annotations

import sqlite3


def reserve(connection: sqlite3.Connection, count: int, now_unix_ms: int) -> int:
    """The first of `count` in a row."""
    row = connection.execute("SELECT value FROM properties WHERE key = 'next_revision'").fetchone()
    first = max(int(row[0]) if row else 1, now_unix_ms)
    connection.execute("INSERT OR REPLACE INTO properties VALUES ('next_revision', ?)", (first + count,))
    return first
