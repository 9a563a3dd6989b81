"""Windows behind a real store, through the real encoder to the real receiver; late, repeated, and after kills."""

from __future__ import annotations

import gzip
import hashlib
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import wire as up
from gateway.analyses import Outgoing
from gateway.batcher import Batcher, Policy
from gateway.beside import WindowSource
from gateway.follow import STEP_ROWS, Follower, again
from gateway.messages import LANE_BACKFILL, LANE_LIVE, LANE_WINDOWS, Batch, FrameIn, MetaIn, Record, WindowRow
from gateway.policy import ALARMS, RAW, WINDOWS, Pattern, Selector, UploadPolicy
from gateway.remake import remake
from gateway.store import Reader, WindowReader
from gateway.unpack import windows as unpacked
from gateway.windows import FOLLOWER, Windows
from host_tools.cloud import wire as down
from host_tools.cloud.store import Store as CloudStore
from host_tools.cloud.store_read import CloudReader, StoredWindow
from isocore.aggregate import fold
from isocore.record import DELTA, FAULT, FAULT_CLEARED, HIGH_OFF, HIGH_ON, SAMPLE
from tests.gateway.conftest import START_UNIX_MS, Harness, frame_in
from tests.support.board_client import wait_for

LENGTHS_S = (60, 900)
HOLD_S = 1200
GRACE_S = 30
START_S = START_UNIX_MS // 1000
ONLY_WINDOWS = (UploadPolicy(Pattern(), frozenset((WINDOWS, ALARMS))),)


class Rig:
    """Store, windows and batcher as the daemon joins them, stepped by the test; a real receiver at the end."""

    outgoing: Outgoing | None = None

    def __init__(self, folder: Path, policies: tuple[UploadPolicy, ...] = ONLY_WINDOWS) -> None:
        self.folder = folder
        self.policies = policies
        self.cloud = CloudStore(folder / "cloud")
        self.frozen: list[Batch] = []
        self.harness = Harness(folder / "store.db")
        self.begin()

    def begin(self) -> None:
        """As at a start: nothing is left but what the store holds."""
        path = self.folder / "store.db"
        self.harness.start()
        self.reader, self.history = Reader(path), WindowReader(path)
        store = self.harness.store
        self.windows = Windows(
            LENGTHS_S,
            HOLD_S,
            GRACE_S,
            7,
            Selector(self.policies, lambda device: self.reader.device_infos({device}).get(device)),
            self.history,
            store.keep_windows,
            lambda before_s: store.prune_windows(before_s, ("cloud",)),
            self.harness.metrics,
            lambda: self.harness.now_s,
            lambda: None,
        )
        start_row = self.history.follower(FOLLOWER) or 1
        self.windows.load(start_row)
        self.follower = Follower(FOLLOWER, self.reader, self.windows, start_row, store.head_row)
        self.harness.on_commit = self.follower.committed

    def end(self) -> None:
        """As a kill would: nothing is said to anybody."""
        self.harness.stop()
        self.reader.close()
        self.history.close()

    def restart(self) -> None:
        now_s = self.harness.now_s
        self.end()
        self.harness = Harness(self.folder / "store.db")
        self.harness.now_s = now_s
        self.begin()

    def put(self, *frames: FrameIn) -> None:
        self.harness.put(*frames)
        self.follow()

    def follow(self) -> None:
        for news in self.harness.news:  # the writer's own call may still be on its way
            self.follower.committed(news)
        while self.follower._step():
            pass

    def pass_to(self, now_s: float) -> None:
        self.harness.now_s = now_s
        self.windows.tick()

    def upload(self) -> None:
        """Freeze what is due and let the receiver have it, each batch twice: a reply may get lost."""
        batcher = Batcher(
            "cloud",
            "gw-1",
            self.reader,
            self.harness.store,
            Policy(1000, 0.0, 1000, 1e9, {LANE_LIVE: 9, LANE_BACKFILL: 9, "alarms": 9, LANE_WINDOWS: 9}),
            lambda: ("gzip", lambda data: gzip.compress(data, mtime=0)),
            self.frozen.append,
            head_row=self.harness.news[-1].head_row if self.harness.news else 0,
            policies=self.policies,
            beside=(WindowSource("cloud", "gw-1", self.reader, self.history, self.outgoing),),
            clock_s=lambda: 0.0,
            wall_s=lambda: self.harness.now_s,
        )
        for lane in ("alarms", LANE_LIVE):
            batcher._cursors[lane] = self.reader.cursor("cloud", lane)
        batcher._live_since_s = 0.0
        for lane in ("alarms", LANE_LIVE, LANE_WINDOWS):
            while batcher._step(lane):
                pass
        for batch in self.frozen:
            for _ in range(2):
                self.cloud.submit(received(batch), len(batch.body)).result(timeout=20)
            self.harness.store.uploaded("cloud", batch.batch)
        self.frozen.clear()

    def at_cloud(self, device: str = "a") -> dict[tuple[int, int, int], StoredWindow]:
        with CloudReader(self.folder / "cloud") as reader:
            rows = reader.windows(device, None, None, 0, 1 << 40, 100_000)
        return {(row.channel, row.length_s, row.start_unix_s): row for row in rows}

    def close(self) -> None:
        self.end()
        self.cloud.close()


