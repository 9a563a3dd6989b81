"""Failures put into histories at seeded places and labelled, and sensor faults that are no failures.

A failure is heat that people want to hear of: `cooling` lost (an exponential approach within hours), a `heater` stuck
on (the same, slower and less), a `drift` (a straight line over days). Each ends by itself and comes back exponentially.
Sensor faults are what a DS18B20 on a bad cable gives: `spike`, `power-on` (85 °C), `stuck`, `missing`. All sizes are
degrees, the same for every place, and none was chosen by what any detector makes of it. Deterministic by name and seed.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from host_tools.history import History, Run
from isocore.record import FAULT_CRC

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
FAILURES = ("cooling", "heater", "drift")
FAULTS = ("spike", "power-on", "stuck", "missing")
WINDOW_SHARE = 0.1  # of the rows, shared by all windows, each about its failure's beginning (Lavin and Ahmad 2015)
CLEAR_SHARE = 0.2  # of the rows at the beginning: nothing is put there, it is for learning
STEP_MILLI = 62.5  # DS18B20, 12 bits


@dataclass(frozen=True)
class Put:
    """What was put in: at entry `row` for `rows` entries."""

    kind: str
    row: int
    rows: int


@dataclass(frozen=True)
class Troubled:
    """A history with what was put into it, and NAB's windows about its failures."""

    history: History
    failures: tuple[Put, ...]
    faults: tuple[Put, ...]
    windows: tuple[tuple[int, int], ...]


