"""What rules say of a device's life: absent, clone and gap. Silence is timed by the monotonic clock.

A device is looked at when one of its rules may be next, or when its figures in the ledger changed. It knows no rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gateway.alarms import Manner
from gateway.conditions import Conditions
from gateway.messages import DeviceInfo, Vitals

START_GRACE_S = 60.0  # boards need this to come back after a restart before they count as absent


class Life:
    """What is remembered of a device. Times are monotonic."""

    __slots__ = ("boot", "conflicts", "due_s", "gap", "seen_s", "seen_unix_ms")

    def __init__(self, vitals: Vitals, seen_s: float) -> None:
        self.seen_unix_ms = vitals.last_seen_unix_ms
        self.seen_s = seen_s
        self.conflicts = vitals.conflicts
        self.gap = vitals.gap
        self.boot = 0
        self.due_s = 0.0  # when its rules have to be looked at, unless its ledger changes before


class LifeRules:
    """`lives` by device number, from the first look on."""

    def __init__(
        self, conditions: Conditions, clock_s: Callable[[], float], wall_s: Callable[[], float], skip: str
    ) -> None:
        """skip: the device that is never looked at."""
        self._conditions = conditions
        self._clock_s = clock_s
        self._wall_s = wall_s
        self._skip = skip
        self._started_s = clock_s()
        self.lives: dict[int, Life] = {}

    def forget(self) -> None:
        """Names, classes or rules are others: look at everything anew."""
        for life in self.lives.values():
            life.due_s = 0.0

    def look(self, vitals_of_all: Iterable[Vitals]) -> None:
        """What the store knows of every device."""
        now_s, now_unix_ms = self._clock_s(), int(self._wall_s() * 1000)
        for vitals in vitals_of_all:
            if vitals.name == self._skip:
                continue
            life = self.lives.get(vitals.device)
            if life is None:
                # How long ago that was is told by the wall clock; one that was put back says nothing.
                ago_s = max(0.0, (now_unix_ms - vitals.last_seen_unix_ms) / 1000) if vitals.last_seen_unix_ms else 0.0
                life = self.lives[vitals.device] = Life(vitals, now_s - ago_s)
            elif vitals.last_seen_unix_ms != life.seen_unix_ms:
                life.seen_unix_ms = vitals.last_seen_unix_ms
                life.seen_s = now_s
            if now_s >= life.due_s or vitals.conflicts != life.conflicts or vitals.gap != life.gap:
                self._device(vitals, life, now_s)

    def _device(self, vitals: Vitals, life: Life, now_s: float) -> None:
        """Look at its rules, and say when to look again: at once while one holds, else when one may be next."""
        info = DeviceInfo(vitals.device, vitals.name, vitals.device_class, None)
        silent_s = now_s - life.seen_s
        settled_s = self._started_s + START_GRACE_S
        life.due_s = float("inf")
        for name, rule in self._conditions.of("absent"):
            if rule.pattern.fits(info, ""):
                absent_s = max(life.seen_s + rule.after_s, settled_s if rule.after_s >= START_GRACE_S else 0.0)
                on = now_s >= absent_s
                life.due_s = min(life.due_s, absent_s)
                # The silence is the delay: it is over by the time the condition holds.
                manner = Manner(rule.severity, 0.0, rule.clear_after_s)
                self._conditions.note(
                    name, rule, vitals.name, "", on, f"no sign of life for {silent_s:.0f} s", None, manner
                )
        more, missing = vitals.conflicts - life.conflicts, vitals.gap - life.gap
        life.conflicts, life.gap = vitals.conflicts, vitals.gap
        text = f"{more} records whose identity is taken by other content: a clone, or a forgery"
        self._conditions.each("clone", info, "", more > 0, text, None)
        text = f"{missing} records never came, and the board holds them no more"
        self._conditions.each("gap", info, "", missing > 0, text, None)
        if more > 0 or missing > 0:
            life.due_s = now_s
