"""Draws what two models make of a history: PNG by matplotlib's Agg, and one HTML page that needs nothing from outside.

A panel a channel: the history, the limits, what would be sent under the new model, and below, in two strips, which
alarms would have stood under the old and the new one. It computes nothing: host_tools/comparing.py does.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from host_tools.comparing import Compared, Side, thinned
from host_tools.history import DAY_MS, Params

PANELS_MAX = 12
_HOUR_MS = 3_600_000
_COLUMNS = 900  # points of a history that a panel shows, at most two each
_REPORTS_MAX = 2000
# Okabe and Ito's colours, which the colour-blind tell apart: history, new, old, alarm.
_GREY, _BLUE, _ORANGE, _RED = "#8a8f98", "#0072b2", "#e69f00", "#d55e00"
_LIMITS = ("high_on_milli", "low_on_milli")


def limits(params: Params) -> list[float]:
    """The lines at which alarms begin, in units."""
    return [getattr(params, name) / 1000 for name in _LIMITS if getattr(params, name) is not None]


def _span_ms(one: Compared) -> int:
    return max((run[-1][0] for run in one.runs if run), default=1) or 1


def _axis(span_ms: int) -> tuple[float, str]:
    """What an axis counts in."""
    return (DAY_MS, "days") if span_ms > 3 * DAY_MS else (_HOUR_MS, "hours")


def _range(one: Compared) -> tuple[float, float]:
    """Lowest and highest of the values and of the limits that lie near them, with room around."""
    values = [value / 1000 for run in one.runs for _, value in run] or [0.0]
    low, high = min(values), max(values)
    near = max(high - low, 1.0)
    lines = [line for side in (one.old, one.new) if side for line in limits(side.params)]
    shown = [line for line in lines if low - near <= line <= high + near]
    low, high = min([low, *shown]), max([high, *shown])
    room = max(high - low, 0.5) * 0.06
    return low - room, high + room


def _away(one: Compared) -> str:
    """Limits that no panel has room for."""
    low, high = _range(one)
    far = [f"{line:g}" for line in limits(one.new.params) if not low <= line <= high]
    return f"; alarm limits far off: {', '.join(far)} {one.unit}" if far else ""


def _heading(one: Compared) -> str:
    new = one.new.predicted
    counts = f"{new.messages} of {new.samples} samples sent, {new.alarms} alarms"
    if one.old is not None:
        counts = f"sent {one.old.predicted.messages} -> {new.messages} of {new.samples}, "
        counts += f"alarms {one.old.predicted.alarms} -> {new.alarms}"
    rate = one.new.params.rate_limit_milli_min
    return f"{counts}{f'; rate limit {rate / 1000:g} {one.unit} a minute' if rate else ''}{_away(one)}"


def _sides(one: Compared) -> Iterator[tuple[str, Side, str]]:
    if one.old is not None:
        yield "old", one.old, _ORANGE
    yield "new", one.new, _BLUE


# ---- PNG


def png(title: str, compared: Sequence[Compared], lines: Sequence[str], changes: Sequence[str]) -> bytes:
    """A picture, a panel a channel. The sentences of `changes` have no room in it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 0.9 + 3.3 * len(compared)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title + "\n" + "\n".join(lines[:6]), fontsize=10)
    grid = figure.add_gridspec(2 * len(compared), 1, height_ratios=[6, 1] * len(compared))
    for number, one in enumerate(compared):
        upper = figure.add_subplot(grid[2 * number])
        lower = figure.add_subplot(grid[2 * number + 1], sharex=upper)
        _panel(upper, one)
        _strips(lower, one)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _panel(axes: Any, one: Compared) -> None:
    unit_ms, _ = _axis(_span_ms(one))
    for number, run in enumerate(one.runs):
        points = thinned(run, _COLUMNS)
        label = "history" if number == 0 else None
        axes.plot([t / unit_ms for t, _ in points], [v / 1000 for _, v in points], color=_GREY, lw=1, label=label)
    sent = one.new.reports[:: 1 + len(one.new.reports) // _REPORTS_MAX]
    axes.plot([t / unit_ms for t, _ in sent], [v / 1000 for _, v in sent], ".", ms=3.5, color=_BLUE, label="sent (new)")
    low, high = _range(one)
    for name, side, colour in _sides(one):
        for number, line in enumerate(line for line in limits(side.params) if low <= line <= high):
            style = "--" if name == "old" else "-"
            axes.axhline(line, color=colour, ls=style, lw=1.3, label=None if number else f"alarm limits ({name})")
    for span in one.new.spans:
        axes.axvspan(span.from_ms / unit_ms, span.to_ms / unit_ms, color=_RED, alpha=0.12, lw=0)
    axes.set_ylim(low, high + 0.18 * (high - low))  # room for the legend
    axes.set_ylabel(one.unit)
    axes.set_title(f"{one.device} / {one.channel}: {_heading(one)}", fontsize=9, loc="left")
    axes.tick_params(labelbottom=False)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7, loc="upper right", ncols=4, framealpha=0.85)