def received(batch: Batch) -> down.Batch:
    """What the receiver reads from the wire."""
    headers = {
        "content-type": up.CONTENT_TYPE,
        "content-encoding": batch.encoding,
        "isotherm-gateway": "gw-1",
        "isotherm-batch": str(batch.batch),
        "isotherm-digest": f"sha-256={batch.digest}",
    }
    return down.decode(down.read_head(headers), batch.body)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    running = Rig(tmp_path)
    yield running
    running.close()


def at(seq: int, second: int, value: int, kind: int = DELTA, channel: int = 0) -> Record:
    return (seq, kind, channel, value, second * 1000, 0)


def sent(*records: Record, boot: int = 1, device: str = "a") -> FrameIn:
    """A frame of a board that knows the time: uptime 0 was at START."""
    return frame_in(device, boot, list(records), epoch_unix_ms=START_UNIX_MS)


def expected(records: list[Record], now_s: float, boot: int = 1) -> dict[tuple[int, int], tuple[Any, ...]]:
    """All at once, by the pure fold: the windows that are closed by `now_s`."""
    limit_ms = (int(now_s) - GRACE_S) * 1000
    items = [(boot, s, k, v, t, u, START_UNIX_MS + u) for s, k, _, v, u, t in records]
    found = fold(items, LENGTHS_S, HOLD_S, limit_ms)
    return {key: w.figures() for key, w in found.items() if (key[0] + key[1]) * 1000 <= limit_ms}


def figures(rows: dict[tuple[int, int, int], StoredWindow], channel: int = 0) -> dict[tuple[int, int], tuple[Any, ...]]:
    return {key[1:]: row[4:] for key, row in rows.items() if key[0] == channel}


def wanted(found: dict[tuple[int, int], tuple[Any, ...]]) -> dict[tuple[int, int], tuple[Any, ...]]:
    return {key: (least, mean, most, *rest) for key, (least, mean, most, *rest) in found.items()}


def test_windows_arrive_once_closed_and_account_for_the_reports(rig: Rig) -> None:
    records = [at(1, 0, 5000, SAMPLE), at(2, 30, 6000), at(3, 70, 7000)]
    rig.put(sent(*records))
    rig.pass_to(START_S + 60 + GRACE_S - 1)
    rig.upload()
    assert rig.at_cloud() == {}, "not before its end and the grace"
    rig.pass_to(START_S + 150)
    rig.upload()
    assert set(rig.at_cloud()) == {(0, 60, START_S), (0, 60, START_S + 60)}
    rig.pass_to(START_S + 1000)
    rig.upload()
    rows = rig.at_cloud()
    assert figures(rows) == wanted(expected(records, START_S + 1000))
    assert rows[0, 60, START_S].mean == 5500
    with CloudReader(rig.folder / "cloud") as cloud:
        assert cloud.counts_per_device() == {}, "no raw report went up"
    snapshot = rig.reader.snapshot()
    done = snapshot["ledger"]["devices"]["a"]["sinks"]["cloud"]
    assert (done["aggregated_reports"], done["uploaded_reports"], done["pending"]) == (3, 0, 0)
    assert snapshot["differences"] == []
    assert snapshot["ledger"]["balanced"]


def test_a_late_record_gives_a_higher_revision_of_what_it_changes_and_of_nothing_else(rig: Rig) -> None:
    rig.put(sent(at(1, 0, 5000), at(3, 130, 7000)))
    rig.pass_to(START_S + 1000)
    rig.upload()
    before = rig.at_cloud()
    rig.put(sent(at(2, 70, 9000)))
    rig.pass_to(START_S + 1061)
    rig.upload()
    after = rig.at_cloud()
    records = [at(1, 0, 5000), at(2, 70, 9000), at(3, 130, 7000)]
    assert figures(after) == wanted(expected(records, START_S + 1061))
    changed = {key[1:] for key in before if after[key] != before[key]}
    assert changed == {(60, START_S + 60), (60, START_S + 120), (900, START_S)}
    assert all(after[key].revision > before[key].revision for key in before if key[1:] in changed)
    assert rig.harness.metrics.value("windows_late_total") == 1


