"""Limits from a history: what is ordinary, and how far from it an alarm begins.

A-priori throughout: quantiles, fences and shares of `Rules`, nothing fitted to labels; docs/training.md says how the
shares were chosen. Ordinary is what the last `history_days` show, so that limits follow the season and forget an old
thermostat. Knows no targets, no goals and no reporting.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from host_tools.errors import TrainingRefused
from host_tools.history import DAY_MS, History, Params, Run
from host_tools.screening import Screened, in_words
from isocore.model import FIELDS, ChannelParams

# What training has no say in stays as it is.
KEPT = ("heartbeat_s", "min_interval_s", "window_s")
RATE_SPAN_MS = 60_000  # the filter's own: a change counts over a minute, or over one period if that is longer
HALF_DAY_MS = DAY_MS // 2
RATE_MAX = FIELDS["rate_limit_milli_min"][1]


@dataclass(frozen=True)
class Rules:
    """The trainer's constants. `*_milli` are m°C for temperatures and m%RH for humidities."""

    tail_share: float = 0.005  # of samples beyond each limit's quantile
    fence_quartiles: float = 3.0
    margin_share: float = 0.25  # of the span between the quantiles
    extreme_share: float = 0.5  # of half-days whose extremes lie within the limits, whatever the fence says
    margin_milli_min: int = 1000
    margin_humidity_milli_min: int = 5000
    hysteresis_share: float = 0.3  # of the margin
    noise_factor: float = 4.0
    debounce_s: int | None = None  # None: fitted to the excursions in the history, by the next four
    debounce_level: float = 0.5  # of the margin: past it and back again is an excursion, a door or a window
    debounce_factor: int = 3  # times the longest of them
    debounce_s_min: int = 300
    debounce_s_max: int = 3600  # whatever lasts longer is no excursion
    debounce_samples_max: int = 60
    stuck_factor: int = 4  # times the longest rest in the history
    stuck_s_min: int = 86_400
    round_milli: int = 100
    days_min: float = 0.25
    samples_min: int = 50
    fault_share_max: float = 0.25  # of the time; more than the quartiles, on which limits rest, withstand for certain
    history_days: float = 28.0  # what counts as ordinary: the last so many days
    rate_margin_share: float = 1.0  # of the largest ordinary change a minute
    rate_days_min: int = 7  # days to learn changes from: a week has all kinds of day
    rate_noise_milli: int = 1000  # a change below it, in a minute or a longer sampling period, never alarms

    def teaches(self, one: Screened) -> bool:
        """Whether its sensor fails seldom enough to learn from."""
        return one.faulty <= self.fault_share_max


USUAL = Rules()


def debounced(debounce_s: int | None, rules: Rules = USUAL) -> Rules:
    """The rules with a debounce that somebody asked for; None: theirs."""
    if debounce_s is None:
        return rules
    return replace(rules, debounce_s=debounce_s, debounce_samples_max=FIELDS["debounce_samples"][1])


def check_enough(where: str, screened: Sequence[Screened], rules: Rules) -> None:
    """Raise TrainingRefused, beginning with `where`, for histories that are too faulty or too short to learn from."""
    found = [one for one in screened if rules.teaches(one)]
    if not found:
        least = min(screened, key=lambda one: one.faulty)
        raise TrainingRefused(
            f"{where}: sensor faults make up {100 * least.faulty:.0f} % of the time, more than "
            f"{100 * rules.fault_share_max:g} % teach nothing: {in_words(least.spans)}; see to the sensor first"
        )
    group = [one.history for one in found]
    days = max(history.days for history in group)
    samples = sum(history.samples for history in group)
    if days < rules.days_min:
        raise TrainingRefused(
            f"{where}: only {days * 24:.1f} h of readings, at least {rules.days_min * 24:g} h are needed"
        )
    if samples < rules.samples_min:
        raise TrainingRefused(f"{where}: only {samples} samples, at least {rules.samples_min} are needed")
    if all(min(values) == max(values) for values in (history.values() for history in group) if values):
        raise TrainingRefused(f"{where}: the reading never changed; is the sensor alive?")


