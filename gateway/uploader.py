"""Sending frozen batches to one sink: workers per lane, full-jitter back-off, a circuit that probes.

Bounds: SLOTS batches in flight a lane, so a long backlog cannot hold up an alarm; one probe at a time while the sink is
away. Policy: a time-out is never success, an explicit reply is; a refusal of the batch itself quarantines it and the
rest moves on; one that does not fit is made anew. It knows neither the store nor how batches are made: outcomes
leave by call.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping

from gateway.errors import BatchRejected, BatchUnfit, SinkUnavailable
from gateway.journal import fields
from gateway.messages import UP_LANES, Batch
from gateway.metrics import Metrics
from gateway.sinks.base import Sink, Tuning

log = logging.getLogger("isotherm.upload")

_IDLE_S = 1.0


class Backoff:
    """Full jitter: the n-th delay is uniform in [0, min(cap, base * 2^n)], and never below what the sink asked for."""

    def __init__(self, base_s: float, max_s: float, rng: random.Random) -> None:
        self._base_s = base_s
        self._max_s = max_s
        self._rng = rng

    def delay_s(self, attempt: int, retry_after_s: float | None) -> float:
        ceiling_s = min(self._max_s, self._base_s * 2 ** min(attempt, 32))
        return max(self._rng.uniform(0, ceiling_s), retry_after_s or 0.0)


class Circuit:
    """Shared by a sink's workers. Closed: all may send. Open after a failure: wait, then one probes for all."""

    def __init__(self, backoff: Backoff, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._backoff = backoff
        self._clock_s = clock_s
        self._changed = threading.Condition()
        self._failures = 0
        self._open_until_s = 0.0
        self._probing = False
        self._stopped = False

    @property
    def failures(self) -> int:
        """Failed sends in a row; 0 while the sink answers."""
        return self._failures

    def enter(self) -> bool:
        """Wait until sending is allowed. False when stopped."""
        with self._changed:
            while not self._stopped:
                if not self._failures:
                    return True
                left_s = self._open_until_s - self._clock_s()
                if left_s <= 0 and not self._probing:
                    self._probing = True
                    return True
                self._changed.wait(left_s if left_s > 0 else _IDLE_S)
            return False

    def succeeded(self) -> None:
        """The sink answered: everybody may send."""
        with self._changed:
            self._failures = 0
            self._probing = False
            self._changed.notify_all()

    def failed(self, retry_after_s: float | None) -> int:
        """No answer: open for a while. Returns failures in a row."""
        with self._changed:
            now_s = self._clock_s()
            if self._probing or not self._failures:
                # Failures of sends that were already under way say nothing new; only a probe's failure lengthens.
                self._open_until_s = now_s + self._backoff.delay_s(self._failures, retry_after_s)
                self._failures += 1
            elif retry_after_s:
                self._open_until_s = max(self._open_until_s, now_s + retry_after_s)
            self._probing = False
            self._changed.notify_all()
            return self._failures

    def tune(self, backoff: Backoff) -> None:
        """Other waits, from the next failure on."""
        with self._changed:
            self._backoff = backoff

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


class Uploader:
    """Workers of one sink. `submit` takes a frozen batch; exactly one outcome call follows for it, unless stopped."""

    def __init__(
        self,
        name: str,
        sink: Sink,
        slots: Mapping[str, int],
        circuit: Circuit,
        metrics: Metrics,
        *,
        on_stored: Callable[[Batch], None],
        on_refused: Callable[[Batch, str], None],
        on_unfit: Callable[[Batch, BatchUnfit], None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """on_stored(batch), on_refused(batch, reason), on_unfit(batch, error): called in a worker.

        The batch's slot is free when they return.
        """
        self.name = name
        self._sink = sink
        self._slots = dict(slots)
        self._circuit = circuit
        self._metrics = metrics
        self._on_stored = on_stored
        self._on_refused = on_refused
        self._on_unfit = on_unfit
        self._clock_s = clock_s
        self._queues: dict[str, queue.SimpleQueue[Batch | None]] = {lane: queue.SimpleQueue() for lane in UP_LANES}
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self.last_error: str | None = None
        metrics.gauge("upload_failures_in_a_row", "Failed sends in a row.", lambda: circuit.failures, sink=name)

    @property
    def failures(self) -> int:
        """Failed sends in a row; 0 while the sink answers."""
        return self._circuit.failures

    def start(self) -> None:
        """Start the workers."""
        for lane in UP_LANES:
            for number in range(self._slots.get(lane, 0)):
                thread = threading.Thread(
                    target=self._work, args=(self._queues[lane],), name=f"up-{self.name}-{lane}-{number}", daemon=True
                )
                self._threads.append(thread)
                thread.start()

    def tune(self, tuning: Tuning, backoff: Backoff) -> None:
        """Change what may change while batches are on their way."""
        self._sink.tune(tuning)
        self._circuit.tune(backoff)

    def submit(self, batch: Batch) -> None:
        """Send this batch until its fate is known. The caller keeps to the slots."""
        self._queues[batch.lane].put(batch)

    def stop(self, timeout_s: float) -> None:
        """Ask the workers to end; those inside a slow request are left behind, their batches stay frozen."""
        self._stop.set()
        self._circuit.stop()
        for lane, waiting in self._queues.items():
            for _ in range(self._slots.get(lane, 0)):
                waiting.put(None)
        deadline_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        self._sink.close()

    def _work(self, waiting: queue.SimpleQueue[Batch | None]) -> None:
        while not self._stop.is_set():
            batch = waiting.get()
            if batch is None:
                return
            self._deliver(batch)

    def _deliver(self, batch: Batch) -> None:
        started_s = self._clock_s()
        about = fields(sink=self.name, batch=batch.batch, lane=batch.lane)
        while self._circuit.enter():
            self._metrics.add("upload_bytes_total", len(batch.body), sink=self.name)
            try:
                self._sink.send(batch)
            except SinkUnavailable as exc:
                self._metrics.add("upload_retries_total", 1, sink=self.name, reason=exc.reason)
                if self._circuit.failed(exc.retry_after_s) == 1 or self.last_error is None:
                    log.warning("sink %s: %s; batches are kept and tried again", self.name, exc, extra=about)
                self.last_error = str(exc)
                continue
            except BatchUnfit as exc:
                self._circuit.succeeded()
                self._metrics.add("upload_remade_total", 1, sink=self.name, reason=exc.reason)
                log.warning("sink %s: batch %d is made anew: %s", self.name, batch.batch, exc, extra=about)
                self._on_unfit(batch, exc)
                return
            except BatchRejected as exc:
                self._circuit.succeeded()
                self._metrics.add("upload_quarantined_total", 1, sink=self.name, reason=exc.reason)
                text = "sink %s refused batch %d (%d rows), quarantined: %s"
                log.error(text, self.name, batch.batch, batch.rows, exc, extra=about)
                self._on_refused(batch, str(exc))
                return
            self._circuit.succeeded()
            if self.last_error is not None:
                log.info("sink %s answers again", self.name, extra=about)
                self.last_error = None
            self._metrics.add("upload_batches_total", 1, sink=self.name, lane=batch.lane)
            self._metrics.add("upload_rows_total", batch.rows, sink=self.name, lane=batch.lane)
            self._metrics.observe("upload_seconds", self._clock_s() - started_s, sink=self.name)
            self._on_stored(batch)
            return
