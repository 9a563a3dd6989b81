"""Sensor faults, injected into recordings and simulated weeks, teach nothing; hot rooms alarm all the same."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from host_tools import convert, ordinary, training_report
from host_tools.errors import TrainingRefused
from host_tools.fitting import USUAL, check_enough, fit
from host_tools.history import History, Params, Run, from_traces, replay_run
from host_tools.screening import LEFT_OUT, MISSING, STUCK, screen
from host_tools.traces import load_traces
from host_tools.train import train_one
from host_tools.verdicts import POWER_ON, SPIKE
from isocore.model import ChannelParams
from isocore.record import HIGH_ON, RATE_ON
from tests.support import failures

SEEDS = (0, 1)
SETS = ("nab", "occupancy", "suthaharan")
recorded = pytest.mark.skipif("ISOTHERM_TRACES" not in os.environ, reason="recorded traces: set ISOTHERM_TRACES")


def limits(history: History) -> Params:
    screened = screen(history.recent(USUAL.history_days))
    check_enough("x", [screened], USUAL)
    return fit([screened.history], ChannelParams(), USUAL)


def furthest(one: Params, other: Params) -> int:
    """How far the limits of two lie apart, in milli-units."""
    pairs = ((getattr(one, name), getattr(other, name)) for name in ("high_on_milli", "low_on_milli"))
    return max(abs(a - b) if a is not None and b is not None else 1_000_000 * (a != b) for a, b in pairs)


@cache
def recordings(name: str) -> list[History]:
    import tempfile

    with tempfile.TemporaryDirectory() as out:
        (found,) = convert.convert([Path(os.environ["ISOTHERM_TRACES"]) / name], Path(out))
        return from_traces(load_traces([found.path], lambda _: None).values())


def agree(history: History, kind: str, tolerance_milli: int, seeds: Sequence[int] = SEEDS) -> int:
    """Limits learnt with faults are those learnt without them, or without the hours they took. A hot room alarms under
    them wherever it does under the latter. Returns in how many cases it alarmed."""
    clean = limits(history)
    warm, warm_at = failures.hot(history.recent(28))
    hot = 0
    for seed in seeds:
        faulty, put = failures.with_faults(history, kind, seed)
        trained, left = limits(faulty), limits(failures.without(history, put))
        apart = min(furthest(trained, clean), furthest(trained, left))
        assert apart <= tolerance_milli, (history.device, history.channel, seed)
        alarmed = alarms_in(warm, warm_at, trained)
        assert alarmed or not alarms_in(warm, warm_at, left), (history.device, history.channel, seed)
        hot += alarmed
    return hot


def alarms_in(warm: History, warm_at: int, params: Params) -> bool:
    run = warm.runs[-1]
    lasts_ms = min(6 * failures.HOUR_MS, run.duration_ms // 8)
    began = (t_ms for t_ms, what, _ in replay_run(run, params).alarms if what in (HIGH_ON, RATE_ON))
    return any(0 <= t_ms - run.t_ms[warm_at] <= lasts_ms for t_ms in began)


@pytest.mark.parametrize("kind", failures.FAULTS)
@pytest.mark.parametrize("place", sorted(ordinary.KINDS))
def test_faults_in_simulated_weeks_move_no_limit(place: str, kind: str) -> None:
    assert agree(ordinary.year(place, 50, 28), kind, 200, SEEDS[:1]) == 1


@recorded
@pytest.mark.parametrize("kind", failures.FAULTS)
@pytest.mark.parametrize("name", SETS)
def test_faults_in_recordings_move_no_limit(name: str, kind: str) -> None:
    """Half a degree, and that only where samples are an hour apart and no spike can be told."""
    tolerances_milli = {"humidity": 1000, "temperature": 500 if name == "nab" else 300}
    alarmed = [agree(history, kind, tolerances_milli[history.channel]) for history in recordings(name)]
    assert sum(alarmed) >= len(SEEDS) * len(alarmed) - 1  # one mote's steam, of minutes, is most of what it knows


@pytest.mark.parametrize(("kind", "judged"), list(zip(failures.FAULTS, (SPIKE, POWER_ON, STUCK, MISSING), strict=True)))
@pytest.mark.parametrize("place", ["fridge", "office", "server-room"])
def test_each_fault_is_named_by_its_kind_and_place(place: str, kind: str, judged: str) -> None:
    history = ordinary.year(place, 51, 14)
    assert screen(history).spans == ()
    for seed in SEEDS:
        faulty, put = failures.with_faults(history, kind, seed)
        found = screen(faulty)
        run = faulty.runs[-1]
        assert {span.kind for span in found.spans} == {judged}
        assert {run.t_ms[one.row] for one in put} == {span.from_ms for span in found.spans}
        marked = {row for row, fault in enumerate(found.history.runs[-1].fault) if fault}
        assert marked >= {row for one in put for row in range(one.row + (kind == "stuck"), one.row + one.rows)}
        assert faulty.runs[-1].fault.count(LEFT_OUT) == 0  # what is replayed stays as it was


@pytest.mark.parametrize("place", sorted(ordinary.KINDS))
def test_what_is_hot_is_no_fault(place: str) -> None:
    warm, _ = failures.hot(ordinary.year(place, 52, 14))
    assert screen(warm).spans == ()


def at_85(values: Sequence[int]) -> History:
    run = Run(array("q", (i * 60_000 for i in range(len(values)))), array("i", values), array("b", bytes(len(values))))
    return History("oven", "oven", "temperature", [run], 60_000, True, (-55_000, 125_000))


def test_an_oven_at_85_degrees_is_no_fault_and_a_board_that_starts_there_is_one() -> None:
    ramp = [80_000 + 500 * (i % 20) for i in range(400)]
    assert screen(at_85(ramp)).spans == ()
    (span,) = screen(at_85([85_000, 85_000, *(20_000 + 63 * (i % 9) for i in range(400))])).spans
    assert (span.kind, span.from_ms, span.samples) == (POWER_ON, 0, 2)


def test_a_quiet_room_is_not_stuck() -> None:
    hours = [[20_000 + 100 * (h % 3)] * (60 * (1 + h % 4)) for h in range(60)]  # rests of one to four hours
    assert screen(at_85([value for hour in hours for value in hour])).spans == ()


def test_a_board_whose_sensor_fails_often_is_refused_with_the_span_and_the_rest_of_its_class_goes_on() -> None:
    good, bad = (replace(ordinary.year("fridge", seed, 10), device=f"fridge-{seed}") for seed in (1, 2))
    run = bad.runs[0]
    stuck = array("i", (run.value[2880 // 2] if i > 2880 // 2 else value for i, value in enumerate(run.value)))
    bad = replace(bad, runs=[Run(run.t_ms, stuck, run.fault)])
    with pytest.raises(TrainingRefused, match=r"50 % of the time, .*stuck 1 .*stuck, day 5\.00 to 10\.00 of fridge-2"):
        train_one([good, bad], "home", "device:fridge-2", 1)
    both, alone = train_one([good, bad], "home", "class:fridge", 1), train_one([good], "home", "class:fridge", 1)
    with_bad, without_bad = (one.model.channels["temperature"] for one in (both, alone))
    assert furthest(with_bad, without_bad) == 0
    assert with_bad.stuck_s == without_bad.stuck_s == 86_400
    assert "its sensor fails 50 % of the time: fridge-2, stuck 1" in "\n".join(training_report.lines(both))


def test_the_report_says_what_was_left_out_and_what_alarms_were() -> None:
    history = ordinary.year("server-room", 1, 14)
    faulty, _ = failures.with_faults(history, "spike", 3)
    warm, _ = failures.hot(faulty)
    said = "\n".join(training_report.lines(train_one([warm], "home", "*", 1)))
    assert "left out as sensor faults: spike 3 (" in said
    assert "the longest spike, day" in said
    assert "room" in said.split("largest error")[0]
    assert "spike" in said.split("largest error")[0]


@pytest.mark.parametrize("away", [SPIKE, POWER_ON])
@pytest.mark.parametrize("place", ["fridge", "office"])
def test_a_sensor_that_fails_at_every_twentieth_sample_moves_no_limit(place: str, away: str) -> None:
    """Quantiles alone withstand a few; of so many, only leaving them out does."""
    history = ordinary.year(place, 53, 14)
    run = history.runs[0]
    bad = (85_000 if away == POWER_ON else value + 20_000 * (-1) ** (i // 20) for i, value in enumerate(run.value))
    values = array("i", (b if i % 20 == 7 else v for i, (v, b) in enumerate(zip(run.value, bad, strict=True))))
    faulty, clean = limits(replace(history, runs=[Run(run.t_ms, values, run.fault)])), limits(history)
    assert furthest(faulty, clean) <= 200
    assert abs(faulty.rate_limit_milli_min - clean.rate_limit_milli_min) <= 100
    assert faulty.debounce_samples == clean.debounce_samples


@pytest.mark.parametrize("place", ["fridge", "office", "server-room"])
def test_a_stuck_sensor_does_not_teach_how_long_a_rest_is_ordinary(place: str) -> None:
    history = ordinary.year(place, 54, 20)
    run = history.runs[0]
    values = array("i", (run.value[2000] if 2000 <= i < 3152 else value for i, value in enumerate(run.value)))  # 4 days
    assert limits(replace(history, runs=[Run(run.t_ms, values, run.fault)])).stuck_s == limits(history).stuck_s
