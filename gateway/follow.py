"""Reading behind the writer: stored rows in order of arrival, handed to somebody who keeps a place of his own.

The store itself is the queue, so nothing that is committed can be missed and the writer never waits: a follower that is
slow falls behind, and goes on where its own commit says, also after a kill. Bounds: STEP_ROWS a step, one look a second
when nothing happens. It knows neither what is made of the rows nor how the place is kept.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Protocol

from gateway.errors import StoreUnusable
from gateway.messages import LANE_ALARMS, LANE_LIVE, Committed, Row

log = logging.getLogger("isotherm.follow")

STEP_ROWS = 2000
TICK_S = 1.0
_TROUBLE_S = 1.0


class Rows(Protocol):
    """What is read: gateway.store.Reader."""

    def lane_rows(self, lane: str, first_row: int, last_row: int, limit: int) -> list[Row]: ...


class Consumer(Protocol):
    """Who makes something of the rows. Called by one thread only."""

    def take(self, rows: list[Row], next_row: int) -> None:
        """Rows in order of arrival; everything before `next_row` has been seen by then. May wait for the disk."""

    def tick(self) -> None:
        """About once a second, and after each step."""


class Follower:
    """One thread between a reader and a consumer. `start_row`: the first row that the consumer has not worked in."""

    def __init__(self, name: str, rows: Rows, consumer: Consumer, start_row: int, head_row: int) -> None:
        self.name = name
        self._rows = rows
        self._consumer = consumer
        self._next_row = start_row
        self._head_row = head_row
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"follow-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End after the step under way."""
        self._stop.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def committed(self, news: Committed) -> None:
        """In the writer's thread: there may be more. Returns at once."""
        if news.head_row > self._head_row:
            self._head_row = news.head_row
            self._wake.set()

    @property
    def behind_rows(self) -> int:
        """Rows not worked in yet, for a gauge."""
        return max(0, self._head_row + 1 - self._next_row)

    @property
    def alive(self) -> bool:
        """False when its thread ended, which it never should before `stop`."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(TICK_S)
            self._wake.clear()
            try:
                while self._step() and not self._stop.is_set():
                    self._consumer.tick()
                if not self._stop.is_set():
                    self._consumer.tick()
            except StoreUnusable as exc:
                log.error("%s: %s", self.name, exc)
                self._stop.wait(_TROUBLE_S)

    def _step(self) -> bool:
        """Hand over what is there. True when there may be more."""
        first, head = self._next_row, self._head_row
        if first > head:
            return False
        rows, next_row = in_order_of_arrival(self._rows, first, head)
        self._consumer.take(rows, next_row)
        self._next_row = next_row
        return next_row <= head


def in_order_of_arrival(source: Rows, first_row: int, head_row: int) -> tuple[list[Row], int]:
    """Rows of all lanes from `first_row` on, at most 2 * STEP_ROWS of them, and the first one not among them."""
    found: list[Row] = []
    last_row = head_row
    for lane in (LANE_ALARMS, LANE_LIVE):
        rows = source.lane_rows(lane, first_row, head_row, STEP_ROWS)
        if len(rows) == STEP_ROWS:
            last_row = min(last_row, rows[-1].row)
        found += rows
    return sorted((row for row in found if row.row <= last_row), key=lambda row: row.row), last_row + 1


def again(source: Rows, first_row: int, last_row: int) -> Iterator[list[Row]]:
    """All rows from `first_row` to `last_row`, a step at a time: for whoever forgot what they said."""
    row = first_row
    while row <= last_row:
        rows, row = in_order_of_arrival(source, row, last_row)
        yield rows
