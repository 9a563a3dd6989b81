"""The formula that boards, trainer and receiver reconstruct by."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocore.predict import HORIZON_S, TREND_MAX, displacement, predict
from isocore.record import SMALL_INT_MAX, VALUE_MAX

trends = st.integers(-TREND_MAX, TREND_MAX)


@given(trends, st.integers(0, SMALL_INT_MAX))
def test_it_is_the_damped_trend_rounded(trend: int, elapsed_s: int) -> None:
    x = Fraction(min(elapsed_s, HORIZON_S))
    exact = trend * (x - x * x / (2 * HORIZON_S)) / 60
    # The share of a second is rounded up before it is multiplied, the result down.
    assert -abs(trend) / 60 - 1 <= displacement(trend, elapsed_s) - exact <= abs(trend) / 60 + 1


@given(st.integers(-VALUE_MAX, VALUE_MAX), trends, st.integers(0, SMALL_INT_MAX))
def test_it_stays_within_what_a_reading_can_be(value: int, trend: int, elapsed_s: int) -> None:
    assert -VALUE_MAX <= predict(value, trend, elapsed_s) <= VALUE_MAX
    assert predict(value, trend, 0) == value
    assert predict(value, 0, elapsed_s) == value


@given(trends)
def test_it_moves_one_way_and_stands_still_at_the_horizon(trend: int) -> None:
    path = [displacement(trend, elapsed_s) for elapsed_s in range(0, HORIZON_S + 61, 20)]
    assert path == sorted(path, reverse=trend < 0)
    assert displacement(trend, HORIZON_S) == displacement(trend, 10 * HORIZON_S) == trend * 20


@pytest.mark.parametrize(
    ("trend", "elapsed_s", "moved"),
    [(60, 60, 60), (60, 600, 525), (60, 2400, 1200), (60, 9999, 1200), (-60, 600, -525), (1, 59, 0), (-1, 59, -1)],
)
def test_by_hand(trend: int, elapsed_s: int, moved: int) -> None:
    assert displacement(trend, elapsed_s) == moved
