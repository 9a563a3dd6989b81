"""Topic patterns with named placeholders, such as `tele/{device}/SENSOR`. Pure.

A placeholder stands for one whole level (MQTT 3.1.1 clause 4.7.1.3). `{channel}` names the channel; all others
together, in the topic's order and joined by "-", name the device.
"""

from __future__ import annotations

import re
from typing import NamedTuple

CHANNEL = "channel"
_NAME = re.compile(r"\{([a-z_]{1,32})\}")
TOPIC_CHARS_MAX = 200


class Match(NamedTuple):
    """What a topic says: the device's name as it stands there, and the channel's or None."""

    device: str
    channel: str | None


def wrong(pattern: str) -> str | None:
    """What is wrong with a pattern, or None."""
    if len(pattern) > TOPIC_CHARS_MAX:
        return f"is longer than {TOPIC_CHARS_MAX} characters"
    names = []
    for level in pattern.split("/"):
        found = _NAME.fullmatch(level)
        if found:
            names.append(found[1])
        elif any(c in level for c in "{}+#\0"):
            return "must have placeholders such as {device} as whole levels, and no +, # or NUL"
    if not set(names) - {CHANNEL}:
        return "must have a placeholder for the device, such as tele/{device}/SENSOR"
    if len(set(names)) < len(names):
        return "has the same placeholder twice"
    if pattern.startswith(("$", "iso/1/")):
        return "must not stand below $ or iso/1/, which are the broker's and the boards'"
    return None


class Pattern:
    """One pattern that `wrong` has nothing against."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        levels = pattern.split("/")
        self._names = [found[1] if (found := _NAME.fullmatch(level)) else None for level in levels]
        self._levels = levels
        self.subscription = "/".join("+" if name else level for level, name in zip(levels, self._names, strict=True))

    def match(self, topic: str) -> Match | None:
        """The names in a topic, or None when it is not of this pattern. An empty level names nothing."""
        levels = topic.split("/")
        if len(levels) != len(self._levels):
            return None
        parts, channel = [], None
        for said, level, name in zip(levels, self._levels, self._names, strict=True):
            if name is None:
                if said != level:
                    return None
            elif not said:
                return None
            elif name == CHANNEL:
                channel = said
            else:
                parts.append(said)
        return Match("-".join(parts), channel)
