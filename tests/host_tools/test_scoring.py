"""The benchmark's rules, checked by hand-worked cases and by what must hold for every detector."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host_tools.errors import InputError
from host_tools.scoring import (
    YEAR_S,
    probation_rows,
    score,
    sigmoid,
    together,
    windows_of_labels,
    windows_of_times,
)

HOUR_S = 3600.0
T_S = [i * HOUR_S for i in range(1000)]  # 150 rows of learning


def test_the_sigmoid_at_its_landmarks() -> None:
    assert sigmoid(0) == 0
    assert sigmoid(-1) == pytest.approx(0.98661, abs=1e-5)  # 2 / (1 + e^-5) - 1
    assert sigmoid(1) == pytest.approx(-0.98661, abs=1e-5)
    assert sigmoid(0.5) == pytest.approx(-sigmoid(-0.5))
    assert sigmoid(0.5) == pytest.approx(-0.84828, abs=1e-5)  # 2 / (1 + e^2.5) - 1
    assert sigmoid(3.0) > sigmoid(3.0001) == -1


def test_the_time_of_learning() -> None:
    assert [probation_rows(rows) for rows in (0, 100, 4999, 5000, 22_695)] == [0, 15, 749, 750, 750]
    result = score(T_S, [(500, 600)], [0, 149, 150])
    assert [one.verdict for one in result.detections] == ["learning", "learning", "false"]


def test_silence_is_nothing_and_each_window_at_its_first_row_is_everything() -> None:
    windows = [(200, 300), (500, 600)]
    assert score(T_S, windows, []).points == 0
    assert score(T_S, windows, [200, 500]).points == pytest.approx(100)
    assert score(T_S, windows, [200]).points == pytest.approx(50)
    assert score(T_S, [], [700]).points == 0
    assert score(T_S, [(10, 60)], []).windows == 0  # over before anything counts


def test_a_case_by_hand() -> None:
    # A window of 101 rows found half way, again later; a false alarm half a length behind it, and one before it.
    result = score(T_S, [(500, 600)], [550, 580, 650, 300])
    half = 2 / (1 + math.exp(-2.5)) - 1
    full = 2 / (1 + math.exp(-5)) - 1
    raw = half / full + 0.11 * -half - 0.11
    assert result.raw == pytest.approx(raw)
    assert result.points == pytest.approx(100 * (raw + 1) / 2)
    assert [(one.row, one.verdict) for one in result.detections] == [
        (300, "false"),
        (550, "found"),
        (580, "again"),
        (650, "false"),
    ]
    assert (result.found, result.windows, result.false) == (1, 1, 2)
    assert result.false_a_year == pytest.approx(2 / ((999 - 150) * HOUR_S / YEAR_S))


def test_a_false_alarm_costs_by_the_window_before_it_and_all_of_it_past_three_lengths() -> None:
    windows = [(200, 250), (800, 850)]
    near, far, beyond = (score(T_S, windows, [row]).raw for row in (260, 400, 401))
    assert near > far > beyond == pytest.approx(-2 - 0.11)
    assert far == pytest.approx(-2 + 0.11 * sigmoid(3.0))


def test_the_last_row_of_a_window_finds_it_for_nothing() -> None:
    result = score(T_S, [(500, 600)], [600])
    assert (result.found, result.raw) == (1, 0)
    assert result.points == pytest.approx(50)


def test_files_weigh_by_their_windows() -> None:
    both, neither = score(T_S, [(200, 300), (500, 600)], [200, 500]), score(T_S, [(200, 300)], [])
    assert together([both, neither]) == pytest.approx(200 / 3)
    assert together([]) == 0


def test_windows_of_labels_and_of_times() -> None:
    assert windows_of_labels([0, 1, 1, 0, 0, 1]) == [(1, 2), (5, 5)]
    assert windows_of_labels([]) == []
    assert windows_of_times(T_S, [(1800, 7200), (0, 0)]) == [(1, 2), (0, 0)]
    with pytest.raises(InputError, match="holds no row"):
        windows_of_times(T_S, [(100, 200)])


@pytest.mark.parametrize("windows", [[(500, 600), (600, 700)], [(900, 1000)], [(20, 10)], [(-5, 5)]])
def test_impossible_windows_are_refused(windows: list[tuple[int, int]]) -> None:
    with pytest.raises(InputError, match="overlaps another or leaves"):
        score(T_S, windows, [])


@settings(max_examples=100, deadline=None)
@given(st.sets(st.integers(0, 999), max_size=30), st.integers(150, 999))
def test_perfection_is_the_most_and_a_false_alarm_never_helps(rows: set[int], more: int) -> None:
    windows = [(200, 300), (500, 600)]
    base = score(T_S, windows, sorted(rows))
    assert base.points <= 100 + 1e-9
    extended = score(T_S, windows, [*rows, more])
    far = not any(first <= more <= last for first, last in windows) and more not in rows
    # Just behind a window a false alarm costs next to nothing, but never brings anything.
    assert extended.points < base.points if far else True
    in_window = any(first <= more <= last for first, last in windows)
    assert extended.points >= base.points - 1e-9 if in_window else True
