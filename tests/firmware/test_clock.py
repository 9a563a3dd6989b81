"""The board's time: wraps, steps and the wall clock's absence change nothing but what they should."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isonode.clock import SOURCE_GATEWAY, SOURCE_RTC, SOURCE_SNTP, TRUST_S, Clock

PERIOD = 1 << 30
HALF = PERIOD // 2
DAY_S = 86400
TEN_YEARS_S = 10 * 365 * DAY_S


class Ticks:
    """MicroPython's ticks at any speed."""

    def __init__(self, start: int) -> None:
        self.now = start % PERIOD

    def __call__(self) -> int:
        return self.now

    def go(self, ms: int) -> None:
        self.now = (self.now + ms) % PERIOD


def diff(end: int, start: int) -> int:
    return ((end - start + HALF) % PERIOD) - HALF


@given(st.integers(0, PERIOD - 1), st.lists(st.integers(0, HALF - 1), max_size=30))
def test_uptime_is_the_sum_of_all_steps_whatever_wraps(start: int, steps: list[int]) -> None:
    ticks = Ticks(start)
    clock = Clock(ticks, diff)
    for step in steps:
        ticks.go(step)
        assert clock.advance() == ticks.now
    assert clock.s * 1000 + clock.ms == sum(steps)
    assert 0 <= clock.ms <= 999


@given(st.integers(0, PERIOD - 1), st.integers(0, 10**8), st.integers(-5000, 5000))
def test_a_moment_near_now(start: int, uptime_ms: int, offset_ms: int) -> None:
    ticks = Ticks(start)
    clock = Clock(ticks, diff)
    ticks.go(uptime_ms)
    clock.advance()
    clock.at((ticks.now + offset_ms) % PERIOD)
    assert clock.at_s * 1000 + clock.at_ms == max(0, uptime_ms + offset_ms)


def test_a_year_of_uptime_stays_small_integers() -> None:
    ticks = Ticks(0)
    clock = Clock(ticks, diff)
    for _ in range(366):
        ticks.go(DAY_S * 1000)
        clock.advance()
    assert clock.s == 366 * DAY_S < PERIOD


def test_wall_time_comes_goes_and_steps() -> None:
    ticks = Ticks(7)
    clock = Clock(ticks, diff)
    assert clock.epoch_s == 0
    ticks.go(90_500)
    clock.advance()
    assert clock.set_wall(31_000_000, 250)
    assert (clock.epoch_s, clock.epoch_ms) == (31_000_000 - 91, 750)
    assert not clock.set_wall(31_000_000, 900)  # network delay
    assert not clock.set_wall(31_000_001, 200)
    ahead_s = 31_000_000 + TEN_YEARS_S  # as a gateway without NTP may say
    assert not clock.set_wall(ahead_s, 0), "what is far off must be said twice"
    assert clock.set_wall(ahead_s, 0)
    assert clock.epoch_s == ahead_s - 91
    assert not clock.set_wall(31_000_000, 0)
    assert not clock.set_wall(ahead_s, 900), "once, and then the old time again"
    assert not clock.set_wall(31_000_000, 0)
    assert clock.set_wall(31_000_000, 0)
    assert clock.set_wall(31_000_300, 0), "minutes are taken at once"
    assert clock.resyncs == 3
    assert clock.s == 90


def test_the_better_source_is_believed_while_it_speaks() -> None:
    ticks = Ticks(0)
    clock = Clock(ticks, diff)
    ticks.go(10_000)
    clock.advance()
    assert clock.set_wall(31_000_000, 0, SOURCE_RTC)
    assert clock.set_wall(31_000_010, 0, SOURCE_GATEWAY)
    assert not clock.set_wall(31_000_000, 0, SOURCE_RTC)
    assert clock.set_wall(31_000_010, 400, SOURCE_SNTP), "its tolerance is smaller"
    assert not clock.set_wall(31_000_010, 500, SOURCE_SNTP)
    assert not clock.set_wall(31_000_500, 0, SOURCE_GATEWAY)
    ticks.go(TRUST_S * 1000)
    clock.advance()
    assert clock.set_wall(31_000_500 + TRUST_S, 0, SOURCE_GATEWAY), "SNTP has been silent for a day"
    assert clock.source == SOURCE_GATEWAY


def test_steps_of_the_wall_clock_leave_uptime_alone() -> None:
    """Whatever is said of the time of day, uptime is the sum of the ticks, across their wrap."""
    ticks = Ticks(PERIOD - 500)
    clock = Clock(ticks, diff)
    for number in range(100):
        ticks.go(12_345)
        clock.advance()
        for _ in range(2):
            clock.set_wall(400_000_000 + (number % 3 - 1) * TEN_YEARS_S, number)
        assert clock.s * 1000 + clock.ms == (number + 1) * 12_345
    assert clock.resyncs > 60


@pytest.mark.parametrize(("wall_s", "wall_ms"), [(-5, 0), (5, 0), (1 << 40, 0), (31_000_000, -700), (31_000_000, 5000)])
def test_times_that_cannot_be_are_ignored(wall_s: int, wall_ms: int) -> None:
    ticks = Ticks(0)
    clock = Clock(ticks, diff)
    ticks.go(60_000)
    clock.advance()
    if -1000 <= wall_ms < 0:
        assert clock.set_wall(wall_s, wall_ms)  # less than a second is carried
        assert (clock.epoch_s, clock.epoch_ms) == (wall_s - 61, 300)
    else:
        assert not clock.set_wall(wall_s, wall_ms)
        assert clock.epoch_s == 0
