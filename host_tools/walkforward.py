"""What a board would have done whose limits had been trained anew every day, from nothing but what it had seen by then.

Day by day over one history: limits and rate are fitted to the last days (fitting.py), the board's own filter takes them
as it takes a new model, and steps through the day. So nothing of a day is known before it. Until `days_min` days have
been seen the board is learning and has no limits. Knows no labels and no scoring.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice, pairwise

from host_tools import fitting
from host_tools.fitting import USUAL, Rules
from host_tools.history import DAY_MS, History, Params, Run
from host_tools.screening import without_spikes
from isocore.filter import ChannelFilter
from isocore.model import ChannelParams
from isocore.record import HIGH_ON, LOW_ON, RATE_ON

DAYS_MIN = 7  # a week has all kinds of day
ALARMS = {HIGH_ON: "high", LOW_ON: "low", RATE_ON: "rate"}


@dataclass(frozen=True)
class Alarm:
    """An alarm that began. row: among the history's entries; limit_milli: what was passed (of a rate, a minute)."""

    row: int
    t_ms: int
    kind: str  # one of ALARMS' values
    value_milli: int
    limit_milli: int


@dataclass
class _Day:
    """One day as it is remembered: its samples, in order and sorted, and its largest change."""

    part: Run
    values: list[int]
    extremes: list[tuple[int, int]]
    steepest: int
    differences: list[int]


def walk(history: History, rules: Rules = USUAL, days_min: float = DAYS_MIN) -> Iterator[Alarm]:
    """The alarms of a history whose limits are trained anew each day. Faulty days teach what good samples they have."""
    row = 0
    for run in history.runs:
        yield from _walk_run(history, run, row, rules, days_min)
        row += len(run.t_ms)


def _walk_run(history: History, run: Run, row: int, rules: Rules, days_min: float) -> Iterator[Alarm]:
    params = _unarmed(history, rules)
    channel = ChannelFilter(params)
    days: list[_Day] = []
    at = 0
    while at < len(run.t_ms):
        day = run.t_ms[at] // DAY_MS
        end = at
        while end < len(run.t_ms) and run.t_ms[end] // DAY_MS == day:
            end += 1
        if len(days) >= days_min:
            _arm(params, days, history, rules)
            channel.configure(params)
        for i in range(at, end):
            t_s, rest_ms = divmod(run.t_ms[i], 1000)
            code = run.fault[i]
            for k in range(channel.fault(code) if code else channel.step(t_s, rest_ms, run.value[i])):
                kind = channel.kinds[k]
                if kind in ALARMS:
                    yield Alarm(row + i, run.t_ms[i], ALARMS[kind], channel.values[k], _limit(params, kind))
        days.append(_remember(history, run, at, end))
        del days[: -round(rules.history_days)]
        at = end


def _unarmed(history: History, rules: Rules) -> Params:
    params: Params = ChannelParams()
    params.valid_min_milli, params.valid_max_milli = history.valid_milli
    params.debounce_samples = fitting.debounce_samples(history.period_ms, 0, rules)
    params.error_milli = 10_000_000  # reports are of no interest here
    return params


def _arm(params: Params, days: list[_Day], history: History, rules: Rules) -> None:
    values = sorted(chain.from_iterable(day.values for day in days))
    if len(values) < rules.samples_min:
        return
    differences = sorted(chain.from_iterable(day.differences for day in days))
    noise_milli = fitting.noise_of(differences) if differences else 0.0
    extremes = list(chain.from_iterable(day.extremes for day in days))
    margin_milli = fitting.set_limits(params, values, extremes, noise_milli, history.channel == "humidity", rules)
    if rules.debounce_s is None:
        high = values[-1] if params.high_on_milli is None else params.high_on_milli - margin_milli
        low = values[0] if params.low_on_milli is None else params.low_on_milli + margin_milli
        known = chain.from_iterable(_past(day, low, high) for day in days)
        longest_ms = fitting.longest_excursion_ms(known, params, margin_milli, rules)
        params.debounce_samples = fitting.debounce_samples(history.period_ms, longest_ms, rules)
    steepest = [day.steepest for day in days]
    params.rate_limit_milli_min = fitting.rate_limit(steepest, len(steepest), history.period_ms, rules)


def _past(day: _Day, low: float, high: float) -> Iterator[tuple[int, int, int]]:
    """A day's entries; of one that never left the ordinary the first will do, which ends what came before."""
    calm = not day.values or (day.values[0] > low and day.values[-1] < high)
    return islice(fitting.entries(day.part), 1) if calm else fitting.entries(day.part)


def _remember(history: History, run: Run, at: int, end: int) -> _Day:
    part = without_spikes(history, Run(run.t_ms[at:end], run.value[at:end], run.fault[at:end]))
    good = [value for value, fault in zip(part.value, part.fault, strict=True) if not fault]
    differences = sorted(abs(b - a) for a, b in pairwise(good))
    steepest = max(fitting.steepest_by_day([part]).values(), default=0)
    return _Day(part, sorted(good), fitting.half_day_extremes([part]), steepest, differences)


def _limit(params: Params, kind: int) -> int:
    limit: int | None = {
        HIGH_ON: params.high_on_milli,
        LOW_ON: params.low_on_milli,
        RATE_ON: params.rate_limit_milli_min,
    }[kind]
    return limit or 0
