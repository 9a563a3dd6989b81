"""Limits that will be crossed, in the list of alarms: against a plain reading of all runs, in any order of arrival."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host_tools.cloud import store_foreseen
from host_tools.cloud.analyses import Print, Request
from host_tools.cloud.answers import SECTIONS, Alarm
from host_tools.cloud.store import Store
from host_tools.cloud.store_analyses import AnalysisStore
from host_tools.cloud.wire import Batch, Device, Reading
from isocore.record import HIGH_OFF, HIGH_ON, LOW_ON
from tests.host_tools.cloud.test_questions import Api

LENGTH_S = 900
FIRST_S = 1_800_000_000 // LENGTH_S * LENGTH_S
FORESEEN = SECTIONS.index("foreseen")


class Run(NamedTuple):
    """One run, by the number of its window: what it foresees of fridge/0. rising: None: nothing."""

    nth: int
    rising: bool | None
    name: str = "cold"
    gateway: str = "gw-1"
    cross_s: int = 2400
    latest_s: int | None = 3600
    revision: int = 1


def end_ms(nth: int) -> int:
    return (FIRST_S + (nth + 1) * LENGTH_S) * 1000


def request(run: Run) -> Request:
    figures: list[Any] = [None] * 5
    if run.rising is not None:
        slope = 3000 if run.rising else -3000
        figures = [slope, 8000 if run.rising else 2000, run.cross_s, run.cross_s // 2, run.latest_s]
    start_s = FIRST_S + run.nth * LENGTH_S
    rows = [["fridge/0", 6000, None, None, *figures], ["other/0", 6000, None, None, None, None, None, None, None]]
    print_ = Print(1, run.revision, run.revision)
    text = json.dumps([1, LENGTH_S, start_s, rows], separators=(",", ":"))
    sensors = (("fridge", 0), ("other", 0))
    return Request(run.name, LENGTH_S, start_s, start_s, 2000, 8000, sensors, None, print_, text)


class Cloud:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now_unix_ms = end_ms(0)
        self.number = 0
        self.store = Store(folder, lambda: self.now_unix_ms)

    def runs(self, *runs: Run) -> None:
        for run in runs:
            self._send(run.gateway, Device("fridge", "fridge", (("temperature", "degC"),)), [], (request(run),))

    def event(self, seq: int, kind: int, unix_ms: int) -> None:
        reading = Reading(0, 1, seq, kind, 0, 8100, 0, seq * 1000, unix_ms - seq * 1000, 1)
        self._send("gw-1", Device("fridge", "fridge", None), [reading], ())

    def _send(self, gateway: str, device: Device, rows: list[Reading], requests: tuple[Request, ...]) -> None:
        self.number += 1
        digest = self.number.to_bytes(32, "big")
        lane = "live" if rows else "windows"
        batch = Batch(gateway, self.number, digest, lane, (device,), rows, (), (), requests)
        self.store.submit(batch, 1).result(timeout=20)

    def alarms(self, only_open: bool = False, limit: int = 1000) -> list[Alarm]:
        found: list[Alarm] = []
        place: tuple[int, Any] | None = (FORESEEN, ())
        with self.store.question() as answers:
            while place is not None:
                part, place = answers.alarm_page(only_open, *place, limit, self.now_unix_ms)
                assert len(part) <= limit
                found += part
        return found

    def told(self, only_open: bool = False) -> list[tuple[str, int, int | None, str | None, int]]:
        return [
            (one.reason, one.since_unix_ms or 0, one.until_unix_ms, one.ended_by, one.times)
            for one in self.alarms(only_open)
        ]


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = Cloud(tmp_path)
    yield made
    made.store.close()


def test_it_stands_while_run_after_run_foresees_it(cloud: Cloud) -> None:
    cloud.runs(Run(0, None), Run(1, True), Run(2, True, cross_s=1500, latest_s=None))
    cloud.now_unix_ms = end_ms(2) + 1000
    (alarm,) = cloud.alarms(only_open=True)
    assert (alarm.kind, alarm.reason, alarm.device, alarm.channel, alarm.gateway) == (
        *("foreseen", "high", "fridge", 0, "gw-1"),
    )
    assert (alarm.since_unix_ms, alarm.times, alarm.value) == (end_ms(1), 2, 6000)
    assert alarm.crossing is not None
    assert alarm.crossing[:3] == ("cold", 8000, end_ms(2) + 1_500_000)
    assert (alarm.crossing.earliest_unix_ms, alarm.crossing.latest_unix_ms) == (end_ms(2) + 750_000, None)
    cloud.runs(Run(3, None))
    assert cloud.alarms(only_open=True) == []
    assert cloud.told() == [("high", end_ms(1), end_ms(3), "off", 2)]


def test_the_board_s_own_alarm_of_that_limit_ends_it(cloud: Cloud) -> None:
    cloud.runs(Run(1, True))
    cloud.now_unix_ms = end_ms(1) + 60_000
    cloud.event(1, LOW_ON, end_ms(1) + 1000)  # of the other limit
    cloud.event(2, HIGH_ON, end_ms(1) - 1000)  # before it was foreseen
    assert len(cloud.alarms(only_open=True)) == 1
    cloud.event(3, HIGH_ON, end_ms(1) + 5000)
    assert cloud.alarms(only_open=True) == []
    assert cloud.told() == [("high", end_ms(1), end_ms(1) + 5000, "limit", 1)]
    cloud.event(4, HIGH_OFF, end_ms(1) + 6000)
    cloud.runs(Run(2, True))  # and the next run foresees it anew
    cloud.now_unix_ms = end_ms(2)
    assert cloud.told(only_open=True) == [("high", end_ms(2), None, None, 1)]
    assert [one[3] for one in cloud.told()] == [None, "limit"]


def test_one_that_should_have_come_and_of_which_no_run_tells_is_over(cloud: Cloud) -> None:
    cloud.runs(Run(1, False))
    cloud.now_unix_ms = end_ms(1) + 3_600_000
    assert [one[0] for one in cloud.told(only_open=True)] == ["low"]
    cloud.now_unix_ms += 1
    assert cloud.told(only_open=True) == []
    assert cloud.told() == [("low", end_ms(1), end_ms(1) + 3_600_000, "passed", 1)]
    soon = Run(1, False, cross_s=60, latest_s=90, revision=2)
    cloud.runs(soon)  # the run itself comes anew, with later windows
    assert cloud.told()[0][2] == end_ms(1) + 2 * LENGTH_S * 1000, "the next run has time to come"


def test_a_result_that_replaces_another_replaces_what_it_foresaw(cloud: Cloud) -> None:
    cloud.runs(Run(1, True), Run(1, None, revision=2), Run(1, True))
    assert (cloud.alarms(only_open=True), cloud.alarms()) == ([], [])


def test_results_of_the_cloud_s_own_count_as_well(cloud: Cloud) -> None:
    """Rising by 0.1 °C a window, two windows below the limit: the analysis itself foresees it."""
    from host_tools.cloud.windows import Window

    windows = tuple(
        Window(0, 0, LENGTH_S, FIRST_S + n * LENGTH_S, n + 1, *[5000 + 100 * n] * 4, 1, 900_000, 0, 0)
        for n in range(24)
    )
    start_s = FIRST_S + 23 * LENGTH_S
    asked = request(Run(23, None))._replace(high_milli=7500, result=None, first_s=FIRST_S, start_s=start_s)
    device = Device("fridge", None, None)
    batch = Batch("gw-1", 900, bytes(32), "windows", (device,), [], windows, (), (asked,))
    cloud.store.submit(batch, 1).result(timeout=20)
    cloud.now_unix_ms = end_ms(23)
    assert cloud.alarms(only_open=True) == []
    with AnalysisStore(cloud.store.path) as analyst:
        assert analyst.work_off() == 1
    (alarm,) = cloud.alarms(only_open=True)
    assert (alarm.reason, alarm.device, alarm.since_unix_ms) == ("high", "fridge", end_ms(23))


def test_a_store_with_results_from_before_is_taken_over(cloud: Cloud) -> None:
    cloud.runs(Run(0, None), Run(1, True), Run(2, False, name="x"), Run(2, True))
    cloud.now_unix_ms = end_ms(2)
    before = cloud.alarms(), cloud.alarms(only_open=True)
    cloud.store.close()
    steps = resources.files("host_tools.cloud.schema")
    number = next(int(step.name[:4]) for step in steps.iterdir() if step.name.endswith("_foresight.sql"))
    db = sqlite3.connect(cloud.store.path)
    db.executescript(f"DROP TABLE foresight; DROP INDEX analysis_done; PRAGMA user_version = {number - 1};")
    later = sorted(step.name for step in steps.iterdir() if step.name.endswith(".sql") and int(step.name[:4]) > number)
    assert later == [], "a later step must be undone here as well"
    db.close()
    cloud.store = Store(cloud.folder, lambda: cloud.now_unix_ms)
    assert (cloud.alarms(), cloud.alarms(only_open=True)) == before
    assert len(before[0]) == 2


# ---- against a plain reading


def expected(runs: list[Run], ons: list[tuple[int, int]], now_ms: int) -> list[tuple[Any, ...]]:
    """Every alarm, walking each analysis from its first run to its last. ons: (kind, unix_ms)."""
    found: list[tuple[Any, ...]] = []
    for key in {(run.gateway, run.name) for run in runs}:
        course = sorted((run for run in runs if (run.gateway, run.name) == key), key=lambda run: run.nth)
        standing: list[Run] = []
        for run in [*course, None]:
            over = _over(standing[-1], run, ons, now_ms) if standing else None
            if standing and (over is not None or run is None):
                reason = "high" if standing[-1].rising else "low"
                found.append((*key, reason, end_ms(standing[0].nth), *(over or (None, None)), len(standing)))
                standing = []
            if run is not None and run.rising is not None:
                standing.append(run)
    return found


def _over(last: Run, run: Run | None, ons: list[tuple[int, int]], now_ms: int) -> tuple[int, str] | None:
    """When and by what one that `last` foresaw was over before `run`, the next, or until now."""
    kind = HIGH_ON if last.rising else LOW_ON
    bound = end_ms(run.nth) if run is not None else 1 << 60
    begun = [at for of, at in ons if of == kind and end_ms(last.nth) < at <= bound]
    if begun:
        return min(begun), "limit"
    if run is not None:
        return None if run.rising == last.rising else (end_ms(run.nth), "off")
    past = end_ms(last.nth) + max(last.latest_s or 0, 2 * LENGTH_S) * 1000
    return (past, "passed") if past < now_ms else None


_RUNS = st.lists(
    st.builds(
        Run,
        nth=st.integers(0, 8),
        rising=st.sampled_from([None, True, True, False]),
        name=st.sampled_from(["cold", "warm"]),
        gateway=st.sampled_from(["gw-1", "gw-2"]),
        cross_s=st.just(600),
        latest_s=st.sampled_from([900, 3600, 9000]),
        revision=st.just(1),
    ),
    min_size=1,
    max_size=16,
    unique_by=lambda run: (run.nth, run.name, run.gateway),
)
_ONS = st.lists(st.tuples(st.sampled_from([HIGH_ON, LOW_ON]), st.integers(0, 20)), max_size=3, unique_by=lambda e: e[1])


@settings(max_examples=20, deadline=None)
@given(runs=_RUNS, ons=_ONS, later=st.integers(0, 20), seed=st.integers(0, 1 << 30), limit=st.integers(1, 3))
def test_any_order_gives_what_a_plain_reading_gives(
    tmp_path_factory: pytest.TempPathFactory,
    runs: list[Run],
    ons: list[tuple[int, int]],
    later: int,
    seed: int,
    limit: int,
) -> None:
    cloud = Cloud(tmp_path_factory.mktemp("any"))
    events = [(kind, end_ms(0) + half * LENGTH_S * 500 + 1) for kind, half in ons]
    arrivals: list[Any] = [*runs, *[(seq, *event) for seq, event in enumerate(events, 1)]]
    random.Random(seed).shuffle(arrivals)
    for item in arrivals:
        if isinstance(item, Run):
            cloud.runs(item)
        else:
            cloud.event(*item)
    cloud.now_unix_ms = end_ms(later)
    wanted = expected(runs, events, cloud.now_unix_ms)

    def plain(alarms: list[Alarm]) -> list[tuple[Any, ...]]:
        return [
            (
                one.gateway,
                one.crossing.analysis,
                one.reason,
                one.since_unix_ms,
                one.until_unix_ms,
                one.ended_by,
                one.times,
            )
            for one in alarms
            if one.crossing is not None
        ]

    assert sorted(plain(cloud.alarms()), key=repr) == sorted(wanted, key=repr)
    standing = [one for one in wanted if one[5] is None]
    assert sorted(plain(cloud.alarms(only_open=True)), key=repr) == sorted(standing, key=repr)
    for only_open in (True, False):
        assert cloud.alarms(only_open, limit) == cloud.alarms(only_open)
    cloud.store.close()


def test_pages_end_though_few_rows_are_looked_at_for_each(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.runs(*[Run(nth, True) for nth in range(12)], Run(13, None), Run(14, True))
    whole = cloud.alarms(), cloud.alarms(only_open=True)
    monkeypatch.setattr(store_foreseen, "LOOKED_AT_MAX", 3)
    assert (cloud.alarms(), cloud.alarms(only_open=True)) == whole
    assert [one.times for one in whole[0]] == [1, 12]


def test_it_is_asked_for_over_http(cloud: Cloud) -> None:
    long_name = "\U0001f9ca" * 64
    cloud.runs(Run(1, True, name=long_name), Run(1, True))
    api = Api(cloud.store)
    api.receiver._asked._unix_ms = lambda: end_ms(1) + 60_000
    (first, second) = api.ok("/v1/alarms")["alarms"]
    assert (first["kind"], first["channel"], first["value"]) == ("foreseen", "temperature", 6000)
    assert first["crossing"]["limit"] == 8000
    assert first["crossing"]["in_s"] == 2400 - 60
    assert {first["crossing"]["analysis"], second["crossing"]["analysis"]} == {"cold", long_name}
    for state in ("open", "all"):
        whole = api.ok("/v1/alarms", state=state)["alarms"]
        assert api.all_of("alarms", "/v1/alarms", state=state, limit=1) == whole
        assert api.get("/v1/alarms", state=state, cursor="x").status_code == 400
    assert len(api.all_of("analyses", "/v1/analyses", limit=1)) == 2
