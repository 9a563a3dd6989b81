"""Windows in a batch, decoded strictly, and the rule by which they are stored: the highest revision of each stays.

The columns are those of docs/uplink.md, "Windows". It knows neither HTTP nor SQL.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from host_tools.cloud.strict import UNIX_S_MAX, Refuse
from isocore.record import SMALL_INT_MAX

WINDOWS_MAX = 65536
LENGTH_S_MAX = 86400
REVISION_MAX = (1 << 53) - 1
_COUNT_MAX = SMALL_INT_MAX
_TIME_MS_MAX = 10 * LENGTH_S_MAX * 1000  # a clock that was put back covers a time twice
COLUMNS = (
    "device",
    "channel",
    "length_s",
    "start_unix_s",
    "revision",
    "mean",
    "least",
    "greatest",
    "last",
    "count",
    "covered_ms",
    "alarm_ms",
    "fault_ms",
)


class Window(NamedTuple):
    """One window. `device` indexes `Batch.devices`; figures in milli-units, None where there was no value."""

    device: int
    channel: int
    length_s: int
    start_unix_s: int
    revision: int
    least: int | None
    mean: int | None
    greatest: int | None
    last: int | None
    reports: int
    covered_ms: int
    alarm_ms: int
    fault_ms: int


def decode(value: Any, devices: int, refuse: Refuse) -> list[Window]:
    """The `windows` of a batch. Raises what `refuse` makes of a sentence."""
    if not isinstance(value, dict) or value.keys() != set(COLUMNS):
        raise refuse(f"windows must hold the columns {', '.join(COLUMNS)}")
    columns = [value[name] for name in COLUMNS]
    if not all(isinstance(column, list) for column in columns):
        raise refuse("windows must hold lists")
    count = len(columns[0])
    if not 0 < count <= WINDOWS_MAX or any(len(column) != count for column in columns):
        raise refuse(f"the columns of windows must have one length, from 1 to {WINDOWS_MAX}")
    found = []
    start_s = revision = mean = 0
    for row in zip(*columns, strict=True):
        device, channel, length_s, start_step, revision_step, mean_step, *rest = row
        *around, reports, covered_ms, alarm_ms, fault_ms = rest
        _integers(
            (device, channel, length_s, start_step, revision_step, reports, covered_ms, alarm_ms, fault_ms), refuse
        )
        start_s += start_step
        revision += revision_step
        figures = _figures(mean_step, around, mean, refuse)
        mean = mean if figures[0] is None else figures[0]
        window = Window(
            _within(device, "device", 0, devices - 1, refuse),
            _within(channel, "channel", 0, 255, refuse),
            _within(length_s, "length_s", 1, LENGTH_S_MAX, refuse),
            _within(start_s, "start_unix_s", 0, UNIX_S_MAX, refuse),
            _within(revision, "revision", 1, REVISION_MAX, refuse),
            figures[1],
            figures[0],
            figures[2],
            figures[3],
            _within(reports, "count", 0, _COUNT_MAX, refuse),
            _within(covered_ms, "covered_ms", 0, _TIME_MS_MAX, refuse),
            _within(alarm_ms, "alarm_ms", 0, _TIME_MS_MAX, refuse),
            _within(fault_ms, "fault_ms", 0, _TIME_MS_MAX, refuse),
        )
        if start_s % length_s:
            raise refuse("a window's start must be a multiple of its length")
        found.append(window)
    return found


def _figures(mean_step: Any, around: list[Any], before: int, refuse: Refuse) -> list[int | None]:
    """Mean, least, greatest and last: a value each, or none at all."""
    if mean_step is None:
        if around != [None, None, None]:
            raise refuse("a window without a mean has neither least, greatest nor last")
        return [None, None, None, None]
    if around[2] is None:  # an alarm's reading, and no value that stood
        around = [around[0], around[1], 0]
        _integers((mean_step, *around), refuse)
        last = None
    else:
        _integers((mean_step, *around), refuse)
        last = before + mean_step + around[2]
    mean = before + mean_step
    figures = [mean, mean + around[0], mean + around[1], last]
    for figure in figures:
        if figure is not None:
            _within(figure, "a figure", -SMALL_INT_MAX, SMALL_INT_MAX, refuse)
    if around[0] > 0 or around[1] < 0:
        raise refuse("a window's mean must lie between its least and its greatest value")
    return figures


def _integers(values: tuple[Any, ...], refuse: Refuse) -> None:
    if not all(type(value) is int for value in values):
        raise refuse("windows must hold integers")


def _within(value: int, name: str, lowest: int, highest: int, refuse: Refuse) -> int:
    if not lowest <= value <= highest:
        raise refuse(f"{name} of a window must stay within {lowest} and {highest}")
    return value
