"""What every way into the gateway is guarded with: JSON that is bounded before it is read, and a log that cannot flood.

It knows no topic and no stage.
"""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Callable
from typing import Any

from gateway.errors import MessageRejected
from gateway.journal import fields

log = logging.getLogger("isotherm.ingest")

DEPTH_MAX = 32  # nested arrays and objects; real payloads have three or four
LOG_EVERY_S = 10.0


def parse_json(payload: bytes, bytes_max: int, what: str, number: Callable[[str], Any] | None = None) -> Any:
    """A document of at most `bytes_max` bytes and DEPTH_MAX levels, without NaN and Infinity (RFC 8259 section 6).

    number: makes what stands for a number with fraction or exponent. Raises MessageRejected: size, depth, json.
    """
    if len(payload) > bytes_max:
        raise MessageRejected("size", f"{what} of {len(payload)} bytes; ingest.json_bytes_max is {bytes_max}")
    if payload.count(b"[") + payload.count(b"{") > DEPTH_MAX and _depth(payload) > DEPTH_MAX:
        raise MessageRejected("depth", f"{what}: JSON is nested more than {DEPTH_MAX} deep")
    try:
        return json.loads(payload.decode("utf-8"), parse_constant=_no_constant, parse_float=number or _finite)
    except RecursionError:
        raise MessageRejected("depth", f"{what}: JSON is nested too deep") from None
    except (ValueError, ArithmeticError) as exc:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise MessageRejected("json", f"{what}: not JSON: {exc}") from None


def _depth(payload: bytes) -> int:
    """Deepest nesting, brackets in strings left out."""
    depth = deepest = 0
    quoted = escaped = False
    for byte in payload:
        if quoted:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                quoted = False
        elif byte == 0x22:
            quoted = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not allowed")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large")
    return value


class RateLimitedLog:
    """At most one line a reason in `every_s`; a later line sums up what was left out. Reasons are a fixed set.

    Any thread. What was left out is told with the next line of any reason once `every_s` has passed, or by `flush`.
    """

    def __init__(self, every_s: float, clock_s: Callable[[], float]) -> None:
        self._every_s = every_s
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._next_s: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def warn(self, reason: str, text: str, **about: str | None) -> bool:
        """Log unless it is too soon. Returns whether it was logged. `about`: device and the like, for the journal."""
        now_s = self._clock_s()
        with self._lock:
            if now_s < self._next_s.get(reason, float("-inf")):
                self._left_out[reason] = self._left_out.get(reason, 0) + 1
                return False
            self._next_s[reason] = now_s + self._every_s
            left_out = self._left_out.pop(reason, 0)
            overdue = [other for other in self._left_out if now_s >= self._next_s.get(other, 0.0)]
            summed = {other: self._left_out.pop(other) for other in overdue}
        more = f" ({left_out} more of this kind)" if left_out else ""
        log.warning("%s: %s%s", reason, text, more, extra=fields(reason=reason, **about))
        self._sum_up(summed)
        return True

    def flush(self) -> None:
        """Tell of everything that was left out."""
        with self._lock:
            summed, self._left_out = self._left_out, {}
        self._sum_up(summed)

    @staticmethod
    def _sum_up(counts: dict[str, int]) -> None:
        if counts:
            told = ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))
            log.warning("refused since, without a line each: %s", told)