def test_an_older_revision_that_comes_last_does_not_win(rig: Rig, tmp_path: Path) -> None:
    row = WindowRow(1, 0, 60, START_S, 5, 1, 2, 3, 2, 1, 60_000, 0, 0)
    with CloudStore(tmp_path / "other") as cloud:
        for number, (revision, mean) in enumerate(((5, 2), (9, 3), (7, 1), (9, 3)), 1):
            found = row._replace(revision=revision, mean=mean)
            rig.reader.device_infos({1})
            body = up.window_document("gw-1", number, [found], {1: up.DeviceInfo(1, "a", None, None)})
            data, digest = up.encode(body, gzip.compress)
            batch = Batch("cloud", number, LANE_WINDOWS, 0, 0, 1, (), "gzip", digest, data)
            cloud.submit(received(batch), 1).result(timeout=20)
        with CloudReader(tmp_path / "other") as reader:
            (kept,) = reader.windows("a", None, None, 0, 1 << 40, 10)
    assert (kept.revision, kept.mean) == (9, 3)


@pytest.mark.parametrize("restarts", [(1,), (2,), (1, 2, 3)])
def test_a_kill_between_any_two_steps_changes_no_figure(rig: Rig, restarts: tuple[int, ...]) -> None:
    records = [at(seq, seq * 20, seq * 100) for seq in range(1, 41)]
    for step in range(4):
        rig.harness.put(sent(*records[step * 10 : step * 10 + 10]))
        if step in restarts:
            rig.restart()  # committed, and not folded
        rig.follow()
        rig.pass_to(START_S + records[step * 10 + 9][4] // 1000 + 45)
        if step in restarts:
            rig.restart()  # folded, and not frozen
        rig.upload()
    rig.pass_to(START_S + 3600)
    rig.upload()
    assert figures(rig.at_cloud()) == wanted(expected(records, START_S + 3600))


@settings(max_examples=12, deadline=None)
@given(st.data(), st.randoms(use_true_random=False))
def test_whatever_comes_when_it_is_as_if_folded_at_once(data: st.DataObject, rng: random.Random) -> None:
    kinds = st.sampled_from((DELTA, DELTA, DELTA, SAMPLE, HIGH_ON, HIGH_OFF, FAULT, FAULT_CLEARED))
    seconds = sorted(data.draw(st.lists(st.integers(0, 2400), min_size=1, max_size=10)))
    records = [at(i, t, data.draw(st.integers(-999, 999)), data.draw(kinds)) for i, t in enumerate(seconds, 1)]
    arrival = list(records)
    for _ in range(data.draw(st.integers(0, 5))):
        arrival.insert(rng.randrange(len(arrival)), arrival.pop(rng.randrange(len(arrival))))
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder))
        now_s = float(START_S)
        for record in arrival:
            now_s = max(now_s, START_S + record[4] / 1000 + rng.choice((0, 1, 40, 400)))
            rig.harness.now_s = now_s
            rig.put(sent(record))
            if rng.random() < 0.5:
                rig.pass_to(now_s)
            if rng.random() < 0.3:
                rig.upload()
            if rng.random() < 0.2:
                rig.restart()
        now_s += 4000
        rig.pass_to(now_s)
        rig.upload()
        found = {key: row for key, row in figures(rig.at_cloud()).items() if row != EMPTY}
        snapshot = rig.reader.snapshot()
        rig.close()
    assert found == wanted(expected(records, now_s))
    assert snapshot["differences"] == []
    assert snapshot["ledger"]["devices"]["a"]["sinks"]["cloud"]["pending"] == 0


EMPTY = (None, None, None, None, 0, 0, 0, 0)  # what late faults leave of a window that lived on a value carried in


def test_a_clock_that_jumps_ten_years_ahead_fills_no_ten_years(rig: Rig) -> None:
    rig.put(sent(at(1, 0, 5000)))
    rig.pass_to(START_S + 10 * 365 * 86400)
    rig.upload()
    assert len(rig.at_cloud()) <= HOLD_S // 60 + HOLD_S // 900 + 2
    rig.pass_to(START_S + 120)
    rig.put(sent(at(2, 90, 6000)))
    rig.pass_to(START_S + 10 * 365 * 86400 + 3600)
    rig.upload()
    assert figures(rig.at_cloud())[60, START_S + 60] == (5000, 5500, 6000, 6000, 1, 60_000, 0, 0)


