"""Injected sensor faults and real heat in ordinary weeks: faults and room alarms must not be taken for one another."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import replace

import pytest

from host_tools import ordinary
from host_tools.history import History, Run, replay_run
from host_tools.train import train_one
from host_tools.verdicts import POWER_ON, ROOM, SPIKE, far_milli, verdict
from host_tools.walkforward import walk
from isocore import analysis

DAY = 288
AT = 12 * DAY + 130
KINDS = ("fridge", "office", "server-room")


def with_values(history: History, change: Callable[[list[int]], None]) -> History:
    run = history.runs[0]
    values = list(run.value)
    change(values)
    return replace(history, runs=[Run(run.t_ms, array("i", values), run.fault)])


def verdicts_of(history: History) -> list[str]:
    far = far_milli(history, history.runs)
    return [
        verdict(history.runs[0], alarm.row, alarm.kind, alarm.limit_milli, far)
        for alarm in walk(history)
        if AT - 1 <= alarm.row <= AT + 80
    ]


def spike(values: list[int]) -> None:
    values[AT] += 20_000


def double_spike(values: list[int]) -> None:
    values[AT] -= 18_000
    values[AT + 1] -= 18_000


def power_on(values: list[int]) -> None:
    values[AT] = 85_000


def hot(values: list[int]) -> None:
    for i in range(AT, AT + 72):
        values[i] += min(15_000, 3_000 * (i - AT + 1))


def sudden(values: list[int]) -> None:
    for i in range(AT, AT + 72):
        values[i] -= 15_000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("inject", "expected"),
    [(spike, {SPIKE}), (double_spike, {SPIKE}), (power_on, {POWER_ON, SPIKE}), (hot, {ROOM}), (sudden, {ROOM})],
)
def test_what_an_alarm_was(kind: str, inject: Callable[[list[int]], None], expected: set[str]) -> None:
    found = verdicts_of(with_values(ordinary.year(kind, 4, 14), inject))
    assert found
    assert set(found) <= expected


@pytest.mark.parametrize("kind", KINDS)
def test_stuck_and_missing_are_faults_of_the_filter_and_no_room_alarm(kind: str) -> None:
    history = ordinary.year(kind, 4, 16)
    params = train_one([history.recent(12)], "home", "*", 1).model.channels["temperature"]

    def stuck(values: list[int]) -> None:
        values[AT : AT + 2 * DAY] = [values[AT]] * (2 * DAY)

    held = replay_run(with_values(history, stuck).runs[0], params)
    plain = replay_run(history.runs[0], params)
    assert held.faults == 1
    assert len(held.alarms) <= len(plain.alarms) + 1
    run = history.runs[0]
    missing = Run(run.t_ms, run.value, array("b", (6 * (AT <= i < AT + 40) for i in range(len(run.fault)))))
    lost = replay_run(missing, params)
    assert lost.faults == 1
    assert len(lost.alarms) <= len(plain.alarms)


def test_a_drift_shows_against_the_neighbours() -> None:
    site = [ordinary.year("server-room", seed, 3) for seed in range(5)]

    def drift(values: list[int]) -> None:
        start = 2 * DAY + DAY // 2 - 36  # three hours before the end of what is looked at
        for i in range(start, len(values)):
            values[i] += 150 * (i - start)

    site[2] = with_values(site[2], drift)
    start_s = 2 * ordinary.DAY_S + ordinary.DAY_S // 2
    sensors = [
        analysis.Sensor(f"s{n}", {t // 1000: v for t, v in zip(one.runs[0].t_ms, one.runs[0].value, strict=True)})
        for n, one in enumerate(site)
    ]
    scores = {result.key: abs(result.score_milli) for result in analysis.analyse(sensors, ordinary.PERIOD_S, start_s)}
    assert max(scores, key=lambda key: scores[key]) == "s2"


def test_a_wobble_at_the_limit_is_the_room_and_no_spike() -> None:
    """Noise that goes half back after the sample that alarmed once made spikes of slow failures."""
    steps = [20_000, 20_300, 19_900, 20_200, 20_000, 25_000, 25_900, 25_300, 26_000]
    run = Run(array("q", (i * 300_000 for i in range(len(steps)))), array("i", steps), array("b", bytes(len(steps))))
    assert verdict(run, 6, "high", 25_500, 2000) == ROOM
    assert verdict(run, 1, "rate", 50, 2000) == ROOM
    back = Run(run.t_ms, array("i", [20_000, 20_000, 32_000, 20_100, *[20_000] * 5]), run.fault)
    assert verdict(back, 2, "high", 25_500, 2000) == verdict(back, 3, "rate", 50, 2000) == SPIKE
