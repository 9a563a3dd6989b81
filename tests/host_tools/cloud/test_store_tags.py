"""Boards' tags from the board's frame to the receiver's verdict, with a gateway in between that may be malicious.

Frames are sealed by isocore, stored by the gateway's real store, framed by its wire; a hostile gateway changes the
document before it is packed. The receiver holds the keys, the gateway none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import wire
from gateway.messages import DeviceInfo, Row
from gateway.store import Reader
from host_tools.cloud import store_tags
from host_tools.cloud.keyfile import KeyFile
from host_tools.cloud.store import Store
from host_tools.cloud.store_read import CloudReader
from host_tools.cloud.wire import Head, WireError, decode
from host_tools.errors import KeyFileError
from host_tools.keys import reading_keys
from isocore import frame as frames
from isocore.record import DELTA, HIGH_ON, LOST
from tests.gateway.conftest import Harness, frame_in

MASTER = bytes(range(32))
EPOCH_UNIX_MS = 1_800_000_000_123
Record = tuple[int, int, int, int, int, int]
Evil = Callable[[dict[str, Any]], None]


def records(first: int, last: int, value: int = 4000) -> list[Record]:
    return [(seq, DELTA, 0, value + seq, seq * 1000, seq % 3) for seq in range(first, last + 1)]


class Way:
    """Boards, one or more gateways, and the receiver; `now_unix_ms` is the receiver's clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key_file = folder / "reading-keys.json"
        self.number = 0
        self.write_keys({"a": 2, "b": 1})
        self.now_unix_ms = 1_800_000_100_000
        self.store = Store(folder / "cloud", lambda: self.now_unix_ms, KeyFile(self.key_file))
        self.gateways: dict[str, Harness] = {}
        self.batches = 0

    def write_keys(self, boards: dict[str, int], **more: Any) -> None:
        self.number += 1
        document = {"v": 1, "number": self.number, "boards": boards, "untagged": ["plain"], "master": MASTER.hex()}
        partial = self.key_file.with_suffix(".new")
        partial.write_text(json.dumps(document | more))
        partial.chmod(0o600)
        os.replace(partial, self.key_file)

    def board(
        self,
        device: str,
        said: list[Record],
        *,
        gateway: str = "gw-1",
        boot: int = 3,
        generation: int | None = None,
        epoch_unix_ms: int | None = EPOCH_UNIX_MS,
        tagged: bool = True,
    ) -> None:
        """A board's frame into a gateway's store, as ingest does it."""
        generation = generation or {"a": 2}.get(device, 1)
        key = reading_keys.derive(MASTER, device, generation) if tagged else None
        epoch_s, epoch_ms = divmod(epoch_unix_ms, 1000) if epoch_unix_ms else (frames.EPOCH_BASE_UNIX_S, 0)
        data = frames.encode(boot, epoch_s - frames.EPOCH_BASE_UNIX_S, epoch_ms, said, key)
        frame = frames.decode(data)
        item = frame_in(device, frame.boot, frame.records, frame.epoch_unix_ms(), tag=frame.tag)
        if gateway not in self.gateways:
            self.gateways[gateway] = Harness(self.folder / f"{gateway}.db").start()
        self.gateways[gateway].put(item)

    def rows(self, gateway: str = "gw-1") -> list[Row]:
        reader = Reader(self.gateways[gateway].path)
        try:
            return sorted(
                (row for lane in ("alarms", "live") for row in reader.lane_rows(lane, 1, 1 << 40, 10_000)),
                key=lambda row: row.row,
            )
        finally:
            reader.close()

    def send(self, rows: list[Row] | None = None, *, gateway: str = "gw-1", evil: Evil = lambda document: None) -> None:
        """Rows (all there are) with their frames as one batch to the receiver."""
        rows = self.rows(gateway) if rows is None else rows
        reader = Reader(self.gateways[gateway].path)
        tags = reader.tags(rows)
        infos: dict[int, DeviceInfo] = reader.device_infos({row.device for row in rows} | {t.device for t in tags})
        reader.close()
        self.batches += 1
        document = wire.document(gateway, self.batches, "live", 1, 1, rows, infos, tags)
        evil(document)
        encoding, compress = wire.compressor("gzip")
        body, digest = wire.encode(document, compress)
        batch = decode(Head(gateway, self.batches, encoding, bytes.fromhex(digest)), body)
        self.store.submit(batch, len(body)).result(timeout=20)

    def verdicts(self, device: str = "a") -> list[str]:
        with CloudReader(self.folder / "cloud") as reader:
            return [row.verdict for row in reader.readings(device)]

    def alarms(self) -> set[tuple[str, str, str]]:
        with CloudReader(self.folder / "cloud") as reader:
            return {(alarm.device, alarm.reason, alarm.gateway) for alarm in reader.alarms()}

    def counters(self) -> dict[str, int]:
        with CloudReader(self.folder / "cloud") as reader:
            return reader.counters()

    def close(self) -> None:
        self.store.close()
        for harness in self.gateways.values():
            harness.stop()


