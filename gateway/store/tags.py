"""Tags of boards' frames beside their rows: kept by the writer, read for batches, carried from segment to segment.

A frame is kept with the rows that it brought, and with what else is needed to make it again bit for bit: which seqs it
held, its epoch, and its records whose rows say something else. The gateway holds no board's key and checks nothing.
A frame that brings nothing new is not kept, unless it contradicts what is stored: that may be a clone, and its tag is
the proof. Nothing here commits.
"""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise

from gateway.messages import LOST, FrameIn, Record, Tag

PROPERTY = "tags"  # in the main file's properties: some board tags its frames
_PROOFS_MAX = 16  # frames kept for nothing but a contradiction, of one boot of a device, in one run of the gateway
_BOOTS_MAX = 10_000  # of which such proofs are counted; more begin to count anew
_FRAME_ROWS_MAX = 255  # isocore.frame.COUNT_MAX
_COLUMNS = "first_row, last_row, device, boot, epoch_unix_ms, first_seq, seqs, other, tag"


Key = tuple[int, int, int, bytes | None]


def key_of(tag: Tag) -> Key:
    """Tells frames apart: one whose rows lie in two segments is found in both."""
    return tag.first_row, tag.last_row, tag.first_seq, tag.tag


class TagTable:
    """What the writer keeps of tagged frames."""

    def __init__(self) -> None:
        self._proofs: dict[tuple[int, int], int] = {}

    def keep(
        self, db: sqlite3.Connection, frame: FrameIn, device: int, first_row: int, next_row: int, other: list[Record]
    ) -> None:
        """Keep a frame that brought the rows from first_row up to next_row, without the latter."""
        last_row = next_row - 1
        if last_row < first_row:
            if not any(record[1] != LOST for record in other) or not self._may_prove((device, frame.boot)):
                return
            last_row = first_row  # goes up with whatever comes next
        db.execute("INSERT OR IGNORE INTO properties VALUES (?, 1)", (PROPERTY,))
        seqs = [record[0] for record in frame.records]
        steps = [after - before for before, after in pairwise(seqs)]
        db.execute(
            f"INSERT INTO tags ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?)",
            (
                first_row,
                last_row,
                device,
                frame.boot,
                frame.epoch_unix_ms,
                seqs[0],
                json.dumps(len(seqs) if all(step == 1 for step in steps) else steps),
                json.dumps(other) if other else None,
                frame.tag,
            ),
        )

    def _may_prove(self, key: tuple[int, int]) -> bool:
        if len(self._proofs) > _BOOTS_MAX:
            self._proofs.clear()
        self._proofs[key] = self._proofs.get(key, 0) + 1
        return self._proofs[key] <= _PROOFS_MAX


def carry_over(connection: sqlite3.Connection) -> None:
    """Tags of an attached segment, `source`, into its next edition, whose rows are there already.

    Where a row was thinned or is gone, the tag goes: it stays known that there was one.
    """
    if not exists(connection, "source"):
        return
    connection.execute("INSERT INTO tags SELECT * FROM source.tags")
    connection.execute(
        "UPDATE tags SET tag = NULL WHERE EXISTS (SELECT 1 FROM source.readings s LEFT JOIN readings r ON r.id = s.id"
        " WHERE s.id BETWEEN tags.first_row AND tags.last_row AND s.device = tags.device"
        " AND (r.id IS NULL OR r.kind != s.kind))"
    )


def exists(connection: sqlite3.Connection, schema: str = "main") -> bool:
    """False for a segment that was written before there were tags."""
    query = f"SELECT 1 FROM {schema}.sqlite_master WHERE type = 'table' AND name = 'tags'"
    return connection.execute(query).fetchone() is not None


def of_rows(connection: sqlite3.Connection, rows: Sequence[int]) -> Iterable[Tag]:
    """Tagged frames that brought one of these rows, which are in order, as far as this file has them."""
    if not rows or not exists(connection):
        return
    query = f"SELECT {_COLUMNS} FROM tags WHERE last_row BETWEEN ? AND ? AND first_row <= ? ORDER BY last_row"
    for found in connection.execute(query, (rows[0], rows[-1] + _FRAME_ROWS_MAX, rows[-1])):
        at = bisect_left(rows, found[0])
        if at < len(rows) and rows[at] <= found[1]:
            *_, seqs, other, tag = found
            records = [tuple(record) for record in json.loads(other)] if other else []
            yield Tag._make((*found[:6], json.loads(seqs), records, tag))
