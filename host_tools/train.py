"""Fits threshold models to histories, and says beforehand what boards will make of them.

Everything is deterministic and a-priori: quantiles, fences and margins of `Rules`, nothing tuned to labels:

    limits       the 0.5 % and 99.5 % quantiles, but no further than three quartile ranges beyond the quartiles (Tukey's
                 outer fence), so that a failure in the history does not teach itself; then a margin (fitting.py)
    hysteresis   from the margin and the noise; debounce from the sampling period; stuck time from the longest rest;
                 rate limit from the steepest change of each day
    error bound  as asked, or the smallest on a grid that keeps to a budget of messages a sensor-day
    heartbeat    the longest that tells a silent board in time, on one channel (heartbeat.py)
    reporting    of a fixed list of ways (WAYS, and the same with a delay) the one that sends least, found by replay

Too little or faulty data is refused with the reason. How boards apply a model is in `isocore.filter`, which is
replayed here, not imitated. It knows no files, keys or brokers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from host_tools.errors import InputError, TrainingRefused
from host_tools.fitting import USUAL, Rules, check_enough, fit
from host_tools.heartbeat import Silence, carriers, heartbeat_s, told_s
from host_tools.history import NOTHING, History, Params, Prediction, replay
from host_tools.screening import Screened, Span, screen
from host_tools.verdicts import verdicts
from isocore import model as iso_model
from isocore.errors import ModelError
from isocore.model import PREDICTOR_HOLD, PREDICTOR_NONE, PREDICTOR_TREND, PREDICTORS, ChannelParams, Model

SAVING_MIN = 0.03  # of send-on-delta's reports; with less, another way of reporting is not worth its name
HOPELESS = 5  # times a budget: what plain send-on-delta passes it by, no other way of reporting makes up for
ERRORS_MILLI = (50, 100, 150, 200, 250, 300, 400, 500, 650, 800, 1000, 1250, 1500, 2000, 2500, 3000, 4000, 5000)

DELAY_S_MAX = iso_model.FIELDS["delay_s"][1]


@dataclass(frozen=True)
class Reporting:
    """One way of reporting: the parameters that change how often is reported, but not how well."""

    predictor: int = PREDICTOR_HOLD
    trend_s: int = 0
    lead_pct: int = 0
    delay_s: int = 0
    lead_after: int = 0
    fit_pct: int = 0

    def set_on(self, params: Params) -> None:
        """Make these the parameters' own."""
        params.predictor, params.trend_s = self.predictor, self.trend_s
        params.lead_pct, params.delay_s = self.lead_pct, self.delay_s
        params.lead_after, params.fit_pct = self.lead_after, self.fit_pct

    def __str__(self) -> str:
        parts = [PREDICTORS[self.predictor]]
        if self.fit_pct:
            parts.append(f"fitted past {self.fit_pct} %")
        elif self.predictor == PREDICTOR_TREND:
            parts.append(f"of {self.trend_s} s" if self.trend_s else "since the last report")
        if self.lead_pct:
            parts.append(f"lead {self.lead_pct} %")
        if self.lead_after:
            parts.append(f"ahead after {self.lead_after}")
        if self.delay_s:
            parts.append(f"delay {self.delay_s} s")
        return ", ".join(parts)


# What is tried, the plainest first. docs/filter.md measures them.
WAYS = (
    Reporting(),
    *(Reporting(PREDICTOR_HOLD, 0, lead_pct) for lead_pct in (-30, 20, 40)),
    *(Reporting(PREDICTOR_TREND, trend_s, lead_pct) for trend_s in (0, 600, 1800) for lead_pct in (0, -30, 20)),
    *(Reporting(PREDICTOR_HOLD, 0, lead_pct, 0, after) for lead_pct, after in ((0, 1), (20, 1), (0, 2))),
    Reporting(PREDICTOR_TREND, lead_after=1),
)
# With a delay these too: the slope is fitted to what comes while a report waits.
FITTED = tuple(
    Reporting(PREDICTOR_TREND, lead_after=after, fit_pct=fit_pct) for fit_pct, after in ((100, 0), (100, 1), (50, 1))
)