@pytest.fixture
def way(tmp_path: Path) -> Iterator[Way]:
    made = Way(tmp_path)
    yield made
    made.close()


# ---- honest gateways


def test_every_row_of_a_tagged_board_is_verified(way: Way) -> None:
    way.board("a", records(1, 10))
    way.board("a", records(11, 12), epoch_unix_ms=None)
    way.board("plain", records(1, 2), tagged=False)
    way.board("elsewhere", records(1, 2), tagged=False)
    way.send()
    assert way.verdicts() == ["verified"] * 12
    assert (way.verdicts("plain"), way.verdicts("elsewhere")) == (["off"] * 2, ["unlisted"] * 2)
    assert way.alarms() == set()
    assert (way.counters()["rows_verified"], way.counters()["frames_verified"]) == (12, 2)


def test_a_frames_rows_may_come_in_any_order_of_batches(way: Way) -> None:
    way.board("a", records(1, 9))
    rows = way.rows()
    way.send(rows[6:])
    assert way.verdicts() == ["waiting"] * 3
    way.send(rows[3:6])
    way.send(rows[3:6])
    assert way.verdicts() == ["waiting"] * 6
    way.send(rows[:3])
    assert way.verdicts() == ["verified"] * 9
    assert way.alarms() == set()
    with CloudReader(way.folder / "cloud") as reader:
        assert reader.frames_waiting() == 0


def test_a_frame_whose_rows_came_by_two_gateways(way: Way) -> None:
    way.board("a", records(1, 6))
    way.board("a", records(1, 6), gateway="gw-2")
    way.send(way.rows()[:3])
    way.send(way.rows("gw-2")[3:], gateway="gw-2")
    assert way.verdicts() == ["verified"] * 6


def test_urgent_frames_with_holes_and_what_a_board_had_to_give_up(way: Way) -> None:
    urgent = [(2, HIGH_ON, 0, 9000, 2000, 0), (5, HIGH_ON, 1, 9000, 5000, 0)]
    way.board("a", urgent)
    way.board("a", [(2, LOST, 255, 2, 2000, 0), *records(3, 4), urgent[1], *records(6, 7)])
    rows = way.rows()
    way.send([row for row in rows if row.kind == HIGH_ON])
    assert way.verdicts() == ["verified"] * 2
    way.send([row for row in rows if row.kind != HIGH_ON])
    assert way.verdicts() == ["verified"] * 6
    assert way.alarms() == set()


def test_a_board_before_it_knows_the_time(way: Way) -> None:
    way.board("a", records(1, 2), epoch_unix_ms=None)
    way.send()
    with CloudReader(way.folder / "cloud") as reader:
        assert [row.trusted for row in reader.readings("a")] == [False, False]
    assert way.verdicts() == ["verified"] * 2


# ---- a malicious gateway


def alter_value(document: dict[str, Any]) -> None:
    document["value"][0] += 5


def alter_kind(document: dict[str, Any]) -> None:
    document["kind"][1] = 1


def alter_uptime(document: dict[str, Any]) -> None:
    document["uptime_ms"][0] += 1


def alter_tag(document: dict[str, Any]) -> None:
    document["frames"]["tag"][0] = "00" * 16


def hide_a_row(document: dict[str, Any]) -> None:
    """Row 3 of 6 is left out of columns and frame alike."""
    for name in ("kind", "channel", "trend", "uptime_ms"):
        del document[name][2]
    del document["value"][2]
    document["value"][2] += 1
    document["uptime_ms"][2] += 1000
    document["uptime_ms"][3] -= 1000
    document["seq"][3] = 2
    del document["seq"][2]
    document["series"][0][2] -= 1
    document["rows"] -= 1
    document["frames"]["seqs"] = [[1, 2, 1, 1]]


