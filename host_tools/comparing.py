"""Two threshold models compared: in words, field by field, and by what a board would have made of a history. Pure.

`old` None stands for the defaults that a board runs without a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from host_tools.history import NOTHING, History, Params, Prediction, replay, replay_run
from isocore import record
from isocore.model import FIELDS, PREDICTORS, ChannelParams, Model

_WORDS = {
    "high_on_milli": "high alarm at or above",
    "high_off_milli": "high alarm over at or below",
    "low_on_milli": "low alarm at or below",
    "low_off_milli": "low alarm over at or above",
    "debounce_samples": "samples in a row it takes",
    "rate_limit_milli_min": "largest change a minute",
    "valid_min_milli": "readings below are faults",
    "valid_max_milli": "readings above are faults",
    "stuck_s": "a reading unchanged for so long is a fault",
    "error_milli": "the reported signal is never further off than",
    "heartbeat_s": "report at least every",
    "trend_s": "time constant of the slope",
    "lead_pct": "share of the bound by which reports go ahead",
    "lead_after": "reports in one direction before going ahead",
    "delay_s": "reports may wait",
    "fit_pct": "slope fitted past this share of the bound",
    "min_interval_s": "reports wait for one another",
    "window_s": "summaries of each",
    "predictor": "between reports",
}
_PREDICTOR_WORDS = {
    "none": "every sample is sent",
    "hold": "the value holds",
    "trend": "the value goes on with its slope",
}
_ON = {record.HIGH_ON: "high", record.LOW_ON: "low", record.RATE_ON: "rate"}
_OFF = {record.HIGH_OFF: "high", record.LOW_OFF: "low", record.RATE_OFF: "rate"}


@dataclass(frozen=True)
class Span:
    """An alarm that stood: "high", "low" or "rate", from and to in ms on the plot's axis."""

    kind: str
    from_ms: int
    to_ms: int


@dataclass(frozen=True)
class Side:
    """What one model makes of a channel's history. reports: (ms, value)."""

    params: Params
    reports: tuple[tuple[int, int], ...]
    spans: tuple[Span, ...]
    predicted: Prediction


@dataclass(frozen=True)
class Compared:
    """One channel of one device: its samples, runs end to end, and what each model makes of them."""

    device: str
    channel: str
    runs: tuple[tuple[tuple[int, int], ...], ...]
    old: Side | None
    new: Side

    @property
    def unit(self) -> str:
        """What the values are in."""
        return unit_of(self.channel)


def unit_of(channel: str) -> str:
    """A channel's unit by its name, as the trainer tells them apart."""
    return "%RH" if "humidity" in channel else "hPa" if "pressure" in channel else "°C"


def compare(histories: Iterable[History], old: Model | None, new: Model) -> list[Compared]:
    """Each history of a channel that the new model names, under both."""
    return [
        _compared(one, None if old is None else old.params(one.channel), new.params(one.channel))
        for one in histories
        if one.channel in new.channels or (old is not None and one.channel in old.channels)
    ]


def _compared(history: History, old: Params | None, new: Params) -> Compared:
    runs, at_ms = [], 0
    starts = []
    for run in history.runs:
        first = run.t_ms[0] if run.t_ms else 0
        starts.append(at_ms - first)
        zipped = zip(run.t_ms, run.value, run.fault, strict=True)
        runs.append(tuple((at_ms + t_ms - first, value) for t_ms, value, fault in zipped if not fault))
        at_ms += run.duration_ms + history.period_ms
    before = None if old is None else _side(history, old, starts)
    return Compared(history.device, history.channel, tuple(runs), before, _side(history, new, starts))


