"""Records of devices that the gateway speaks for: numbered, and deduplicated, inside the writer's transaction.

Boots: the first records of such a device in this process open a new boot, `least_boot` or one past the highest that the
store knows. Seqs rise by one from there. Numbers are given where rows are committed, so a rolled-back transaction
leaves no gap and a number never comes twice.

Redelivery (MQTT 3.1.1 clause 4.4, and DUP of clause 3.3.1.1): a message is the same as before when the broker marks it
so, and packet id and digest are those of one among the last INBOX_MAX. A ring shorter than the packet ids' cycle is
meant: an id that was used long ago must not make a new message look old.

It knows no broker and no thread. After a rollback `forget` drops what memory holds.
"""

from __future__ import annotations

import sqlite3

from gateway.messages import LOST, FrameIn, Made, OwnIn, Receipt, Record
from gateway.store.frames import FrameTable

INBOX_MAX = 1000
SEQ_MAX = (1 << 30) - 1
_SAVE = "INSERT OR REPLACE INTO inbox VALUES (?,?,?,?)"


class OwnTable:
    """Gives numbers, then lets the frames' table store."""

    def __init__(self, connection: sqlite3.Connection, frames: FrameTable) -> None:
        self._db = connection
        self._frames = frames
        self._boots: dict[str, int] = {}  # survives a rollback: a number that nothing was stored under is still free
        self.forget()

    def reconnect(self, connection: sqlite3.Connection) -> None:
        """Go on with another connection to the same file; `forget` is due."""
        self._db = connection

    def forget(self) -> None:
        """Read the ring anew."""
        self._clear()
        self._inbox: dict[int, tuple[int, bytes]] = {}
        self._number = 0
        for number, mid, digest in self._db.execute("SELECT number, mid, digest FROM inbox ORDER BY number"):
            self._inbox[mid] = (number, digest)
            self._number = number

    def _clear(self) -> None:
        self._pending: list[tuple[int, int, int, bytes]] = []
        self.receipts: list[Receipt] = []
        self.redelivered = 0

    def apply(self, own: OwnIn) -> None:
        """Number and store, unless it is here already."""
        if own.receipt is not None:
            self.receipts.append(own.receipt)
            if self._known(own.receipt):
                self.redelivered += 1
                return
            self._remember(own.receipt)
        if not own.made:
            return
        boot, top = self._frames.top(own.device, self._boots.get(own.device), own.least_boot, own.recv_unix_ms)
        records = number(own.made, top)
        if records[-1][0] > SEQ_MAX:
            boot, records = boot + 1, number(own.made, 0)
        self._boots[own.device] = boot
        plain = all(record[1] != LOST for record in records)
        self._frames.apply_frame(
            FrameIn(own.device, boot, records, own.epoch_unix_ms, b"", own.recv_unix_ms, own.urgent, plain)
        )
        self._frames.acks.pop((own.device, boot), None)  # nobody waits for it

    def finish(self) -> None:
        """Write what was gathered; the caller commits next, and then calls `done`."""
        if self._pending:
            self._db.executemany(_SAVE, self._pending)

    def done(self) -> None:
        """Forget the finished transaction."""
        self._clear()

    def _known(self, receipt: Receipt) -> bool:
        if not receipt.again:
            return False
        number_, digest = self._inbox.get(receipt.mid, (0, b""))
        return digest == receipt.digest and number_ > self._number - INBOX_MAX

    def _remember(self, receipt: Receipt) -> None:
        self._number += 1
        self._inbox[receipt.mid] = (self._number, receipt.digest)
        if len(self._inbox) > 2 * INBOX_MAX:
            oldest = self._number - INBOX_MAX
            self._inbox = {mid: held for mid, held in self._inbox.items() if held[0] > oldest}
        self._pending.append((self._number % INBOX_MAX, self._number, receipt.mid, receipt.digest))


def number(made: tuple[Made, ...], top: int) -> list[Record]:
    """Records with seqs from top + 1 on; a LOST of value n takes the last of n numbers."""
    records = []
    for kind, channel, value, uptime_ms, trend in made:
        top += max(1, value) if kind == LOST else 1
        records.append((top, kind, channel, value, uptime_ms, trend))
    return records
