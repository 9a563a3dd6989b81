"""Alarm outputs: following, latching, safe states, release buttons, silence and blinking, down to each pin write."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from isonode.actuator import Output, Outputs
from isonode.settings import Actuator

PERIOD = 1 << 30


class Pin:
    """An output that records its levels, or a button."""

    IN, PULL_DOWN, PULL_UP = 1, 1, 2

    def init(self, mode: int, pull: int) -> None:
        assert mode == self.IN
        self.levels = [int(pull == self.PULL_UP)]

    def __init__(self, level: int) -> None:
        self.levels = [level]

    def value(self, level: int | None = None) -> int:
        if level is not None:
            self.levels.append(level)
        return self.levels[-1]


class Hal:
    """Pins by number, ticks that stand until moved."""

    def __init__(self) -> None:
        self.pins: dict[int, Pin] = {}
        self.now = PERIOD - 700

    def pin_out(self, number: int, level: int) -> Pin:
        self.pins[number] = Pin(level)
        return self.pins[number]

    def pin_open(self, number: int) -> Pin:
        self.pins[number] = Pin(0)
        return self.pins[number]

    def ticks_ms(self) -> int:
        return self.now

    def ticks_diff(self, end: int, start: int) -> int:
        return ((end - start + PERIOD // 2) % PERIOD) - PERIOD // 2

    def go(self, ms: int) -> int:
        self.now = (self.now + ms) % PERIOD
        return self.now


@pytest.fixture
def hal() -> Hal:
    return Hal()


@pytest.fixture
def state() -> SimpleNamespace:
    return SimpleNamespace(high=False, low=False, rate=False, fault_code=0, stuck=False)


def setting(kind: str = "relay", **more: Any) -> Actuator:
    made = Actuator(kind, 16, 0, more.pop("on", ["high"]), more.pop("active", 1), more.pop("safe", 0))
    for name, value in more.items():
        assert hasattr(made, name)
        setattr(made, name, value)
    return made


def test_outputs_follow_the_alarm_and_take_the_safe_state(hal: Hal, state: SimpleNamespace) -> None:
    relay = Output(Actuator("relay", 16, 0, ["high"], 1, 0), hal)
    inverted = Output(Actuator("led", 2, 0, ["low", "rate"], 0, 1), hal)
    steps = [
        ("high", True, 1, 1),
        ("low", True, 1, 0),
        ("high", False, 0, 0),
        ("fault_code", 6, 0, 0),
        ("low", False, 0, 0),
        ("fault_code", 0, 0, 1),
        ("rate", True, 0, 0),
        ("fault_code", 1, 0, 0),
    ]
    for name, value, relay_level, inverted_level in steps:
        setattr(state, name, value)
        relay.follow(state)
        inverted.follow(state)
        assert (hal.pins[16].levels[-1], hal.pins[2].levels[-1]) == (relay_level, inverted_level), name
    assert len(hal.pins[16].levels) == 3, "a pin is written only when it changes"


def test_a_following_output_drops_out_in_a_fault_although_its_alarm_stands(hal: Hal, state: SimpleNamespace) -> None:
    output = Output(setting(), hal)
    state.high = True
    assert output.follow(state)
    state.fault_code = 6
    assert output.follow(state) and not output.on


def test_stuck_adds_the_safe_state_and_takes_no_alarm_away(hal: Hal, state: SimpleNamespace) -> None:
    plain, safe = Output(setting(), hal), Output(setting(safe=1), hal)
    state.stuck = True
    for output in (plain, safe):
        output.follow(state)
    assert (plain.on, safe.on) == (False, True)
    state.high = True
    plain.follow(state)
    assert plain.on


def test_a_latch_outlives_its_alarm_and_a_fault_until_it_is_released(hal: Hal, state: SimpleNamespace) -> None:
    output = Output(setting(latching=True, release_pin=9), hal)
    state.high = True
    output.follow(state)
    output.step(hal.now)
    state.high = False
    output.follow(state)
    assert output.on and output.live, "a button could release it"
    state.fault_code = 6
    output.follow(state)
    assert output.on
    state.fault_code = 0
    hal.pins[9].value(0)
    output.step(hal.now)
    assert not output.on and not output.live
    assert hal.pins[16].levels == [0, 1, 0]


def test_a_release_does_not_switch_off_what_an_alarm_still_asks_for(hal: Hal, state: SimpleNamespace) -> None:
    output = Output(setting(latching=True, release_pin=9, release_level=1), hal)
    state.high = True
    output.follow(state)
    hal.pins[9].value(1)
    output.step(hal.now)
    assert output.on and not output.latched
    hal.pins[9].value(0)
    output.follow(state)  # the alarm goes on: latched again
    state.high = False
    output.follow(state)
    assert output.on


def test_a_fault_alone_never_latches(hal: Hal, state: SimpleNamespace) -> None:
    output = Output(setting(latching=True, safe=1), hal)
    state.fault_code = 6
    output.follow(state)
    assert output.on
    state.fault_code = 0
    output.follow(state)
    assert not output.on


def test_a_buzzer_is_silenced_until_its_alarms_have_ended(hal: Hal, state: SimpleNamespace) -> None:
    output = Output(setting("buzzer", on=["high", "low"], release_pin=9), hal)
    state.high = True
    output.follow(state)
    hal.pins[9].value(0)
    output.step(hal.now)
    hal.pins[9].value(1)
    assert not output.on
    output.follow(state)
    assert not output.on, "the same alarm"
    state.high = False
    output.follow(state)
    state.low = True
    output.follow(state)
    assert output.on, "another alarm"


def test_blinking_keeps_its_time_over_a_wrap_of_the_ticks(hal: Hal, state: SimpleNamespace) -> None:
    output = Output(setting("led", active=0, blink_ms=500), hal)
    assert not output.live
    state.high = True
    output.follow(state)
    assert output.live and output.wait_ms(hal.now) == 500
    for _ in range(4):
        output.step(hal.go(499))
        output.step(hal.go(1))
    assert hal.pins[16].levels == [1, 0, 1, 0, 1, 0]
    state.high = False
    output.follow(state)
    assert hal.pins[16].levels[-1] == 1 and not output.live


def test_outputs_say_when_they_want_to_be_called(hal: Hal, state: SimpleNamespace, tmp_path: Path) -> None:
    blinking = setting("led", blink_ms=400)
    button = setting(latching=True, release_pin=9)
    button.channel = 1
    outputs = Outputs([blinking, button], hal, str(tmp_path / "latch.bin"))
    assert outputs.sooner_ms(hal.now, -1) == -1
    state.high = True
    outputs.follow(0, state)
    assert outputs.sooner_ms(hal.now, -1) == 400 and outputs.sooner_ms(hal.now, 300) == 300
    assert outputs.sooner_ms(hal.go(390), -1) == 10
    outputs.follow(1, state)
    assert outputs.sooner_ms(hal.now, -1) == 10
    outputs.step(hal.go(10))
    assert outputs.sooner_ms(hal.now, -1) == 50, "the button is looked at more often than the LED blinks"


def test_latches_outlive_resets_but_no_power_cycle(hal: Hal, state: SimpleNamespace, tmp_path: Path) -> None:
    path = str(tmp_path / "latch.bin")

    def board(power_on: bool) -> Outputs:
        made = Outputs([setting(), setting(latching=True)], hal, path)
        made.restore(power_on)
        return made

    outputs = board(True)
    outputs.keep()
    assert not list(tmp_path.iterdir()), "nothing latched, nothing written"
    state.high = True
    outputs.follow(0, state)
    outputs.keep()
    again = board(False)
    assert [output.on for output in again._outputs] == [False, True]
    off = board(True)
    assert [output.on for output in off._outputs] == [False, False]
    off.keep()
    assert not board(False)._outputs[1].on, "forgotten for good"


def test_a_flash_that_fails_is_written_once_a_change(hal: Hal, state: SimpleNamespace, tmp_path: Path) -> None:
    outputs = Outputs([setting(latching=True)], hal, str(tmp_path / "nowhere" / "latch.bin"))
    state.high = True
    outputs.follow(0, state)
    for _ in range(5):
        outputs.keep()
    assert outputs.io_errors == 1 and outputs._outputs[0].on
