"""The life of an alarm: a condition holds for a while, the alarm is raised, somebody acknowledges it, it clears.

    condition on for after_s        -> raised
    acknowledged by a person        -> stands, and is quiet
    condition off for clear_after_s -> cleared, whether or not it was acknowledged

One alarm a (rule, device, channel) stands at a time. Time here is monotonic; wall time is only noted. Bound:
STANDING_MAX alarms and as many conditions; past that new ones are counted and left out. Pure: clocks come in as
numbers, changes go out as a list. A look costs what is due, not what is known: conditions wait in a heap by deadline.
It knows no rule, no store and no output.
"""

from __future__ import annotations

import heapq
from typing import Any, NamedTuple

from gateway.messages import Alarm

STANDING_MAX = 5000
_NEVER = float("inf")
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
    __slots__ = ("manner", "on", "queued_s", "since_s", "text", "value_milli")

    def __init__(self, on: bool, since_s: float, text: str, value_milli: int | None, manner: Manner) -> None:
        self.on = on
        self.since_s = since_s
        self.text = text
        self.value_milli = value_milli
        self.manner = manner
        self.queued_s = _NEVER  # when its earliest entry in the heap comes up

    def due_s(self, stands: bool) -> float:
        """When it raises or clears its alarm, if it stays as it is."""
        if self.on:
            return _NEVER if stands else self.since_s + self.manner.after_s
        return self.since_s + self.manner.clear_after_s if stands else self.since_s


class Book:
    """All alarms that stand, and the conditions that may become or end one."""

    def __init__(self, standing: list[Alarm], next_number: int) -> None:
        self._standing: dict[Key, Alarm] = {(a.rule, a.device, a.channel): a for a in standing}
        self._next = next_number
        self._conditions: dict[Key, _Condition] = {}
        self._due: list[tuple[float, int, Key]] = []  # with a count, so that equal deadlines keep their order
        self._queued = 0
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
            self._conditions[key] = fresh = _Condition(on, now_s, text, value_milli, manner)
            self._queue(key, fresh)
            return
        changed = known.on != on or known.manner != manner
        if known.on != on:
            known.on = on
            known.since_s = now_s
        known.text, known.value_milli, known.manner = text, value_milli, manner
        if changed:
            self._queue(key, known)

    def _queue(self, key: Key, condition: _Condition) -> None:
        """See that the heap brings it up in time: an entry that is too early is put back when it comes up."""
        due_s = condition.due_s(key in self._standing)
        if due_s < condition.queued_s:
            condition.queued_s = due_s
            self._queued += 1
            heapq.heappush(self._due, (due_s, self._queued, key))
            if len(self._due) > 2 * STANDING_MAX:  # left behind by conditions that came and went
                self._due = [entry for entry in self._due if self._is_live(entry)]
                heapq.heapify(self._due)

    def _is_live(self, entry: tuple[float, int, Key]) -> bool:
        condition = self._conditions.get(entry[2])
        return condition is not None and condition.queued_s == entry[0]

    def look(self, now_s: float, now_unix_ms: int) -> list[Change]:
        """Raise what has held long enough, clear what has been over long enough."""
        changes = []
        while self._due and self._due[0][0] <= now_s:
            entry = heapq.heappop(self._due)
            if not self._is_live(entry):
                continue
            key = entry[2]
            condition = self._conditions[key]
            condition.queued_s = _NEVER
            alarm = self._standing.get(key)
            if condition.due_s(alarm is not None) > now_s:
                self._queue(key, condition)
            elif condition.on:
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
            else:
                del self._conditions[key]
                if alarm is not None:
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