def troubled(history: History, seed: int, failures: int = 4, faults: int = 8) -> Troubled:
    """Put failures and faults into the first run of a history, apart from one another."""
    random = Random(f"failures/{history.device}/{seed}")
    run = history.runs[0]
    rows = len(run.t_ms)
    values, marks = list(run.value), list(run.fault)
    window = int(WINDOW_SHARE * rows / failures)
    first = int(CLEAR_SHARE * rows)
    slots = _places(random, first + window, rows - window, failures, window + 1)
    put = [_fail(random, FAILURES[n % len(FAILURES)], run, values, at) for n, at in enumerate(slots)]
    windows = tuple((at - window // 2, at - window // 2 + window - 1) for at in slots)
    faulty = []
    for n in range(faults):
        kind = FAULTS[n % len(FAULTS)]
        while True:
            at = random.randrange(first, rows - 1)
            span = fault_rows(random, kind, history.period_ms)
            if all(at + span < low or at > high for low, high in windows) and not any(marks[at : at + span]):
                break
        inject(random, kind, values, marks, at, span)
        faulty.append(Put(kind, at, span))
    changed = Run(run.t_ms, array("i", values), array("b", marks))
    return Troubled(replace(history, runs=[changed]), tuple(put), tuple(faulty), windows)


def _places(random: Random, low: int, high: int, count: int, apart: int) -> list[int]:
    """`count` rows, at least `apart` from one another."""
    free = high - low - (count - 1) * apart
    return [low + at + n * apart for n, at in enumerate(sorted(random.randrange(free) for _ in range(count)))]


def _fail(random: Random, kind: str, run: Run, values: list[int], at: int) -> Put:
    """Warm the values from a row on, and let them come back."""
    size_milli = random.uniform(6000, 12_000) if kind == "cooling" else random.uniform(4000, 8000)
    tau_h = random.uniform(1, 4) if kind == "cooling" else random.uniform(3, 6)
    lasts_h = random.uniform(12, 36) if kind == "cooling" else random.uniform(24, 48)
    rises_h = random.uniform(48, 120)
    if kind == "drift":
        lasts_h = rises_h + 24
    last = at
    for row in range(at, len(values)):
        hours = (run.t_ms[row] - run.t_ms[at]) / HOUR_MS
        within = min(hours, lasts_h)
        more = min(1.0, within / rises_h) if kind == "drift" else 1 - math.exp(-within / tau_h)
        more *= math.exp(-max(0.0, hours - lasts_h))
        if more * size_milli < STEP_MILLI and hours > lasts_h:
            break
        values[row] = on_grid(values[row] + more * size_milli)
        last = row
    return Put(kind, at, last - at + 1)


def fault_rows(random: Random, kind: str, period_ms: int) -> int:
    """For how many entries a sensor fault lasts."""
    if kind in ("spike", "power-on"):
        return random.choice((1, 1, 2))
    hours = random.uniform(24, 48) if kind == "stuck" else random.uniform(0.5, 6)
    return max(1, round(hours * HOUR_MS / period_ms))


def inject(random: Random, kind: str, values: list[int], marks: list[int], at: int, rows: int) -> None:
    """Put a sensor fault at an entry, in place. marks: codes of faults that the board tells by itself."""
    end = min(at + rows, len(values))
    jump = random.choice((-1, 1)) * random.uniform(12_000, 25_000)
    for row in range(at, end):
        if kind == "spike":
            values[row] = on_grid(values[row] + jump)
        elif kind == "power-on":
            values[row] = 85_000
        elif kind == "stuck":
            values[row] = values[at]
        else:
            values[row], marks[row] = 0, FAULT_CRC


def with_faults(history: History, kind: str, seed: int) -> tuple[History, tuple[Put, ...]]:
    """The last 28 days of a history with sensor faults of one kind in its last run: three that last samples, or one
    that lasts hours, a sixth of the run at most."""
    history = history.recent(28)
    run = history.runs[-1]
    random = Random(f"{kind}/{seed}/{history.device}/{history.channel}")
    values, marks = list(run.value), list(run.fault)
    put = []
    for _ in range(3 if kind in ("spike", "power-on") else 1):
        rows = min(fault_rows(random, kind, history.period_ms), len(values) // 6)
        at = random.randrange(0, len(values) - rows - 1)
        inject(random, kind, values, marks, at, rows)
        put.append(Put(kind, at, rows))
    return replace(history, runs=[*history.runs[:-1], Run(run.t_ms, array("i", values), array("b", marks))]), tuple(put)


def without(history: History, put: Sequence[Put]) -> History:
    """A history whose last run lacks these entries."""
    run = history.recent(28).runs[-1]
    gone = {row for one in put for row in range(one.row, one.row + one.rows)}
    marks = array("b", (FAULT_CRC if row in gone else fault for row, fault in enumerate(run.fault)))
    return replace(history, runs=[*history.recent(28).runs[:-1], Run(run.t_ms, run.value, marks)])


def hot(history: History, share: float = 0.7) -> tuple[History, int]:
    """A history whose last run gets warmer by 15 °C (or damper by 30 %RH) within half an hour, for six hours or an
    eighth of it, and where that begins."""
    run = history.runs[-1]
    by_milli = 30_000 if history.channel == "humidity" else 15_000
    at = int(share * len(run.t_ms))
    lasts_ms = min(6 * HOUR_MS, run.duration_ms // 8)
    values = array("i", run.value)
    for row in range(at, len(values)):
        after_ms = run.t_ms[row] - run.t_ms[at]
        if after_ms > lasts_ms:
            break
        risen = min(1.0, (after_ms + history.period_ms) / (HOUR_MS / 2))
        values[row] = min(history.valid_milli[1], values[row] + round(by_milli * risen))
    return replace(history, runs=[*history.runs[:-1], Run(run.t_ms, values, run.fault)]), at


def on_grid(milli: float) -> int:
    """As a DS18B20 reads it, as near as whole milli-units go."""
    return round(round(milli / STEP_MILLI) * STEP_MILLI)


def found(windows: Sequence[tuple[int, int]], failures: Sequence[Put], rows: Sequence[int]) -> int:
    """Of how many failures an alarm began between their beginning and their window's end."""
    return sum(any(put.row <= row <= last for row in rows) for put, (_, last) in zip(failures, windows, strict=True))
