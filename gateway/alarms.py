"""The life of an alarm: a condition holds for a while, the alarm is raised, somebody acknowledges it, it clears.

    condition on for after_s        -> raised
    acknowledged by a person        -> stands, and is quiet
    condition off for clear_after_s -> cleared, whether or not it was acknowledged

One alarm a (rule, device, channel) stands at a time. Time here is monotonic; wall time is only noted. Bound:
STANDING_MAX alarms and as many conditions; past that new ones are counted and left out. Pure: clocks come in as
numbers, changes go out as a list. It knows no rule, no store and no output.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gateway.messages import Alarm

STANDING_MAX = 5000
RAISED, ACKNOWLEDGED, CLEARED = "raised", "acknowledged", "cleared"
SEVERITIES = ("info", "warning", "critical")
Key = tuple[str, str, str]  # rule, device, channel


class Manner(NamedTuple):
    """How a rule's alarms come and go."""

    severity: str
    after_s: float
    clear_after_s: float


class Change(NamedTuple):
    """What happened to an alarm. `event`: raised, acknowledged or cleared."""

    event: str
    alarm: Alarm


class _Condition:
    __slots__ = ("manner", "on", "since_s", "text", "value_milli")

    def __init__(self, on: bool, since_s: float, text: str, value_milli: int | None, manner: Manner) -> None:
        self.on = on
        self.since_s = since_s
        self.text = text
        self.value_milli = value_milli
        self.manner = manner


class Book:
    """All alarms that stand, and the conditions that may become or end one."""

    def __init__(self, standing: list[Alarm], next_number: int) -> None:
        self._standing: dict[Key, Alarm] = {(a.rule, a.device, a.channel): a for a in standing}
        self._next = next_number
        self._conditions: dict[Key, _Condition] = {}
        self.left_out = 0

    @property
    def standing(self) -> list[Alarm]:
        """Oldest first."""
        return sorted(self._standing.values(), key=lambda alarm: alarm.number)

    def stands(self, key: Key) -> bool:
        return key in self._standing

    def note(self, key: Key, on: bool, text: str, value_milli: int | None, manner: Manner, now_s: float) -> None:
        """What a rule sees now. Only `look` raises and clears."""
        known = self._conditions.get(key)
        if known is None:
            if not on and key not in self._standing:
                return
            if len(self._conditions) >= STANDING_MAX:
                self.left_out += 1
                return
            self._conditions[key] = _Condition(on, now_s, text, value_milli, manner)
            return
        if known.on != on:
            known.on = on
            known.since_s = now_s
        known.text, known.value_milli, known.manner = text, value_milli, manner

    def look(self, now_s: float, now_unix_ms: int) -> list[Change]:
        """Raise what has held long enough, clear what has been over long enough."""
        changes = []
        for key, condition in list(self._conditions.items()):
            alarm = self._standing.get(key)
            waited_s = now_s - condition.since_s
            if condition.on and alarm is None and waited_s >= condition.manner.after_s:
                fresh = Alarm(
                    self._next,
                    *key,
                    condition.manner.severity,
                    condition.text[:200],
                    condition.value_milli,
                    now_unix_ms,
                )
                self._next += 1
                self._standing[key] = fresh
                changes.append(Change(RAISED, fresh))
            elif not condition.on:
                if alarm is None:
                    del self._conditions[key]
                elif waited_s >= condition.manner.clear_after_s:
                    del self._conditions[key]
                    changes.append(self._clear(key, now_unix_ms))
        return changes

    def acknowledge(self, number: int | None, now_unix_ms: int) -> list[Change]:
        """One alarm, or all that stand (None)."""
        changes = []
        for key, alarm in list(self._standing.items()):
            if alarm.acked_unix_ms is None and number in (None, alarm.number):
                self._standing[key] = acked = alarm._replace(acked_unix_ms=now_unix_ms)
                changes.append(Change(ACKNOWLEDGED, acked))
        return changes

    def end(self, key: Key, now_unix_ms: int) -> list[Change]:
        """Its rule is no more: clear what stands of it, and forget the condition."""
        self._conditions.pop(key, None)
        return [self._clear(key, now_unix_ms)] if key in self._standing else []

    def _clear(self, key: Key, now_unix_ms: int) -> Change:
        return Change(CLEARED, self._standing.pop(key)._replace(cleared_unix_ms=now_unix_ms))


def described(alarm: Alarm) -> dict[str, Any]:
    """An alarm for people and programs: times in unix ms, the value in milli-units."""
    state = CLEARED if alarm.cleared_unix_ms else ACKNOWLEDGED if alarm.acked_unix_ms else RAISED
    return {**alarm._asdict(), "state": state}
