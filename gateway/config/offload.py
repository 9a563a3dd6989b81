"""[analyses.NAME] and [offload]: what is looked for in windows, and when the cloud does it. Declarations only."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.config.keys import key, one_of
from gateway.offload import AUTO, PLACES, Band, Limits
from gateway.policy import Pattern
from isocore.analysis import SCORE_WINDOWS_MAX

ANALYSES_INTRO = """\
What is looked for in the windows of a site's sensors: which one leaves its neighbours, and which will cross a limit and
when (docs/analysis.md). Only channels whose policy sends windows have any. docs/offload.md tells more.

    [analyses.cold-chain]
    device_class = "freezer"
    channel = "temperature"
    high = 8.0
"""
OFFLOAD_INTRO = "When the cloud runs analyses instead of this gateway, and what each of them may cost here."


@dataclass(frozen=True)
class AnalysisConfig:
    """[analyses.NAME]"""

    device: str = key("*", "which devices, by id; *, ? and [abc] as in file names")
    device_class: str = key("*", "which classes of devices")
    channel: str = key("*", "which channels, by name; sensors of one unit belong into one analysis")
    length_s: int = key(900, "which windows; one of windows.lengths_s", 1, 86400)
    low: float = key(-math.inf, "limit to look out for below", -math.inf, math.inf, unit="channel's")
    high: float = key(math.inf, "limit to look out for above", -math.inf, math.inf, unit="channel's")
    place: str = key(AUTO, "auto: by load; here or cloud: always there", check=one_of(PLACES))
    across: bool = key(False, "with the windows of all gateways that fit; needs place cloud")

    def wrong(self, beside: Callable[[str], Path]) -> Iterator[tuple[str, str]]:
        if self.high <= self.low:
            yield "high", f"is {self.high}, it must be more than low, {self.low}"
        if self.across and self.place != "cloud":
            yield "across", 'needs place = "cloud": other gateways\' windows are there'

    @property
    def pattern(self) -> Pattern:
        return Pattern(self.device, self.device_class, self.channel)

    @property
    def look_back_s(self) -> int:
        """How old windows are looked at."""
        return SCORE_WINDOWS_MAX * self.length_s


@dataclass(frozen=True)
class OffloadConfig:
    """[offload]"""

    sink: str = key("", 'https sink whose receiver runs analyses and keeps results; "": the first, or none')
    lag_rows_high: int = key(20000, "load: rows that wait for the writer or the rules", 1, 100000000, live=True)
    lag_rows_low: int = key(2000, "calm below", 0, 100000000, live=True)
    cpu_high: float = key(0.85, "load: busy share of all processors, without niced work", 0.0, 1.01, live=True)
    cpu_low: float = key(0.6, "calm below", 0.0, 1.01, live=True)
    soc_high: float = key(78.0, "load: hottest thermal zone", -50.0, 200.0, unit="°C", live=True)
    soc_low: float = key(70.0, "calm below", -50.0, 200.0, unit="°C", live=True)
    backlog_rows_high: int = key(50000, "not to the cloud with as many rows on the way to it", 1, 10**9, live=True)
    backlog_rows_low: int = key(10000, "until there are fewer than that", 0, 10**9, live=True)
    rise: int = key(5, "looks, one a second, under load before runs go to the cloud", 1, 3600, live=True)
    fall: int = key(60, "looks in calm before they come back", 1, 86400, live=True)
    metered: bool = key(False, "true: the link costs by the byte, so load alone sends nothing there", live=True)
    metered_hours: tuple[int, ...] = key((), "hours of the day, local time, in which it does", 0, 23, live=True)
    run_s: float = key(60.0, "a run that takes longer is ended and counted", 1.0, 3600, live=True)

    def wrong(self, beside: Callable[[str], Path]) -> Iterator[tuple[str, str]]:
        for name in ("lag_rows", "cpu", "soc", "backlog_rows"):
            low, high = getattr(self, f"{name}_low"), getattr(self, f"{name}_high")
            if low >= high:
                yield f"{name}_low", f"is {low}, it must be less than {name}_high, {high}: between them nothing changes"

    @property
    def limits(self) -> Limits:
        return Limits(
            Band(self.lag_rows_high, self.lag_rows_low),
            Band(self.cpu_high, self.cpu_low),
            Band(self.soc_high, self.soc_low),
            Band(self.backlog_rows_high, self.backlog_rows_low),
            self.rise,
            self.fall,
        )
