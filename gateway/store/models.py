"""What devices say of themselves in retained topics, and of it the states of their models, kept for the way up.

A state lasts until the device says another; said again by the device itself (it does so whenever it connects), it gets
a new revision, so that a receiver fed by two gateways knows where the device spoke last. What only the broker says, of
what it retained, is no such word. Of a device the last STATES_MAX states are kept. SQL inside the writer's
transaction, and to read; it never commits.
"""

from __future__ import annotations

import json
import sqlite3

from gateway.messages import ModelState, NoteIn
from gateway.models import shown
from gateway.store import revisions

STATES_MAX = 16
_COLUMNS = ("status", "model_state", "health")
_LAST = "SELECT revision, state FROM models WHERE device = ? ORDER BY began DESC LIMIT 1"
_RENEW = (
    "UPDATE models SET revision = ?2, since_unix_ms = coalesce(since_unix_ms, ?3), heard_unix_ms = ?3"
    " WHERE revision = ?1"
)
_OLDER = (
    "DELETE FROM models WHERE device = ?1 AND began <="
    " (SELECT began FROM models WHERE device = ?1 ORDER BY began DESC LIMIT 1 OFFSET ?2)"
)


def note(connection: sqlite3.Connection, device: int, said: NoteIn, now_unix_ms: int) -> bool:
    """Keep the last text of a retained topic. True when it is news of a model, for sinks. Raises ValueError."""
    if said.column not in _COLUMNS:
        raise ValueError(f"no such column: {said.column}")
    connection.execute(f"UPDATE devices SET {said.column} = ? WHERE device = ?", (said.text, device))
    if said.column != "model_state":
        return False
    heard_unix_ms = said.recv_unix_ms or None
    last = connection.execute(_LAST, (device,)).fetchone()
    same = last is not None and last[1] == said.text
    if same and heard_unix_ms is None:
        return False
    revision = revisions.reserve(connection, 1, now_unix_ms)
    if same:
        connection.execute(_RENEW, (last[0], revision, heard_unix_ms))
    else:
        row = (revision, device, revision, said.text, heard_unix_ms, heard_unix_ms)
        connection.execute("INSERT INTO models VALUES (?,?,?,?,?,?)", row)
        connection.execute(_OLDER, (device, STATES_MAX))
    return True


def advance(connection: sqlite3.Connection, sink: str, next_revision: int) -> None:
    """Move a sink past the revisions it has frozen."""
    connection.execute("INSERT OR REPLACE INTO model_cursors VALUES (?,?)", (sink, next_revision))


def cursor(connection: sqlite3.Connection, sink: str) -> int:
    """Next revision that a sink will freeze."""
    row = connection.execute("SELECT next_revision FROM model_cursors WHERE sink = ?", (sink,)).fetchone()
    return int(row[0]) if row else 1


def states(connection: sqlite3.Connection, first_revision: int, limit: int) -> list[ModelState]:
    """States in order of revision, the oldest first."""
    sql = (
        "SELECT device, began, revision, since_unix_ms, heard_unix_ms, state FROM models WHERE revision >= ?"
        " ORDER BY revision LIMIT ?"
    )
    found = []
    for *place, text in connection.execute(sql, (first_revision, limit)):
        said = json.loads(text)
        texts = shown(said.get("id")), shown(said.get("reason"))
        found.append(ModelState._make((*place, said["sequence"], said["state"], *texts)))
    return found