def _side(history: History, params: Params, starts: Sequence[int]) -> Side:
    reports: list[tuple[int, int]] = []
    spans: list[Span] = []
    for run, start in zip(history.runs, starts, strict=True):
        found = replay_run(run, params)
        reports += [(start + t_ms, value) for t_ms, _, value, _ in found.reports]
        standing: dict[str, int] = {}
        for t_ms, kind, _ in found.alarms:
            if kind in _ON:
                standing.setdefault(_ON[kind], t_ms)
            elif _OFF[kind] in standing:
                spans.append(Span(_OFF[kind], start + standing.pop(_OFF[kind]), start + t_ms))
        spans += [Span(kind, start + since, start + run.t_ms[-1]) for kind, since in standing.items()]
    return Side(params, tuple(reports), tuple(sorted(spans, key=lambda s: s.from_ms)), replay(history, params))


def thinned(points: Sequence[tuple[int, int]], columns: int) -> list[tuple[int, int]]:
    """At most about two points a column of a picture: the least and the greatest, so that no peak is lost."""
    if len(points) <= 2 * columns:
        return list(points)
    cuts = [len(points) * i // columns for i in range(columns + 1)]
    out: list[tuple[int, int]] = []
    for start, stop in pairwise(cuts):
        part = points[start:stop]
        out += sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])})
    return out


# ---- in words


def differences(old: Model | None, new: Model) -> list[str]:
    """A sentence for each thing that changes; none when nothing does."""
    out = []
    if old is not None:
        for name in ("fleet", "target", "sequence", "expires_unix_s"):
            if getattr(old, name) != getattr(new, name):
                out.append(f"{name.removesuffix('_unix_s')}: {getattr(old, name)} -> {getattr(new, name)}")
        if tuple(old.min_firmware) != tuple(new.min_firmware):
            out.append(f"least firmware: {_version(old.min_firmware)} -> {_version(new.min_firmware)}")
    names = sorted({*new.channels, *(old.channels if old is not None else ())})
    for name in names:
        before = ChannelParams() if old is None else old.params(name)
        if name not in new.channels:
            out.append(f"{name}: no longer in the model, so the defaults hold")
        elif old is not None and name not in old.channels:
            out.append(f"{name}: new in the model, the defaults held before")
        out += [f"{name}: {text}" for text in _fields(before, new.params(name), unit_of(name))]
    return out


def _fields(old: Params, new: Params, unit: str) -> list[str]:
    out = []
    for field in (*FIELDS, "predictor"):
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            out.append(f"{_WORDS[field]}: {said(field, before, unit)} -> {said(field, after, unit)}")
    return out


def said(field: str, value: int | None, unit: str) -> str:
    """A field's value for people."""
    if field == "predictor":
        return _PREDICTOR_WORDS[PREDICTORS[value or 0]]
    if value is None:
        return "never"
    if field in ("valid_min_milli", "valid_max_milli") and value == FIELDS[field][2]:
        return "no bound"
    if field.endswith("_milli"):
        return f"{value / 1000:g} {unit}"
    if not value and field != "lead_pct":
        return "off"
    if field.endswith("_milli_min"):
        return f"{value / 1000:g} {unit} a minute"
    if field.endswith("_s"):
        return f"{value} s"
    return f"{value} %" if field.endswith("_pct") else str(value)


def effect(compared: Sequence[Compared]) -> list[str]:
    """What the history predicts, a sentence a channel; all devices of a channel together."""
    out = []
    for channel in sorted({one.channel for one in compared}):
        group = [one for one in compared if one.channel == channel]
        new = sum((one.new.predicted for one in group), NOTHING)
        text = f"{channel}, {len(group)} board(s), {new.days:.1f} sensor-days: "
        olds = [one.old.predicted for one in group if one.old is not None]
        if olds:
            old = sum(olds, NOTHING)
            text += (
                f"{old.messages_per_day:.1f} -> {new.messages_per_day:.1f} reports a sensor-day, "
                f"{old.alarms} -> {new.alarms} alarms, {old.faults} -> {new.faults} faults"
            )
        else:
            text += f"{new.messages_per_day:.1f} reports a sensor-day, {new.alarms} alarms, {new.faults} faults"
        out.append(text)
    return out


def _version(parts: Sequence[int]) -> str:
    return ".".join(map(str, parts))
