"""Heartbeats: the longest that still tells a silent board from a quiet room within a stated time.

A board is silent once two heartbeats in a row did not come: one alone may be late. So a stated time of T allows
heartbeats of T / 2, less what a report may be late by: one sampling period, and what reports may wait. Any record is a
sign of life and reports that are due anyhow count, so one channel of a board carries the heartbeat: of those that most
boards have, the one that reports most by itself, which then says least for its own sake.

The time is `SILENCE_S`, what the gateway's rule `absent` waits (docs/alarms.md), unless somebody states another. Where
nobody does, it gives way: to slow sampling, and to a budget of messages, of which heartbeats take at most half. A time
that was stated gives way to nothing: what cannot be is refused with the numbers. Knows no filter and no history.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass

from host_tools.errors import InputError, TrainingRefused

SILENCE_S = 7500
MISSED = 2  # heartbeats in a row that did not come
GRID_S = (60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)
LATENESSES = 4  # a time nobody stated allows heartbeats at least about so long, in what a report may be late by
BUDGET_SHARE = 0.5
DAY_S = 86_400


@dataclass(frozen=True)
class Silence:
    """The time, in seconds, in which a silent board is to be told. None: as usual; 0: never, so no heartbeat at all."""

    within_s: int | None = None

    def __post_init__(self) -> None:
        if self.within_s is not None and not 0 <= self.within_s <= MISSED * DAY_S * 2:
            raise InputError(f"the time to tell a silent board in lies between 0 and {MISSED * DAY_S * 2} s")


def told_s(heartbeat_s: int, late_s: int) -> int:
    """In what time a silent board is told. late_s: by how much a report may be late."""
    return MISSED * (heartbeat_s + late_s)


def heartbeat_s(where: str, silence: Silence, late_s: int, budget_per_day: float | None) -> int:
    """The heartbeat, 0 for none. budget_per_day: messages a sensor-day, if there is such a budget.

    Raises TrainingRefused, beginning with `where`, for a stated time that sampling or budget do not allow.
    """
    if silence.within_s == 0:
        return 0
    within_s = silence.within_s or max(SILENCE_S, told_s(LATENESSES * late_s, late_s))
    fitting = [beat_s for beat_s in GRID_S if told_s(beat_s, late_s) <= within_s]
    if not fitting:
        raise TrainingRefused(
            f"{where}: a silent board cannot be told in {within_s} s: its reports may be {late_s} s late (sampling "
            f"period and waits), so {told_s(GRID_S[0], late_s)} s are the least"
        )
    longest_s = fitting[-1]
    if budget_per_day is None:
        return longest_s
    if silence.within_s is not None:
        if DAY_S / longest_s > budget_per_day:
            raise TrainingRefused(
                f"{where}: {budget_per_day:g} messages a day cannot be kept: telling a silent board in {within_s} s "
                f"takes a heartbeat of {longest_s} s, and that alone makes {DAY_S / longest_s:g}"
            )
        return longest_s
    longer = (beat_s for beat_s in GRID_S if beat_s >= longest_s and DAY_S / beat_s <= BUDGET_SHARE * budget_per_day)
    return next(longer, 0)


def carriers(boards: Mapping[str, Set[str]], reports: Callable[[str], float]) -> list[str]:
    """The channels that carry the heartbeat, so that each board has one, by name.

    boards: by channel, the boards that have it. reports: how much a channel reports by itself; asked only where there
    is a choice.
    """
    left = {board for devices in boards.values() for board in devices}
    chosen = []
    while left:
        most = max(len(left & devices) for devices in boards.values())
        equal = sorted(name for name, devices in boards.items() if len(left & devices) == most)
        best = equal[0] if len(equal) == 1 else max(equal, key=lambda name: (reports(name), name))
        chosen.append(best)
        left -= boards[best]
    return sorted(chosen)
