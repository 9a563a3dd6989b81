"""Rows, watermarks, holes and ledger, against real SQLite and against a naive model."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.messages import MetaIn, Record, Tag
from gateway.store import Reader
from isocore.record import BOOT, DELTA, HIGH_OFF, HIGH_ON, LOST, SAMPLE, WINDOW_MEAN
from tests.gateway.conftest import START_UNIX_MS, Harness, frame_in
from tests.support.board_client import samples, wait_for


def ledger_of(harness: Harness, device: str = "a") -> dict[str, Any]:
    reader = Reader(harness.path)
    try:
        document = reader.snapshot()
    finally:
        reader.close()
    assert document["differences"] == []
    assert document["ledger"]["balanced"]
    return dict(document["ledger"]["devices"][device])


def meta(device: str, floor: tuple[int, int], boot: int = 1, uptime_ms: int | None = None) -> MetaIn:
    return MetaIn(device, json.dumps({"v": 1}), "room", floor, boot, uptime_ms, START_UNIX_MS)


def lost(seq: int, count: int) -> Record:
    return (seq, LOST, 255, count, seq * 1000, 0)


def rows_of(harness: Harness) -> list[Any]:
    reader = Reader(harness.path)
    try:
        return [*reader.lane_rows("live", 1, 1 << 40, 10_000), *reader.lane_rows("alarms", 1, 1 << 40, 10_000)]
    finally:
        reader.close()


def test_ack_names_what_is_committed(harness: Harness) -> None:
    harness.put(frame_in("a", 1, samples(1, 10)))
    harness.put(frame_in("a", 1, samples(11, 20)))
    assert harness.acks() == [("a", 1, 10, None), ("a", 1, 20, None)]
    assert ledger_of(harness)["stored_reports"] == 20


def test_kinds_are_counted_apart(harness: Harness) -> None:
    kinds = (BOOT, SAMPLE, DELTA, HIGH_ON, WINDOW_MEAN)
    harness.put(frame_in("a", 1, [(i + 1, kind, 0, 5, 1000 + i, 0) for i, kind in enumerate(kinds)]))
    entry = ledger_of(harness)
    assert (entry["stored_reports"], entry["stored_events"], entry["stored_windows"]) == (2, 2, 1)


def test_a_gap_stops_the_watermark_and_filling_it_moves_over_what_came_early(harness: Harness) -> None:
    harness.put(frame_in("a", 1, samples(1, 5)))
    harness.put(frame_in("a", 1, samples(11, 15)))
    harness.put(frame_in("a", 1, samples(6, 10)))
    assert harness.acks() == [("a", 1, 5, None), ("a", 1, 5, (11, 15)), ("a", 1, 15, None)]


def test_an_urgent_frame_is_got_and_comes_again_in_its_turn(harness: Harness) -> None:
    alarm = (30, HIGH_ON, 0, 9000, 30_000, 0)
    harness.put(frame_in("a", 1, samples(1, 5)))
    harness.put(frame_in("a", 1, [alarm]))
    harness.put(frame_in("a", 1, [*samples(6, 29), alarm]))
    assert harness.acks()[1:] == [("a", 1, 5, (30, 30)), ("a", 1, 30, None)]
    entry = ledger_of(harness)
    assert (entry["stored"], entry["duplicates"], entry["conflicts"]) == (30, 1, 0)


def test_duplicates_are_acknowledged_and_not_stored(harness: Harness) -> None:
    for _ in range(3):
        harness.put(frame_in("a", 1, samples(1, 10)))
    assert harness.acks() == [("a", 1, 10, None)] * 3
    entry = ledger_of(harness)
    assert (entry["received"], entry["stored"], entry["duplicates"]) == (30, 10, 20)


def test_two_equal_frames_in_one_commit_are_stored_once(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "store.db", commit_ms=200)
    harness.store.open()
    frame = frame_in("a", 1, samples(1, 10))
    for _ in range(2):
        assert harness.store.put(frame, 10, False, 1.0)
    harness.store.start()
    harness.settle()
    assert len(harness.acks()) == 1
    assert ledger_of(harness)["duplicates"] == 10
    harness.stop()


def test_other_content_under_a_taken_identity_is_a_conflict(harness: Harness) -> None:
    harness.put(frame_in("a", 1, samples(1, 10)))
    harness.put(frame_in("a", 1, samples(1, 10, value=1)))
    entry = ledger_of(harness)
    assert (entry["stored"], entry["conflicts"], entry["duplicates"]) == (10, 10, 0)
    assert harness.metrics.value("store_conflicts_total") == 10
    assert {r.value for r in rows_of(harness)} == {r[3] for r in samples(1, 10)}


def test_boots_have_watermarks_of_their_own(harness: Harness) -> None:
    harness.put(frame_in("a", 1, samples(1, 5)), frame_in("a", 2, samples(1, 3)))
    assert sorted(harness.acks()) == [("a", 1, 5, None), ("a", 2, 3, None)]


def test_lost_accounts_for_its_run(harness: Harness) -> None:
    harness.put(frame_in("a", 1, [*samples(1, 2), lost(10, 8), *samples(11, 12)]))
    assert harness.acks() == [("a", 1, 12, None)]
    entry = ledger_of(harness)
    assert (entry["lost"], entry["gap"], entry["stored_reports"]) == (8, 0, 4)
    assert (entry["stored_events"], entry["stored_notices"]) == (0, 1), "a board's events_sent leaves LOST out"


def test_a_lost_run_that_grew_counts_once(harness: Harness) -> None:
    harness.put(frame_in("a", 1, [lost(3, 3), *samples(4, 4)]))
    harness.put(frame_in("a", 1, [lost(7, 7), *samples(8, 8)]))
    assert ledger_of(harness)["lost"] == 6  # 4 is held, whatever the board had to evict
    assert harness.acks()[-1] == ("a", 1, 8, None)


def test_lost_for_rows_already_held_is_not_lost(harness: Harness) -> None:
    harness.put(frame_in("a", 1, samples(1, 5)))
    harness.put(frame_in("a", 1, [lost(8, 6), *samples(9, 9)]))
    entry = ledger_of(harness)
    assert (entry["lost"], entry["conflicts"]) == (3, 0)  # 3..5 are held, 6..8 are gone
    harness.put(frame_in("a", 1, [lost(5, 5)]))
    assert ledger_of(harness)["lost"] == 3


def test_a_row_that_comes_after_its_lost_record_is_found_again(harness: Harness) -> None:
    harness.put(frame_in("a", 1, [lost(5, 5), *samples(6, 6)]))
    harness.put(frame_in("a", 1, samples(2, 3)))
    entry = ledger_of(harness)
    assert (entry["lost"], entry["stored_reports"]) == (3, 3)


def test_a_huge_lost_record_costs_nothing(harness: Harness) -> None:
    top = (1 << 30) - 1
    harness.put(frame_in("a", 1, [(top, LOST, 255, top, 0, 0)]))
    assert harness.acks() == [("a", 1, top, None)]
    assert ledger_of(harness)["lost"] == top


def test_a_new_store_starts_from_the_boards_floor(harness: Harness) -> None:
    assert harness.store.put(meta("a", (4, 101), boot=4), 1, True, 1.0)
    harness.put(frame_in("a", 4, samples(101, 110)))
    assert harness.acks() == [("a", 4, 110, None)]
    assert ledger_of(harness)["gap"] == 100


def test_a_floor_closes_gaps_and_older_boots_through_the_ledger(harness: Harness) -> None:
    harness.put(frame_in("a", 1, samples(1, 5)), frame_in("a", 2, samples(4, 6)))
    harness.put(frame_in("a", 1, samples(9, 10)))
    harness.put(frame_in("a", 2, samples(9, 12)))
    assert harness.store.put(meta("a", (2, 8), boot=2), 1, True, 1.0)
    harness.settle()
    assert ledger_of(harness)["gap"] == 3 + 4  # boot 1: 6..8; boot 2: 1..3 and 7
    harness.put(frame_in("a", 2, samples(8, 8)))  # the floor itself is still on the board
    assert harness.acks()[-1] == ("a", 2, 12, None)
    assert harness.store.put(meta("a", (2, 8), boot=2), 1, True, 1.0)  # the same floor again changes nothing
    harness.settle()
    harness.put(frame_in("a", 1, samples(7, 7)))  # late after all
    assert ledger_of(harness)["gap"] == 6


def test_a_meta_without_a_floor_asks_which_boots_are_known(harness: Harness) -> None:
    """Boots of which nothing came do not count: a board that asks twice must hear the same twice."""

    def ask(boot: int) -> int | None:
        before = len(harness.news)
        question = MetaIn("a", json.dumps({"v": 1}), "room", None, boot, None, START_UNIX_MS)
        assert harness.store.put(question, 1, True, 1.0)
        wait_for(lambda: any(news.acks for news in harness.news[before:]), what="the answer")
        (ack,) = [ack for news in harness.news[before:] for ack in news.acks]
        assert (ack.boot, ack.seq, ack.got) == (0, 0, None)
        return ack.top

    assert ask(1) == 0
    assert harness.store.put(meta("a", (4, 1), boot=4), 1, True, 1.0)  # announced, and nothing sent
    assert ask(1) == 0
    harness.put(frame_in("a", 7, samples(1, 2)))
    harness.put(frame_in("b", 9, samples(1, 2)))
    assert ask(1) == ask(1) == 7


def test_a_stale_floor_changes_nothing(harness: Harness) -> None:
    harness.put(frame_in("a", 2, samples(1, 20)))
    assert harness.store.put(meta("a", (2, 5), boot=2), 1, True, 1.0)
    assert harness.store.put(meta("a", (1, 50), boot=2), 1, True, 1.0)
    harness.put(frame_in("a", 2, samples(21, 22)))
    assert harness.acks()[-1] == ("a", 2, 22, None)


def test_watermarks_survive_a_restart(tmp_path: Path) -> None:
    first = Harness(tmp_path / "store.db").start()
    first.put(frame_in("a", 1, samples(1, 10)), frame_in("b", 7, samples(1, 3)))
    assert first.stop()
    second = Harness(tmp_path / "store.db").start()
    second.put(frame_in("a", 1, samples(11, 12)), frame_in("b", 7, samples(2, 4)))
    assert sorted(second.acks()) == [("a", 1, 12, None), ("b", 7, 4, None)]
    assert ledger_of(second, "b")["duplicates"] == 2
    rows = [r.row for r in rows_of(second)]
    assert len(rows) == len(set(rows))
    second.stop()


@pytest.mark.parametrize(
    ("epoch", "uptime_meta", "expected", "trusted"),
    [
        (START_UNIX_MS - 77, None, START_UNIX_MS - 77, 1),
        (None, None, START_UNIX_MS - 3000, 0),
        (None, 50_000, START_UNIX_MS - 50_000, 0),
    ],
)
def test_wall_time_is_the_boards_or_filled_in(
    harness: Harness, epoch: int | None, uptime_meta: int | None, expected: int, trusted: int
) -> None:
    assert harness.store.put(meta("a", (1, 1), uptime_ms=uptime_meta), 1, True, 1.0)
    harness.put(frame_in("a", 1, samples(1, 3), epoch))
    assert {(r.epoch_unix_ms, r.trusted) for r in rows_of(harness)} == {(expected, trusted)}


def test_once_known_the_boards_time_serves_its_whole_boot(harness: Harness) -> None:
    harness.put(frame_in("a", 1, samples(1, 1), START_UNIX_MS - 5000))
    harness.put(frame_in("a", 1, samples(2, 2)))
    assert [(r.epoch_unix_ms, r.trusted) for r in rows_of(harness)] == [
        (START_UNIX_MS - 5000, 1),
        (START_UNIX_MS - 5000, 0),
    ]


def test_tags_are_kept_for_the_cloud(harness: Harness) -> None:
    harness.put(frame_in("a", 1, samples(1, 3), tag=b"t" * 16))
    reader = Reader(harness.path)
    rows = rows_of(harness)
    assert reader.tags(rows[:1]) == [Tag(1, 3, 1, 1, None, 1, 3, [], b"t" * 16)]
    assert reader.tags([rows[0]._replace(row=4)]) == []
    reader.close()


def test_a_frame_that_brings_nothing_new_is_not_kept_unless_it_contradicts(harness: Harness) -> None:
    harness.put(frame_in("a", 1, samples(1, 3), tag=b"t" * 16))
    harness.put(frame_in("a", 1, samples(1, 3), tag=b"u" * 16, epoch_unix_ms=START_UNIX_MS))
    clone = (2, SAMPLE, 0, 77777, 2000, 0)
    for nth in range(20):
        harness.put(frame_in("a", 1, [clone], tag=bytes([nth]) * 16))
    harness.put(frame_in("b", 1, samples(1, 1)))
    reader = Reader(harness.path)
    kept = reader.tags(rows_of(harness))
    assert [tag.tag for tag in kept] == [b"t" * 16, *(bytes([nth]) * 16 for nth in range(16))]
    assert kept[1] == Tag(4, 4, 1, 1, None, 2, 1, [clone], bytes(16))
    reader.close()


def test_what_a_frame_said_otherwise_than_its_rows_is_kept_with_it(harness: Harness) -> None:
    urgent = [(2, HIGH_ON, 0, 9000, 2000, 0), (9, HIGH_OFF, 0, 4000, 9000, 0)]
    harness.put(frame_in("a", 1, urgent, tag=b"u" * 16))
    lost = (2, LOST, 255, 2, 2000, 0)
    harness.put(frame_in("a", 1, [lost, *samples(3, 4)], tag=b"t" * 16))
    reader = Reader(harness.path)
    whole, steps = reader.tags(rows_of(harness))
    assert (whole.first_seq, whole.seqs, whole.other) == (2, [7], [])
    assert (steps.first_seq, steps.seqs, steps.other) == (2, 3, [lost])
    reader.close()


class Model:
    """The contract, said slowly: a set of identities held, a set accounted for."""

    def __init__(self) -> None:
        self.held: dict[int, Record] = {}
        self.lost: set[int] = set()
        self.covered = 0
        self.duplicates = 0

    def take(self, records: list[Record]) -> None:
        for record in records:
            if record[0] in self.held:
                self.duplicates += 1
            else:
                self.held[record[0]] = record
            if record[1] == LOST:
                self.lost |= set(range(record[0] - record[3] + 1, record[0] + 1))
        for record in records:
            start = record[0] - record[3] + 1 if record[1] == LOST else record[0]
            if start > self.covered + 1:
                break
            self.covered = max(self.covered, record[0])
        else:
            self._extend()
        self._extend()

    def _extend(self) -> None:
        while True:
            later = sorted(s for s in self.held if s > self.covered)
            if not later:
                return
            record = self.held[later[0]]
            start = record[0] - record[3] + 1 if record[1] == LOST else record[0]
            if start > self.covered + 1:
                return
            self.covered = later[0]

    @property
    def missing(self) -> int:
        return sum(1 for s in self.lost if s not in self.held or self.held[s][1] == LOST)


def board_records(last: int, evicted: list[tuple[int, int]]) -> list[Record]:
    """What a board holds after evicting runs (first, last) of its records 1..last."""
    out: dict[int, Record] = {r[0]: r for r in samples(1, last)}
    for first, end in evicted:
        for seq in range(first, end + 1):
            out.pop(seq, None)
        out[end] = lost(end, end - first + 1)
    return [out[seq] for seq in sorted(out)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 12)), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), max_size=3),
)
def test_any_order_of_frames_agrees_with_the_naive_model(
    pieces: list[tuple[int, int]], cuts: list[tuple[int, int]]
) -> None:
    runs = []
    at = 1
    for skip, length in cuts:
        runs.append((at + skip, at + skip + length))
        at = at + skip + length + 2
    plain = board_records(40, [])
    thinned = board_records(40, runs)
    with tempfile.TemporaryDirectory() as folder:
        harness = Harness(Path(folder) / "store.db").start()
        model = Model()
        try:
            for number, (start, length) in enumerate(pieces):
                source = thinned if number % 2 else plain
                records = source[min(start, len(source)) - 1 :][:length]
                harness.put(frame_in("a", 1, records))
                model.take(records)
                assert harness.acks()[-1][2] == model.covered
            entry = ledger_of(harness)
            assert entry["stored"] == len(model.held)
            assert entry["duplicates"] == model.duplicates
            assert entry["lost"] == model.missing
        finally:
            harness.stop()
