"""Windows of any length over one channel: taken from gateways' windows where there are some, else folded from rows.

`isocore.aggregate` is the one definition of a window (docs/windows.md). What a gateway folded comes first, since it may
have known rows that its policy kept back. It knows neither SQL nor HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from isocore.aggregate import fold

HOLD_S = 7500  # a value is carried so far past a channel's last record: the gateway's own default
GATEWAY, ROWS = "gateway", "rows"

# (boot, seq, kind, value, trend, uptime_ms, unix_ms), as `isocore.aggregate.fold` takes them
Record = tuple[int, int, int, int, int, int, int]


class Figures(NamedTuple):
    """One window: figures in milli-units, None where there was no value. source: GATEWAY or ROWS."""

    start_unix_s: int
    least: int | None
    mean: int | None
    greatest: int | None
    last: int | None
    reports: int
    covered_ms: int
    alarm_ms: int
    fault_ms: int
    source: str


def from_rows(
    records: Iterable[Record], length_s: int, first_unix_s: int, end_unix_s: int, now_unix_s: int
) -> dict[int, Figures]:
    """Windows that begin within [first, end), by their start. What stands is carried on to the last window's end, as
    far as it may be, and never past `now`."""
    upto_ms = min(-(-end_unix_s // length_s) * length_s, now_unix_s) * 1000
    windows = fold(records, (length_s,), HOLD_S, upto_ms)
    return {
        start: Figures._make((start, *window.figures(), ROWS))
        for (_, start), window in windows.items()
        if first_unix_s <= start < end_unix_s
    }


def from_windows(windows: Iterable[Figures], length_s: int) -> dict[int, Figures]:
    """Windows of a gateway, in order of their start, put together to longer ones. The mean is by covered time."""
    groups: dict[int, list[Figures]] = {}
    for window in windows:
        groups.setdefault(window.start_unix_s // length_s * length_s, []).append(window)
    return {start: _joined(start, group) for start, group in groups.items()}


def _joined(start_unix_s: int, group: list[Figures]) -> Figures:
    if len(group) == 1:
        return group[0]._replace(start_unix_s=start_unix_s)
    values = [window for window in group if window.least is not None]
    least = min((window.least for window in values if window.least is not None), default=None)
    greatest = max((window.greatest for window in values if window.greatest is not None), default=None)
    covered_ms = sum(window.covered_ms for window in values)
    area = sum(window.mean * window.covered_ms for window in values if window.mean is not None)
    mean = area // covered_ms if covered_ms else (values[-1].mean if values else None)
    return Figures(
        start_unix_s,
        least,
        mean,
        greatest,
        group[-1].last,
        sum(window.reports for window in group),
        covered_ms,
        sum(window.alarm_ms for window in group),
        sum(window.fault_ms for window in group),
        GATEWAY,
    )


def merged(of_gateway: Mapping[int, Figures], of_rows: Mapping[int, Figures]) -> list[Figures]:
    """One window for each start, in order."""
    return [figures for _, figures in sorted({**of_rows, **of_gateway}.items())]