def test_a_sink_gets_what_its_channels_policies_say(tmp_path: Path) -> None:
    policies = (
        UploadPolicy(Pattern(channel="humidity"), frozenset((RAW,))),
        UploadPolicy(Pattern(device_class="fridge"), frozenset((WINDOWS,))),
        UploadPolicy(Pattern(device="mute-*"), frozenset()),
    )
    rig = Rig(tmp_path, policies)
    channels = '{"v":1,"channels":[{"name":"temperature","unit":"degC"},{"name":"humidity","unit":"%RH"}]}'
    for device, kind in (("a", "fridge"), ("mute-1", "room"), ("b", "room")):
        meta = MetaIn(device, channels, kind, None, None, None, START_UNIX_MS)
        rig.harness.store.put(meta, 1, False, 1.0)
        rig.put(
            sent(
                at(1, 1, 5000),
                at(2, 2, 600, channel=1),
                at(3, 3, 9000, HIGH_ON),
                (4, 12, 255, 1, 4000, 0),
                device=device,
            )
        )
    rig.pass_to(START_S + 2000)
    rig.upload()
    with CloudReader(tmp_path / "cloud") as cloud:
        seqs = {device: [row.seq for row in cloud.readings(device)] for device in ("a", "b", "mute-1")}
    assert seqs == {"a": [2, 4], "b": [1, 2, 3, 4], "mute-1": [2, 4]}
    assert {key[0] for key in rig.at_cloud("a")} == {0}
    assert rig.at_cloud("b") == {}
    sinks = {name: entry["sinks"]["cloud"] for name, entry in rig.reader.ledger()["devices"].items()}
    keys = (
        "aggregated_reports",
        "withheld_reports",
        "withheld_events",
        "uploaded_reports",
        "uploaded_events",
        "pending",
    )
    assert {name: tuple(entry[key] for key in keys) for name, entry in sinks.items()} == {
        "a": (1, 0, 1, 1, 1, 0),
        "b": (0, 0, 0, 2, 2, 0),
        "mute-1": (0, 1, 1, 1, 1, 0),
    }
    rig.close()


def test_windows_that_every_sink_has_leave_after_a_while(rig: Rig) -> None:
    rig.put(sent(at(1, 0, 5000)))
    rig.pass_to(START_S + 4000)
    assert rig.harness.store.prune_windows(1 << 40, ("cloud",)) == 0, "not sent yet"
    rig.upload()
    assert rig.harness.store.prune_windows(START_S, ("cloud",)) == 0, "not old yet"
    assert rig.harness.store.prune_windows(1 << 40, ("cloud", "new")) == 0, "the other has seen nothing"
    assert rig.harness.store.prune_windows(1 << 40, ("cloud",)) > 20


def test_a_batch_of_windows_that_is_too_large_is_made_anew(rig: Rig) -> None:
    rig.put(sent(at(1, 0, 5000), at(2, 10, -7, HIGH_ON)))
    rig.pass_to(START_S + 2000)
    rows = rig.history.closed(1, 1000)
    body = up.window_document("gw-1", 1, rows, rig.reader.device_infos({1}))
    data, digest = up.encode(body, gzip.compress)
    batch = Batch("cloud", 1, LANE_WINDOWS, 0, 0, len(rows), (), "gzip", digest, data)
    parts = remake("gw-1", batch, range(2, 4), ("gzip", gzip.compress))
    assert [hashlib.sha256(part.body).hexdigest() for part in parts] == [part.digest for part in parts]
    again = [row for part in parts for row in unpacked(up.decode(part.body, "gzip"))]
    assert sorted(row[1:] for row in again) == sorted(row[1:] for row in rows)
    assert sum(len(received(part).windows) for part in parts) == len(rows)


def test_the_follower_is_woken_by_commits(rig: Rig) -> None:
    rig.follower.start()
    rig.harness.put(sent(at(1, 0, 5000)))
    wait_for(lambda: rig.history.follower(FOLLOWER) == 2, what="its place")
    assert rig.follower.alive
    rig.follower.stop(5)
    assert rig.follower.behind_rows == 0


def test_rows_read_again_are_all_of_them_in_order_of_arrival(rig: Rig) -> None:
    count = 2 * STEP_ROWS + 500
    for first in range(1, count, 250):
        frame = [at(seq, seq, seq, HIGH_ON if seq % 7 == 0 else DELTA) for seq in range(first, first + 250)]
        rig.harness.put(sent(*frame))
    steps = list(again(rig.reader, 3, count - 2))
    assert [row.row for rows in steps for row in rows] == list(range(3, count - 1))
    assert len(steps) > 1
