"""Segments: rows keep their identity, order, ledger and lanes when they leave the main file, and the disk.

The keeper's thread is not started: a test calls `step`, so that nothing depends on time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import wire
from gateway.messages import LANE_ALARMS, LANE_LIVE, Batch
from gateway.own import Clock, Own
from gateway.store import Reader, catalog, retention, segments
from gateway.store.retention import Keep
from isocore.record import HIGH_ON, SAMPLE
from tests.gateway.conftest import Harness, frame_in
from tests.support.board_client import Record, samples

SMALL = Keep(segment_rows=100, segment_age_s=1e9, reserve_bytes=0, uploaded_age_s=0.0)


class Kept:
    """A store whose keeper works when told to."""

    def __init__(self, path: Path, keep: Keep = SMALL, sinks: tuple[str, ...] = ("cloud",), now_s: float = 0) -> None:
        self.path = path
        self.harness = Harness(path, keep=keep)
        self.harness.now_s = now_s or self.harness.now_s
        self.store = self.harness.store
        self.store.open()
        self.keeper = self.store._keeper
        self.keeper.start = lambda: None  # type: ignore[method-assign]
        self.store.start()
        self.reader = Reader(path)
        assert self.store.enrol(dict.fromkeys(sinks, "oldest"), 5.0) is not None

    def put(self, device: str, records: list[Record], boot: int = 1) -> None:
        for start in range(0, len(records), 50):
            self.harness.put(frame_in(device, boot, records[start : start + 50]))

    def tidy(self) -> int:
        """Let the keeper do all that is due; how many steps that took."""
        return self.store.tidy()

    def send(self, lane: str = LANE_LIVE, sink: str = "cloud", limit: int = 1 << 30) -> int:
        """What batcher and uploader do in the end: freeze what a lane has, and have it answered."""
        rows = self.reader.lane_rows(lane, self.reader.cursor(sink, lane), 1 << 60, limit)
        if rows:
            number = self.store.reserve_batches(1)
            assert number is not None
            batch = Batch(sink, number, lane, rows[0].row, rows[-1].row, len(rows), wire.counts(rows), "gzip", "", b"x")
            assert self.store.freeze(batch, rows[-1].row + 1, self.reader.cuts)
            assert self.store.uploaded(sink, number)
        return len(rows)

    def files(self) -> list[str]:
        return sorted(p.name for p in self.path.parent.glob("*.seg-*"))

    def snapshot(self) -> dict[str, Any]:
        snapshot = self.reader.snapshot()
        assert snapshot["differences"] == []
        assert snapshot["ledger"]["balanced"]
        return snapshot

    def totals(self) -> dict[str, Any]:
        return dict(self.snapshot()["ledger"]["totals"])

    def reopen(self, keep: Keep = SMALL) -> Kept:
        self.close()
        return Kept(self.path, keep)

    def close(self) -> None:
        self.reader.close()
        self.harness.stop()


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    running = Kept(tmp_path / "store.db")
    yield running
    running.close()


def hot_rows(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("SELECT count(*) FROM readings").fetchone()[0])
    finally:
        connection.close()


def test_rows_move_into_segments_and_read_the_same(kept: Kept) -> None:
    records = samples(1, 250)
    records[30] = (31, HIGH_ON, 0, 9000, 31_000, 0)
    kept.put("a", records)
    before = [kept.reader.lane_rows(lane, 1, 1 << 40, 1000) for lane in (LANE_LIVE, LANE_ALARMS)]
    counted = kept.snapshot()["rows"]
    assert kept.tidy() == 2
    assert hot_rows(kept.path) == 50
    assert kept.files() == ["store.db.seg-000001-0", "store.db.seg-000002-0"]
    assert [kept.reader.lane_rows(lane, 1, 1 << 40, 1000) for lane in (LANE_LIVE, LANE_ALARMS)] == before
    assert kept.snapshot()["rows"] == counted
    for first, last, limit in ((95, 105, 1000), (1, 1 << 40, 7), (150, 230, 60), (100, 100, 1), (201, 250, 1000)):
        expected = [r for r in before[0] if first <= r.row <= last][:limit]
        assert kept.reader.lane_rows(LANE_LIVE, first, last, limit) == expected


def test_a_replay_of_sealed_rows_is_a_duplicate_and_a_clone_a_conflict(kept: Kept) -> None:
    kept.put("a", samples(1, 200))
    kept.tidy()
    assert hot_rows(kept.path) == 0
    kept.put("a", samples(1, 200))
    totals = kept.totals()
    assert (totals["stored"], totals["duplicates"], totals["conflicts"]) == (200, 200, 0)
    kept.put("a", samples(51, 150, value=5))
    totals = kept.totals()
    assert (totals["stored"], totals["duplicates"], totals["conflicts"]) == (200, 200, 100)
    assert hot_rows(kept.path) == 0


def test_uploaded_segments_leave_the_disk_and_their_rows_stay_duplicates(kept: Kept) -> None:
    kept.put("a", samples(1, 250))
    kept.tidy()
    assert kept.send(limit=150) == 150
    kept.tidy()
    assert kept.files() == ["store.db.seg-000002-0"], "the one that is only half uploaded stays"
    assert kept.send() == 100
    kept.tidy()
    assert kept.files() == []
    kept.put("a", samples(1, 250))
    snapshot = kept.snapshot()
    totals = snapshot["ledger"]["totals"]
    assert (totals["stored"], totals["duplicates"], totals["present"], totals["left"]) == (
        250,
        250,
        50,
        {"uploaded": 200},
    )
    assert snapshot["ledger"]["devices"]["a"]["sinks"]["cloud"]["pending"] == 0
    again = kept.reopen()
    again.put("a", samples(1, 300))
    assert again.totals()["duplicates"] == 500
    assert again.send() == 50
    again.close()


def test_a_frozen_batch_holds_its_segment_until_it_is_answered(kept: Kept) -> None:
    kept.put("a", samples(1, 100))
    kept.tidy()
    rows = kept.reader.lane_rows(LANE_LIVE, 1, 1 << 40, 1000)
    batch = Batch("cloud", 7, LANE_LIVE, 1, 100, 100, wire.counts(rows), "gzip", "", b"x")
    assert kept.store.freeze(batch, 101, kept.reader.cuts)
    kept.tidy()
    assert len(kept.files()) == 1
    kept.keeper._keep = SMALL._replace(max_bytes=1)  # room runs out: the frozen bytes are enough
    kept.tidy()
    assert kept.files() == []
    snapshot = kept.snapshot()
    assert snapshot["ledger"]["totals"]["left"] == {"uploaded": 100}
    assert snapshot["sinks"]["cloud"]["pending"]["rows"] == 100
    assert kept.store.uploaded("cloud", 7)
    assert kept.snapshot()["ledger"]["devices"]["a"]["sinks"]["cloud"]["pending"] == 0


def test_row_ids_never_come_twice_after_everything_left(kept: Kept) -> None:
    kept.put("a", samples(1, 100))
    kept.tidy()
    kept.send()
    kept.tidy()
    assert (kept.files(), hot_rows(kept.path)) == ([], 0)
    again = kept.reopen()
    again.put("a", samples(101, 110))
    assert [row.row for row in again.reader.lane_rows(LANE_LIVE, 1, 1 << 40, 100)] == list(range(101, 111))
    again.close()


def test_out_of_order_rows_are_known_after_they_were_sealed(kept: Kept) -> None:
    kept.put("a", samples(1, 10))
    kept.put("a", samples(21, 110))
    kept.tidy()
    assert hot_rows(kept.path) == 0
    kept.put("a", samples(11, 20))
    assert kept.harness.acks()[-1] == ("a", 1, 110, None), "the watermark moved over what is sealed"
    assert kept.totals()["stored"] == 110


def test_a_sink_that_is_behind_holds_segments_and_one_that_is_gone_does_not(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "store.db", sinks=("cloud", "lab"))
    kept.put("a", samples(1, 100))
    kept.tidy()
    kept.send(sink="cloud")
    kept.tidy()
    assert len(kept.files()) == 1
    assert kept.store.enrol({"cloud": "oldest"}, 5.0) == []
    kept.tidy()
    assert kept.files() == []
    sinks = kept.snapshot()["ledger"]["devices"]["a"]["sinks"]
    assert (sinks["cloud"]["pending"], sinks["lab"]["pending"], sinks["lab"]["dropped_reports"]) == (0, 0, 100)
    assert kept.store.enrol({"cloud": "oldest", "late": "oldest"}, 5.0) == ["late"]
    kept.put("a", samples(101, 130))
    sinks = kept.snapshot()["ledger"]["devices"]["a"]["sinks"]
    assert (sinks["late"]["skipped_reports"], sinks["late"]["pending"]) == (100, 30)
    kept.close()


def test_old_hot_rows_are_sealed_by_age(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "store.db", SMALL._replace(segment_age_s=3600.0))
    kept.put("a", samples(1, 10))
    assert kept.tidy() == 0
    kept.harness.clock_s += 3601
    assert kept.tidy() == 1
    assert (hot_rows(kept.path), len(kept.files())) == (0, 1)
    kept.close()


def test_tagged_frames_go_with_their_rows(kept: Kept) -> None:
    kept.harness.put(frame_in("a", 1, samples(1, 60), tag=b"t" * 16))
    kept.harness.put(frame_in("a", 1, samples(61, 130), tag=b"u" * 16))
    kept.tidy()
    file = sqlite3.connect(kept.path.with_name(kept.files()[0]))
    assert [row[0] for row in file.execute("SELECT tag FROM tags ORDER BY first_seq")] == [b"t" * 16, b"u" * 16]
    file.close()


def test_a_tag_goes_up_with_whichever_of_its_rows_and_from_either_segment(kept: Kept) -> None:
    kept.harness.put(frame_in("a", 1, samples(1, 70), tag=b"t" * 16))
    kept.harness.put(frame_in("a", 1, samples(71, 140), tag=b"u" * 16))
    kept.harness.put(frame_in("a", 1, samples(141, 210), tag=b"v" * 16))
    kept.tidy()
    assert len(kept.files()) == 2  # rows 1..100 and 101..200: the other frames lie across an end
    rows = kept.reader.lane_rows(LANE_LIVE, 1, 1 << 40, 1000)
    parts = (
        (0, 1, [b"t"]),
        (80, 81, [b"u"]),
        (120, 121, [b"u"]),
        (205, 210, [b"v"]),
        (150, 210, [b"v"]),
        (0, 210, [b"t", b"u", b"v"]),
    )
    for first, last, tags in parts:
        assert [(tag.tag or b"")[:1] for tag in kept.reader.tags(rows[first:last])] == tags


def test_thinned_rows_lose_their_tag_and_it_is_said(kept: Kept) -> None:
    kept.harness.put(frame_in("a", 1, samples(1, 100), tag=b"t" * 16))
    kept.tidy()
    (segment,) = catalog.segments(kept.reader._db)
    assert segments.is_whole(kept.harness.store._disk, segment)
    built = segments.rewrite(
        kept.harness.store._disk, segments.Names(kept.path.name), "s", segment, 1, lambda c: retention.cut(c, 1, 900)
    )
    file = sqlite3.connect(kept.path.with_name(built.segment.file))
    assert file.execute("SELECT first_seq, seqs, tag FROM tags").fetchall() == [(1, "100", None)]
    file.close()


def test_a_main_file_that_is_lost_takes_its_segments_over(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "store.db")
    kept.put("a", samples(1, 150))
    kept.put("b", samples(1, 60), boot=4)
    kept.tidy()
    kept.close()
    kept.path.write_bytes(b"no database any more" * 999)
    again = Kept(tmp_path / "store.db")
    assert again.harness.store.set_aside is not None
    totals = again.totals()
    assert (totals["stored"], totals["present"]) == (200, 200)
    again.put("a", samples(1, 160))
    assert again.harness.acks()[-1] == ("a", 1, 160, None)
    assert again.totals()["duplicates"] == 150
    assert again.totals()["conflicts"] == 0
    rows = again.reader.lane_rows(LANE_LIVE, 1, 1 << 40, 1000)
    assert len({(r.device, r.boot, r.seq) for r in rows}) == len(rows) == 210
    assert len({r.row for r in rows}) == 210
    again.close()


def test_the_gateways_own_devices_stay_its_own_when_the_main_file_is_lost(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "store.db")
    device = Own(kept.store.put, Clock()).device("plug-1", "third-party", [("temperature", "degC")])
    for value in range(150):
        device.keep(SAMPLE, 0, value)
    kept.put("a", samples(1, 60))
    kept.tidy()
    kept.close()
    kept.path.write_bytes(b"no database any more" * 999)
    again = Kept(tmp_path / "store.db")
    known = again.reader.known()
    assert {name: own for name, (own, _) in known.items()} == {"plug-1": True, "a": False}
    assert known["plug-1"][1]["channels"] == [{"name": "temperature", "unit": "degC"}]
    own = Own(again.store.put, Clock())
    own.begin(1, {})  # a count of starts that was lost as well
    own.device("plug-1", "third-party").keep(SAMPLE, 0, 1)
    again.harness.settle()
    assert again.totals()["conflicts"] == 0, "numbers go on above what is known"
    again.close()


def test_leftovers_of_a_power_cut_are_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "store.db")
    kept.put("a", samples(1, 250))
    kept.tidy()
    copy = kept.path.with_name(kept.files()[0]).read_bytes()
    kept.send(limit=100)
    kept.tidy()
    kept.close()
    left, half, sealed_twice = "store.db.seg-000001-0", "store.db.seg-000003-0.tmp", "store.db.seg-000003-0"
    kept.path.with_name(left).write_bytes(copy)
    kept.path.with_name(half).write_bytes(b"half")
    again = Kept(tmp_path / "store.db")
    assert again.files() == ["store.db.seg-000002-0"]
    assert again.totals()["present"] == 150
    again.put("a", samples(251, 300))
    again.tidy()
    assert sealed_twice in again.files()
    again.close()
