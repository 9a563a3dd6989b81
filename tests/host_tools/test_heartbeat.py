"""Heartbeats: the longest in a stated time, never past a budget, on one channel; what cannot be is refused."""

from __future__ import annotations

from array import array
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host_tools import ordinary, training_report
from host_tools.errors import InputError, TrainingRefused
from host_tools.heartbeat import GRID_S, SILENCE_S, Silence, carriers, heartbeat_s, told_s
from host_tools.history import History, Run, replay, replay_run
from host_tools.train import ERRORS_MILLI, Goal, TrainedModel, train_one
from isocore.model import ChannelParams


def quiet(channel: str = "temperature", device: str = "a", step_milli: int = 100, period_ms: int = 60_000) -> History:
    """Two days of next to nothing: a step up or down now and then."""
    count = 2 * 86_400_000 // period_ms
    values = array("i", (20_000 + step_milli * (i // 97 % 3) for i in range(count)))
    run = Run(array("q", (i * period_ms for i in range(count))), values, array("b", bytes(count)))
    valid = (0, 100_000) if channel == "humidity" else (-55_000, 125_000)
    return History(device, "room", channel, [run], period_ms, True, valid)


def beats(trained: TrainedModel) -> dict[str, int]:
    return {name: params.heartbeat_s for name, params in trained.model.channels.items()}


USUAL, HALF = Silence(), Goal(error_milli=500)


def trained(*group: History, silence: Silence | None = USUAL, goal: Goal = HALF) -> TrainedModel:
    return train_one(group, "home", "*", 1, {"": goal, "humidity": goal}, silence=silence)


@given(st.integers(0, 400_000), st.integers(1, 4000))
def test_the_heartbeat_is_the_longest_that_tells_in_time(within_s: int, late_s: int) -> None:
    if not within_s:
        return
    try:
        found = heartbeat_s("x", Silence(min(within_s, 345_600)), late_s, None)
    except TrainingRefused:
        assert told_s(GRID_S[0], late_s) > within_s
        return
    assert told_s(found, late_s) <= within_s
    longer = [beat for beat in GRID_S if beat > found]
    assert not longer or told_s(longer[0], late_s) > min(within_s, 345_600)


@given(st.floats(0.1, 3000), st.integers(1, 3700))
def test_without_a_stated_time_heartbeats_take_at_most_half_a_budget(budget: float, late_s: int) -> None:
    found = heartbeat_s("x", Silence(), late_s, budget)
    assert not found or 86_400 / found <= budget / 2
    assert found or budget < 2 or heartbeat_s("x", Silence(), late_s, None) > 43_200
    assert not found or found >= heartbeat_s("x", Silence(), late_s, None)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(-400, 400), min_size=200, max_size=600),
    st.sampled_from((5, 60, 600, 3600)),
    st.sampled_from((2000, SILENCE_S, 30_000)),
)
def test_no_two_reports_of_a_live_board_are_further_apart_than_half_the_time(
    steps: list[int], period_s: int, within_s: int
) -> None:
    params: Any = ChannelParams()
    params.error_milli = 500
    try:
        params.heartbeat_s = heartbeat_s("x", Silence(within_s), period_s, None)
    except TrainingRefused:
        return
    run, value = Run(), 20_000
    for i, step in enumerate(steps):
        value += step if i % 50 == 0 else 0
        run.add(i * period_s * 1000, value)
    times = [t_ms for t_ms, *_ in replay_run(run, params).reports]
    assert all(later - before <= within_s * 500 for before, later in pairwise(times))


def test_as_usual_it_is_an_hour_and_one_channel_carries_it() -> None:
    temperature, humidity = quiet(), quiet("humidity", step_milli=3000)
    both = trained(temperature, humidity)
    assert beats(both) == {"temperature": 0, "humidity": 3600}  # it reports more by itself, so least for its own sake
    assert both.told_s == 2 * (3600 + 60) <= SILENCE_S
    assert beats(trained(temperature, quiet("humidity", step_milli=100))) == {"temperature": 3600, "humidity": 0}
    assert 24 <= trained(temperature).predicted_after.messages_per_day < 30


def test_every_board_has_a_channel_that_carries_it() -> None:
    group = [quiet(), quiet("humidity", step_milli=3000), quiet(device="b"), quiet("probe", "c")]
    assert beats(trained(*group)) == {"temperature": 3600, "humidity": 0, "probe": 3600}
    with_most = {"x": {"a", "b"}, "y": {"a", "b", "c"}, "z": {"d"}}
    assert carriers(with_most, lambda _: pytest.fail("there is no choice")) == ["y", "z"]


def test_what_training_has_no_say_in_stays_and_zero_is_none() -> None:
    assert beats(trained(quiet(), silence=None)) == {"temperature": 0}
    assert beats(trained(quiet(), silence=Silence(0))) == {"temperature": 0}
    assert "not told from a quiet room" in training_report.lines(trained(quiet(), silence=Silence(0)))[-1]


def test_slow_boards_are_given_time_unless_it_was_stated() -> None:
    assert heartbeat_s("x", Silence(), 3600, None) == 14_400
    with pytest.raises(TrainingRefused, match=r"x: a silent board cannot be told in 7200 s: .*3600 s late.*7320 s are"):
        heartbeat_s("x", Silence(7200), 3600, None)
    with pytest.raises(InputError, match="lies between"):
        Silence(-1)


def test_a_budget_chooses_bound_and_heartbeat_together_and_keeps_them() -> None:
    fridge = ordinary.year("fridge", 3, 3)
    for budget in (400.0, 100.0, 40.0):
        found = trained(fridge, goal=Goal(budget_per_day=budget))
        params = found.model.channels["temperature"]
        sent = replay(fridge, params).messages_per_day
        assert sent == found.predicted_after.messages_per_day <= budget
        assert 86_400 / params.heartbeat_s <= budget / 2
        smaller = ERRORS_MILLI[ERRORS_MILLI.index(params.error_milli) - 1]
        assert params.error_milli == ERRORS_MILLI[0] or (
            trained(
                fridge, goal=Goal(error_milli=smaller), silence=Silence(found.told_s)
            ).predicted_after.messages_per_day
            > budget
        )
    assert trained(fridge, goal=Goal(budget_per_day=40.0)).payload == found.payload


def test_a_budget_that_heartbeats_pass_is_refused_with_the_numbers() -> None:
    fridge = ordinary.year("fridge", 3, 3)
    with pytest.raises(TrainingRefused, match=r"20 messages a day cannot be kept: .* heartbeat of 3600 s, .* makes 24"):
        trained(fridge, silence=Silence(SILENCE_S + 600), goal=Goal(budget_per_day=20))
    wild = replace(fridge, runs=[Run(fridge.runs[0].t_ms, array("i", [0, 20_000] * 432), fridge.runs[0].fault)])
    with pytest.raises(
        TrainingRefused, match=r"an error bound of 5 still makes \d+\.\d, heartbeats each 21600 s among"
    ):
        trained(wild, goal=Goal(budget_per_day=8))


def test_the_report_says_old_and_new_heartbeat_and_when_alarms_begin() -> None:
    said = "\n".join(training_report.lines(trained(quiet())))
    assert "heartbeat: temperature never -> 3600 s; a silent board is told within 2.0 h" in said
    assert "limit alarms begin 5 min after a limit is passed (5 samples in a row, 1 before); no rate limit" in said