@dataclass(frozen=True)
class Goal:
    """How closely a channel is to be reported: an error bound, or a budget of messages a sensor-day."""

    error_milli: int | None = None
    budget_per_day: float | None = None

    def __post_init__(self) -> None:
        if (self.error_milli is None) == (self.budget_per_day is None):
            raise InputError("give either an error bound or a budget of messages a day")
        if self.error_milli is not None and not 1 <= self.error_milli <= 100_000:
            raise InputError("an error bound lies between 0.001 and 100")
        if self.budget_per_day is not None and not 0 < self.budget_per_day < 1e6:
            raise InputError("a budget is a positive number of messages a day")


DEFAULT_GOALS: Mapping[str, Goal] = {"humidity": Goal(error_milli=2000), "": Goal(error_milli=500)}


@dataclass(frozen=True)
class ChannelResult:
    """One channel of a trained model: from how much it was learnt, and its replay under the old and new parameters."""

    name: str
    devices: int
    before: Prediction
    after: Prediction
    plain: Prediction
    """What the plainest way of reporting would send: send-on-delta with the same error bound."""
    reporting: Reporting
    period_ms: int
    debounce_before: int
    heartbeat_before: int
    borrowed: bool = False
    """Learnt from the boards of the same class, because the board itself has measured too little so far."""
    left_out: tuple[Span, ...] = ()
    """What was not learnt from, as sensor faults."""
    failing: tuple[Screened, ...] = ()
    """Histories that were not learnt from at all: their sensors fail too often."""
    verdicts: tuple[tuple[str, int], ...] = ()
    """What the alarms under the new parameters were, and how many of each (verdicts.py)."""


@dataclass(frozen=True)
class TrainedModel:
    """A model with its prediction."""

    model: Model
    channels: tuple[ChannelResult, ...]
    told_s: int = 0
    """In what time a silent board is told by its heartbeat; 0: it has none, or training had no say in it."""

    @property
    def predicted_before(self) -> Prediction:
        """All channels under the parameters that boards run now."""
        return sum((channel.before for channel in self.channels), NOTHING)

    @property
    def predicted_after(self) -> Prediction:
        """All channels under the new ones."""
        return sum((channel.after for channel in self.channels), NOTHING)

    @property
    def payload(self) -> bytes:
        """The bytes to sign."""
        payload: bytes = iso_model.to_payload(self.model)
        return payload


def train(
    histories: Sequence[History],
    fleet: str,
    targets: Sequence[str],
    sequence: int,
    goals: Mapping[str, Goal] = DEFAULT_GOALS,
    current: Mapping[str, Model] | None = None,
    rules: Rules = USUAL,
    delay_s: int | None = None,
    silence: Silence | None = None,
) -> list[TrainedModel]:
    """One model for each target ("*", "class:NAME", "device:NAME").

    goals: by channel name, "" for all others. current: the model boards run now by target; absent ones run the built-in
    defaults. delay_s: how long reports may wait for one another; None: as long as they may now. silence: what
    heartbeats are fitted to; None: they stay as they are. Raises TrainingRefused naming target, channel
    and reason; InputError for what no model may be.
    """
    known = current or {}
    return [train_one(histories, fleet, t, sequence, goals, known.get(t), rules, delay_s, silence) for t in targets]


