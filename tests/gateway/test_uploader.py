"""Back-off, circuit and workers, with sinks that record and clocks of our own."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest

from gateway.errors import BatchRejected, BatchUnfit, SinkUnavailable
from gateway.messages import LANE_ALARMS, LANE_BACKFILL, LANE_LIVE, Batch
from gateway.metrics import Metrics
from gateway.sinks.base import Stored
from gateway.uploader import Backoff, Circuit, Uploader
from tests.support.board_client import wait_for

SLOTS = {LANE_ALARMS: 1, LANE_LIVE: 1, LANE_BACKFILL: 2}


def batch(number: int, lane: str = LANE_LIVE) -> Batch:
    return Batch("s", number, lane, 1, 2, 2, (), "gzip", "00", b"body")


class Highest(random.Random):
    """A jitter that always takes the ceiling and records it."""

    def __init__(self) -> None:
        super().__init__(0)
        self.ceilings: list[float] = []

    def uniform(self, a: float, b: float) -> float:
        assert a == 0
        self.ceilings.append(b)
        return b


class RecordingSink:
    """Answers what the script says: an exception to raise, or Stored."""

    accepts: frozenset[str] | None = None

    def __init__(self, script: Callable[[Batch, int], Stored | Exception]) -> None:
        self.script = script
        self.sent: list[Batch] = []
        self.lock = threading.Lock()
        self.closed = False

    def send(self, batch: Batch) -> Stored:
        with self.lock:
            self.sent.append(batch)
            turn = len(self.sent)
        answer = self.script(batch, turn)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.closed = True


class Rig:
    """An uploader over a recording sink."""

    def __init__(self, script: Callable[[Batch, int], Stored | Exception]) -> None:
        self.sink = RecordingSink(script)
        self.metrics = Metrics()
        self.stored: list[Batch] = []
        self.refused: list[tuple[Batch, str]] = []
        self.unfit: list[tuple[Batch, str]] = []
        self.circuit = Circuit(Backoff(0.001, 0.005, random.Random(1)))
        self.uploader = Uploader(
            "s",
            self.sink,
            SLOTS,
            self.circuit,
            self.metrics,
            on_stored=self.stored.append,
            on_refused=lambda b, reason: self.refused.append((b, reason)),
            on_unfit=lambda b, why: self.unfit.append((b, why.reason)),
        )
        self.uploader.start()


def test_full_jitter_doubles_up_to_its_cap() -> None:
    rng = Highest()
    backoff = Backoff(0.5, 10.0, rng)
    assert [backoff.delay_s(n, None) for n in range(7)] == [0.5, 1, 2, 4, 8, 10, 10]
    assert backoff.delay_s(10_000, None) == 10
    assert backoff.delay_s(0, 42.0) == 42.0, "Retry-After is a floor"


def test_jitter_reaches_down_to_zero() -> None:
    backoff = Backoff(1.0, 1.0, random.Random(2))
    delays = [backoff.delay_s(0, None) for _ in range(200)]
    assert min(delays) < 0.1
    assert max(delays) > 0.9


def test_only_probes_lengthen_the_wait() -> None:
    now_s = [100.0]
    rng = Highest()
    circuit = Circuit(Backoff(1.0, 60.0, rng), lambda: now_s[0])
    assert circuit.enter()
    assert circuit.enter(), "closed: all may send"
    assert circuit.failed(None) == 1
    assert circuit.failed(None) == 1, "the second of two sends under way says nothing new"
    now_s[0] = 101.0
    assert circuit.enter(), "the probe"
    assert circuit.failed(None) == 2
    assert rng.ceilings == [1.0, 2.0]
    now_s[0] = 103.0
    assert circuit.enter()
    circuit.succeeded()
    assert circuit.failures == 0


def test_one_probe_at_a_time() -> None:
    now_s = [0.0]
    circuit = Circuit(Backoff(1.0, 1.0, Highest()), lambda: now_s[0])
    circuit.failed(None)
    now_s[0] = 2.0
    assert circuit.enter()
    entered: list[bool] = []
    second = threading.Thread(target=lambda: entered.append(circuit.enter()))
    second.start()
    second.join(0.05)
    assert second.is_alive()
    circuit.succeeded()
    second.join(10)
    assert entered == [True]


def test_stop_ends_all_waiting() -> None:
    circuit = Circuit(Backoff(1000.0, 1000.0, Highest()))
    circuit.failed(None)
    entered: list[bool] = []
    waiting = threading.Thread(target=lambda: entered.append(circuit.enter()))
    waiting.start()
    circuit.stop()
    waiting.join(10)
    assert entered == [False]


def test_retries_carry_the_same_batch_until_the_reply() -> None:
    rig = Rig(lambda b, turn: SinkUnavailable("timeout", "no answer") if turn < 5 else Stored(False, 2))
    one = batch(1)
    rig.uploader.submit(one)
    wait_for(lambda: rig.stored, what="the reply")
    assert rig.sink.sent == [one] * 5
    assert rig.metrics.value("upload_retries_total", sink="s", reason="timeout") == 4
    assert rig.uploader.last_error is None
    rig.uploader.stop(5)
    assert rig.sink.closed


def test_a_refused_batch_leaves_and_the_rest_goes_on() -> None:
    rig = Rig(lambda b, turn: BatchRejected("http_422", "no good") if b.batch == 1 else Stored(False, None))
    for number in (1, 2, 3):
        rig.uploader.submit(batch(number))
    wait_for(lambda: len(rig.stored) == 2, what="the others")
    assert [(b.batch, reason) for b, reason in rig.refused] == [(1, "no good")]
    assert rig.metrics.value("upload_quarantined_total", sink="s", reason="http_422") == 1
    rig.uploader.stop(5)


def test_what_does_not_fit_leaves_to_be_made_anew() -> None:
    rig = Rig(lambda b, turn: BatchUnfit("too_large", "at most 2 rows") if b.batch == 1 else Stored(False, None))
    rig.uploader.submit(batch(1))
    rig.uploader.submit(batch(2))
    wait_for(lambda: rig.stored, what="the next one")
    assert (rig.unfit, rig.refused) == ([(batch(1), "too_large")], [])
    assert len(rig.sink.sent) == 2, "it is not sent again as it is"
    assert rig.circuit.failures == 0, "the sink answered"
    assert rig.metrics.value("upload_remade_total", sink="s", reason="too_large") == 1
    rig.uploader.stop(5)


def test_an_alarm_passes_a_blocked_backlog() -> None:
    release = threading.Event()

    def slow(b: Batch, turn: int) -> Stored:
        if b.lane == LANE_BACKFILL:
            release.wait(20)
        return Stored(False, None)

    rig = Rig(slow)
    for number in range(1, 10):
        rig.uploader.submit(batch(number, LANE_BACKFILL))
    wait_for(lambda: len(rig.sink.sent) == SLOTS[LANE_BACKFILL], what="a full backfill lane")
    rig.uploader.submit(batch(99, LANE_ALARMS))
    wait_for(lambda: [b.batch for b in rig.stored] == [99], what="the alarm")
    release.set()
    wait_for(lambda: len(rig.stored) == 10, what="the backlog")
    rig.uploader.stop(5)


@pytest.mark.parametrize("failing", [False, True])
def test_stop_is_quick_whatever_the_sink_does(failing: bool) -> None:
    block = threading.Event()

    def script(b: Batch, turn: int) -> Stored | Exception:
        if failing:
            return SinkUnavailable("unreachable", "away", 3600.0)
        block.wait(20)
        return Stored(False, None)

    rig = Rig(script)
    rig.uploader.submit(batch(1))
    wait_for(lambda: rig.sink.sent, what="the send")
    rig.uploader.stop(0.05)
    assert rig.stored == []
    block.set()
