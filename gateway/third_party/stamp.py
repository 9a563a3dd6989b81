"""Time stamps in payloads: ISO 8601 texts and unix times, to unix milliseconds. Pure.

Tasmota's Time has no offset unless it is told to give one (SetOption52): it is local time, and counts only when the
configuration says which zone that is.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

_MS_FROM = 100_000_000_000  # unix times past this are milliseconds: in seconds it would be the year 5138
_CHARS_MAX = 40


def unix_ms(value: Any, zone: ZoneInfo | None) -> int | None:
    """Unix time in ms, or None when it tells none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | Decimal):
        if isinstance(value, Decimal) and (not value.is_finite() or value.adjusted() > 15):
            return None
        if not 0 < value < 1 << 53:
            return None
        return int(value) if value >= _MS_FROM else int(value * 1000)
    if not isinstance(value, str) or len(value) > _CHARS_MAX:
        return None
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            if zone is None:
                return None
            moment = moment.replace(tzinfo=zone)
        return int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
    except (ValueError, OverflowError):
        return None
