"""Random lives of an outbox against a plain model: no gap, nothing twice, nothing altered, books balanced."""

from __future__ import annotations

import builtins
import errno
import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import isonode.segments
from isocore.record import BOOT, DELTA, FAULT, HIGH_ON, SAMPLE, WINDOW_MEAN
from isonode.outbox import Outbox

from .outbox_model import OutboxModel, walk

REPORTS = (SAMPLE, DELTA, DELTA, DELTA, DELTA, DELTA, DELTA, WINDOW_MEAN)
EVENTS = (HIGH_ON, FAULT, BOOT)


class FailingFiles:
    """Stands in for `open` in the store: after `budget_bytes` written it tears the write and raises `error`."""

    def __init__(self) -> None:
        self.budget_bytes: int | None = None
        self.error = 0

    def open(self, path, mode):
        file = builtins.open(path, mode)  # noqa: SIM115 - the caller closes it
        return _FailingFile(file, self) if self.budget_bytes is not None and mode != "rb" else file

    def fail(self, after_bytes: int, error: int) -> None:
        self.budget_bytes = after_bytes
        self.error = error


class _FailingFile:
    def __init__(self, file, owner: FailingFiles) -> None:
        self._file = file
        self._owner = owner

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def write(self, data) -> None:
        left = self._owner.budget_bytes
        assert left is not None
        if len(data) > left:
            self._owner.budget_bytes = 0
            self._file.write(data[:left])
            raise OSError(self._owner.error, "injected")
        self._owner.budget_bytes = left - len(data)
        self._file.write(data)


