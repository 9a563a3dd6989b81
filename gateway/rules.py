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
from typing import NamedTuple, Protocol

from gateway.alarms import Book, Change, Key, Manner
from gateway.messages import Alarm, DeviceInfo, Finding, Row, StoreState, Vitals
from gateway.metrics import Metrics
from gateway.policy import Pattern, channel_name
from isocore.record import (
    DELTA,
    FAULT,
    FAULT_CLEARED,
    FAULT_NAMES,
    HIGH_OFF,
    HIGH_ON,
    LOW_OFF,
    LOW_ON,
    RATE_OFF,
    RATE_ON,
    SAMPLE,
)

FOLLOWER = "rules"
START_GRACE_S = 60.0  # boards need this to come back after a restart before they count as absent
DURABLE_WAIT_S = 1.0  # how long an alarm waits for the disk before it is told all the same
_SAVE_EVERY_S = 30.0
_CHANNELS_MAX = 20_000
_SIDES = {HIGH_ON: ("high", True), HIGH_OFF: ("high", False), LOW_ON: ("low", True), LOW_OFF: ("low", False),
          RATE_ON: ("rate", True), RATE_OFF: ("rate", False)}  # fmt: skip


class Rule(Protocol):
    """What is read of a rule: gateway.config.rules.RuleConfig, completed."""

    @property
    def type(self) -> str: ...
    @property
    def severity(self) -> str: ...
    @property
    def after_s(self) -> float: ...
    @property
    def clear_after_s(self) -> float: ...
    @property
    def above(self) -> float: ...
    @property
    def below(self) -> float: ...
    @property
    def hysteresis(self) -> float: ...
    @property
    def combine(self) -> str: ...
    @property
    def skew_s(self) -> float: ...
    @property
    def within_s(self) -> int: ...
    @property
    def score(self) -> float: ...
    @property
    def pattern(self) -> Pattern: ...


class Kept(Protocol):
    """What is asked of the store: gateway.store.AlarmReader."""

    def standing(self) -> list[Alarm]: ...
    def next_numbers(self) -> tuple[int, int]: ...
    def vitals(self) -> list[Vitals]: ...


class _Channel(NamedTuple):
    key: tuple[int, int, int]  # boot, uptime_ms, seq of the last record
    value_milli: int | None
    fault: int


class _Plan(NamedTuple):
    info: DeviceInfo
    channel: str
    limits: list[tuple[str, Rule]]