def move_boot(document: dict[str, Any]) -> None:
    document["series"][0][1] = document["frames"]["boot"][0] = 9


def rename(document: dict[str, Any]) -> None:
    document["devices"][0]["id"] = "b"


def invent(document: dict[str, Any]) -> None:
    document["devices"][0]["id"] = "made-up"


def strip(document: dict[str, Any]) -> None:
    del document["frames"]


@pytest.mark.parametrize(
    ("evil", "device", "reason"),
    [
        (alter_value, "a", "altered"),
        (alter_kind, "a", "altered"),
        (alter_uptime, "a", "altered"),
        (alter_tag, "a", "altered"),
        (hide_a_row, "a", "altered"),
        (move_boot, "a", "altered"),
        (rename, "b", "swapped"),
        (invent, "made-up", "forged"),
        (strip, "a", "unverified"),
    ],
)
def test_what_a_malicious_gateway_does_shows(way: Way, evil: Evil, device: str, reason: str) -> None:
    way.board("a", records(1, 6))
    way.send(evil=evil)
    assert set(way.verdicts(device)) == {reason}
    assert way.alarms() == {(device, reason, "gw-1")}
    assert way.counters()[f"rows_{reason}"] == len(way.verdicts(device))


@pytest.mark.parametrize(("evil", "device", "reason"), [(move_boot, "a", "replayed"), (rename, "b", "swapped")])
def test_an_old_frame_under_a_new_identity(way: Way, evil: Evil, device: str, reason: str) -> None:
    way.board("a", records(1, 6))
    way.send()
    way.send(evil=evil)
    assert way.alarms() == {(device, reason, "gw-1")}
    assert way.verdicts(device).count(reason) == 6
    assert way.verdicts().count("verified") == 6


def test_a_row_dropped_on_the_way_shows_when_its_time_is_over(way: Way) -> None:
    way.board("a", records(1, 6))
    rows = way.rows()
    way.send(rows[:2] + rows[3:])
    assert set(way.verdicts()) == {"waiting"}
    way.now_unix_ms += store_tags.WAIT_MS_MAX + 1
    way.board("b", records(1, 1))
    way.send(way.rows()[-1:])
    assert way.verdicts() == ["incomplete"] * 5
    assert way.alarms() == {("a", "incomplete", "gw-1")}
    way.send(rows[2:3])  # late, but true: the frame comes with each of its rows
    assert way.verdicts() == ["verified"] * 6


def test_a_guess_is_not_passed_off_as_the_boards_time(way: Way) -> None:
    way.board("a", records(1, 2), epoch_unix_ms=None)
    way.board("a", records(3, 4))

    def evil(document: dict[str, Any]) -> None:
        for series in document["series"]:
            series[3], series[4] = 1_900_000_000_000, 1

    way.send(evil=evil)
    with CloudReader(way.folder / "cloud") as reader:
        rows = list(reader.readings("a"))
    assert [row.trusted for row in rows] == [False, False, True, True]
    assert rows[3].unix_ms == EPOCH_UNIX_MS + 4000


def test_what_is_proven_replaces_what_is_not(way: Way) -> None:
    way.board("a", records(1, 4))
    way.board("a", records(1, 4), gateway="gw-2")
    way.send(evil=alter_value)
    way.send(gateway="gw-2")
    assert way.verdicts() == ["verified"] * 4
    with CloudReader(way.folder / "cloud") as reader:
        assert [row.value for row in reader.readings("a")] == [4001, 4002, 4003, 4004]
    assert way.counters()["rows_restored"] == 4


def test_a_gateway_cannot_discredit_what_another_brought(way: Way) -> None:
    way.board("a", records(1, 4))
    way.board("a", records(1, 4), gateway="gw-2")
    way.send()
    way.send(gateway="gw-2", evil=alter_value)
    assert way.verdicts() == ["verified"] * 4
    assert way.alarms() == {("a", "altered", "gw-2")}


# ---- keys


def test_a_key_from_before_the_board_was_provisioned_anew(way: Way) -> None:
    way.board("a", records(1, 2), generation=1)
    way.send()
    assert way.verdicts() == ["generation"] * 2
    assert way.alarms() == {("a", "generation", "gw-1")}


