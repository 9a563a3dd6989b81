"""What a deep sleep keeps of a filter: after it the filter goes on as one that never slept."""

from __future__ import annotations

import importlib
import sys
import types
from array import array
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings

from isocore.filter import ChannelFilter
from tests.isocore import strategies


@pytest.fixture(scope="module")
def sleeper() -> Iterator[Any]:
    """isonode.sleeper on CPython, over a hal without a chip; gone afterwards."""
    hal = types.ModuleType("isonode.hal")
    names = ("isonode.hal", "isonode.rtc", "isonode.sleeper")
    with pytest.MonkeyPatch.context() as patch:
        import isonode

        for name in names:
            patch.delitem(sys.modules, name, raising=False)
            patch.delattr(isonode, name.split(".")[1], raising=False)
        patch.setitem(sys.modules, "isonode.hal", hal)
        patch.setattr(isonode, "hal", hal, raising=False)
        yield importlib.import_module("isonode.sleeper")
        for name in names:
            sys.modules.pop(name, None)
            if hasattr(isonode, name.split(".")[1]):
                patch.delattr(isonode, name.split(".")[1])


def step(state: ChannelFilter, event: strategies.Event) -> list[tuple[int, int, int, int, int]]:
    what, t_ms, value = event
    t_s, rest_ms = divmod(t_ms, 1000)
    count = state.fault(value) if what == "fault" else state.step(t_s, rest_ms, value)
    return [
        (state.kinds[i], state.values[i], state.trend(i), state.at_s(i, t_s), state.at_ms(i, rest_ms))
        for i in range(count)
    ]


def slept(sleeper: Any, state: ChannelFilter) -> ChannelFilter:
    """A new filter with the model in force and what the RTC's memory holds of the former one: 32-bit integers."""
    kept = array("i", sleeper._integers(state, []))
    values = iter(kept)
    woken = ChannelFilter(state.params)
    sleeper._fill(woken, values)
    assert next(values, None) is None, "what comes after belongs to the next channel"
    return woken


@given(life=strategies.lives(), models=strategies.st.lists(strategies.params(), min_size=1, max_size=3))
@settings(max_examples=80, deadline=None)
def test_a_filter_that_sleeps_between_all_samples_is_one_that_does_not(
    sleeper: Any, life: list[strategies.Event], models: list[Any]
) -> None:
    """With up to three models after the other: what waits under the former one ends as it began."""
    awake, sleeping = ChannelFilter(models[0]), ChannelFilter(models[0])
    for number, event in enumerate(life):
        if number % 7 == 6:
            model = models[number // 7 % len(models)]
            awake.configure(model)
            sleeping.configure(model)
        sleeping = slept(sleeper, sleeping)
        assert step(sleeping, event) == step(awake, event), number
