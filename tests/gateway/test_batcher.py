"""Lanes, sizes, ages and restarts of batches, over a real store; clocks are ours."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import wire
from gateway.batcher import Batcher, Policy
from gateway.messages import LANE_ALARMS, LANE_BACKFILL, LANE_LIVE, Batch, Row
from gateway.store import Reader
from isocore.record import HIGH_ON
from tests.gateway.conftest import START_UNIX_MS, Harness, frame_in
from tests.support.board_client import samples, wait_for


class Rig:
    """A batcher between a real store and a recorded uploader."""

    def __init__(self, path: Path, live_rows: int = 100, slots: int = 2, live_age_s: float = 5.0) -> None:
        self.harness = Harness(path)
        self.now_s = 50.0
        self.submitted: list[Batch] = []
        self.harness.store.open()
        head = self.harness.store.head_row
        self.reader = Reader(path)
        self.batcher = Batcher(
            "cloud",
            "gw-1",
            self.reader,
            self.harness.store,
            Policy(live_rows, live_age_s, 200, 60.0, {LANE_ALARMS: slots, LANE_LIVE: slots, LANE_BACKFILL: slots}),
            lambda: ("gzip", lambda data: gzip.compress(data, mtime=0)),
            self.submitted.append,
            head_row=head,
            clock_s=lambda: self.now_s,
            wall_s=lambda: self.harness.now_s,
        )
        self.harness.on_commit = self.batcher.committed
        self.harness.store.start()
        self.batcher.start()

    def pass_time(self, seconds: float) -> None:
        """Let monotonic and wall time go on, and the batcher look at them."""
        self.now_s += seconds
        self.harness.now_s += seconds
        self.batcher._wake.set()

    def lanes(self, lane: str) -> list[Batch]:
        return [b for b in self.submitted if b.lane == lane]

    def answer(self, batch: Batch, refusal: str | None = None) -> None:
        store = self.harness.store
        known = store.quarantine("cloud", batch.batch, refusal) if refusal else store.uploaded("cloud", batch.batch)
        if known:
            self.batcher.freed(batch.lane)

    def close(self) -> None:
        self.harness.stop()
        self.batcher.stop(5)
        self.reader.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    running = Rig(tmp_path / "store.db")
    yield running
    running.close()


def rows_in(batch: Batch) -> int:
    document = wire_document(batch)
    return int(document["rows"])  # type: ignore[call-overload]


def wire_document(batch: Batch) -> dict[str, object]:
    import json

    return dict(json.loads(gzip.decompress(batch.body)))


def test_a_full_live_batch_goes_at_once_a_part_when_old(rig: Rig) -> None:
    rig.harness.put(frame_in("a", 1, samples(1, 130)))
    wait_for(lambda: rig.submitted, what="the full batch")
    assert [(b.lane, b.rows) for b in rig.submitted] == [(LANE_LIVE, 100)]
    rig.pass_time(5.0)
    wait_for(lambda: len(rig.submitted) == 2, what="the rest")
    assert [(b.lane, b.rows, b.first_row, b.last_row) for b in rig.submitted] == [
        (LANE_LIVE, 100, 1, 100),
        (LANE_LIVE, 30, 101, 130),
    ]
    assert rig.submitted[0].batch != rig.submitted[1].batch


def test_events_take_the_alarm_lane_and_nothing_else_does(rig: Rig) -> None:
    alarm = (3, HIGH_ON, 0, 9000, 3000, 0)
    rig.harness.put(frame_in("a", 1, [*samples(1, 2), alarm, *samples(4, 5)]))
    wait_for(lambda: rig.submitted, what="the alarm")
    assert [(b.lane, b.rows, b.first_row) for b in rig.submitted] == [(LANE_ALARMS, 1, 3)]
    assert rig.submitted[0].counts[0][1:] == (0, 1, 0, 0)
    rig.pass_time(6)
    wait_for(lambda: rig.lanes(LANE_LIVE), what="the rest")
    assert wire_document(rig.lanes(LANE_LIVE)[0])["kind"] == [1, 1, 1, 1]


def test_slots_bound_what_is_frozen(rig: Rig) -> None:
    rig.harness.put(frame_in("a", 1, samples(1, 250)))
    rig.harness.put(frame_in("a", 1, samples(251, 500)))
    wait_for(lambda: len(rig.submitted) == 2, what="two batches")
    rig.answer(rig.submitted[0])
    wait_for(lambda: len(rig.submitted) == 3, what="the third")
    assert rig.reader.backlog("cloud")["pending"]["batches"] == 2


def test_after_an_outage_the_newest_go_live_and_the_old_by_backfill(rig: Rig) -> None:
    rig.harness.put(frame_in("a", 1, samples(1, 200)))
    wait_for(lambda: len(rig.submitted) == 2, what="two stuck live batches")
    rig.harness.put(frame_in("a", 1, samples(201, 255)))
    for first in range(256, 1000, 100):
        rig.harness.put(frame_in("a", 1, samples(first, first + 99)))
    rig.pass_time(3600)
    rig.answer(rig.submitted[0])
    wait_for(lambda: len(rig.lanes(LANE_BACKFILL)) == 2, what="backfill")
    now_unix_ms = START_UNIX_MS + 3_600_000
    rig.harness.put(frame_in("a", 1, samples(1056, 1160), recv_unix_ms=now_unix_ms))
    wait_for(lambda: len(rig.lanes(LANE_LIVE)) == 3, what="new rows ahead of the backlog")
    assert rig.lanes(LANE_LIVE)[2].first_row == 1056
    assert rig.lanes(LANE_BACKFILL)[0].first_row == 201
    answered: list[Batch] = []

    def drain() -> bool:
        for batch in [b for b in rig.submitted if b not in answered]:
            rig.answer(batch)
            answered.append(batch)
        return sum(b.rows for b in rig.submitted) >= 1155

    wait_for(drain, what="the whole backlog")
    rig.pass_time(10)
    wait_for(lambda: drain() and sum(b.rows for b in answered) == 1160, what="every row once")
    snapshot = rig.reader.snapshot()
    assert snapshot["differences"] == []
    assert snapshot["ledger"]["devices"]["a"]["sinks"]["cloud"]["pending"] == 0
    assert rig.reader.backfill_range("cloud") is None


def test_a_restart_sends_the_same_bytes_and_goes_on(tmp_path: Path) -> None:
    first = Rig(tmp_path / "store.db")
    first.harness.put(frame_in("a", 1, samples(1, 250)))
    wait_for(lambda: len(first.submitted) == 2, what="two batches")
    first.close()
    second = Rig(tmp_path / "store.db")
    assert second.submitted[:2] == first.submitted
    for batch in list(second.submitted):
        second.answer(batch)
    second.pass_time(10)
    wait_for(lambda: len(second.submitted) == 3, what="the rest")
    assert second.submitted[2].first_row == 201
    assert second.submitted[2].batch not in {b.batch for b in first.submitted}
    second.close()


def test_quarantine_keeps_the_reason_and_the_ledger(rig: Rig) -> None:
    rig.harness.put(frame_in("a", 1, samples(1, 200)))
    wait_for(lambda: len(rig.submitted) == 2, what="two batches")
    rig.answer(rig.submitted[0], "answered 422: because")
    rig.answer(rig.submitted[0], "twice")
    rig.answer(rig.submitted[1])
    rig.answer(rig.submitted[1])
    snapshot = rig.reader.snapshot()
    done = snapshot["ledger"]["devices"]["a"]["sinks"]["cloud"]
    assert (done["quarantined_reports"], done["uploaded_reports"], done["pending"]) == (100, 100, 0)
    assert snapshot["sinks"]["cloud"]["quarantine"][0]["reason"] == "answered 422: because"
    assert snapshot["differences"] == []


def test_stored_bytes_are_what_is_sent(rig: Rig) -> None:
    rig.harness.put(frame_in("a", 1, samples(1, 100)))
    wait_for(lambda: rig.submitted, what="the batch")
    assert rig.reader.pending("cloud") == rig.submitted
    assert rows_in(rig.submitted[0]) == 100


def test_auto_falls_back_to_gzip(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "zstandard", None)
    encoding, compress = wire.compressor("auto")
    assert encoding == "gzip"
    assert compress(b"x" * 100) == compress(b"x" * 100), "the same bytes whenever they are made"


def test_smaller_batches_from_one_moment_to_the_next_skip_no_row(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload between reading rows and judging whether there were more of them."""
    small = Policy(7, 5.0, 200, 60.0, {LANE_ALARMS: 2, LANE_LIVE: 2, LANE_BACKFILL: 2})
    read = rig.reader.lane_rows

    def read_and_tune(lane: str, first_row: int, last_row: int, limit: int) -> list[Row]:
        rows = read(lane, first_row, last_row, limit)
        rig.batcher.tune(small)
        return rows

    monkeypatch.setattr(rig.reader, "lane_rows", read_and_tune)
    rig.harness.put(frame_in("a", 1, samples(1, 150)))
    seen: list[Batch] = []
    while sum(batch.rows for batch in seen) < 147:
        wait_for(lambda: len(rig.submitted) > len(seen), what="the next batch")
        batch = rig.submitted[len(seen)]
        seen.append(batch)
        rig.answer(batch)
    assert [batch.rows for batch in seen] == [100, 7, 7, 7, 7, 7, 7, 7][: len(seen)]
    rig.pass_time(6)
    wait_for(lambda: sum(batch.rows for batch in rig.submitted) == 150, what="the rest, by age")
    rows = [row for batch in rig.submitted for row in range(batch.first_row, batch.last_row + 1)]
    assert rows == list(range(1, 151))


def test_a_batch_sent_again_takes_no_slot_for_good(rig: Rig) -> None:
    rig.harness.put(frame_in("a", 1, samples(1, 100)))
    wait_for(lambda: rig.submitted, what="a batch")
    refused = rig.submitted[0]
    rig.answer(refused, refusal="no")
    wait_for(lambda: rig.batcher.in_flight == 0, what="its slot")
    again = rig.harness.store.retry("cloud", refused.batch)
    assert again == refused
    rig.batcher.again(again)
    assert (rig.submitted[-1], rig.batcher.in_flight) == (refused, 1)
    rig.answer(again)
    assert rig.batcher.in_flight == 0
