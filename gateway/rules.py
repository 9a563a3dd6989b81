"""Rules: what the stored rows and the devices' lives say, turned into conditions, and those into alarms.

It follows the store's commits (gateway.follow) and looks at devices and clock once a second, so it works with cloud and
broker away, and with a store that fails: then an alarm is told at once and kept when the store can. A change is kept in
one transaction with the place up to which rows were read, the record that goes up, and what outputs have to be told, so
nothing is raised twice after a kill. Everything is timed by the monotonic clock: a wall clock that jumps raises
nothing. Bounds: gateway.alarms. It knows neither SQL nor outputs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from gateway.alarms import Book, Change
from gateway.conditions import Conditions, Rule
from gateway.life_rules import LifeRules
from gateway.messages import Alarm, DeviceInfo, Finding, Row, StoreState, Vitals
from gateway.metrics import Metrics
from gateway.policy import channel_name
from gateway.row_rules import RowRules

FOLLOWER = "rules"
DURABLE_WAIT_S = 1.0  # how long an alarm waits for the disk before it is told all the same
_SAVE_EVERY_S = 30.0


class Kept(Protocol):
    """What is asked of the store: gateway.store.AlarmReader."""

    def standing(self) -> list[Alarm]: ...
    def next_numbers(self) -> tuple[int, int]: ...
    def vitals(self) -> list[Vitals]: ...


# (place up to which rows are read, changes) -> how many of the first changes are durable; waits at most DURABLE_WAIT_S
Keep = Callable[[int, Sequence[Change]], int]


class Rules:
    """Follows the store. Calls from several threads are one after the other."""

    def __init__(
        self,
        rules: Mapping[str, Rule],
        kept: Kept,
        info: Callable[[int], DeviceInfo | None],
        keep: Keep,
        tell: Callable[[Sequence[Change]], None],
        metrics: Metrics,
        clock_s: Callable[[], float],
        wall_s: Callable[[], float],
        skip: str = "",
    ) -> None:
        """keep: see Keep; tell: what happened, once kept or not kept in time; skip: the device that sends it up."""
        self._kept = kept
        self._keep = keep
        self._tell = tell
        self._metrics = metrics
        self._clock_s = clock_s
        self._wall_s = wall_s
        self._lock = threading.RLock()
        self._book = Book(kept.standing(), kept.next_numbers()[0])
        self._conditions = Conditions(rules, self._book, clock_s)
        self._lives = LifeRules(self._conditions, clock_s, wall_s, skip)
        self._rows = RowRules(self._conditions, info, self._lives.lives, skip)
        self._unkept: list[Change] = []
        self._store_state: StoreState | None = None
        self._store_failing: Callable[[], str | None] = lambda: None
        self._next_row = 1
        self._saved_s = clock_s()

    # -- the follower's calls

    wants_rows = True

    def stand_at(self, next_row: int) -> None:
        """The first row that will be handed over: kept as the place until rows have come."""
        self._next_row = next_row

    def forget(self) -> None:
        with self._lock:
            self._forget_names()

    def prime(self, rows: Sequence[Row]) -> None:
        """Rows that were worked in before a restart: what they say still holds, and raises nothing by itself."""
        with self._lock:
            for row in rows:
                self._rows.row(row)

    def take(self, rows: list[Row], next_row: int) -> None:
        with self._lock:
            for row in rows:
                self._rows.row(row)
            self._rows.combined()
            self._next_row = next_row
            self._look()

    def tick(self) -> None:
        with self._lock:
            self._lives.look(self._kept.vitals())
            self._store()
            self._rows.combined()
            self._look()

    # -- for people and the rest of the gateway

    @property
    def standing(self) -> list[Alarm]:
        with self._lock:
            return self._book.standing

    def acknowledge(self, number: int | None) -> int:
        """One alarm or all (None). Returns how many were not acknowledged before."""
        with self._lock:
            changes = self._book.acknowledge(number, self._unix_ms())
            self._settle(changes)
            return len(changes)

    def tune(self, rules: Mapping[str, Rule]) -> None:
        """Other rules from now on; what those that are gone had raised is cleared."""
        with self._lock:
            self._conditions.sort(rules)
            self._forget_names()
            changes = [
                change
                for alarm in self._book.standing
                if alarm.rule not in rules
                for change in self._book.end((alarm.rule, alarm.device, alarm.channel), self._unix_ms())
            ]
            self._settle(changes)

    def store_state(self, state: StoreState) -> None:
        """In the store's thread: returns at once, `tick` looks at it."""
        self._store_state = state

    def watch_store(self, failing: Callable[[], str | None]) -> None:
        """failing: why the store cannot commit now, or None."""
        self._store_failing = failing

    def judged(self, analysis: str, findings: Sequence[Finding]) -> None:
        """What an analysis found: a rule's condition holds until the next run says otherwise."""
        with self._lock:
            for found in findings:
                channel = channel_name(found.info, found.channel)
                subject = f"{channel} {analysis}"
                for name, rule in self._conditions.of("trend"):
                    if rule.pattern.fits(found.info, channel):
                        on = found.cross_s is not None and found.cross_s <= rule.within_s
                        self._conditions.note(
                            name, rule, found.info.name, subject, on, _crossing_text(found), found.value_milli
                        )
                for name, rule in self._conditions.of("anomaly"):
                    if rule.pattern.fits(found.info, channel):
                        on = abs(found.score_milli or 0) >= rule.score * 1000
                        self._conditions.note(
                            name, rule, found.info.name, subject, on, _odd_text(found), found.value_milli
                        )
            self._look()

    def _forget_names(self) -> None:
        self._rows.forget()
        self._lives.forget()

    def _store(self) -> None:
        failing, state = self._store_failing(), self._store_state
        reasons = [f"commits fail: {failing}"] if failing else []
        if state is not None and state.making_room:
            reasons.append(f"no room left within the bound: {state.making_room}")
        if state is not None and state.damaged:
            reasons.append(f"set aside as damaged: {', '.join(state.damaged)}")
        for name, rule in self._conditions.of("store"):
            self._conditions.note(name, rule, "", "", bool(reasons), "; ".join(reasons) or "the store works", None)

    # -- changes

    def _look(self) -> None:
        self._settle(self._book.look(self._clock_s(), self._unix_ms()))

    def _settle(self, changes: Sequence[Change]) -> None:
        """Keep and tell. What the store cannot keep in time is told all the same, and kept later."""
        for change in changes:
            self._metrics.add("alarm_changes_total", 1, rule=change.alarm.rule, event=change.event)
        self._unkept += changes
        now_s = self._clock_s()
        if self._unkept or now_s - self._saved_s >= _SAVE_EVERY_S:
            del self._unkept[: self._keep(self._next_row, list(self._unkept))]
            self._saved_s = now_s
        if changes:
            self._tell(changes)

    def _unix_ms(self) -> int:
        return int(self._wall_s() * 1000)


def _crossing_text(found: Finding) -> str:
    if found.cross_s is None or found.limit_milli is None:
        return "no limit will be crossed"
    return f"will cross {found.limit_milli / 1000:g} in {max(1, round(found.cross_s / 60))} min"


def _odd_text(found: Finding) -> str:
    off, times = (found.deviation_milli or 0) / 1000, abs(found.score_milli or 0) / 1000
    return f"{off:+g} off its own history and its neighbours, {times:.1f} times its scatter"
