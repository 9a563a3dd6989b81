"""Runs of analyses over a real store and a real receiver: the same bytes on either side, once, whatever is killed."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.alarms import CLEARED, RAISED, Change
from gateway.analyses import PATIENCE_S, TRIES, Analyses, AnalysisError, Outgoing, Plan, Ports
from gateway.analyst import outcome
from gateway.app_offload import Offload
from gateway.config import parse
from gateway.config.offload import AnalysisConfig
from gateway.config.rules import rules
from gateway.errors import ConfigError
from gateway.machine import Load
from gateway.messages import Finding
from gateway.offload import CLOUD, HERE, Figures, State
from gateway.rules import Rules
from gateway.store import AlarmReader, AnalysisReader
from host_tools.cloud.store_analyses import AnalysisStore
from host_tools.cloud.store_read import CloudReader
from host_tools.cloud.windows import Window
from host_tools.cloud.wire import Batch, Device
from isocore.analysis import Sensor, analyse, encode
from isocore.record import DELTA
from tests.gateway.conftest import Harness
from tests.gateway.test_offload import CALM, LIMITS, LOADED
from tests.gateway.test_windows import START_S, Rig, at, sent

SITE = AnalysisConfig(length_s=60, high=6.5)
MINUTES = 30


class Site(Rig):
    """Five fridges, one of which warms; the runner stepped by the test, its figures set by it."""

    def __init__(self, folder: Path, analysis: AnalysisConfig = SITE) -> None:
        self.analysis = analysis
        self.figures: Figures = CALM
        self.found: list[Finding] = []
        self.failing = False
        self.clock_s = 0.0
        self.minute = 0
        super().__init__(folder)

    def begin(self) -> None:
        super().begin()
        path = self.folder / "store.db"
        self.kept = AnalysisReader(path)
        self.outgoing = Outgoing(AnalysisReader(path), self.harness.store.runs_sent)
        ports = Ports(
            self.kept,
            self.harness.store.keep_run,
            lambda: self.windows.closed_ms,
            lambda: self.figures,
            self.crunch,
            lambda name, findings: self.found.extend(findings),
            lambda: None,
            self.reader.device_infos,
        )
        plan = Plan({"site": self.analysis}, LIMITS, True)
        self.runner = Analyses(ports, plan, self.harness.metrics, lambda: self.clock_s)

    def restart(self) -> None:
        super().restart()
        self.windows.tick()

    def crunch(self, request: str) -> tuple[str, float]:
        if self.failing:
            raise AnalysisError("as the test wants it")
        return json.dumps(outcome(self.kept, json.loads(request)), separators=(",", ":")), 0.001

    def pass_minutes(self, count: int) -> None:
        """Each device reports each minute; s3 rises by 0.05 a minute."""
        minutes = range(self.minute, self.minute + count)
        for n in range(5):
            values = {minute: 4000 + 10 * (minute % 3) + 100 * n + (50 * minute if n == 3 else 0) for minute in minutes}
            self.put(sent(*(at(m + 1, m * 60, value, DELTA) for m, value in values.items()), device=f"s{n}"))
        self.minute += count
        self.pass_to(START_S + self.minute * 60 + 31)

    def look(self, figures: Figures, times: int = 1) -> None:
        self.figures = figures
        for _ in range(times):
            self.runner.step()

    def upload(self) -> None:
        super().upload()
        with AnalysisStore(self.folder / "cloud" / "cloud.db") as store:
            while store.work_off():
                pass

    def stored(self) -> dict[int, tuple[str, bytes, int]]:
        """At the receiver, by window: who made it, its bytes, whether the windows were the same."""
        with closing(sqlite3.connect(self.folder / "cloud" / "cloud.db")) as db:
            rows = db.execute("SELECT start_unix_s, place, result, matching FROM analysis").fetchall()
        assert len({row[0] for row in rows}) == len(rows)
        return {start_s: (place, result, matching) for start_s, place, result, matching in rows}

    def counted(self, name: str) -> int:
        with closing(sqlite3.connect(self.folder / "cloud" / "cloud.db")) as db:
            row = db.execute("SELECT value FROM counter WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else 0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    running = Site(tmp_path)
    yield running
    running.close()


def here(site: Site) -> dict[int, bytes]:
    """Results kept by the gateway, by window."""
    return {
        run.start_s: json.loads(run.outcome)["result"].encode()
        for run in site.kept.runs(1000)
        if run.outcome is not None
    }


def test_under_load_the_cloud_makes_the_same_bytes_and_when_load_falls_it_is_home(site: Site) -> None:
    site.pass_minutes(MINUTES)
    site.look(CALM)
    site.upload()
    site.look(LOADED, LIMITS.rise)
    assert site.runner.away
    for _ in range(4):
        site.pass_minutes(1)
        site.look(LOADED)
        site.upload()
    site.look(CALM, LIMITS.fall)
    assert not site.runner.away
    site.pass_minutes(1)
    site.look(CALM)
    site.upload()
    stored = site.stored()
    first_s = START_S + (MINUTES - 1) * 60
    assert sorted(stored) == [first_s + 60 * i for i in range(6)], "no window without a result"
    assert [stored[first_s + 60 * i][0] for i in range(6)] == ["gateway", *["cloud"] * 4, "gateway"]
    for start_s, (place, result, matching) in stored.items():
        assert matching, "both sides had the same windows"
        request = json.loads(next(run for run in site.kept.runs(100) if run.start_s == start_s).request)
        made = outcome(site.kept, request)["result"].encode()
        assert result == made
        assert (start_s in here(site)) == (place == "gateway")
    assert site.counted("analyses_requested") == 4
    assert site.counted("analyses_conflicting") == 0
    assert site.runner.due == 0, "nothing lags"


def test_a_limit_that_will_be_crossed_is_a_warning_until_a_run_says_otherwise(site: Site) -> None:
    told: list[Change] = []
    with closing(AlarmReader(site.folder / "store.db")) as kept:
        engine = Rules(
            rules({}),
            kept,
            lambda device: site.reader.device_infos({device}).get(device),
            lambda row, changes: len(changes),
            told.extend,
            site.harness.metrics,
            lambda: 0.0,
            lambda: site.harness.now_s,
        )
        site.pass_minutes(MINUTES)
        site.look(CALM)
        engine.judged("site", site.found)
        (raised,) = told
        alarm = raised.alarm
        assert (alarm.rule, alarm.severity, alarm.device, alarm.channel) == ("trend", "warning", "s3", "0 site")
        assert re.fullmatch(r"will cross 6.5 in 1\d min", alarm.text)
        warm = next(finding for finding in site.found if finding.info.name == "s3")
        engine.judged("site", [warm])
        assert len(told) == 1, "once, while it holds"
        engine.judged("site", [warm._replace(cross_s=None, limit_milli=None)])
        assert [change.event for change in told] == [RAISED, CLEARED]
        engine.judged("site", [warm._replace(cross_s=None, score_milli=-9000, deviation_milli=-2500)])
        assert (told[-1].alarm.rule, told[-1].alarm.text[:4]) == ("anomaly", "-2.5")


def test_a_kill_at_any_moment_neither_loses_nor_doubles_a_result(site: Site) -> None:
    """Killed after the request was kept, after it was frozen, and before it was noted as frozen."""
    site.pass_minutes(MINUTES)
    site.look(LOADED, LIMITS.rise)
    site.pass_minutes(1)
    site.restart()
    site.runner._state = State(away=True)
    site.look(LOADED)
    site.restart()  # the request is kept, and nothing has gone up
    site.runner._state = State(away=True)
    site.outgoing.sent = lambda runs: None  # killed before it is noted: it goes again, in another batch
    site.look(LOADED)
    site.upload()
    site.restart()
    site.look(CALM, LIMITS.fall)  # home again: what is not known to be sent is made here as well
    site.upload()
    site.upload()
    stored = site.stored()
    assert len(stored) == 2
    assert all(matching for _, _, matching in stored.values())
    assert site.counted("analyses_repeated") > 0
    assert site.counted("analyses_conflicting") == 0
    assert {start_s: result for start_s, (_, result, _) in stored.items()} == here(site)


def test_the_receiver_is_killed_before_it_ran_what_it_was_asked_for(site: Site) -> None:
    site.pass_minutes(MINUTES)
    site.runner._state = State(away=True)
    site.look(LOADED)
    Rig.upload(site)
    assert [row[1] for row in site.stored().values()] == [None]
    site.pass_minutes(1)  # windows go on coming: it is judged by those it was asked for
    Rig.upload(site)
    site.upload()
    (row,) = site.stored().values()
    request = json.loads(site.kept.runs(1)[0].request)
    assert row == ("cloud", outcome(site.kept, request)["result"].encode(), 1)


@pytest.mark.parametrize("change", [{"metered": True}, {"reachable": False}, {"backlog_rows": 5000}])
def test_a_link_that_objects_gets_nothing_and_what_waited_for_it_is_taken_back(
    site: Site, change: dict[str, Any]
) -> None:
    site.pass_minutes(MINUTES)
    site.runner._state = State(away=True)
    site.look(LOADED)
    assert here(site) == {}
    site.look(LOADED._replace(**change))
    assert len(here(site)) == 1
    site.pass_minutes(1)
    site.look(LOADED._replace(**change))
    assert len(here(site)) == 2
    assert site.harness.metrics.value("analysis_runs_total", analysis="site", place=HERE) == 2


def test_a_request_that_cannot_be_sent_is_run_here_in_time(site: Site) -> None:
    site.pass_minutes(MINUTES)
    site.runner._state = State(away=True)
    site.look(LOADED)
    site.clock_s = PATIENCE_S - 1
    site.look(LOADED)
    assert here(site) == {}
    site.clock_s = 2 * PATIENCE_S
    site.look(LOADED)
    assert len(here(site)) == 1


def test_pins_decide_whatever_the_load(tmp_path: Path) -> None:
    for place, figures, others in ((HERE, LOADED, {}), (CLOUD, CALM, {"across": True})):
        site = Site(tmp_path / place, AnalysisConfig(length_s=60, high=8.0, place=place, **others))
        site.runner._state = State(away=place == HERE)
        site.pass_minutes(MINUTES)
        site.look(figures, LIMITS.fall)
        site.upload()
        (row,) = site.stored().values()
        assert row[0] == ("gateway" if place == HERE else "cloud")
        assert [entry[0] for entry in json.loads(row[1])[3]] == [f"s{n}/0" for n in range(5)]
        site.close()


def test_across_gateways_the_cloud_judges_by_the_windows_of_all(tmp_path: Path) -> None:
    site = Site(tmp_path, AnalysisConfig(length_s=60, high=8.0, device="s*", place=CLOUD, across=True))
    site.pass_minutes(MINUTES)
    means = [4000 + 10 * (minute % 3) for minute in range(MINUTES)]
    devices = tuple(Device(name, None, None) for name in ("s-far", "else"))
    windows = tuple(
        Window(place, 0, 60, START_S + 60 * minute, minute + 1, mean, mean, mean, mean, 1, 60_000, 0, 0)
        for place in range(2)
        for minute, mean in enumerate(means)
    )
    site.cloud.submit(Batch("gw-2", 1, bytes(32), "windows", devices, [], windows), 1).result(timeout=20)
    site.look(CALM)
    site.upload()
    ((_, result, _),) = site.stored().values()
    by_key = {}
    with CloudReader(tmp_path / "cloud") as reader:
        for name in ("s-far", *(f"s{n}" for n in range(5))):
            rows = reader.windows(name, 0, 60, 0, 1 << 40, 1000)
            by_key[f"{name}/0"] = {row.start_unix_s: row.mean for row in rows if row.mean is not None}
    sensors = [Sensor(key, of, None, 8000) for key, of in by_key.items()]
    start_s = START_S + (MINUTES - 1) * 60
    assert result == encode(analyse(sensors, 60, start_s), 60, start_s)
    assert [row[0] for row in json.loads(result)[3]] == ["s-far/0", *(f"s{n}/0" for n in range(5))]
    site.close()


def test_a_run_that_fails_again_and_again_is_the_clouds(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.runner._stop, "wait", lambda timeout_s=None: False)
    site.failing = True
    site.pass_minutes(MINUTES)
    site.look(CALM, TRIES - 1)
    assert site.kept.runs(9) == []
    site.look(CALM, 3)
    site.upload()
    assert [place for place, _, _ in site.stored().values()] == ["cloud"]
    assert site.harness.metrics.value("analysis_failed_total", analysis="site") == TRIES


def test_after_a_long_outage_old_windows_are_skipped_and_counted(site: Site) -> None:
    site.pass_minutes(MINUTES)
    site.look(CALM)
    site.pass_minutes(40)
    site.look(CALM)
    runs = site.kept.runs(100)
    assert len(runs) == 1 + 24
    assert runs[0].start_s == START_S + (MINUTES + 39) * 60
    assert site.harness.metrics.value("analysis_skipped_total", analysis="site") == 16


def offload(harness: Harness, folder: Path, load: Load | None = None) -> Offload:
    document = {
        "gateway": {"data_dir": str(folder)},
        "store": {"file": "store.db"},
        "windows": {"lengths_s": [60]},
        "analyses": {"site": {"length_s": 60, "high": 8.0}},
    }
    return Offload(parse(folder / "gateway.toml", document), harness.store, harness.metrics, load)


def test_a_run_in_a_process_of_its_own_gives_the_same_bytes(site: Site) -> None:
    """Also while every processor is busy, which is when it matters: real load, and a real store."""
    site.pass_minutes(MINUTES)
    site.look(CALM)
    request = site.kept.runs(1)[0].request
    part = offload(site.harness, site.folder)
    done = threading.Event()
    busy = [threading.Thread(target=lambda: spin(done)) for _ in range(os.cpu_count() or 1)]
    for thread in busy:
        thread.start()
    try:
        text, cpu_s = part._crunch(request)
    finally:
        done.set()
        for thread in busy:
            thread.join()
    assert text == site.kept.runs(1)[0].outcome
    assert cpu_s > 0


def spin(done: threading.Event) -> None:
    while not done.is_set():
        sum(range(1000))


def test_a_run_without_a_store_says_why(site: Site, tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    part = offload(site.harness, tmp_path / "else")
    with pytest.raises(AnalysisError, match="no store at"):
        part._crunch("{}")


@pytest.mark.parametrize(
    ("analyses", "said"),
    [
        ({"a": {"length_s": 61}}, "analyses.a.length_s is 61, it must be one of windows.lengths_s"),
        ({"a": {"length_s": 3600}}, "windows.keep_days must be 13 or more"),
        ({"a": {"place": "cloud"}}, "there is no https sink"),
        ({"a": {"across": True}}, 'needs place = "cloud"'),
        ({"a": {"low": 9.0, "high": 8.0}}, "must be more than low"),
        ({"a": {"place": "sky"}}, "must be one of auto, here, cloud"),
    ],
)
def test_what_is_wrong_with_an_analysis_is_said(tmp_path: Path, analyses: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(tmp_path / "gateway.toml", {"analyses": analyses})


def test_bounds_that_leave_no_band_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"offload.cpu_low is 0.9, it must be less than cpu_high"):
        parse(tmp_path / "gateway.toml", {"offload": {"cpu_low": 0.9}})