def _strips(axes: Any, one: Compared) -> None:
    unit_ms, unit = _axis(_span_ms(one))
    names = []
    for row, (name, side, colour) in enumerate(_sides(one)):
        bars = [(s.from_ms / unit_ms, max(s.to_ms - s.from_ms, _span_ms(one) // 400) / unit_ms) for s in side.spans]
        axes.broken_barh(bars, (-row - 0.4, 0.8), color=colour)
        names.append(f"alarms, {name}")
    axes.set_yticks([-row for row in range(len(names))], names, fontsize=7)
    axes.set_ylim(-len(names) + 0.4, 0.6)
    axes.set_xlim(0, _span_ms(one) / unit_ms)
    axes.set_xlabel(unit, fontsize=8)
    axes.tick_params(axis="x", labelsize=8)


# ---- HTML

_WIDTH, _HEIGHT, _STRIP = 420, 210, 12
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 8, 8, 24
_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1c1f24; --soft: #5a616b; --line: #d7dbe0; --history: #8a8f98;
  --new: #0072b2; --old: #b87400; --alarm: #d55e00 }
@media (prefers-color-scheme: dark) { :root { --page: #14171b; --ink: #e8eaed; --soft: #a5acb6; --line: #363c45;
  --history: #868d97; --new: #56b4e9; --old: #e69f00; --alarm: #ff8a4c } }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: var(--page); color: var(--ink);
  font: 16px/1.45 system-ui, sans-serif }
h1 { font-size: 1.25rem } h2 { font-size: 1.05rem; margin: 1.6rem 0 .2rem }
p, li { margin: .2rem 0; overflow-wrap: anywhere }
.soft { color: var(--soft) } svg { width: 100%; height: auto; display: block }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif } .grid { stroke: var(--line) }
.history { fill: none; stroke: var(--history); stroke-width: 1.2 } .sent { fill: var(--new) }
.limit-new { stroke: var(--new); stroke-width: 1.4 }
.limit-old { stroke: var(--old); stroke-width: 1.4; stroke-dasharray: 5 3 }
.span { fill: var(--alarm); opacity: .16 } .bar-new { fill: var(--new) } .bar-old { fill: var(--old) }
.key span { white-space: nowrap; margin-right: 1rem } .key b { display: inline-block; width: 1.1em; height: .6em }
"""


def html(title: str, compared: Sequence[Compared], lines: Sequence[str], changes: Sequence[str]) -> bytes:
    """One page, pictures in it as SVG; no script, and nothing is fetched."""
    key = [("history", "history"), ("new", "new: limits, what is sent, alarms")]
    if any(one.old is not None for one in compared):
        key.append(("old", "old: limits (dashed), alarms"))
    key.append(("alarm", "alarm stands under the new model"))
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style><h1>{escape(title)}</h1>",
        *(f"<p>{escape(line)}</p>" for line in lines),
    ]
    if changes:
        parts.append("<h2>What changes</h2><ul>" + "".join(f"<li>{escape(line)}</li>" for line in changes) + "</ul>")
    spans = "".join(f'<span><b style="background:var(--{name})"></b> {text}</span>' for name, text in key)
    parts.append(f'<p class="key soft">{spans}</p>')
    for one in compared:
        parts.append(f"<h2>{escape(one.device)} / {escape(one.channel)}</h2>")
        parts.append(f'<p class="soft">{escape(_heading(one))}</p>{_svg(one)}')
    return "\n".join(parts).encode("utf-8")


def _svg(one: Compared) -> str:
    span_ms, (low, high) = _span_ms(one), _range(one)
    unit_ms, unit = _axis(span_ms)

    def x(t_ms: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * t_ms / span_ms, 1)

    def y(value: float) -> float:
        return round(_TOP + (_HEIGHT - _TOP) * (high - value) / (high - low), 1)

    rows = list(_sides(one))
    bottom = _HEIGHT + 6 + (_STRIP + 3) * len(rows)
    name = escape(f"{one.device} {one.channel}")
    out = [f'<svg viewBox="0 0 {_WIDTH} {bottom + _BOTTOM}" role="img" aria-label="{name}">']
    for value in _ticks(low, high, 5):
        out.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value)}" y2="{y(value)}"/>')
        out.append(f'<text x="{_LEFT - 4}" y="{y(value) + 4}" text-anchor="end">{value:g}</text>')
    for value in _ticks(0, span_ms / unit_ms, 6):
        out.append(f'<text x="{x(value * unit_ms)}" y="{bottom + 12}" text-anchor="middle">{value:g}</text>')
    out.append(f'<text x="{_WIDTH - _RIGHT}" y="{bottom + 23}" text-anchor="end">{unit}; {one.unit}</text>')
    for span in one.new.spans:
        wide = max(0.5, x(span.to_ms) - x(span.from_ms))
        out.append(
            f'<rect class="span" x="{x(span.from_ms)}" y="{_TOP}" width="{wide:.1f}" height="{_HEIGHT - _TOP}"/>'
        )
    for run in one.runs:
        points = " ".join(f"{x(t)},{y(v / 1000)}" for t, v in thinned(run, _COLUMNS // 2))
        out.append(f'<polyline class="history" points="{points}"/>')
    for name, side, _ in rows:
        for line in limits(side.params):
            if low <= line <= high:
                ends = f'x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(line)}" y2="{y(line)}"'
                out.append(f'<line class="limit-{name}" {ends}/>')
    for t_ms, value in one.new.reports[:: 1 + len(one.new.reports) // _REPORTS_MAX]:
        out.append(f'<circle class="sent" cx="{x(t_ms)}" cy="{y(value / 1000)}" r="1.5"/>')
    for number, (name, side, _) in enumerate(rows):
        top = _HEIGHT + 6 + (_STRIP + 3) * number
        out.append(f'<text x="{_LEFT - 4}" y="{top + 10}" text-anchor="end">{name}</text>')
        out.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{top + _STRIP}" y2="{top + _STRIP}"/>')
        for span in side.spans:
            wide = max(1.5, x(span.to_ms) - x(span.from_ms))
            tip = f"<title>{span.kind}, from {span.from_ms / unit_ms:.1f} to {span.to_ms / unit_ms:.1f} {unit}</title>"
            place = f'x="{x(span.from_ms)}" y="{top}" width="{wide:.1f}" height="{_STRIP}"'
            out.append(f'<rect class="bar-{name}" {place}>{tip}</rect>')
    return "".join(out) + "</svg>"


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers within a range: 1, 2 or 5 times a power of ten apart."""
    raw = (high - low) / about
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    first = math.ceil(low / step)
    return [round(i * step, 10) for i in range(first, math.floor(high / step) + 1)]
