"""Freezing rows into batches, lane by lane, for one sink.

    alarms    event records, at once
    live      the rest, newest data: `live_rows` of them or `live_age_s` old
    backfill  ranges that the live lane left behind because they had grown old while the sink was away
    windows, models   what is no row (beside.py): windows with runs of analyses at once, states of models when
                      `live_age_s` old, so that those of a fleet go together

Bounds: `slots` batches frozen and unanswered a lane; rows wait in the store, not in memory. It reads and writes through
the view it is given, and knows neither database nor network.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from gateway import wire
from gateway.beside import Source
from gateway.errors import StoreUnusable
from gateway.journal import fields
from gateway.messages import (
    LANE_ALARMS,
    LANE_BACKFILL,
    LANE_LIVE,
    LANE_MODELS,
    UP_LANES,
    Batch,
    Committed,
    Counts,
    DeviceInfo,
    Row,
    Tag,
    Unsent,
)
from gateway.policy import Selector, UploadPolicy

log = logging.getLogger("isotherm.batcher")

_IDLE_S = 30.0
_AGAIN_S = 0.1
_NUMBERS = 64
_ROWS_MAX = 65536  # docs/uplink.md


class Rows(Protocol):
    """What the batcher reads: gateway.store.Reader."""

    cuts: int  # of the last lane_rows

    def lane_rows(self, lane: str, first_row: int, last_row: int, limit: int) -> list[Row]: ...
    def tags(self, rows: Sequence[Row]) -> list[Tag]: ...
    def cursor(self, sink: str, lane: str) -> int: ...
    def backfill_range(self, sink: str) -> tuple[int, int] | None: ...
    def pending(self, sink: str) -> list[Batch]: ...
    def device_infos(self, devices: set[int]) -> dict[int, DeviceInfo]: ...


class Changes(Protocol):
    """What the batcher changes: gateway.store.Store. Each call returns when durable."""

    def reserve_batches(self, count: int) -> int | None: ...
    def freeze(self, batch: Batch, next_row: int, cuts: int | None, unsent: Unsent) -> bool: ...
    def advance(self, sink: str, lane: str, next_row: int) -> bool: ...
    def leave_out(self, sink: str, lane: str, next_row: int, cuts: int | None, unsent: Unsent) -> bool: ...
    def leave_behind(self, sink: str, first_row: int, last_row: int) -> bool: ...


class Policy(NamedTuple):
    """How large and how old batches get."""

    live_rows: int
    live_age_s: float
    backfill_rows: int
    backfill_after_s: float
    slots: Mapping[str, int]


class Batcher:
    """One thread; woken by commits and by freed slots."""

    def __init__(
        self,
        sink: str,
        gateway: str,
        rows: Rows,
        changes: Changes,
        policy: Policy,
        codec: Callable[[], tuple[str, Callable[[bytes], bytes]]],
        submit: Callable[[Batch], None],
        *,
        head_row: int,
        policies: Sequence[UploadPolicy] = (),
        beside: Sequence[Source] = (),
        clock_s: Callable[[], float] = time.monotonic,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        """codec: (encoding, function) for the next batch; submit: takes a frozen one; beside: lanes without rows."""
        self._sink = sink
        self._gateway = gateway
        self._rows = rows
        self._changes = changes
        self._policy = policy
        self._codec = codec
        self._rows_max = _ROWS_MAX
        self._submit = submit
        self._clock_s = clock_s
        self._wall_s = wall_s
        self._select = Selector(policies, self._info)
        self._beside = {source.lane: source for source in beside}
        self._due_s = dict.fromkeys(self._beside, -math.inf)  # what was there before is due at once; inf: nothing is
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._in_flight = dict.fromkeys(UP_LANES, 0)
        self._head_row = head_row
        self._alarm_due = True
        self._live_since_s: float | None = None
        self._cursors: dict[str, int] = {}
        self._numbers = range(0)

    def start(self) -> None:
        """Send again what an earlier run froze, then go on."""
        for lane in (LANE_ALARMS, LANE_LIVE):
            self._cursors[lane] = self._rows.cursor(self._sink, lane)
        if self._head_row >= self._cursors[LANE_LIVE]:
            self._live_since_s = self._clock_s()
        for batch in self._rows.pending(self._sink):
            self._in_flight[batch.lane] += 1
            self._submit(batch)
        self._wake.set()  # what was there before is due as well
        self._thread = threading.Thread(target=self._run, name=f"batch-{self._sink}", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def committed(self, news: Committed) -> None:
        """Rows were added; called by the writer, returns at once."""
        with self._lock:
            self._head_row = max(self._head_row, news.head_row)
            if news.events:
                self._alarm_due = True
            if news.others and self._live_since_s is None:
                self._live_since_s = self._clock_s()
                self._wake.set()  # to set its alarm clock
            full = self._head_row - self._cursors.get(LANE_LIVE, 1) + 1 >= min(self._policy.live_rows, self._rows_max)
        if news.models:
            self.due(LANE_MODELS, self._policy.live_age_s)
        if news.events or (full and self._in_flight[LANE_LIVE] < self._policy.slots[LANE_LIVE]):
            self._wake.set()

    def due(self, lane: str, in_s: float = 0.0) -> None:
        """A lane without rows has something to send, or will have by then; returns at once."""
        if lane in self._beside:
            with self._lock:
                self._due_s[lane] = min(self._due_s[lane], self._clock_s() + in_s)
            self._wake.set()

    def tune(self, policy: Policy, policies: Sequence[UploadPolicy] = ()) -> None:
        """Other sizes and ages, and what goes up at all, from the next batch on."""
        with self._lock:
            self._policy = policy
            self._select = Selector(policies, self._info)
        self._wake.set()

    @property
    def in_flight(self) -> int:
        """Batches frozen and unanswered, all lanes."""
        with self._lock:
            return sum(self._in_flight.values())

    @property
    def alive(self) -> bool:
        """False when its thread ended, which it never should before `stop`."""
        return self._thread is not None and self._thread.is_alive()

    def again(self, batch: Batch) -> None:
        """Send a batch that was frozen long ago, beside what the slots allow: a person asked for it."""
        with self._lock:
            self._in_flight[batch.lane] += 1
        self._submit(batch)

    def shrink(self, rows: int) -> None:
        """Larger batches were refused for their size: freeze no more than this, until the next start."""
        with self._lock:
            self._rows_max = max(1, min(self._rows_max, rows))

    def freed(self, lane: str) -> None:
        """A batch of this lane has found its fate."""
        with self._lock:
            self._in_flight[lane] -= 1
        self._wake.set()

    # -- the thread

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(self._due_in_s())
            self._wake.clear()
            try:
                for lane in UP_LANES:
                    while self._free(lane) and not self._stop.is_set() and self._step(lane):
                        if lane != LANE_ALARMS and self._alarm_due and self._free(LANE_ALARMS):
                            self._step(LANE_ALARMS)
            except StoreUnusable as exc:
                log.error("sink %s: %s", self._sink, exc, extra=fields(sink=self._sink))
                self._stop.wait(1.0)
                self._alarm_due = True  # what was due still is, whoever had begun with it
                for lane in self._beside:
                    self.due(lane)
                self._wake.set()

    def _free(self, lane: str) -> bool:
        return self._in_flight[lane] < self._policy.slots.get(lane, 0)

    def _due_in_s(self) -> float:
        with self._lock:
            due_s = [at_s for lane, at_s in self._due_s.items() if at_s < math.inf and self._free(lane)]
            if self._live_since_s is not None and self._free(LANE_LIVE):
                due_s.append(self._live_since_s + self._policy.live_age_s)
            return max(0.0, min(due_s) - self._clock_s()) if due_s else _IDLE_S

    def _step(self, lane: str) -> bool:
        """Freeze one batch of a lane if one is due. True when there may be more."""
        if lane == LANE_ALARMS:
            return self._step_alarms()
        if lane == LANE_LIVE:
            return self._step_live()
        return self._step_backfill() if lane == LANE_BACKFILL else self._step_beside(lane)

    def _step_alarms(self) -> bool:
        with self._lock:
            if not self._alarm_due:
                return False
            self._alarm_due = False
            head = self._head_row
            limit = min(self._policy.live_rows, self._rows_max)
        first = self._cursors[LANE_ALARMS]
        rows = self._rows.lane_rows(LANE_ALARMS, first, head, limit)
        if not rows:
            return False
        with self._lock:
            self._alarm_due = self._alarm_due or len(rows) == limit
        next_row = rows[-1].row + 1
        if self._pass(LANE_ALARMS, rows, next_row):
            self._cursors[LANE_ALARMS] = next_row
            return True
        return False

    def _step_live(self) -> bool:
        with self._lock:
            head = self._head_row
            since_s = self._live_since_s
            age_s = self._policy.live_age_s
            limit = min(self._policy.live_rows, self._rows_max)  # one for the whole step: see `whole`
        first = self._cursors[LANE_LIVE]
        waiting = head - first + 1
        if waiting <= 0 or since_s is None:
            return False
        due = self._clock_s() - since_s >= age_s
        if not due and waiting < limit:
            return False
        rows = self._rows.lane_rows(LANE_LIVE, first, head, limit)
        if rows and waiting > len(rows) and self._is_old(rows[0]):
            log.info("sink %s: %d rows go by the backfill lane", self._sink, waiting, extra=fields(sink=self._sink))
            if not self._changes.leave_behind(self._sink, first, head):
                return False
            self._live_done(head + 1)
            self._wake.set()  # for the backfill lane
            return False
        whole = len(rows) == limit
        next_row = rows[-1].row + 1 if whole else head + 1
        if whole or (due and rows):
            if not self._pass(LANE_LIVE, rows, next_row):
                return False
        elif not rows:
            # Only events in between: no need to make that durable, the next batch's cursor passes over them.
            self._live_done(next_row)
            return False
        else:
            return False
        self._live_done(next_row)
        return True

    def _is_old(self, row: Row) -> bool:
        return abs(self._wall_s() * 1000 - row.recv_unix_ms) > self._policy.backfill_after_s * 1000

    def _live_done(self, next_row: int) -> None:
        with self._lock:
            self._cursors[LANE_LIVE] = next_row
            self._live_since_s = self._clock_s() if self._head_row >= next_row else None

    def _step_backfill(self) -> bool:
        left = self._rows.backfill_range(self._sink)
        if left is None:
            return False
        first, last = left
        limit = min(self._policy.backfill_rows, self._rows_max)
        rows = self._rows.lane_rows(LANE_BACKFILL, first, last, limit)
        next_row = rows[-1].row + 1 if len(rows) == limit else last + 1
        if not rows:
            return self._changes.advance(self._sink, LANE_BACKFILL, next_row)
        return self._pass(LANE_BACKFILL, rows, next_row)

    def _step_beside(self, lane: str) -> bool:
        with self._lock:
            if self._clock_s() < self._due_s.get(lane, math.inf):
                return False
            self._due_s[lane] = math.inf
        made = self._beside[lane].make(self._policy.backfill_rows)
        if made is None:
            return False
        if made.more:
            self.due(lane)
        number = self._next_number()
        # Row ids are the readings'; a batch without any stands at 0, and its rows are what it holds instead.
        if number is None or not self._freeze(
            lane, number, (0, 0), made.size, (), made.document(number), made.next_revision, Unsent()
        ):
            self.due(lane, _AGAIN_S)
            return False
        made.frozen()
        return True

    def _pass(self, lane: str, rows: list[Row], next_row: int) -> bool:
        """Freeze of some rows what the policy sends, and move the lane past all of them."""
        cuts = self._rows.cuts
        going, unsent = self._select.sift(rows)
        if not going:
            return self._changes.leave_out(self._sink, lane, next_row, cuts, unsent)
        number = self._next_number()
        if number is None:
            return False
        tags = self._rows.tags(going)
        infos = self._rows.device_infos({row.device for row in going} | {tag.device for tag in tags})
        ends = (going[0].row, going[-1].row)
        body = wire.document(self._gateway, number, lane, *ends, going, infos, tags)
        return self._freeze(lane, number, ends, len(going), wire.counts(going), body, next_row, unsent)

    def _freeze(
        self,
        lane: str,
        number: int,
        ends: tuple[int, int],
        count: int,
        counts: tuple[Counts, ...],
        body: dict[str, Any],
        next_row: int,
        unsent: Unsent,
    ) -> bool:
        """Encode, make durable, hand to the uploader."""
        encoding, compress = self._codec()
        data, digest = wire.encode(body, compress)
        batch = Batch(self._sink, number, lane, *ends, count, counts, encoding, digest, data)
        cuts = None if lane in self._beside else self._rows.cuts
        if not self._changes.freeze(batch, next_row, cuts, unsent):
            self._stop.wait(_AGAIN_S)
            self._wake.set()  # retention took rows meanwhile, or the store is closing: read them again, or end
            return False
        with self._lock:
            self._in_flight[lane] += 1
        self._submit(batch)
        return True

    def _info(self, device: int) -> DeviceInfo | None:
        return self._rows.device_infos({device}).get(device)

    def _next_number(self) -> int | None:
        """A batch number; reserved in blocks, so that an alarm waits for one commit and not for two."""
        if not self._numbers:
            first = self._changes.reserve_batches(_NUMBERS)
            if first is None:
                return None
            self._numbers = range(first, first + _NUMBERS)
        number, self._numbers = self._numbers[0], self._numbers[1:]
        return number
