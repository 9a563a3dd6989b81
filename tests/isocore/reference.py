"""What the filter's rules say, spelled out over whole histories without thought for memory: judge of isocore.filter.

Written from the rules at the top of firmware/isocore/filter.py, not from its code. Each question ("is the alarm on
now?") is answered from the list of everything that happened so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from isocore import record as r

Event = tuple[str, int, int]  # ("sample" or "fault", uptime in ms, value or code)
Record = tuple[int, int]
INFINITY = 1 << 40


def replay(params: Any, events: Sequence[Event]) -> list[list[Record]]:
    """The records after each event."""
    judge = Judge(params)
    return [judge.next(*event) for event in events]


class Judge:
    """Keeps all it has seen."""

    def __init__(self, params: Any) -> None:
        self.params = params
        self.out: list[Record] = []
        self.high_run: list[int] = []  # values since the alarm last switched or a fault broke the row
        self.low_run: list[int] = []
        self.high = self.low = self.rate = self.stuck = False
        self.fault = 0
        self.report: tuple[int, int] | None = None
        self.plateau: tuple[int, int] | None = None  # value, since when
        self.anchor: tuple[int, int] | None = None

    def next(self, what: str, t_ms: int, value: int) -> list[Record]:
        self.out = []
        params = self.params
        if what == "fault":
            self._fail(value)
        elif not params.valid_min_milli <= value <= params.valid_max_milli:
            self._fail(r.FAULT_RANGE)
        else:
            self._sample(t_ms, value)
        return self.out

    def _fail(self, code: int) -> None:
        if code != self.fault:
            self.out.append((r.FAULT, code))
            self.fault = code
        self.high_run = []
        self.low_run = []
        self.anchor = None

    def _sample(self, t_ms: int, value: int) -> None:
        afresh = self.report is None or bool(self.fault)
        if self.fault:
            self.out.append((r.FAULT_CLEARED, self.fault))
            self.fault = 0
            self.plateau = None
        self._judge_stuck(t_ms, value)
        params = self.params
        on, off = params.high_on_milli, params.high_off_milli
        self.high = self._judge_limit(
            self.high, self.high_run, value, (lambda v: v >= on), (lambda v: v <= off and v < on), on,
            (r.HIGH_ON, r.HIGH_OFF),
        )  # fmt: skip
        low_on, low_off = params.low_on_milli, params.low_off_milli
        self.low = self._judge_limit(
            self.low, self.low_run, value, (lambda v: v <= low_on), (lambda v: v >= low_off and v > low_on), low_on,
            (r.LOW_ON, r.LOW_OFF),
        )  # fmt: skip
        self._judge_rate(t_ms, value)
        self._judge_report(t_ms, value, afresh)

    def _judge_stuck(self, t_ms: int, value: int) -> None:
        if self.plateau is None or self.plateau[0] != value:
            self.plateau = (value, t_ms // 1000)
            if self.stuck:
                self.out.append((r.FAULT_CLEARED, r.FAULT_STUCK))
                self.stuck = False
        elif self.params.stuck_s and not self.stuck and t_ms // 1000 - self.plateau[1] >= self.params.stuck_s:
            self.out.append((r.FAULT, r.FAULT_STUCK))
            self.stuck = True

    def _judge_limit(
        self, standing: bool, run: list[int], value: int, past: Any, back: Any, limit: int | None, kinds: Any
    ) -> bool:
        if limit is None:
            return False
        run.append(value)
        needed = self.params.debounce_samples
        tail = run[-needed:]
        if len(tail) == needed and all(map(back if standing else past, tail)):
            self.out.append((kinds[1] if standing else kinds[0], value))
            run.clear()
            return not standing
        return standing

    def _judge_rate(self, t_ms: int, value: int) -> None:
        limit = self.params.rate_limit_milli_min
        if not limit:
            return
        if self.anchor is None:
            self.anchor = (t_ms, value)
            return
        span_s = (t_ms - self.anchor[0]) // 1000
        change = abs(value - self.anchor[1])
        minute = span_s >= 60
        # Past an hour in whole minutes, and never more than 4000 of them.
        scaled_s = span_s if span_s <= 3600 else min(span_s // 60, 4000) * 60
        bound = Fraction(limit * scaled_s, 60) if minute else Fraction(limit)
        shown = (change * 60 // span_s if change < 10_000_000 else change // span_s * 60) if minute else change
        if change > int(bound):
            if not self.rate:
                self.out.append((r.RATE_ON, shown))
            self.rate = True
        elif minute:
            if self.rate:
                self.out.append((r.RATE_OFF, shown))
            self.rate = False
        else:
            return
        self.anchor = (t_ms, value)

    def _judge_report(self, t_ms: int, value: int, afresh: bool) -> None:
        params = self.params
        at_s = t_ms // 1000
        if afresh or params.predictor == 0:
            kind = r.SAMPLE
        elif self.report is not None and abs(value - self.report[0]) > params.error_milli:
            kind = r.DELTA
        elif self.report is not None and params.heartbeat_s and at_s - self.report[1] >= params.heartbeat_s:
            kind = r.SAMPLE
        else:
            return
        self.report = (value, at_s)
        self.out.append((kind, value))
