"""Reading behind the writer: stored rows in order of arrival, handed to somebody who keeps a place of his own.

The store itself is the queue, so nothing that is committed can be missed and the writer never waits: a follower that is
slow falls behind, and goes on where its own commit says, also after a kill. While it keeps up, the rows of a commit
come from the writer's memory; what does not fit there, and what was before a start, is read from the store.

Bounds: FRESH_ROWS in memory, beyond which a commit's rows are left to the store; a step takes what is in memory, or
2 * STEP_ROWS from the store; PACE_S between steps, so that one has the rows of several commits and acknowledgements go
first; one look a second when nothing happens. It knows neither what is made of the rows nor how the place is kept.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from gateway.errors import StoreUnusable
from gateway.messages import LANE_ALARMS, LANE_LIVE, Committed, Row

log = logging.getLogger("isotherm.follow")

STEP_ROWS = 2000
FRESH_ROWS = 10_000
TICK_S = 1.0
PACE_S = 0.05
_TROUBLE_S = 1.0


class Rows(Protocol):
    """What is read: gateway.store.Reader."""

    def lane_rows(self, lane: str, first_row: int, last_row: int, limit: int) -> list[Row]: ...


class Consumer(Protocol):
    """Who makes something of the rows. Called by one thread only."""

    @property
    def wants_rows(self) -> bool:
        """False: nothing is to be made of rows now, only the place moves on. Asked in the writer's thread too."""

    def forget(self) -> None:
        """Names, classes or channels of devices may be others from the next rows on."""

    def take(self, rows: list[Row], next_row: int) -> None:
        """Rows in order of arrival; everything before `next_row` has been seen by then. May wait for the disk."""

    def tick(self) -> None:
        """About once a second."""


class Recent:
    """Rows that the writer had in its hands a moment ago. One thread puts, one takes."""

    def __init__(self) -> None:
        self._commits: deque[tuple[int, int, Sequence[tuple[Any, ...]]]] = deque()  # first row, last row, rows
        self._rows = 0
        self._lock = threading.Lock()

    def put(self, news: Committed) -> None:
        """Left out when there is no room: the store has them."""
        fresh = news.fresh
        if fresh is None:
            return
        with self._lock:
            if self._rows + len(fresh.rows) <= FRESH_ROWS:
                self._commits.append((fresh.first_row, news.head_row, fresh.rows))
                self._rows += len(fresh.rows)

    def take(self, next_row: int) -> tuple[list[Row], int]:
        """All from `next_row` on without a gap, and the first row not among them; `next_row` when it is not here."""
        found: list[Row] = []
        with self._lock:
            while self._commits and self._commits[0][0] <= next_row:
                first_row, last_row, rows = self._commits.popleft()
                self._rows -= len(rows)
                if last_row < next_row:
                    continue
                found += (row for row in map(Row._make, rows) if first_row == next_row or row.row >= next_row)
                next_row = last_row + 1
        return found, next_row

    @property
    def first_row(self) -> int | None:
        """Where what is here begins."""
        with self._lock:
            return self._commits[0][0] if self._commits else None


class Follower:
    """One thread between a reader and a consumer. `start_row`: the first row that the consumer has not worked in."""

    def __init__(self, name: str, rows: Rows, consumer: Consumer, start_row: int, head_row: int) -> None:
        self.name = name
        self._rows = rows
        self._consumer = consumer
        self._next_row = start_row
        self._head_row = head_row
        self._recent = Recent()
        self._described = True
        self._tick_s = 0.0
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
        if news.described:
            self._described = True
        if news.head_row > self._head_row:
            if self._consumer.wants_rows:
                self._recent.put(news)
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
                more = True
                while more and not self._stop.is_set():
                    more = self._step()
                    self._tick()
                    self._stop.wait(PACE_S)
            except StoreUnusable as exc:
                log.error("%s: %s", self.name, exc)
                self._stop.wait(_TROUBLE_S)

    def _tick(self) -> None:
        now_s = time.monotonic()
        if now_s - self._tick_s >= TICK_S:
            self._tick_s = now_s
            self._consumer.tick()

    def _step(self) -> bool:
        """Hand over what is there. True when there may be more."""
        first, head = self._next_row, self._head_row
        if self._described:
            self._described = False
            self._consumer.forget()
        if first > head:
            return False
        rows, next_row = self._read(first, head)
        self._consumer.take(rows, next_row)
        self._next_row = next_row
        return next_row <= head

    def _read(self, first: int, head: int) -> tuple[list[Row], int]:
        """Rows from `first` on and the first one not among them: from memory, else from the store."""
        if not self._consumer.wants_rows:
            return [], head + 1
        rows, next_row = self._recent.take(first)
        if next_row > first:
            return rows, next_row
        recent = self._recent.first_row
        return in_order_of_arrival(self._rows, first, head if recent is None else min(head, recent - 1))


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