class _Life:
    """What is remembered of a device. Times are monotonic."""

    __slots__ = ("boot", "conflicts", "due_s", "gap", "seen_s", "seen_unix_ms")

    def __init__(self, vitals: Vitals, seen_s: float) -> None:
        self.seen_unix_ms = vitals.last_seen_unix_ms
        self.seen_s = seen_s
        self.conflicts = vitals.conflicts
        self.gap = vitals.gap
        self.boot = 0
        self.due_s = 0.0  # when its rules have to be looked at, unless its ledger changes before


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
        self._info = info
        self._keep = keep
        self._tell = tell
        self._metrics = metrics
        self._clock_s = clock_s
        self._wall_s = wall_s
        self._skip = skip
        self._lock = threading.RLock()
        self._book = Book(kept.standing(), kept.next_numbers()[0])
        self._channels: dict[tuple[int, int], _Channel] = {}
        self._lives: dict[int, _Life] = {}
        self._names: dict[int, DeviceInfo | None] = {}
        self._plans: dict[tuple[int, int], _Plan | None] = {}  # until names or rules change
        self._ahead: set[int] = set()  # devices whose clock was ahead when last heard
        self._sort(rules)
        self._unkept: list[Change] = []
        self._store_state: StoreState | None = None
        self._store_failing: Callable[[], str | None] = lambda: None
        self._next_row = 1
        self._saved_s = clock_s()
        self._started_s = clock_s()

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
                self._row(row)

    def take(self, rows: list[Row], next_row: int) -> None:
        with self._lock:
            for row in rows:
                self._row(row)
            self._combined()
            self._next_row = next_row
            self._look()

    def tick(self) -> None:
        with self._lock:
            self._vitals()
            self._store()
            self._combined()
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
            self._sort(rules)
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
                for name, rule in self._of("trend"):
                    if rule.pattern.fits(found.info, channel):
                        on = found.cross_s is not None and found.cross_s <= rule.within_s
                        self._note(name, rule, found.info.name, subject, on, _crossing_text(found), found.value_milli)
                for name, rule in self._of("anomaly"):
                    if rule.pattern.fits(found.info, channel):
                        on = abs(found.score_milli or 0) >= rule.score * 1000
                        self._note(name, rule, found.info.name, subject, on, _odd_text(found), found.value_milli)
            self._look()

    # -- conditions

    def _sort(self, rules: Mapping[str, Rule]) -> None:
        self._rules = dict(rules)
        self._by_type: dict[str, list[tuple[str, Rule]]] = {}
        for name, rule in self._rules.items():
            self._by_type.setdefault(rule.type, []).append((name, rule))
        self._least_skew_ms = min((rule.skew_s * 1000 for _, rule in self._of("skew")), default=float("inf"))
        self._forget_names()

    def _forget_names(self) -> None:
        """Names, classes or rules are others: look at everything anew."""
        self._names.clear()
        self._plans.clear()
        for life in self._lives.values():
            life.due_s = 0.0

    def _plan(self, place: tuple[int, int]) -> _Plan | None:
        """What has to be looked at for a channel; None when nothing has."""
        info = self._name(place[0])
        if info is None or info.name == self._skip:
            return None
        channel = channel_name(info, place[1])
        limits = [
            (name, rule)
            for name, rule in self._of("limit")
            if rule.combine == "each" and rule.pattern.fits(info, channel)
        ]
        return _Plan(info, channel, limits)

    def _row(self, row: Row) -> None:
        place = (row.device, row.channel)
        if place not in self._plans:
            self._plans[place] = self._plan(place)
        plan = self._plans[place]
        if plan is None:
            return
        if row.trusted and row.epoch_unix_ms is not None:
            ahead_ms = row.epoch_unix_ms + row.uptime_ms - row.recv_unix_ms
            if ahead_ms > self._least_skew_ms or row.device in self._ahead:
                self._skew(plan.info, row.device, ahead_ms / 1000)
        life = self._lives.get(row.device)
        if life is not None and row.boot > life.boot:
            if life.boot:
                self._new_boot(plan.info, row.device)
            life.boot = row.boot
        known = self._channels.get(place)
        key = (row.boot, row.uptime_ms, row.seq)
        if known is not None and key <= known.key:
            return  # late: what came after it holds
        kind = row.kind
        if kind in (SAMPLE, DELTA):
            self._remember(place, _Channel(key, row.value, 0))
            for name, rule in plan.limits:
                self._limit(name, rule, plan, row.value)
        elif kind in (FAULT, FAULT_CLEARED):
            code = row.value if kind == FAULT else 0
            self._remember(place, _Channel(key, None, code))
            name = FAULT_NAMES[code] if 0 < code < len(FAULT_NAMES) else str(code)
            self._each("fault", plan.info, plan.channel, bool(code), f"sensor fault {name}", None)
        elif kind in _SIDES:
            side, on = _SIDES[kind]
            unit = " a minute" if side == "rate" else ""
            text = f"the board's {side} alarm at {row.value / 1000:g}{unit}"
            self._each("board", plan.info, plan.channel, on, text, row.value, f"{plan.channel} {side}")

    def _remember(self, place: tuple[int, int], channel: _Channel) -> None:
        if place in self._channels or len(self._channels) < _CHANNELS_MAX:
            self._channels[place] = channel

    def _new_boot(self, info: DeviceInfo, device: int) -> None:
        """A board that starts anew says again what still holds."""
        for place in [place for place in self._channels if place[0] == device]:
            self._channels[place] = self._channels[place]._replace(fault=0)
        for alarm in self._book.standing:
            rule = self._rules.get(alarm.rule)
            if alarm.device == info.name and rule is not None and rule.type in ("board", "fault"):
                self._note(alarm.rule, rule, alarm.device, alarm.channel, False, alarm.text, None)

    def _skew(self, info: DeviceInfo, device: int, ahead_s: float) -> None:
        """A trusted time that lies ahead of ours: what is late may have waited, what is early cannot have."""
        self._ahead.discard(device)
        for name, rule in self._of("skew"):
            if rule.pattern.fits(info, ""):
                on = ahead_s > rule.skew_s
                self._note(name, rule, info.name, "", on, f"its clock is {ahead_s:.0f} s ahead of the gateway's", None)
                if on:
                    self._ahead.add(device)

    def _limit(self, name: str, rule: Rule, plan: _Plan, value: int) -> None:
        stands = self._book.stands((name, plan.info.name, plan.channel))
        text = f"{value / 1000:g} is beyond {_limit_text(rule)}"
        on = self._beyond(rule, value, stands)
        self._note(name, rule, plan.info.name, plan.channel, on, text, value)

    def _combined(self) -> None:
        """Limits over several channels: of those that have a value now."""
        for name, rule in self._of("limit"):
            if rule.combine == "each":
                continue
            values = [
                channel.value_milli
                for (device, number), channel in self._channels.items()
                if channel.value_milli is not None
                and (info := self._name(device)) is not None
                and rule.pattern.fits(info, channel_name(info, number))
            ]
            if not values:
                continue  # nothing is known: what stands goes on standing
            stands = self._book.stands((name, "", ""))
            if rule.combine == "average":
                values = [sum(values) // len(values)]
            beyond = [value for value in values if self._beyond(rule, value, stands)]
            on = len(beyond) == len(values) if rule.combine == "all" else bool(beyond)
            among = beyond or values
            worst = max(among) if max(among) / 1000 > rule.above else min(among)
            text = f"{rule.combine} of {len(values)}: {worst / 1000:g} is beyond {_limit_text(rule)}"
            self._note(name, rule, "", "", on, text, worst)

    @staticmethod
    def _beyond(rule: Rule, value: int, stands: bool) -> bool:
        back = rule.hysteresis if stands else 0.0
        return value / 1000 > rule.above - back or value / 1000 < rule.below + back

    def _vitals(self) -> None:
        now_s, now_unix_ms = self._clock_s(), self._unix_ms()
        for vitals in self._kept.vitals():
            if vitals.name == self._skip:
                continue
            life = self._lives.get(vitals.device)
            if life is None:
                # How long ago that was is told by the wall clock; one that was put back says nothing.
                ago_s = max(0.0, (now_unix_ms - vitals.last_seen_unix_ms) / 1000) if vitals.last_seen_unix_ms else 0.0
                life = self._lives[vitals.device] = _Life(vitals, now_s - ago_s)
            elif vitals.last_seen_unix_ms != life.seen_unix_ms:
                life.seen_unix_ms = vitals.last_seen_unix_ms
                life.seen_s = now_s
            if now_s >= life.due_s or vitals.conflicts != life.conflicts or vitals.gap != life.gap:
                self._device(vitals, life, now_s)

    def _device(self, vitals: Vitals, life: _Life, now_s: float) -> None:
        """Look at its rules, and say when to look again: at once while one holds, else when one may be next."""
        info = DeviceInfo(vitals.device, vitals.name, vitals.device_class, None)
        silent_s = now_s - life.seen_s
        settled_s = self._started_s + START_GRACE_S
        life.due_s = float("inf")
        for name, rule in self._of("absent"):
            if rule.pattern.fits(info, ""):
                absent_s = max(life.seen_s + rule.after_s, settled_s if rule.after_s >= START_GRACE_S else 0.0)
                on = now_s >= absent_s
                life.due_s = min(life.due_s, absent_s)
                # The silence is the delay: it is over by the time the condition holds.
                manner = Manner(rule.severity, 0.0, rule.clear_after_s)
                self._note(name, rule, vitals.name, "", on, f"no sign of life for {silent_s:.0f} s", None, manner)
        more, missing = vitals.conflicts - life.conflicts, vitals.gap - life.gap
        life.conflicts, life.gap = vitals.conflicts, vitals.gap
        text = f"{more} records whose identity is taken by other content: a clone, or a forgery"
        self._each("clone", info, "", more > 0, text, None)
        text = f"{missing} records never came, and the board holds them no more"
        self._each("gap", info, "", missing > 0, text, None)
        if more > 0 or missing > 0:
            life.due_s = now_s

    def _store(self) -> None:
        failing, state = self._store_failing(), self._store_state
        reasons = [f"commits fail: {failing}"] if failing else []
        if state is not None and state.making_room:
            reasons.append(f"no room left within the bound: {state.making_room}")
        if state is not None and state.damaged:
            reasons.append(f"set aside as damaged: {', '.join(state.damaged)}")
        for name, rule in self._of("store"):
            self._note(name, rule, "", "", bool(reasons), "; ".join(reasons) or "the store works", None)

    def _each(
        self,
        kind: str,
        info: DeviceInfo,
        channel: str,
        on: bool,
        text: str,
        value: int | None,
        subject: str | None = None,
    ) -> None:
        for name, rule in self._of(kind):
            if rule.pattern.fits(info, channel):
                self._note(name, rule, info.name, channel if subject is None else subject, on, text, value)

    def _of(self, kind: str) -> list[tuple[str, Rule]]:
        return self._by_type.get(kind, [])

    def _note(
        self,
        name: str,
        rule: Rule,
        device: str,
        channel: str,
        on: bool,
        text: str,
        value: int | None,
        manner: Manner | None = None,
    ) -> None:
        key: Key = (name, device, channel)
        manner = manner or Manner(rule.severity, rule.after_s, rule.clear_after_s)
        self._book.note(key, on, text, value, manner, self._clock_s())

    def _name(self, device: int) -> DeviceInfo | None:
        if device not in self._names:
            self._names[device] = self._info(device)
        return self._names[device]

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


def _limit_text(rule: Rule) -> str:
    sides = [f"above {rule.above:g}"] if rule.above < 1e300 else []
    return " or ".join([*sides, *([f"below {rule.below:g}"] if rule.below > -1e300 else [])])


def _crossing_text(found: Finding) -> str:
    if found.cross_s is None or found.limit_milli is None:
        return "no limit will be crossed"
    return f"will cross {found.limit_milli / 1000:g} in {max(1, round(found.cross_s / 60))} min"


def _odd_text(found: Finding) -> str:
    off, times = (found.deviation_milli or 0) / 1000, abs(found.score_milli or 0) / 1000
    return f"{off:+g} off its own history and its neighbours, {times:.1f} times its scatter"
