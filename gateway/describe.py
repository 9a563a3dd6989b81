"""What a board says of its channels, as far as it can be sent on. Pure.

A receiver refuses a whole batch for one unusable name (docs/uplink.md), so one board's odd meta would put other boards'
readings into quarantine: nothing passes here that a receiver would not take.
"""

from __future__ import annotations

from typing import Any, TypeGuard

CHANNELS_MAX = 255
NAME_CHARS_MAX = 64
UNIT_CHARS_MAX = 16

Channels = tuple[tuple[str, str], ...]


def channels_of(document: Any) -> Channels | None:
    """((name, unit), ...) by channel number, of a meta; None when it says nothing, or anything unusable."""
    said = document.get("channels") if isinstance(document, dict) else None
    if not isinstance(said, list) or len(said) > CHANNELS_MAX:
        return None
    out = []
    for channel in said:
        if not isinstance(channel, dict):
            return None
        name, unit = channel.get("name"), channel.get("unit")
        if not _usable(name, NAME_CHARS_MAX) or not _usable(unit, UNIT_CHARS_MAX):
            return None
        out.append((name, unit))
    return tuple(out)


def _usable(value: Any, chars_max: int) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= chars_max and value.isprintable()