def train_one(
    histories: Sequence[History],
    fleet: str,
    target: str,
    sequence: int,
    goals: Mapping[str, Goal] = DEFAULT_GOALS,
    current: Model | None = None,
    rules: Rules = USUAL,
    delay_s: int | None = None,
    silence: Silence | None = None,
) -> TrainedModel:
    """The model of one target; see `train`."""
    if delay_s is not None and not 0 <= delay_s <= DELAY_S_MAX:
        raise InputError(f"a delay lies between 0 and {DELAY_S_MAX} s")
    by_channel: dict[str, list[History]] = {}
    for history in histories:
        if _meant(target, history):
            by_channel.setdefault(history.channel, []).append(history)
    if not by_channel:
        raise TrainingRefused(f"{target}: no readings of it; have its boards reported, and is the name right?")
    learnt = {
        name: _learn(target, by_channel[name], histories, current, goals, rules, delay_s) for name in sorted(by_channel)
    }
    silent_s = 0 if silence is None else _give_heartbeat(learnt, silence)
    results = tuple(_fit_reporting(one, rules) for one in learnt.values())
    channels = {name: one.new for name, one in learnt.items()}
    model = Model(fleet, target, sequence, channels=channels)
    try:
        # What a board would refuse must not leave this place.
        model = iso_model.parse(iso_model.to_payload(model))
    except ModelError as error:
        raise InputError(f"{target}: no such model can be: {error}") from None
    return TrainedModel(model, results, silent_s)