class OutboxLife(RuleBasedStateMachine):
    """Appends, flushes, acks, power cycles and failing writes in any order."""

    KEY: bytes | None = None

    @initialize(segments=st.integers(3, 6), ram_records=st.sampled_from([4, 9, 24]))
    def start(self, segments: int, ram_records: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="isotherm-outbox-"))
        self.model = OutboxModel()
        self.files = FailingFiles()
        isonode.segments.open = self.files.open
        self.segments = segments
        self.ram_records = ram_records
        self.boot = 0
        self.uptime_ms = 0
        self.injected = False
        self.evicted = {}
        self.open()

    def open(self) -> None:
        self.boot += 1
        self.uptime_ms = 100
        self.outbox = Outbox(
            str(self.folder / "outbox"),
            self.boot,
            ram_records=self.ram_records,
            spill_records=self.ram_records // 2,
            spill_age_s=100,
            segment_bytes=512,
            capacity_bytes=512 * self.segments,
            block_bytes=128,
            key=self.KEY,
        )
        assert self.outbox.open()
        self.boot = self.outbox.boot
        self.held_at_open = self.outbox.counts.held()
        self.total = 0
        self.acked: dict[int, int] = {}

    def teardown(self) -> None:
        isonode.segments.open = builtins.open
        if hasattr(self, "outbox"):
            self.outbox.store.close()
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    @rule(
        count=st.sampled_from([1, 3, 12, 60, 250]),
        event_every=st.sampled_from([1, 2, 5, 40, 1000]),
        step_ms=st.sampled_from([1, 60, 20000]),
        trend=st.sampled_from([0, 0, -7]),
    )
    def append(self, count: int, event_every: int, step_ms: int, trend: int) -> None:
        for i in range(count):
            self.uptime_ms += step_ms
            kind = EVENTS[i % 3] if i % event_every == event_every - 1 else REPORTS[i % len(REPORTS)]
            value = 20000 + self.uptime_ms % 997
            record = (kind, kind % 3, value, self.uptime_ms, trend)
            seq = self.outbox.append(kind, kind % 3, value, self.uptime_ms // 1000, self.uptime_ms % 1000, trend)
            self.model.append(self.boot, seq, record)
            self.total += 1
            self.outbox.maintain(self.uptime_ms // 1000, idle=step_ms > 1)

    @rule()
    def flush(self) -> None:
        if self.outbox.flush():
            self.model.flushed(self.boot)

    @rule()
    def alarm(self) -> None:
        self.append(1, 1, 10, 0)
        if self.outbox.flush_urgent():
            self.model.flushed(self.boot)

    @rule(share=st.floats(0, 1), window=st.integers(1, 8))
    def ack(self, share: float, window: int) -> None:
        boot, seq = self.outbox.floor()
        for _ in range(window):
            found = self.outbox.next_frame(boot, seq - 1 if seq else 0, seal=True)
            if found is None:
                return
            _, boot, first, last = found
            seq = first + int((last - first) * share)
            self.outbox.ack(boot, seq)
            self.acked[boot] = max(self.acked.get(boot, 0), seq)
            seq += 1

    @rule()
    def ack_all(self) -> None:
        for boot, last in sorted(walk(self.outbox, self.model, self.KEY).covered.items()):
            if last:
                self.outbox.ack(boot, last)
        assert self.outbox.counts.held() == 0
        assert self.outbox.floor() == (self.boot, self.model.appended.get(self.boot, 0) + 1)

    @rule(after_bytes=st.integers(0, 700), error=st.sampled_from([errno.EIO, errno.ENOSPC]))
    def break_writing(self, after_bytes: int, error: int) -> None:
        self.injected = True
        self.files.fail(after_bytes, error)

    @precondition(lambda self: self.files.budget_bytes is not None)
    @rule()
    def mend_writing(self) -> None:
        self.files.budget_bytes = None

    @rule(epoch_s=st.integers(1, 2**29))
    def learn_time(self, epoch_s: int) -> None:
        self.outbox.epoch_s = epoch_s
        self.outbox.epoch_ms = epoch_s % 1000

    @rule()
    def power_cycle(self) -> None:
        before = walk(self.outbox, self.model, self.KEY).covered
        self.files.budget_bytes = None
        self.outbox.store.close()  # the handles only: what is in RAM is lost
        self.open()
        after = walk(self.outbox, self.model, self.KEY).covered
        floor_boot, _ = self.outbox.floor()
        for boot, last in before.items():
            durable = self.model.durable.get(boot, 0)
            if boot >= floor_boot and durable > self.acked.get(boot, 0):
                assert after.get(boot, 0) >= min(durable, last), "flushed records are gone"

    @invariant()
    def delivers_everything_once(self) -> None:
        if not hasattr(self, "outbox"):
            return
        delivery = walk(self.outbox, self.model, self.KEY)
        assert delivery.covered.get(self.boot, 0) == self.model.appended.get(self.boot, 0)
        assert len(set(delivery.seen)) == len(delivery.seen)
        assert delivery.seen == sorted(delivery.seen)
        if not self.injected:  # the records acknowledged inside the oldest entry are still held
            for delivered, held in (
                (delivery.reports, self.outbox.counts.reports),
                (delivery.events, self.outbox.counts.events),
                (delivery.windows, self.outbox.counts.windows),
            ):
                assert delivered <= held <= delivered + self.ram_records

    @invariant()
    def books_balance(self) -> None:
        if not hasattr(self, "outbox") or self.injected:
            return  # a write that failed but reached the disk may be counted on both sides until the next power cycle
        counts = self.outbox.counts
        gone = (
            counts.acked_reports + counts.acked_events + counts.acked_windows
            + counts.evicted_reports + counts.evicted_events + counts.evicted_windows
        )  # fmt: skip
        assert self.held_at_open + self.total == gone + self.outbox.counts.held()
        assert counts.io_errors == 0
        assert counts.corrupt == 0

    @invariant()
    def stays_within_capacity(self) -> None:
        if hasattr(self, "outbox") and not self.injected:
            assert self.outbox.store.used_bytes <= self.outbox.store.capacity_bytes


class TaggedOutboxLife(OutboxLife):
    """The same with frames that carry a tag."""

    KEY = bytes(range(32))


LIVES = settings(max_examples=60, stateful_step_count=30)
TestOutboxLife = pytest.mark.timeout(110)(OutboxLife.TestCase)
TestOutboxLife.settings = LIVES
TestTaggedOutboxLife = pytest.mark.timeout(110)(TaggedOutboxLife.TestCase)
TestTaggedOutboxLife.settings = settings(LIVES, max_examples=20)