def fit(group: Sequence[History], old: Params, rules: Rules) -> Params:
    """All parameters but error bound and reporting, from one channel's histories, screened for faults (screening.py).

    What training has no say in stays.
    """
    values = sorted(value for history in group for value in history.values())
    noise_milli = max(_noise_milli(history, old.error_milli) for history in group)
    period_ms = min(history.period_ms for history in group)
    new: Params = ChannelParams()
    for kept in KEPT:
        setattr(new, kept, getattr(old, kept))
    new.valid_min_milli = min(history.valid_milli[0] for history in group)
    new.valid_max_milli = max(history.valid_milli[1] for history in group)
    extremes = [pair for history in group for pair in half_day_extremes(history.runs)]
    margin_milli = set_limits(new, values, extremes, noise_milli, group[0].channel == "humidity", rules)
    longest_ms = max(longest_excursion_ms(entries(run), new, margin_milli, rules) for one in group for run in one.runs)
    new.debounce_samples = debounce_samples(period_ms, longest_ms, rules)
    longest_rest_s = max(_longest_rest_ms(history) for history in group) // 1000
    new.stuck_s = min(10_000_000, max(rules.stuck_s_min, rules.stuck_factor * longest_rest_s))
    per_day = [list(steepest_by_day(history.runs).values()) for history in group]
    steepest = [change for one in per_day for change in one]
    days = max(map(len, per_day), default=0)
    new.rate_limit_milli_min = rate_limit(steepest, days, period_ms, rules) or old.rate_limit_milli_min
    return new


def set_limits(
    params: Params,
    values: Sequence[int],
    extremes: Sequence[tuple[int, int]],
    noise_milli: float,
    humidity: bool,
    rules: Rules,
) -> float:
    """Set high and low limits with their hysteresis. Returns the margin in milli-units.

    params: with its valid range set. values: sorted. extremes: see `half_day_extremes`.
    """
    low, high = _normal_range(values, rules)
    if len(extremes) > 1:  # one alone may be the failure
        # What happens in that share of all half-days is ordinary, however short it is: a freezer's defrost, a noon sun.
        at = int(rules.extreme_share * (len(extremes) - 1))
        low = min(low, sorted((least for least, _ in extremes), reverse=True)[at])
        high = max(high, sorted(greatest for _, greatest in extremes)[at])
    margin = max(
        rules.margin_humidity_milli_min if humidity else rules.margin_milli_min,
        rules.margin_share * (high - low),
        rules.noise_factor * noise_milli,
    )
    hysteresis = _up(max(rules.hysteresis_share * margin, rules.noise_factor * noise_milli), rules.round_milli)
    high_on = _up(high + margin, rules.round_milli)
    low_on = -_up(-(low - margin), rules.round_milli)
    params.high_on_milli = params.high_off_milli = params.low_on_milli = params.low_off_milli = None
    if high_on < params.valid_max_milli:
        params.high_on_milli, params.high_off_milli = high_on, high_on - hysteresis
    if low_on > params.valid_min_milli:
        params.low_on_milli, params.low_off_milli = low_on, low_on + hysteresis
    return margin


