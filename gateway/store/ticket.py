"""The outcome of a change asked of the writer. Knows neither queue nor file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable


class Ticket:
    """The outcome of a change asked of the writer; set once it is committed, or never will be.

    alone: not in a transaction, and after the others: VACUUM.
    """

    def __init__(self, change: Callable[[sqlite3.Connection], object], alone: bool = False) -> None:
        self.change = change
        self.alone = alone
        self.result: object = None
        self.committed = False
        self._done = threading.Event()

    def settle(self, committed: bool) -> None:
        self.committed = committed
        self._done.set()

    @property
    def settled(self) -> bool:
        return self._done.is_set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """True when the change is durable."""
        return self._done.wait(timeout_s) and self.committed

    @property
    def done(self) -> bool:
        """Waits; True when the change is durable and did not itself say that there was nothing to do."""
        return self.wait() and self.result is not False
