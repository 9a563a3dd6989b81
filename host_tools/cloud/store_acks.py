"""Acknowledging identity alarms: a person says that he looked, and the alarm stands no more until there is a new one.

An alarm counts how often it was raised; an acknowledgement is of so many of those, so one that was raised meanwhile, or
is later, stands. Doing it again changes nothing. What was found, and who acknowledged it, stays for good. `acknowledge`
works inside the writer's transaction. It knows no HTTP.
"""

from __future__ import annotations

import sqlite3

from host_tools.cloud.answers import ACKS_SHOWN, Ack, Acked, Acknowledgement


def acknowledge(db: sqlite3.Connection, ack: Ack, now_unix_ms: int) -> list[Acked]:
    """Note it for each alarm that it is of; none: there is no such alarm."""
    rows = db.execute(
        "SELECT gateway, count, acked FROM alarm WHERE device = ?1 AND reason = ?2 AND (?3 IS NULL OR gateway = ?3)"
        " ORDER BY gateway",
        (ack.device, ack.reason, ack.gateway),
    ).fetchall()
    found = []
    for gateway, count, before in rows:
        key = (ack.device, ack.reason, gateway)
        times = max(before, count if ack.times is None else min(count, ack.times))
        found.append(Acked(*key, times, times > before))
        if times > before:
            db.execute("UPDATE alarm SET acked = ? WHERE device = ? AND reason = ? AND gateway = ?", (times, *key))
            db.execute(
                "INSERT INTO acknowledgement (device, reason, gateway, times, who, why, unix_ms)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*key, times, ack.who, ack.why, now_unix_ms),
            )
    return found


def of_alarm(db: sqlite3.Connection, device: str, reason: str, gateway: str) -> tuple[Acknowledgement, ...]:
    """The last ACKS_SHOWN, the latest first."""
    rows = db.execute(
        "SELECT who, why, times, unix_ms FROM acknowledgement WHERE device = ? AND reason = ? AND gateway = ?"
        " ORDER BY id DESC LIMIT ?",
        (device, reason, gateway, ACKS_SHOWN),
    )
    return tuple(Acknowledgement._make(row) for row in rows)


def standing(db: sqlite3.Connection) -> dict[str, int]:
    """How many identity alarms stand, by reason."""
    return dict(db.execute("SELECT reason, count(*) FROM alarm WHERE count > acked GROUP BY reason"))