@dataclass
class _Learnt:
    """A channel half-way: its parameters but for error bound and reporting."""

    name: str
    where: str
    group: Sequence[History]
    screened: Sequence[Screened]
    borrowed: bool
    old: Params
    new: Params
    goal: Goal
    delay_s: int

    @property
    def late_s(self) -> int:
        """By how much a report may be late: one sampling period, and what reports may wait."""
        period_s = -(-max(history.period_ms for history in self.group) // 1000)
        return period_s + self.delay_s + int(self.new.min_interval_s)


def _learn(
    target: str,
    group: Sequence[History],
    histories: Sequence[History],
    current: Model | None,
    goals: Mapping[str, Goal],
    rules: Rules,
    delay_s: int | None,
) -> _Learnt:
    name = group[0].channel
    where = f"{target}, channel {name}"
    old: Params = ChannelParams() if current is None else current.params(name)
    borrowed = False
    screened = _screened(group, rules)
    try:
        check_enough(where, screened, rules)
    except TrainingRefused:
        if any(one.spans for one in screened):
            raise  # a board whose sensor fails stays refused: faults are nobody else's affair
        group = list(_of_its_class(target, name, group, histories))
        screened = _screened(group, rules)
        check_enough(where, screened, rules)
        borrowed = True
    new = fit([one.history for one in screened if rules.teaches(one)], old, rules)
    goal = goals.get(name) or goals.get("") or DEFAULT_GOALS.get(name) or DEFAULT_GOALS[""]
    return _Learnt(name, where, group, screened, borrowed, old, new, goal, old.delay_s if delay_s is None else delay_s)


def _fit_reporting(one: _Learnt, rules: Rules) -> ChannelResult:
    """Set a channel's error bound and reporting, and replay it under the old and the new parameters."""
    plain, after, reporting = _choose(one.where, one.group, one.new, one.goal, ways_to_try(one.old, one.delay_s))
    return ChannelResult(
        name=one.name,
        devices=len(one.group),
        before=_replay_all(one.group, one.old),
        after=after,
        plain=plain,
        reporting=reporting,
        period_ms=min(history.period_ms for history in one.group),
        debounce_before=one.old.debounce_samples,
        heartbeat_before=one.old.heartbeat_s,
        borrowed=one.borrowed,
        left_out=tuple(span for each in one.screened if rules.teaches(each) for span in each.spans),
        failing=tuple(each for each in one.screened if not rules.teaches(each)),
        verdicts=tuple(sorted(verdicts(one.group, one.new).items())) if after.alarms else (),
    )


def _screened(group: Sequence[History], rules: Rules) -> list[Screened]:
    return [screen(history.recent(rules.history_days)) for history in group]


def _give_heartbeat(learnt: Mapping[str, _Learnt], silence: Silence) -> int:
    """Set the heartbeats. Returns in what time a silent board is told, 0 for never."""
    boards = {name: {history.device for history in one.group} for name, one in learnt.items()}
    carrying = carriers(boards, lambda name: _reports_by_itself(learnt[name]))
    slowest_s = 0
    for name, one in learnt.items():
        one.new.heartbeat_s = 0
        if name in carrying:
            one.new.heartbeat_s = beat_s = heartbeat_s(one.where, silence, one.late_s, one.goal.budget_per_day)
            slowest_s = max(slowest_s, told_s(beat_s, one.late_s) if beat_s else 0)
    return slowest_s


def _reports_by_itself(one: _Learnt) -> float:
    """Reports a sensor-day in the plainest way, under the bound asked for; under a budget, under the usual bound."""
    params: Params = ChannelParams()
    usual = DEFAULT_GOALS.get(one.name) or DEFAULT_GOALS[""]
    params.error_milli = one.goal.error_milli or usual.error_milli
    return _replay_all(one.group, params).messages_per_day


def _of_its_class(
    target: str, channel: str, group: Sequence[History], histories: Sequence[History]
) -> Sequence[History]:
    """Cold start: what a board of too short a history can be trained on, all of its class; else its own."""
    label = group[0].device_class
    if not target.startswith("device:") or label is None:
        return group
    return [history for history in histories if history.device_class == label and history.channel == channel]


def _meant(target: str, history: History) -> bool:
    return target in ("*", f"device:{history.device}", f"class:{history.device_class}")


def _replay_all(group: Sequence[History], params: Params) -> Prediction:
    return sum((replay(history, params) for history in group), NOTHING)


def ways_to_try(old: Params, delay_s: int) -> tuple[Reporting, ...]:
    """The ways of reporting to try. Who reports every sample now, goes on so."""
    if old.predictor == PREDICTOR_NONE:
        return (Reporting(PREDICTOR_NONE),)
    return WAYS + tuple(replace(way, delay_s=delay_s) for way in WAYS + FITTED) if delay_s else WAYS


def _choose(
    where: str, group: Sequence[History], params: Params, goal: Goal, ways: Sequence[Reporting]
) -> tuple[Prediction, Prediction, Reporting]:
    """Set error bound and reporting by the goal. Returns what the plainest and the chosen way send, and the latter."""
    if goal.error_milli is not None:
        params.error_milli = goal.error_milli
        return choose_reporting(group, params, ways)
    assert goal.budget_per_day is not None
    fewest = 0.0
    for error_milli in ERRORS_MILLI:
        params.error_milli = error_milli
        ways[0].set_on(params)
        fewest = _replay_all(group, params).messages_per_day
        if fewest > HOPELESS * goal.budget_per_day:
            continue
        found = choose_reporting(group, params, ways)
        fewest = found[1].messages_per_day
        if fewest <= goal.budget_per_day:
            return found
    beating = f", heartbeats each {params.heartbeat_s} s among them" if params.heartbeat_s else ""
    raise TrainingRefused(
        f"{where}: {goal.budget_per_day:g} messages a day cannot be kept; an error bound of "
        f"{ERRORS_MILLI[-1] / 1000:g} still makes {fewest:.1f}{beating}"
    )


def choose_reporting(
    group: Sequence[History], params: Params, ways: Sequence[Reporting]
) -> tuple[Prediction, Prediction, Reporting]:
    """Set the way that sends least, unless it saves too little over the first, the plainest, to be more than luck.

    Returns what the plainest and the chosen way send, and the latter.
    """
    predictions = []
    for way in ways:
        way.set_on(params)
        predictions.append(_replay_all(group, params))
    best = min(range(len(ways)), key=lambda i: predictions[i].messages)
    if predictions[best].messages > (1 - SAVING_MIN) * predictions[0].messages:
        best = 0
    ways[best].set_on(params)
    return predictions[0], predictions[best], ways[best]