def debounce_samples(period_ms: int, longest_ms: int, rules: Rules) -> int:
    """Samples in a row that it takes. longest_ms: see `longest_excursion_ms`."""
    fitted_s = min(rules.debounce_s_max, max(rules.debounce_s_min, rules.debounce_factor * longest_ms // 1000))
    debounce_s = fitted_s if rules.debounce_s is None else rules.debounce_s
    return min(rules.debounce_samples_max, max(1, -(-debounce_s * 1000 // period_ms)))


def entries(run: Run) -> Iterator[tuple[int, int, int]]:
    """(ms, value, fault) of each entry."""
    return zip(run.t_ms, run.value, run.fault, strict=True)


def longest_excursion_ms(
    found: Iterable[tuple[int, int, int]], params: Params, margin_milli: float, rules: Rules
) -> int:
    """How long the longest stay past the ordinary was, of those that ended by themselves: a door, a window, a defrost.

    found: (ms, value, fault) in order. params: with its limits set. What lasted longer than any debounce is none.
    """
    inside = (1 - rules.debounce_level) * margin_milli
    high = None if params.high_on_milli is None else params.high_on_milli - inside
    low = None if params.low_on_milli is None else params.low_on_milli + inside
    longest_ms, since_ms = 0, None
    for t_ms, value, fault in found:
        if fault:
            since_ms = None
        elif (high is not None and value >= high) or (low is not None and value <= low):
            since_ms = t_ms if since_ms is None else since_ms
        elif since_ms is not None:
            if t_ms - since_ms <= 1000 * rules.debounce_s_max:
                longest_ms = max(longest_ms, t_ms - since_ms)
            since_ms = None
    return longest_ms


def half_day_extremes(runs: Sequence[Run]) -> list[tuple[int, int]]:
    """(least, greatest) of each half-day that is at least half as full as the fullest."""
    found: dict[tuple[int, int], list[int]] = {}
    for number, run in enumerate(runs):
        for t_ms, value, fault in zip(run.t_ms, run.value, run.fault, strict=True):
            if not fault:
                found.setdefault((number, t_ms // HALF_DAY_MS), []).append(value)
    fullest = max(map(len, found.values()), default=0)
    return [(min(values), max(values)) for values in found.values() if 2 * len(values) >= fullest]


def steepest_by_day(runs: Sequence[Run]) -> dict[tuple[int, int], int]:
    """The largest change of each day, in milli-units a minute as the filter counts them, by (run, day of the run)."""
    found: dict[tuple[int, int], int] = {}
    for number, run in enumerate(runs):
        anchor_ms, anchor = 0, None
        for t_ms, value, fault in zip(run.t_ms, run.value, run.fault, strict=True):
            if fault or anchor is None:
                anchor_ms, anchor = t_ms, None if fault else value
                continue
            span_ms = t_ms - anchor_ms
            change = abs(value - anchor)
            if span_ms >= RATE_SPAN_MS:
                change = change * RATE_SPAN_MS // span_ms
                anchor_ms, anchor = t_ms, value
            key = (number, t_ms // DAY_MS)
            if change > found.get(key, -1):
                found[key] = change
    return found


def rate_limit(steepest: Sequence[int], days: int, period_ms: int, rules: Rules) -> int:
    """The largest change a minute that is ordinary, with a margin; 0, off, where there are too few days to know.

    steepest: each day's largest, of all boards. As with limits, an outlier teaches nothing: Tukey's outer fence.
    """
    if days < rules.rate_days_min:
        return 0
    ordered = sorted(steepest)
    quarter, three_quarters = _quantile(ordered, 0.25), _quantile(ordered, 0.75)
    ordinary = min(ordered[-1], three_quarters + rules.fence_quartiles * (three_quarters - quarter))
    least = rules.rate_noise_milli * RATE_SPAN_MS / max(RATE_SPAN_MS, period_ms)
    limit = _up(max(least, (1 + rules.rate_margin_share) * ordinary), 10)
    return limit if limit <= RATE_MAX else 0


def _normal_range(values: Sequence[int], rules: Rules) -> tuple[float, float]:
    """Where the channel ordinarily is."""
    quarter, three_quarters = _quantile(values, 0.25), _quantile(values, 0.75)
    reach = rules.fence_quartiles * (three_quarters - quarter)
    low = max(_quantile(values, rules.tail_share), quarter - reach)
    high = min(_quantile(values, 1 - rules.tail_share), three_quarters + reach)
    return low, high


def _quantile(values: Sequence[int], share: float) -> float:
    """Linear between the neighbours; `values` are sorted."""
    at = share * (len(values) - 1)
    below = int(at)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (at - below)


def _noise_milli(history: History, error_milli: int) -> float:
    """Scatter of one sample: from the differences' median, or, where only reports are known, half their bound."""
    if not history.exact:
        return error_milli / 4
    differences = sorted(step for run in history.runs for step in run.steps())
    if not differences:
        return 0.0
    return noise_of(differences)


def noise_of(differences: Sequence[int]) -> float:
    """Scatter of one sample from the differences between neighbours, sorted, without sign."""
    # 1.4826: median absolute deviation to standard deviation of a normal distribution; a difference has two scatters.
    return 1.4826 * differences[len(differences) // 2] / 2**0.5


def _longest_rest_ms(history: History) -> int:
    """The longest time without any change of the value."""
    longest = 0
    for run in history.runs:
        since: int | None = None
        value = 0
        for t_ms, now, fault in zip(run.t_ms, run.value, run.fault, strict=True):
            if fault:
                since = None
            elif since is None or now != value:
                since, value = t_ms, now
            else:
                longest = max(longest, t_ms - since)
    return longest


def _up(value: float, step: int) -> int:
    """The multiple of `step` at or above `value`."""
    return -int(-value // step) * step
