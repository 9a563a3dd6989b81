"""Sensor faults in a history: what no room made, so that training learns nothing from it.

    missing    entries that are faults already: the board said so, or nothing came
    power-on   a DS18B20 that browned out: exactly 85 °C, far from what was before (verdicts.py)
    spike      a jump, far past what is ordinary from one sample to the next, and back (verdicts.py)
    stuck      a rest four times as long as every rest that is left when it is set aside, and long at that

What it calls a fault may be none: a little good data is then not learnt from, which limits by quantiles do not feel.
What is hot stays in, however hot. Pure.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from host_tools.history import DAY_MS, History, Run
from host_tools.sensing import DS18B20_TEMP_MILLI
from host_tools.verdicts import POWER_ON, POWER_ON_JUMP_MILLI, POWER_ON_MILLI, SPIKE, far_milli, spike_samples

LEFT_OUT = -1  # the fault code of an entry that was judged; boards know none below 0
MISSING, STUCK = "missing", "stuck"
REST_FACTOR = 4  # as `fitting.Rules.stuck_factor`
REST_SAMPLES_MIN = 12
REST_MS_MIN, REST_HELD_MS_MIN = 3_600_000, DAY_MS  # of samples; of reports held, which rest as long as a room does
STUCK_MAX = 10  # a sensor that stuck more often than so is looked through by its share of time


@dataclass(frozen=True)
class Span:
    """One stretch of faulty entries: of which device and run (from 1), from and to in the run's time."""

    kind: str
    device: str
    run: int
    from_ms: int
    to_ms: int
    samples: int

    def __str__(self) -> str:
        where = self.device if self.run == 1 else f"{self.device}, start {self.run}"
        return f"{self.kind}, day {self.from_ms / DAY_MS:.2f} to {self.to_ms / DAY_MS:.2f} of {where}"


@dataclass(frozen=True)
class Screened:
    """A history whose faulty entries are marked (`LEFT_OUT`), and what they were. faulty: share of its time."""

    history: History
    spans: tuple[Span, ...]
    faulty: float


def screen(history: History) -> Screened:
    """Find the sensor faults of a history. What it returns is for learning, not for replay."""
    runs = [Run(run.t_ms, run.value, array("b", run.fault)) for run in history.runs]
    spans: list[Span] = []
    for number, run in enumerate(runs, 1):
        spans += _marked(history, run, number, MISSING, _stretches(run))
    jump_milli = far_milli(history, runs)
    for number, run in enumerate(runs, 1):
        if history.valid_milli == DS18B20_TEMP_MILLI:
            spans += _marked(history, run, number, POWER_ON, list(_power_on(run)))
        spans += _marked(history, run, number, SPIKE, list(_spikes(run, jump_milli)))
    for number, first, last in _stuck(history, runs):
        spans += _marked(history, runs[number - 1], number, STUCK, [(first, last)])
    covered_ms = sum(run.duration_ms + history.period_ms for run in runs if run.t_ms)
    lost_ms = sum(span.to_ms - span.from_ms for span in spans)
    return Screened(replace(history, runs=runs), tuple(spans), lost_ms / covered_ms if covered_ms else 0.0)


def without_spikes(history: History, part: Run) -> Run:
    """A part of a history, such as a day, with power-on values and spikes marked, judged by itself alone."""
    found = Run(part.t_ms, part.value, array("b", part.fault))
    if history.valid_milli == DS18B20_TEMP_MILLI:
        for first, last in list(_power_on(found)):
            _mark(found, first, last)
    for first, last in list(_spikes(found, far_milli(history, [found]))):
        _mark(found, first, last)
    return found


def in_words(spans: Sequence[Span]) -> str:
    """How many of each kind, how long in all, and the longest."""
    kinds = Counter(span.kind for span in spans)
    lost_ms = sum(span.to_ms - span.from_ms for span in spans)
    longest = max(spans, key=lambda span: span.to_ms - span.from_ms)
    counted = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    return f"{counted} ({lost_ms / 3_600_000:.1f} h in all), the longest {longest}"


def _marked(history: History, run: Run, number: int, kind: str, rows: Sequence[tuple[int, int]]) -> list[Span]:
    spans = []
    for first, last in rows:
        after_ms = run.t_ms[last + 1] if last + 1 < len(run.t_ms) else run.t_ms[last] + history.period_ms
        spans.append(Span(kind, history.device, number, run.t_ms[first], after_ms, last - first + 1))
        if kind != MISSING:
            _mark(run, first, last)
    return spans


def _mark(run: Run, first: int, last: int) -> None:
    for row in range(first, last + 1):
        run.fault[row] = LEFT_OUT


def _stretches(run: Run) -> list[tuple[int, int]]:
    """(first, last) of each row of faults."""
    found: list[tuple[int, int]] = []
    for row, fault in enumerate(run.fault):
        if fault and found and found[-1][1] == row - 1:
            found[-1] = (found[-1][0], row)
        elif fault:
            found.append((row, row))
    return found


def _power_on(run: Run) -> Iterator[tuple[int, int]]:
    row, before = 0, None
    while row < len(run.t_ms):
        if run.fault[row] or run.value[row] != POWER_ON_MILLI:
            before = before if run.fault[row] else run.value[row]
            row += 1
            continue
        first = row
        while row < len(run.t_ms) and not run.fault[row] and run.value[row] == POWER_ON_MILLI:
            row += 1
        after = next((run.value[i] for i in range(row, len(run.t_ms)) if not run.fault[i]), None)
        beside = after if before is None else before
        if beside is not None and abs(beside - POWER_ON_MILLI) > POWER_ON_JUMP_MILLI:
            yield first, row - 1
        else:
            before = POWER_ON_MILLI


def _spikes(run: Run, jump_milli: int) -> Iterator[tuple[int, int]]:
    row, before = 0, None
    while row < len(run.t_ms):
        if run.fault[row]:
            row += 1
            continue
        value = run.value[row]
        if before is not None and abs(value - before) >= jump_milli and (samples := spike_samples(run, row, before)):
            yield row, row + samples - 1
            row += samples
            continue
        before = value
        row += 1


def _stuck(history: History, runs: Sequence[Run]) -> list[tuple[int, int, int]]:
    """(run, first, last) of the rests that stand apart from all others."""
    rests = sorted(
        (
            (run.t_ms[last] - run.t_ms[first], number, first, last)
            for number, run in enumerate(runs, 1)
            for first, last in _rests(run)
        ),
        reverse=True,
    )
    least_ms = REST_MS_MIN if history.exact else REST_HELD_MS_MIN
    least_ms = max(least_ms, REST_SAMPLES_MIN * history.period_ms)
    apart = 0
    for count, (longer, next_longest) in enumerate(pairwise(rests[: STUCK_MAX + 1]), 1):
        if longer[0] >= max(least_ms, REST_FACTOR * next_longest[0]):
            apart = count
    return [(number, first, last) for _, number, first, last in rests[:apart]]


def _rests(run: Run) -> Iterator[tuple[int, int]]:
    """(first, last) of each stretch of one and the same value."""
    first: int | None = None
    for row in range(len(run.t_ms)):
        if run.fault[row]:
            if first is not None:
                yield first, row - 1
            first = None
        elif first is None or run.value[row] != run.value[first]:
            if first is not None:
                yield first, row - 1
            first = row
    if first is not None:
        yield first, len(run.t_ms) - 1
