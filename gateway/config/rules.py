"""[rules.NAME] and [outputs.NAME]: what raises an alarm, and what is done about one. Declarations only."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.alarms import SEVERITIES
from gateway.config.keys import key, one_of, url
from gateway.policy import Pattern

RULES_INTRO = """\
What raises an alarm here, with cloud and broker away as well. Without any table these hold: absent, fault, skew, clone,
gap, store, board, trend and anomaly, each a rule of that type and name; a table of one's name changes
it. docs/alarms.md tells more.

    [rules.cold-room]
    type = "limit"
    device = "cold-*"
    channel = "temperature"
    combine = "average"
    above = 8.0
    hysteresis = 0.5
    after_s = 600
    severity = "critical"
"""
OUTPUTS_INTRO = """\
What is done about alarms: LED, buzzer, relay and button at this machine's own pins, webhooks and commands.

    [outputs.siren]
    type = "relay"
    pin = 17
    severity = "critical"
"""
# What each type of rule waits for when the table does not say: before it raises, and before it clears.
WAITS = {
    "absent": (7500.0, 0.0),
    "limit": (0.0, 0.0),
    "fault": (600.0, 0.0),
    "skew": (0.0, 600.0),
    "clone": (0.0, 3600.0),
    "gap": (0.0, 3600.0),
    "store": (0.0, 60.0),
    "board": (0.0, 0.0),
    "trend": (0.0, 0.0),
    "anomaly": (0.0, 0.0),
}
_SEVERITIES = {"clone": "critical", "store": "critical"}
COMBINE = ("each", "any", "all", "average")
PINNED = ("led", "buzzer", "relay", "button")


@dataclass(frozen=True)
class RuleConfig:
    """[rules.NAME]"""

    type: str = key(
        "", f'{", ".join(WAITS)}; "" is the table\'s name', check=lambda v: one_of(tuple(WAITS))(v) if v else None
    )
    enabled: bool = key(True, "false: this rule is off")
    device: str = key("*", "which devices, by id; *, ? and [abc] as in file names")
    device_class: str = key("*", "which classes of devices")
    channel: str = key("*", "which channels, by name")
    severity: str = key("", 'info, warning or critical; "" is the type\'s own', check=lambda v: _severity(v))
    after_s: float = key(-1.0, "how long before it raises; absent: silence; -1: the type's own", -1.0, 864000)
    clear_after_s: float = key(-1.0, "how long it must be over before it clears; -1: the type's own", -1.0, 864000)
    above: float = key(math.inf, "limit: raise above this", -math.inf, math.inf, unit="channel's")
    below: float = key(-math.inf, "limit: raise below this", -math.inf, math.inf, unit="channel's")
    hysteresis: float = key(0.0, "limit: how far back inside it must come to clear", 0.0, 1e6, unit="channel's")
    combine: str = key("each", "limit: each channel alone, or any, all or the average of all", check=one_of(COMBINE))
    skew_s: float = key(120.0, "skew: how far a board's clock may be off", 1.0, 864000, unit="s")

    within_s: int = key(86400, "trend: only a limit that will be crossed as soon as this", 1, 8640000)
    score: float = key(8.0, "anomaly: how many times its ordinary scatter a channel is off", 1.0, 1000.0)

    def wrong(self, beside: Callable[[str], Path]) -> Iterator[tuple[str, str]]:
        if self.above <= self.below:
            yield "above", f"is {self.above}, it must be more than below, {self.below}"
        if self.type == "limit" and math.isinf(self.above) and math.isinf(self.below):
            yield "above", "and below are both missing: say what the limit is"

    @property
    def pattern(self) -> Pattern:
        return Pattern(self.device, self.device_class, self.channel)


@dataclass(frozen=True)
class OutputConfig:
    """[outputs.NAME]"""

    type: str = key(
        "",
        "led, buzzer, relay, button, webhook or command",
        check=one_of((*PINNED, "webhook", "command")),
        required=True,
    )
    severity: str = key("info", "least severity that it acts on", check=one_of(SEVERITIES))
    rule: str = key("*", "which rules, by name")
    pin: int = key(-1, "led, buzzer, relay, button: GPIO number (BCM)", -1, 64)
    active_high: bool = key(True, "led, buzzer, relay: false when the pin is low for on")
    safe_on: bool = key(False, "relay: what it is without an alarm and when the gateway ends")
    url: str = key("", "webhook: where alarms are posted as JSON", check=lambda value: url(value) if value else None)
    command: tuple[str, ...] = key((), "command: program and arguments; no shell; the alarm is JSON on its stdin")
    timeout_s: float = key(10.0, "webhook, command: how long one try may take", 0.1, 300)
    tries: int = key(5, "webhook, command: tries before an alarm is given up", 1, 100)
    backoff_max_s: float = key(60.0, "webhook, command: ceiling of the wait between two tries", 0.01, 3600)
    queue_max: int = key(100, "webhook, command: alarms that wait; past it the oldest is given up", 1, 10000)

    def wrong(self, beside: Callable[[str], Path]) -> Iterator[tuple[str, str]]:
        if self.type in PINNED and self.pin < 0:
            yield "pin", f"is missing: a {self.type} needs its GPIO number"
        if self.type == "webhook" and not self.url:
            yield "url", "is missing: say where alarms are posted"
        if self.type == "command" and not self.command:
            yield "command", "is missing: give the program and its arguments as a list"


def _severity(value: str) -> str | None:
    return one_of(SEVERITIES)(value) if value else None


def rules(tables: Mapping[str, RuleConfig]) -> dict[str, RuleConfig]:
    """Every rule in force, complete: those of the file, and those that hold without one."""
    out = {}
    for name, rule in {**{kind: RuleConfig() for kind in WAITS if kind != "limit"}, **tables}.items():
        kind = rule.type or name
        if not rule.enabled:
            continue
        after_s, clear_after_s = WAITS[kind]
        out[name] = replace(
            rule,
            type=kind,
            severity=rule.severity or _SEVERITIES.get(kind, "warning"),
            after_s=after_s if rule.after_s < 0 else rule.after_s,
            clear_after_s=clear_after_s if rule.clear_after_s < 0 else rule.clear_after_s,
        )
    return out
