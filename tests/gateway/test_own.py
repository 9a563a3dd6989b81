"""The gateway as a device: numbers given once, kept through kills, full queues and lost stores; redelivery known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.messages import OwnIn, Receipt
from gateway.own import KEPT_MAX, Clock, Item, Own, count_start, start_number
from gateway.store import Reader
from gateway.store.own import INBOX_MAX
from isocore.record import HIGH_ON, LOST, SAMPLE
from tests.gateway.conftest import START_UNIX_MS, Harness


class Time:
    """Both clocks, by hand."""

    def __init__(self) -> None:
        self.wall_s = START_UNIX_MS / 1000
        self.monotonic_s = 50.0

    def clock(self) -> Clock:
        return Clock(lambda: self.wall_s, lambda: self.monotonic_s)

    def pass_s(self, seconds: float) -> None:
        self.wall_s += seconds
        self.monotonic_s += seconds


def own_of(harness: Harness, least_boot: int = 1) -> Own:
    own = Own(harness.store.put, Time().clock())
    own.begin(least_boot, {})
    return own


def rows(path: Path) -> list[tuple[str, int, int, int, int, int]]:
    """(device, boot, seq, kind, channel, value) of everything stored."""
    reader = Reader(path)
    try:
        return reader._all(
            "SELECT d.name, r.boot, r.seq, r.kind, r.channel, r.value FROM readings r JOIN devices d USING (device)"
            " ORDER BY r.id"
        )
    finally:
        reader.close()


class Room:
    """Stands for the store: takes `room` items, then refuses."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.items: list[Item] = []

    def put(self, item: Item, _rows: int, _urgent: bool, _wait_s: float) -> bool:
        if len(self.items) >= self.room:
            return False
        self.items.append(item)
        return True

    def made(self) -> list[tuple[int, ...]]:
        return [made for item in self.items if isinstance(item, OwnIn) for made in item.made]


def test_records_of_the_gateway_go_the_way_of_a_boards(harness: Harness) -> None:
    device = own_of(harness, least_boot=7).device("gw-1", "gateway", [("cpu", "degC")])
    device.booted()
    device.keep(SAMPLE, 0, 41_000)
    assert device.offer([(HIGH_ON, 0, 60_000, 1000, 0), (SAMPLE, 0, 60_000, 1000, 0)], 1.0)
    harness.settle()
    assert [row[:3] for row in rows(harness.path)] == [("gw-1", 7, seq) for seq in range(1, 5)]
    reader = Reader(harness.path)
    snapshot = reader.snapshot()
    assert snapshot["differences"] == []
    assert snapshot["ledger"]["devices"]["gw-1"]["stored_events"] == 2
    assert reader.known() == {
        "gw-1": (True, {"v": 1, "class": "gateway", "own": True, "channels": [{"name": "cpu", "unit": "degC"}]})
    }
    reader.close()
    assert harness.acks() == [], "nobody waits for an ack of the gateway's own"


def test_each_start_opens_a_boot_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    for least in (1, 1, 9):
        harness = Harness(path).start()
        own_of(harness, least).device("gw-1", "gateway").keep(SAMPLE, 0, least)
        harness.stop()
    assert [row[1:3] for row in rows(path)] == [(1, 1), (2, 1), (9, 1)]


def test_starts_are_counted_whatever_becomes_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "starts"
    assert [count_start(path) for _ in range(3)] == [1, 2, 3]
    path.write_bytes(b"\xff\xfe")
    assert count_start(path) == 1
    path.write_text("99999999999999999999", encoding="ascii")
    assert count_start(path) == (1 << 30) - 1
    with pytest.raises(OSError):
        count_start(tmp_path / "absent" / "starts")
    assert start_number(tmp_path / "absent" / "starts") == 1


def test_a_transaction_rolled_back_leaves_no_gap_in_the_numbers(harness: Harness) -> None:
    device = own_of(harness).device("gw-1", "gateway")
    assert device.offer([(SAMPLE, 0, 1, 0, 0)], 1.0)
    assert harness.store.put(OwnIn("gw-1", ((SAMPLE, 0, 1 << 70, 0, 0),), None, 0, False, 1), 1, False, 1.0)
    assert device.offer([(SAMPLE, 0, 2, 0, 0)], 1.0)
    harness.settle()
    assert [row[1:3] + row[5:] for row in rows(harness.path)] == [(1, 1, 1), (1, 2, 2)]
    assert harness.metrics.value("store_poisoned_total") == 1


def test_without_room_events_stay_and_what_went_is_counted() -> None:
    room = Room(room=1)  # the description
    device = Own(room.put, Time().clock()).device("gw-1", "gateway")
    device.keep(HIGH_ON, 0, 5)
    for value in range(KEPT_MAX + 20):
        device.keep(SAMPLE, 0, value)
    assert device.kept == KEPT_MAX
    room.room = 1 << 30
    device.flush()
    made = room.made()
    assert device.kept == 0
    assert made[0][0::2][:2] == (LOST, 21)
    assert made[1][:3] == (HIGH_ON, 0, 5)
    assert [m[2] for m in made[2:]] == list(range(21, KEPT_MAX + 20))


