"""What a channel was, from its reports: the receiver's side of `isocore.predict`.

One boot's reports in, the value at any uptime out. Reports may come in any order: a delayed one is stamped with an
earlier uptime than alarms and faults that were sent before it. Knows neither stores nor models.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from isocore.predict import predict

Report = tuple[int, int, int, int]
"""(uptime_ms, seq, value in milli-units, trend in milli-units a minute)"""


class Reconstruction:
    """One channel in one boot."""

    def __init__(self, reports: Iterable[Report]) -> None:
        self._reports = sorted(reports)
        self._uptimes_ms = [report[0] for report in self._reports]

    def __bool__(self) -> bool:
        return bool(self._reports)

    def at(self, uptime_ms: int) -> int:
        """The value at an uptime; before the first report, what that one says. There must be a report."""
        report_ms, _, value, trend = self._reports[max(0, bisect_right(self._uptimes_ms, uptime_ms) - 1)]
        return value_after(value, trend, report_ms, uptime_ms)


def value_after(value: int, trend: int, report_ms: int, uptime_ms: int) -> int:
    """What a report of uptime `report_ms` says of `uptime_ms`: whole seconds of uptime are compared, as boards do."""
    predicted: int = predict(value, trend, max(0, uptime_ms // 1000 - report_ms // 1000))
    return predicted
