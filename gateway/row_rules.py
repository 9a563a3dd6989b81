"""What rules say of stored rows: limits of a channel or of several, faults, boards' own alarms, clocks that run ahead.

Of each channel the last record is remembered; what comes late says nothing. It knows neither the store nor how rows
come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from gateway.conditions import Conditions, Rule
from gateway.life_rules import Life
from gateway.messages import DeviceInfo, Row
from gateway.policy import channel_name
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

_CHANNELS_MAX = 20_000
_SIDES = {HIGH_ON: ("high", True), HIGH_OFF: ("high", False), LOW_ON: ("low", True), LOW_OFF: ("low", False),
          RATE_ON: ("rate", True), RATE_OFF: ("rate", False)}  # fmt: skip


class _Channel(NamedTuple):
    key: tuple[int, int, int]  # boot, uptime_ms, seq of the last record
    value_milli: int | None
    fault: int


class _Plan(NamedTuple):
    info: DeviceInfo
    channel: str
    limits: list[tuple[str, Rule]]


class RowRules:
    """`row` for each row in order, then `combined`; `forget` when names, classes or rules are others."""

    def __init__(
        self,
        conditions: Conditions,
        info: Callable[[int], DeviceInfo | None],
        lives: Mapping[int, Life],
        skip: str,
    ) -> None:
        """lives: whose boots are known; skip: the device that is never looked at."""
        self._conditions = conditions
        self._info = info
        self._lives = lives
        self._skip = skip
        self._channels: dict[tuple[int, int], _Channel] = {}
        self._names: dict[int, DeviceInfo | None] = {}
        self._plans: dict[tuple[int, int], _Plan | None] = {}  # until names or rules change
        self._ahead: set[int] = set()  # devices whose clock was ahead when last heard
        self.forget()

    def forget(self) -> None:
        """Look at everything anew."""
        self._names.clear()
        self._plans.clear()
        skews = self._conditions.of("skew")
        self._least_skew_ms = min((rule.skew_s * 1000 for _, rule in skews), default=float("inf"))

    def row(self, row: Row) -> None:
        """The next one."""
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
            self._conditions.each("fault", plan.info, plan.channel, bool(code), f"sensor fault {name}", None)
        elif kind in _SIDES:
            side, on = _SIDES[kind]
            unit = " a minute" if side == "rate" else ""
            text = f"the board's {side} alarm at {row.value / 1000:g}{unit}"
            self._conditions.each("board", plan.info, plan.channel, on, text, row.value, f"{plan.channel} {side}")

    def combined(self) -> None:
        """Limits over several channels: of those that have a value now."""
        for name, rule in self._conditions.of("limit"):
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
            stands = self._conditions.book.stands((name, "", ""))
            if rule.combine == "average":
                values = [sum(values) // len(values)]
            beyond = [value for value in values if self._beyond(rule, value, stands)]
            on = len(beyond) == len(values) if rule.combine == "all" else bool(beyond)
            among = beyond or values
            worst = max(among) if max(among) / 1000 > rule.above else min(among)
            text = f"{rule.combine} of {len(values)}: {worst / 1000:g} is beyond {_limit_text(rule)}"
            self._conditions.note(name, rule, "", "", on, text, worst)

    def _plan(self, place: tuple[int, int]) -> _Plan | None:
        """What has to be looked at for a channel; None when nothing has."""
        info = self._name(place[0])
        if info is None or info.name == self._skip:
            return None
        channel = channel_name(info, place[1])
        limits = [
            (name, rule)
            for name, rule in self._conditions.of("limit")
            if rule.combine == "each" and rule.pattern.fits(info, channel)
        ]
        return _Plan(info, channel, limits)

    def _remember(self, place: tuple[int, int], channel: _Channel) -> None:
        if place in self._channels or len(self._channels) < _CHANNELS_MAX:
            self._channels[place] = channel

    def _new_boot(self, info: DeviceInfo, device: int) -> None:
        """A board that starts anew says again what still holds."""
        for place in [place for place in self._channels if place[0] == device]:
            self._channels[place] = self._channels[place]._replace(fault=0)
        for alarm in self._conditions.book.standing:
            rule = self._conditions.rules.get(alarm.rule)
            if alarm.device == info.name and rule is not None and rule.type in ("board", "fault"):
                self._conditions.note(alarm.rule, rule, alarm.device, alarm.channel, False, alarm.text, None)

    def _skew(self, info: DeviceInfo, device: int, ahead_s: float) -> None:
        """A trusted time that lies ahead of ours: what is late may have waited, what is early cannot have."""
        self._ahead.discard(device)
        for name, rule in self._conditions.of("skew"):
            if rule.pattern.fits(info, ""):
                on = ahead_s > rule.skew_s
                self._conditions.note(
                    name, rule, info.name, "", on, f"its clock is {ahead_s:.0f} s ahead of the gateway's", None
                )
                if on:
                    self._ahead.add(device)

    def _limit(self, name: str, rule: Rule, plan: _Plan, value: int) -> None:
        stands = self._conditions.book.stands((name, plan.info.name, plan.channel))
        text = f"{value / 1000:g} is beyond {_limit_text(rule)}"
        on = self._beyond(rule, value, stands)
        self._conditions.note(name, rule, plan.info.name, plan.channel, on, text, value)

    @staticmethod
    def _beyond(rule: Rule, value: int, stands: bool) -> bool:
        back = rule.hysteresis if stands else 0.0
        return value / 1000 > rule.above - back or value / 1000 < rule.below + back

    def _name(self, device: int) -> DeviceInfo | None:
        if device not in self._names:
            self._names[device] = self._info(device)
        return self._names[device]


def _limit_text(rule: Rule) -> str:
    sides = [f"above {rule.above:g}"] if rule.above < 1e300 else []
    return " or ".join([*sides, *([f"below {rule.below:g}"] if rule.below > -1e300 else [])])
