"""Absence alarms and quotas, on clocks that the test moves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_tools.cloud import store_watch
from host_tools.cloud.answers import Alarm
from host_tools.cloud.store import Store, Stored
from host_tools.cloud.store_quota import DAY_MS, RETRY_AFTER_S_MAX, Quota, QuotaSpent
from host_tools.cloud.store_watch import SilenceLimits
from host_tools.cloud.wire import Batch, Device, Reading
from isocore.record import DELTA

LIMITS = SilenceLimits(device_s=100, gateway_s=300)


class Clocks:
    """Wall and monotonic time, each moved by itself."""

    def __init__(self) -> None:
        self.unix_ms = 1_800_000_000_000
        self.monotonic_s = 5.0

    def wall(self) -> int:
        return self.unix_ms

    def monotonic(self) -> float:
        return self.monotonic_s

    def pass_s(self, seconds: int) -> None:
        self.unix_ms += seconds * 1000
        self.monotonic_s += seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


class Site:
    """A store under those clocks, that may be closed and opened again."""

    def __init__(self, folder: Path, clocks: Clocks) -> None:
        self.folder = folder
        self.clocks = clocks
        self.store: Store | None = None
        self.number = 0
        self.open(LIMITS)

    def open(self, limits: SilenceLimits = LIMITS, quota: Quota | None = None) -> None:
        self.close()
        self.store = Store(self.folder, self.clocks.wall, quota=quota, silence=limits, clock_s=self.clocks.monotonic)

    def close(self) -> None:
        if self.store is not None:
            self.store.close()
            self.store = None

    def send(self, device: str = "fridge", gateway: str = "gw-1", lane: str = "live", rows: int = 1) -> Stored:
        assert self.store is not None
        self.number += 1
        seqs = range(self.number * 1000, self.number * 1000 + rows)
        readings = [Reading(0, 1, seq, DELTA, 0, 4000, 0, seq, 5000, 1) for seq in seqs]
        digest = hashlib.sha256(str(self.number).encode()).digest()
        batch = Batch(gateway, self.number, digest, lane, (Device(device, None, None),), readings)
        return self.store.submit(batch, 100).result(timeout=20)

    def silences(self, only_open: bool = True) -> list[Alarm]:
        assert self.store is not None
        self.store.look().result(timeout=20)
        with self.store.question() as answers:
            return [
                alarm
                for alarm in answers.alarm_page(only_open, 0, (), 1000, self.clocks.unix_ms)[0]
                if alarm.kind == "silence"
            ]

    def missed(self) -> set[str | None]:
        return {alarm.device or alarm.gateway for alarm in self.silences()}


@pytest.fixture
def site(tmp_path: Path, clocks: Clocks) -> Iterator[Site]:
    made = Site(tmp_path, clocks)
    yield made
    made.close()


def test_who_is_silent_is_missed_until_it_speaks(site: Site, clocks: Clocks) -> None:
    site.send("fridge")
    site.send("room")
    clocks.pass_s(100)
    assert site.missed() == set()
    site.send("room")
    clocks.pass_s(1)
    assert site.missed() == {"fridge"}
    began_ms = clocks.unix_ms
    clocks.pass_s(60)
    assert [alarm.since_unix_ms for alarm in site.silences()] == [began_ms], "it is missed once"
    site.send("fridge")
    assert site.missed() == set()
    (over,) = site.silences(only_open=False)
    assert (over.device, over.until_unix_ms, over.ended_by) == ("fridge", clocks.unix_ms, "heard")


def test_a_gateway_is_missed_by_its_own_limit(site: Site, clocks: Clocks) -> None:
    site.send("fridge")
    clocks.pass_s(301)
    assert site.missed() == {"fridge", "gw-1"}
    assert site.store is not None
    with site.store.question() as answers:
        assert answers.silent() == {"device": 1, "gateway": 1}
        (state,) = answers.device_states("", 10)
        (gateway,) = answers.gateways(clocks.unix_ms, "", 10)
    assert state.silent_since_unix_ms == gateway.silent_since_unix_ms == clocks.unix_ms
    assert state.heard_unix_ms == clocks.unix_ms - 301_000


def test_what_comes_out_of_a_backlog_is_no_sign_of_life(site: Site, clocks: Clocks) -> None:
    site.send("fridge")
    clocks.pass_s(101)
    site.send("fridge", lane="backfill")
    assert site.missed() == {"fridge"}
    site.send("fridge", lane="alarms")
    assert site.missed() == set()


@pytest.mark.parametrize("jump_s", [-10 * 365 * 86_400, 10 * 365 * 86_400])
def test_a_clock_that_is_set_neither_raises_nor_hides(site: Site, clocks: Clocks, jump_s: int) -> None:
    site.send("fridge")
    clocks.unix_ms += jump_s * 1000
    assert site.missed() == set()
    clocks.pass_s(101)
    assert site.missed() == {"fridge"}


def test_a_receiver_that_was_away_counts_from_its_start(site: Site, clocks: Clocks) -> None:
    site.send("fridge")
    clocks.pass_s(101)
    assert site.missed() == {"fridge"}
    site.send("room")
    site.close()
    clocks.pass_s(1000)
    site.open()
    assert site.missed() == {"fridge"}, "what stood stands on, and nobody else is missed yet"
    clocks.pass_s(101)
    assert site.missed() == {"fridge", "room"}


def test_who_need_not_be_missed(site: Site, clocks: Clocks) -> None:
    site.send("fridge")
    clocks.pass_s(301)
    assert site.missed() == {"fridge", "gw-1"}
    site.open(SilenceLimits(0, 300, frozenset(("gw-1",))))
    assert site.missed() == set(), "off, and not to be missed: what stood is over"
    clocks.pass_s(10_000)
    assert site.missed() == set()


def test_history_is_bounded(site: Site, clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_watch, "HISTORY_MAX", 3)
    for _ in range(6):
        site.send("fridge")
        clocks.pass_s(101)
        assert site.missed() == {"fridge"}
    assert len(site.silences(only_open=False)) == 4  # three that are over, and the one that stands


# ---- quotas


def test_a_quota_puts_off_to_the_next_day(site: Site, clocks: Clocks) -> None:
    site.open(quota=Quota(rows_a_day=10))
    clocks.unix_ms -= clocks.unix_ms % DAY_MS
    assert site.send(rows=9).new == 9
    assert site.send(rows=9).new == 9, "the batch that crosses it is stored"
    with pytest.raises(QuotaSpent, match="18 rows came today of at most 10") as refused:
        site.send()
    assert refused.value.retry_after_s == RETRY_AFTER_S_MAX
    assert site.send(gateway="gw-2").new == 1, "each gateway has its own"
    clocks.pass_s(86_399)
    with pytest.raises(QuotaSpent) as refused:
        site.send()
    assert refused.value.retry_after_s == 1
    clocks.pass_s(1)
    assert site.send().new == 1
    assert site.send(rows=9).new == 9, "the new day's rows alone count"


def test_a_quota_outlives_a_restart_and_leaves_room_for_alarms(site: Site) -> None:
    quota = Quota(bytes_a_day=200)
    site.open(quota=quota)
    site.send()
    site.send()
    site.open(quota=quota)
    with pytest.raises(QuotaSpent, match="200 bytes"):
        site.send()
    assert site.send(lane="alarms").new == 1
    assert site.send(lane="alarms").new == 1
    with pytest.raises(QuotaSpent, match="400 bytes"):
        site.send(lane="alarms")


def test_what_is_refused_is_not_stored(site: Site) -> None:
    site.open(quota=Quota(rows_a_day=1))
    site.send("fridge")
    with pytest.raises(QuotaSpent):
        site.send("room")
    assert site.store is not None
    with site.store.question() as answers:
        assert [state.info.name for state in answers.device_states("", 10)] == ["fridge"]
        counters = answers.counters()
    assert (counters["batches_over_quota"], counters["rows_new"], counters["batches_stored"]) == (1, 1, 1)
