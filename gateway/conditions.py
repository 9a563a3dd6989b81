"""Rules by type, and the way of their conditions into the book of alarms.

Whoever looks at rows, devices' lives or findings asks here which rules there are and says whether a condition holds. It
knows neither what is looked at nor the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from gateway.alarms import Book, Key, Manner
from gateway.messages import DeviceInfo
from gateway.policy import Pattern


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


class Conditions:
    """The rules in force, and the book."""

    def __init__(self, rules: Mapping[str, Rule], book: Book, clock_s: Callable[[], float]) -> None:
        self.book = book
        self._clock_s = clock_s
        self.sort(rules)

    def sort(self, rules: Mapping[str, Rule]) -> None:
        """These and no others from now on."""
        self.rules = dict(rules)
        self._by_type: dict[str, list[tuple[str, Rule]]] = {}
        for name, rule in self.rules.items():
            self._by_type.setdefault(rule.type, []).append((name, rule))

    def of(self, kind: str) -> list[tuple[str, Rule]]:
        """Rules of a type, by name."""
        return self._by_type.get(kind, [])

    def each(
        self,
        kind: str,
        info: DeviceInfo,
        channel: str,
        on: bool,
        text: str,
        value: int | None,
        subject: str | None = None,
    ) -> None:
        """A condition of every rule of this type that fits."""
        for name, rule in self.of(kind):
            if rule.pattern.fits(info, channel):
                self.note(name, rule, info.name, channel if subject is None else subject, on, text, value)

    def note(
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
        """Whether the condition of one rule holds for a device and channel."""
        key: Key = (name, device, channel)
        manner = manner or Manner(rule.severity, rule.after_s, rule.clear_after_s)
        self.book.note(key, on, text, value, manner, self._clock_s())