def test_a_revoked_board_is_refused_with_the_next_batch(way: Way) -> None:
    way.board("a", records(1, 2))
    way.send()
    way.write_keys({"b": 1}, revoked={"a": 2})
    way.board("a", records(3, 4))
    way.send()
    assert way.verdicts() == ["verified", "verified", "revoked", "revoked"]
    assert way.alarms() == {("a", "revoked", "gw-1")}
    way.write_keys({"a": 3, "b": 1})
    way.board("a", records(5, 6), generation=3)
    way.board("a", records(7, 8), generation=2)
    way.send(way.rows()[4:])
    assert way.verdicts()[4:] == ["verified", "verified", "generation", "generation"]


def test_two_boards_with_one_key_show(way: Way) -> None:
    way.board("a", records(1, 4))
    way.send()
    way.board("a", records(3, 6, value=9000))
    way.send(way.rows()[4:])
    assert way.verdicts() == ["verified", "verified", "cloned", "cloned", "verified", "verified"]
    assert way.alarms() == {("a", "cloned", "gw-1")}


def test_two_boards_with_one_key_at_two_gateways(way: Way) -> None:
    way.board("a", records(1, 4))
    way.board("a", records(1, 4, value=9000), gateway="gw-2")
    way.send()
    way.send(gateway="gw-2")
    assert way.verdicts() == ["cloned"] * 4
    assert way.alarms() == {("a", "cloned", "gw-2")}


def test_a_clone_that_brings_nothing_new_shows(way: Way) -> None:
    way.board("a", records(1, 4))
    way.board("a", records(2, 3, value=9000))
    way.send()
    way.board("a", records(5, 5))
    way.send(way.rows()[-1:])
    assert way.verdicts() == ["verified", "cloned", "cloned", "verified", "verified"]


def test_a_broken_or_an_older_file_changes_nothing(way: Way) -> None:
    file = KeyFile(way.key_file)
    way.write_keys({}, number=0)
    assert "a" in file.current().boards
    way.key_file.write_text("{")
    assert "a" in file.current().boards
    way.write_keys({"c": 1})
    assert "c" in file.current().boards
    way.key_file.chmod(0o644)
    with pytest.raises(KeyFileError, match="others may read it"):
        KeyFile(way.key_file)


# ---- bounds


def test_frames_that_wait_and_rows_that_contradict_have_a_bound(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_tags, "FRAMES_WAITING_MAX", 2)
    monkeypatch.setattr(store_tags, "CONTESTED_MAX", 3)
    for first in (1, 11, 21, 31):
        way.board("a", records(first, first + 1))
        way.send(way.rows()[-1:])
        way.now_unix_ms += 1
    assert way.verdicts() == ["incomplete", "incomplete", "waiting", "waiting"]
    way.board("a", records(1, 40), gateway="gw-2")
    way.send([row for row in way.rows("gw-2") if row.seq in (2, 12, 22, 32)], gateway="gw-2", evil=alter_value)
    assert way.counters()["rows_contested_dropped"] == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.pop("tag"),
        lambda f: f.update(extra=[]),
        lambda f: f["tag"].append("00" * 16),
        lambda f: f.update(tag=["00" * 15]),
        lambda f: f.update(tag=[5]),
        lambda f: f.update(tag=["0 " * 16]),
        lambda f: f.update(seqs=[0]),
        lambda f: f.update(seqs=[256]),
        lambda f: f.update(seqs=[[]]),
        lambda f: f.update(seqs=[[0]]),
        lambda f: f.update(seqs=[True]),
        lambda f: f.update(device=[1]),
        lambda f: f.update(boot=[0]),
        lambda f: f.update(first_seq=[0]),
        lambda f: f.update(first_seq=[(1 << 30) - 1]),
        lambda f: f.update(epoch_unix_ms=[-1]),
        lambda f: f.update(other={"1": []}),
        lambda f: f.update(other={"0": [[9, 1, 0, 0, 0, 0]]}),
        lambda f: f.update(other={"0": [[1, 1, 0, 0, 0]]}),
        lambda f: f.update(other={"0": [[1, 99, 0, 0, 0, 0]]}),
        lambda f: f.update({name: [] for name in ("device", "boot", "epoch_unix_ms", "first_seq", "seqs", "tag")}),
    ],
)
def test_frames_that_are_none_are_refused(way: Way, change: Callable[[dict[str, Any]], Any]) -> None:
    way.board("a", records(1, 2))
    with pytest.raises(WireError) as caught:
        way.send(evil=lambda document: change(document["frames"]))
    assert (caught.value.status, caught.value.reason) == (400, "frames")