def test_what_was_never_numbered_is_accounted_for(harness: Harness) -> None:
    item = OwnIn("gw-1", ((LOST, 255, 21, 0, 0), (SAMPLE, 0, 1, 0, 0)), None, START_UNIX_MS, True, 1)
    assert harness.store.put(item, 2, True, 1.0)
    harness.settle()
    assert [row[2] for row in rows(harness.path)] == [21, 22]
    reader = Reader(harness.path)
    entry = reader.ledger()["devices"]["gw-1"]
    reader.close()
    assert (entry["lost"], entry["gap"]) == (21, 0)


def test_offer_says_when_there_is_no_room() -> None:
    room = Room(room=0)
    device = Own(room.put, Time().clock()).device("gw-1", "gateway")
    assert not device.offer([(SAMPLE, 0, 1, 0, 0)], 0.0)
    room.room = 9
    assert device.offer([(SAMPLE, 0, 2, 0, 0)], 0.0)
    assert [m[2] for m in room.made()] == [2], "what was refused was not taken"


def test_a_channel_keeps_its_number_over_starts() -> None:
    own = Own(Room().put, Time().clock())
    own.begin(1, {"gw-1": (("cpu", "degC"), ("cellar", "degC"))})
    device = own.device("gw-1", "gateway", [("attic", "degC"), ("cellar", "degC")])
    assert [device.channel(name, "degC") for name in ("cpu", "cellar", "attic")] == [0, 1, 2]
    for i in range(3, 255):
        assert device.channel(f"c{i}", "degC") == i
    assert device.channel("one too many", "degC") is None
    assert own.speaks_for("gw-1")
    assert not own.speaks_for("gw-2")


def test_a_new_channel_is_described_before_its_first_record() -> None:
    room = Room()
    device = Own(room.put, Time().clock()).device("gw-1", "gateway", [("cpu", "degC")])
    device.keep(SAMPLE, 0, 1)
    device.keep(SAMPLE, device.channel("hall", "degC") or 0, 2)
    names = [type(item).__name__ for item in room.items]
    assert names == ["MetaIn", "OwnIn", "MetaIn", "OwnIn"]
    assert "hall" in json.loads(room.items[2].text)["channels"][1]["name"]  # type: ignore[union-attr]


def test_the_epoch_follows_a_clock_that_is_set() -> None:
    time = Time()
    time.wall_s = 1000.0  # a Pi before the network told it the time
    clock = time.clock()
    assert clock.epoch_unix_ms() is None
    time.wall_s = START_UNIX_MS / 1000
    time.pass_s(10)
    assert clock.epoch_unix_ms() == START_UNIX_MS
    time.wall_s += 0.9
    assert clock.epoch_unix_ms() == START_UNIX_MS, "drift is no step"
    time.wall_s -= 3600
    assert clock.epoch_unix_ms() == START_UNIX_MS - 3_599_100


def receipt(mid: int, again: bool, text: bytes = b"a") -> Receipt:
    return Receipt(1, mid, text.rjust(16), again)


def send(harness: Harness, mid: int, again: bool, text: bytes = b"a") -> None:
    made = ((SAMPLE, 0, mid, 0, 0),)
    assert harness.store.put(OwnIn("dev", made, None, START_UNIX_MS, False, 1, receipt(mid, again, text)), 1, False, 1)


def test_a_redelivered_message_counts_once_even_after_a_restart(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "store.db").start()
    send(harness, 5, False)
    send(harness, 6, False)
    harness.stop()
    harness = Harness(tmp_path / "store.db").start()
    send(harness, 5, True)
    send(harness, 7, True)  # the broker sent it, but it never got here
    send(harness, 6, True, b"other")  # an id used anew
    harness.settle()
    assert [row[5] for row in rows(tmp_path / "store.db")] == [5, 6, 7, 6]
    assert [r.mid for news in harness.news for r in news.receipts] == [5, 7, 6], "each may be acknowledged"
    assert harness.metrics.value("store_redelivered_total") == 1
    harness.stop()


def test_an_id_of_long_ago_makes_no_new_message_old(harness: Harness) -> None:
    send(harness, 1, False)
    for mid in range(2, INBOX_MAX + 2):
        send(harness, mid, False)
    send(harness, 1, True)
    harness.settle()
    assert len(rows(harness.path)) == INBOX_MAX + 2
    reader = Reader(harness.path)
    assert reader._all("SELECT count(*) FROM inbox")[0][0] == INBOX_MAX, "a ring"
    reader.close()


def test_a_message_that_cannot_be_stored_is_let_go(harness: Harness) -> None:
    bad = OwnIn("dev", ((SAMPLE, 0, 1 << 70, 0, 0),), None, 0, False, 1, receipt(9, False))
    assert harness.store.put(bad, 1, False, 1.0)
    harness.settle()
    assert [r.mid for news in harness.news for r in news.receipts] == [9]
    assert harness.metrics.value("store_poisoned_total") == 1
