"""A bounded queue between the threads that receive and the one that writes, measured in rows.

Bound: `capacity_rows`. Policy when full: `put` waits up to its time-out, which stops its caller from reading the
socket, then refuses. It knows nothing of what it carries.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Pipe(Generic[T]):
    """Many putters, one taker."""

    def __init__(self, capacity_rows: int) -> None:
        self.capacity_rows = capacity_rows
        self._items: deque[tuple[T, int, float]] = deque()  # with the moment of each put
        self._rows = 0
        self._closed = False
        self._urgent = False
        lock = threading.Lock()
        self._filled = threading.Condition(lock)
        self._drained = threading.Condition(lock)
        self._wake_rows: int | None = None  # the taker sleeps until so many rows are there; None: it does not sleep
        self._blocked = 0
        self.waited_s = 0.0  # how long the oldest item of the latest take had waited; the taker's to read

    @property
    def rows(self) -> int:
        """Rows waiting, for a gauge."""
        return self._rows

    def put(
        self, item: T, rows: int, urgent: bool = False, timeout_s: float | None = None, force: bool = False
    ) -> bool:
        """Append an item. Returns False when the pipe stayed full, or is closed. `force` ignores the bound.

        An item larger than the whole capacity is taken when the pipe is empty.
        """
        with self._filled:
            if not force and self._rows and self._rows + rows > self.capacity_rows and not self._closed:
                self._blocked += 1
                self._filled.notify()
                self._drained.wait_for(
                    lambda: self._closed or not self._rows or self._rows + rows <= self.capacity_rows, timeout_s
                )
                self._blocked -= 1
                if self._rows and self._rows + rows > self.capacity_rows:
                    return False
            if self._closed:
                return False
            self._items.append((item, rows, time.monotonic()))
            self._rows += rows
            self._urgent = self._urgent or urgent
            # Not for each item: waking the taker costs more than all else that a put does.
            if self._wake_rows is not None and (self._urgent or self._rows >= self._wake_rows):
                self._filled.notify()
            return True

    def take(self, max_rows: int, wait_s: float | None, linger_s: float) -> list[T]:
        """Wait for a first item, then up to `linger_s` for more, unless something urgent or `max_rows` are there.

        Returns an empty list after `wait_s` without an item, or when the pipe is closed and empty.
        """
        with self._filled:
            try:
                self._wake_rows = 0  # also an item without rows
                self._filled.wait_for(lambda: self._items or self._closed, wait_s)
                if self._items and linger_s > 0 and not self._ready(max_rows):
                    self._wake_rows = max_rows
                    self._filled.wait_for(lambda: self._ready(max_rows), linger_s)
            finally:
                self._wake_rows = None
            out: list[T] = []
            taken = 0
            if self._items:
                self.waited_s = time.monotonic() - self._items[0][2]
            while self._items and (not out or taken + self._items[0][1] <= max_rows):
                item, rows, _ = self._items.popleft()
                out.append(item)
                taken += rows
            self._rows -= taken
            if not self._items:
                self._urgent = False
            if self._blocked:
                self._drained.notify_all()
            return out

    def pick(self, wanted: Callable[[T], bool]) -> list[T]:
        """Take out of turn, and without waiting, every item that is wanted."""
        with self._filled:
            out = [item for item, _, _ in self._items if wanted(item)]
            rest = [entry for entry in self._items if not wanted(entry[0])]
            if out:
                self._items = deque(rest)
                self._rows = sum(rows for _, rows, _ in rest)
                self._drained.notify_all()
            return out

    def _ready(self, max_rows: int) -> bool:
        return self._urgent or self._closed or self._rows >= max_rows or self._blocked > 0

    def close(self) -> None:
        """Refuse what comes; what is there can still be taken."""
        with self._filled:
            self._closed = True
            self._filled.notify_all()
            self._drained.notify_all()

    @property
    def finished(self) -> bool:
        """Closed and empty."""
        with self._filled:
            return self._closed and not self._items
