"""The debounce is fitted: as long as what ends by itself asks for, and no longer."""

from __future__ import annotations

from array import array
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from host_tools.fitting import USUAL, Rules, debounced, entries, fit, longest_excursion_ms
from host_tools.history import History, Run, replay
from isocore.model import ChannelParams

MIN_MS = 60_000
MINUTES_DAY = 1440


def fridge(doors_min: tuple[int, ...], days: int = 10) -> History:
    """A fridge between 4 and 5 °C; on each day but the last its door stands open for so many minutes, singly."""
    values = array("i", (4000 + 100 * (i % 11) for i in range(days * MINUTES_DAY)))
    for day in range(days - 1):
        for n, minutes in enumerate(doors_min):
            start = day * MINUTES_DAY + 200 + 300 * n + 7 * day
            values[start : start + minutes] = array("i", [6900] * minutes)
    run = Run(array("q", (i * MIN_MS for i in range(len(values)))), values, array("b", bytes(len(values))))
    return History("f", "fridge", "temperature", [run], MIN_MS, True, (-55_000, 125_000))


def fitted(history: History, rules: Rules = USUAL) -> Any:
    return fit([history], ChannelParams(), rules)


def test_three_times_the_longest_excursion_between_five_minutes_and_an_hour() -> None:
    # Doors are seldom enough, 0.3 % of the time, that limits do not know them.
    assert fitted(fridge(())).debounce_samples == 5
    assert fitted(fridge((4,))).debounce_samples == 12
    assert fitted(fridge((1,))).debounce_samples == 5
    rare = fridge(())
    run = rare.runs[0]
    run.value[5000:5030] = array("i", [9000] * 30)  # half an hour, once
    assert fitted(rare).debounce_samples == 60
    run.value[5000:5070] = array("i", [9000] * 70)  # longer than an hour: no excursion, but what alarms are for
    assert fitted(rare).debounce_samples == 5


def test_excursions_that_were_learnt_from_do_not_alarm_and_a_stay_does() -> None:
    history = fridge((4,))
    params = fitted(history)
    assert replay(history, params).alarms == 0
    run = history.runs[0]
    run.value[13_000:13_040] = array("i", [9000] * 40)
    assert replay(history, params).alarms == 1


def test_whoever_states_a_debounce_has_it() -> None:
    history = fridge((4,))
    assert fitted(history, debounced(1200)).debounce_samples == 20
    assert fitted(history, debounced(7200)).debounce_samples == 120  # more than is ever fitted
    assert debounced(None) is USUAL


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 90), st.integers(1, 60)), min_size=1, max_size=12), st.booleans())
def test_the_longest_excursion_is_the_longest_that_ended_within_an_hour(
    stays: list[tuple[int, int]], low: bool
) -> None:
    params: Any = ChannelParams()
    params.high_on_milli, params.low_on_milli = 30_000, 10_000
    run = Run()
    for minutes, calm in stays:
        for value in [10_400 if low else 29_600] * minutes + [20_000] * calm:
            run.add(len(run.t_ms) * MIN_MS, value)
    ended = [minutes for minutes, _ in stays if minutes <= 60]
    assert longest_excursion_ms(entries(run), params, 1000, USUAL) == max(ended, default=0) * MIN_MS
    run.fault[:] = array("b", [0, 1] * len(run.t_ms))[: len(run.t_ms)]  # a fault in between: nobody knows
    assert longest_excursion_ms(entries(run), params, 1000, USUAL) <= MIN_MS
