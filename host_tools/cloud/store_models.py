"""States of models in the receiver's store: what each device runs now, and what it ran before.

`take` works inside the writer's transaction. Whatever order batches come in, and however often, the answer is the same:
a state keeps its highest revision, of a gateway's states of a device the HISTORY_MAX that began last stay, and which of
several gateways counts is decided when one asks: the one that heard the device last, by its clock. It knows no HTTP.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from host_tools.cloud.models import STATES, ModelState

HISTORY_MAX = 100  # states of one device by one gateway
AHEAD_MS_MAX = 86_400_000  # of the receiver's clock; a time further ahead is none
_TAKE = """
    INSERT INTO model VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET revision = excluded.revision,
        since_unix_ms = excluded.since_unix_ms, heard_unix_ms = excluded.heard_unix_ms, sequence = excluded.sequence,
        state = excluded.state, id = excluded.id, reason = excluded.reason, batch = excluded.batch
    WHERE excluded.revision > revision
"""
_OLDER = """
    DELETE FROM model WHERE device = ?1 AND gateway = ?2 AND began <= (SELECT began FROM model
        WHERE device = ?1 AND gateway = ?2 ORDER BY began DESC LIMIT 1 OFFSET ?3)
"""
# Of each gateway the state that began last, and when it heard the device last in any state; of those, one a device.
_CURRENT = """
    WITH told AS (
        SELECT device, gateway, max(began) AS began, max(heard_unix_ms) AS last_unix_ms FROM model
        WHERE :device IS NULL OR device = (SELECT id FROM device WHERE name = :device) GROUP BY device, gateway
    ), ranked AS (
        SELECT m.*, t.last_unix_ms, row_number() OVER (
            PARTITION BY m.device ORDER BY t.last_unix_ms DESC NULLS LAST, m.revision DESC, m.gateway) AS place
        FROM told t JOIN model m ON m.device = t.device AND m.gateway = t.gateway AND m.began = t.began
    )
    SELECT d.name, g.name, m.sequence, m.state, m.id, m.reason, m.since_unix_ms, m.last_unix_ms, m.began
    FROM ranked m JOIN device d ON d.id = m.device JOIN gateway g ON g.id = m.gateway WHERE m.place = 1
"""
_HISTORY = """
    SELECT d.name, g.name, m.sequence, m.state, m.id, m.reason, m.since_unix_ms, m.heard_unix_ms, m.began
    FROM model m JOIN device d ON d.id = m.device JOIN gateway g ON g.id = m.gateway
"""


class DeviceModel(NamedTuple):
    """What a device said of its model, by a gateway that heard it.

    sequence: of the model that the state is of; running: of the one in force or on trial, None where nobody knows.
    since, heard: when the device said so first, and anything last; None: only a broker said what it had retained.
    """

    device: str
    gateway: str
    sequence: int
    state: str
    id: str | None
    reason: str | None
    since_unix_ms: int | None
    heard_unix_ms: int | None
    began: int
    running: int | None


def take(
    db: sqlite3.Connection,
    gateway: int,
    batch: int,
    devices: Sequence[int],
    states: Sequence[ModelState],
    now_unix_ms: int,
) -> dict[str, int]:
    """Keep what a batch brought. Returns what to count."""
    before = db.total_changes
    rows = []
    for one in states:
        # A gateway whose clock runs far ahead must not be the one that heard a device last, for years.
        times = [at if at is not None and at <= now_unix_ms + AHEAD_MS_MAX else None for at in one[3:5]]
        rows.append((devices[one.device], gateway, one.began, one.revision, *times, *one[5:], batch))
    db.executemany(_TAKE, rows)
    taken = db.total_changes - before
    db.executemany(_OLDER, [(device, gateway, HISTORY_MAX) for device in {devices[one.device] for one in states}])
    return {"models_received": len(states), "models_taken": taken}


def current(db: sqlite3.Connection, device: str | None, state: str | None, after: str, limit: int) -> list[DeviceModel]:
    """The last state of each device, by its name, after a name."""
    query = f"{_CURRENT} AND d.name > :after AND (:state IS NULL OR m.state = :state) ORDER BY d.name LIMIT :limit"
    return _read(db, query, device=device, state=state, after=after, limit=limit)


def history(
    db: sqlite3.Connection, device: str | None, state: str | None, after: tuple[str, int, str] | None, limit: int
) -> list[DeviceModel]:
    """All states that are kept, by device, the latest first; after: device, began and gateway of one."""
    name, began, gateway = after or ("", 0, "")
    query = (
        f"{_HISTORY} WHERE (:device IS NULL OR d.name = :device) AND (:state IS NULL OR m.state = :state)"
        " AND (d.name, -m.began, g.name) > (:name, :began, :gateway) ORDER BY d.name, m.began DESC, g.name LIMIT :limit"
    )
    place = {"name": name, "began": -began, "gateway": gateway}
    return _read(db, query, device=device, state=state, limit=limit, **place)


def by_state(db: sqlite3.Connection) -> dict[str, int]:
    """How many devices are in each state."""
    query = f"SELECT state, count(*) FROM ({_CURRENT}) GROUP BY state"
    return dict.fromkeys(STATES, 0) | dict(db.execute(query, {"device": None}))


def _read(db: sqlite3.Connection, query: str, **values: object) -> list[DeviceModel]:
    rows = db.execute(query, values).fetchall()
    return [DeviceModel._make((*row, row[2] if row[3] != "reverted" else _before(db, row))) for row in rows]


def _before(db: sqlite3.Connection, row: tuple[Any, ...]) -> int | None:
    """What a device went back to: the model that it said it ran before the one that it reverted."""
    device, gateway, reverted, began = row[0], row[1], row[2], row[8]
    query = f"{_HISTORY} WHERE d.name = ? AND g.name = ? AND m.began < ? ORDER BY m.began DESC"
    for _, _, sequence, state, *_ in db.execute(query, (device, gateway, began)):
        if state != "reverted" and sequence != reverted:
            return int(sequence)
    return None
