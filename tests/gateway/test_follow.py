"""Following the store: a commit's rows come from memory, and from the store when they are not there; none is missed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import follow
from gateway.errors import StoreUnusable
from gateway.follow import Follower
from gateway.messages import FrameIn, MetaIn, Row
from gateway.store import Reader
from isocore.record import SAMPLE
from tests.gateway.conftest import START_UNIX_MS, Harness, frame_in


class Counting:
    """The real reader, with a count of how often it was asked."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.asked = 0

    def lane_rows(self, lane: str, first_row: int, last_row: int, limit: int) -> list[Row]:
        self.asked += 1
        return self.reader.lane_rows(lane, first_row, last_row, limit)


class Taker:
    """Notes what it is handed; refuses as often as it is told to."""

    def __init__(self) -> None:
        self.wants_rows = True
        self.rows: list[Row] = []
        self.next_row = 1
        self.refusals = 0
        self.forgotten = 0

    def forget(self) -> None:
        self.forgotten += 1

    def take(self, rows: list[Row], next_row: int) -> None:
        if self.refusals:
            self.refusals -= 1
            raise StoreUnusable("not now")
        self.rows += rows
        self.next_row = next_row

    def tick(self) -> None:
        pass


class Rig:
    def __init__(self, path: Path) -> None:
        self.harness = Harness(path).start()
        self.rows = Counting(Reader(path))
        self.taker = Taker()
        self.follower = Follower("test", self.rows, self.taker, 1, self.harness.store.head_row)
        self.harness.on_commit = self.follower.committed

    def put(self, *frames: FrameIn) -> None:
        self.harness.put(*frames)
        self.harness.settle()  # the writer has told of the commit before it makes the next

    def follow(self) -> None:
        while self.follower._step():
            pass

    def stored(self) -> list[Row]:
        reader = self.rows.reader
        rows = [*reader.lane_rows("live", 1, 1 << 40, 1 << 30), *reader.lane_rows("alarms", 1, 1 << 40, 1 << 30)]
        return sorted(rows, key=lambda row: row.row)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "store.db")
    yield rig
    rig.harness.stop()
    rig.rows.reader.close()


def samples(first_seq: int, count: int) -> FrameIn:
    return frame_in("a", 1, [(first_seq + n, SAMPLE, n % 3, 100 + n, 1000 * (first_seq + n), 0) for n in range(count)])


def test_who_keeps_up_never_asks_the_store(rig: Rig) -> None:
    rig.put(samples(1, 5))
    rig.put(samples(4, 5))  # two of these are there already
    rig.follow()
    rig.put(samples(9, 3))
    rig.follow()
    assert rig.rows.asked == 0
    assert rig.taker.rows == rig.stored()
    assert [row.seq for row in rig.taker.rows] == list(range(1, 12))


def test_what_has_no_room_in_memory_is_read_from_the_store(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "FRESH_ROWS", 10)
    for number in range(6):  # the first two fit, the rest does not
        rig.put(samples(1 + 5 * number, 5))
    rig.follow()
    rig.put(samples(31, 5))
    rig.follow()
    assert rig.rows.asked > 0
    assert rig.taker.rows == rig.stored()
    assert len(rig.taker.rows) == 35


def test_a_gap_in_memory_is_filled_from_the_store_in_order(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "FRESH_ROWS", 10)
    rig.put(samples(1, 8))
    rig.put(samples(9, 8))  # no room
    rig.put(samples(17, 2))
    assert rig.follower._step(), "the first, from memory"
    rig.put(samples(19, 3))
    rig.follow()
    assert [row.seq for row in rig.taker.rows] == list(range(1, 22))


def test_rows_that_could_not_be_worked_in_come_again(rig: Rig) -> None:
    rig.taker.refusals = 1
    rig.put(samples(1, 5))
    with pytest.raises(StoreUnusable):
        rig.follow()
    rig.put(samples(6, 5))
    rig.follow()
    assert [row.seq for row in rig.taker.rows] == list(range(1, 11))


def test_whoever_makes_nothing_of_rows_only_moves_on(rig: Rig) -> None:
    rig.taker.wants_rows = False
    rig.put(samples(1, 5))
    rig.follow()
    assert (rig.taker.rows, rig.taker.next_row, rig.rows.asked) == ([], 6, 0)
    rig.put(samples(6, 5))
    rig.taker.wants_rows = True
    rig.follow()
    assert [row.seq for row in rig.taker.rows] == list(range(6, 11)), "wanted from now on, and not in memory"


def test_a_description_makes_the_consumer_forget_names(rig: Rig) -> None:
    rig.put(samples(1, 1))
    rig.follow()
    before = rig.taker.forgotten
    rig.put(samples(2, 1))
    rig.follow()
    assert rig.taker.forgotten == before
    assert rig.harness.store.put(MetaIn("a", "{}", "room", None, None, None, START_UNIX_MS), 1, False, 1.0)
    rig.put(samples(3, 1))
    rig.follow()
    assert rig.taker.forgotten == before + 1
