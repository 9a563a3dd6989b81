"""Scores a detector by the rules of the Numenta Anomaly Benchmark, standard profile.

Source: Lavin, Ahmad: Evaluating Real-time Anomaly Detection Algorithms - the Numenta Anomaly Benchmark, ICMLA 2015
(arXiv:1510.03336), section II. In our words:

    A labelled failure is a window of rows. The earliest detection in a window counts, by where it stands: the sigmoid
    of its position, -1 at the window's left edge, 0 at its right one. A window without a detection costs one.
    A detection outside is false. It costs the less the sooner it follows a window: the same sigmoid of how many window
    lengths it is past the right edge, all of it before the first window and past three lengths.
    The first rows, 15 % of up to 5,000, are for learning: nothing in them counts.
    The sum, true ones by 1, false ones by 0.11, missed windows by 1, is laid between a detector that never says
    anything (0) and one that finds each window at its first row (100).

Rows, not times, are what positions are counted in. Pure: knows neither files nor detectors.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from host_tools.errors import InputError

PROBATION_SHARE = 0.15
PROBATION_ROWS_MAX = 750  # 15 % of 5,000
WEIGHT_TRUE, WEIGHT_FALSE, WEIGHT_MISSED = 1.0, 0.11, 1.0
_LENGTHS_MAX = 3.0  # past a window's end
YEAR_S = 365.25 * 86400


def sigmoid(position: float) -> float:
    """Nearly 1 at -1, 0 at a window's right edge, nearly -1 from 1 on."""
    if position > _LENGTHS_MAX:
        return -1.0
    return 2 / (1 + math.exp(5 * position)) - 1


@dataclass(frozen=True)
class Detection:
    """One detection. verdict: "found" (the first in its window), "again", "false" or "learning"; score: its part."""

    row: int
    verdict: str
    score: float


@dataclass(frozen=True)
class Score:
    """What a detector is worth on one file."""

    points: float
    """0 for silence, 100 for perfection; below 0 where false alarms outweigh. 0 where there is no window."""
    windows: int
    found: int
    false: int
    years: float
    detections: tuple[Detection, ...]
    raw: float

    @property
    def false_a_year(self) -> float:
        """False alarms a year."""
        return self.false / self.years if self.years else 0.0


def probation_rows(rows: int) -> int:
    """How many rows at the beginning do not count."""
    return min(PROBATION_ROWS_MAX, int(PROBATION_SHARE * rows))


def score(t_s: Sequence[float], windows: Sequence[tuple[int, int]], detected: Sequence[int]) -> Score:
    """Score detections on one file.

    t_s: the rows' times, rising, for the false alarms a year. windows: (first, last) rows, apart from one another.
    detected: the rows at which an alarm began, in any order. Raises InputError for windows that overlap or leave the
    file.
    """
    rows = len(t_s)
    ordered = sorted(windows)
    _check(ordered, rows)
    start = probation_rows(rows)
    counted = [window for window in ordered if window[1] >= start]
    lasts = [last for _, last in counted]
    best = sigmoid(-1.0)
    found: set[int] = set()
    detections: list[Detection] = []
    total = 0.0
    for row in sorted(set(detected)):
        if not 0 <= row < rows:
            raise InputError(f"detection at row {row} of a file of {rows} rows")
        if row < start:
            detections.append(Detection(row, "learning", 0.0))
            continue
        at = bisect_left(lasts, row)
        if at < len(counted) and counted[at][0] <= row:
            if at in found:
                detections.append(Detection(row, "again", 0.0))
                continue
            found.add(at)
            first, last = counted[at]
            part = WEIGHT_TRUE * sigmoid(-(last - row) / max(1, last - first)) / best
            detections.append(Detection(row, "found", part))
        else:
            part = WEIGHT_FALSE * (_after(counted[at - 1], row) if at else -1.0)
            detections.append(Detection(row, "false", part))
        total += part
    total -= WEIGHT_MISSED * (len(counted) - len(found))
    perfect, null = WEIGHT_TRUE * len(counted), -WEIGHT_MISSED * len(counted)
    points = 100 * (total - null) / (perfect - null) if counted else 0.0
    false = sum(one.verdict == "false" for one in detections)
    years = (t_s[-1] - t_s[start]) / YEAR_S if rows > start else 0.0
    return Score(points, len(counted), len(found), false, years, tuple(detections), total)


def together(scores: Sequence[Score]) -> float:
    """The points of several files, each window weighing the same, as the benchmark adds files up."""
    windows = sum(one.windows for one in scores)
    return 100 * (sum(one.raw for one in scores) + WEIGHT_MISSED * windows) / (2 * windows) if windows else 0.0


def windows_of_labels(labels: Sequence[int]) -> list[tuple[int, int]]:
    """The windows of a trace's labels: each stretch of labelled rows is one."""
    found = []
    first: int | None = None
    for row, label in enumerate((*labels, 0)):
        if label and first is None:
            first = row
        elif not label and first is not None:
            found.append((first, row - 1))
            first = None
    return found


def windows_of_times(t_s: Sequence[float], spans_s: Sequence[tuple[float, float]]) -> list[tuple[int, int]]:
    """The rows of windows given by time, both ends included. Raises InputError for one that holds no row."""
    found = []
    for start_s, end_s in spans_s:
        first = bisect_left(t_s, start_s)
        last = bisect_left(t_s, end_s)
        if last >= len(t_s) or t_s[last] > end_s:
            last -= 1
        if last < first:
            raise InputError(f"the window from {start_s:g} to {end_s:g} s holds no row of the trace")
        found.append((first, last))
    return found


def _after(window: tuple[int, int], row: int) -> float:
    first, last = window
    return sigmoid((row - last) / max(1, last - first))


def _check(ordered: Sequence[tuple[int, int]], rows: int) -> None:
    reached = -1
    for first, last in ordered:
        if not reached < first <= last < rows:
            raise InputError(f"the window of rows {first} to {last} overlaps another or leaves the file ({rows} rows)")
        reached = last
