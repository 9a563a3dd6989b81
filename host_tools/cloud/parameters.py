"""What questions carry, checked: names, numbers, times and cursors of a query string, or a Problem that names the one.

Times are RFC 3339, with their offset; what goes out is UTC with "Z". A cursor is opaque: what it holds is nobody's
business but of the question that gave it. It knows neither routes nor the store.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from datetime import UTC, datetime
from typing import Any, NamedTuple

from host_tools.cloud.answers import Ack
from isocore.topics import is_device_id

PAGE_DEFAULT = 1000
PAGE_MAX = 10_000
RESOLUTIONS = {"raw": 0, "1m": 60, "15m": 900, "1h": 3600, "1d": 86_400}
UNIX_MS_END = 253_402_300_800_000  # the year 10000, where RFC 3339 ends
_CURSOR_CHARACTERS_MAX = 2000  # with a name of 64 characters of six or twelve in JSON
WHO_MAX, WHY_MAX = 64, 500  # characters of an acknowledgement
_ACK_KEYS = frozenset(Ack._fields)
# RFC 3339 section 5.6; a space in the place of the plus sign is one that was not escaped in the query.
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+\- ]\d\d:\d\d)")


class Problem(Exception):
    """A question refused. parameter: the one at fault, or None; retry_after_s: when to ask again."""

    def __init__(
        self, status: int, detail: str, parameter: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.parameter = parameter
        self.retry_after_s = retry_after_s


def acknowledgement(body: bytes) -> Ack:
    """The body of an acknowledgement. Raises Problem."""
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict) or not given.keys() <= _ACK_KEYS:
        raise Problem(400, f"the body must be a JSON object of {', '.join(sorted(_ACK_KEYS))}")
    for name, most in (("device", 32), ("reason", 32), ("gateway", 32), ("who", WHO_MAX), ("why", WHY_MAX)):
        text = given.get(name)
        if text is None and name == "gateway":
            continue
        if not isinstance(text, str) or not 0 < len(text) <= most or not text.isprintable():
            raise Problem(400, f"{name} must be 1 to {most} printable characters", name)
    times = given.get("times")
    if times is not None and (type(times) is not int or not 1 <= times < 1 << 53):
        raise Problem(400, "times must be a number from 1 on", "times")
    return Ack(given["device"], given["reason"], given.get("gateway"), times, given["who"], given["why"])


class Page(NamedTuple):
    """Where to go on, and how many. after: None at the beginning."""

    after: list[Any] | None
    limit: int


class Query:
    """The parameters of one question; `known` are all it takes, each once."""

    def __init__(self, given: list[tuple[str, str]], known: frozenset[str]) -> None:
        self._given: dict[str, str] = {}
        for name, value in given:
            if name not in known:
                allowed = ", ".join(sorted(known)) or "none"
                raise Problem(400, f"{name[:40]!r} is no parameter here; there are: {allowed}", name[:40])
            if name in self._given:
                raise Problem(400, f"{name} stands twice", name)
            self._given[name] = value

    def text(self, name: str) -> str | None:
        """As it was given."""
        return self._given.get(name)

    def device(self, required: bool) -> str | None:
        """A device's id."""
        value = self._given.get("device")
        if value is None and required:
            raise Problem(400, "device is needed: the id of one, of /v1/devices", "device")
        if value is not None and not is_device_id(value):
            raise Problem(400, "device must match [a-z0-9-]{1,32}", "device")
        return value

    def choice(self, name: str, among: tuple[str, ...]) -> str:
        """One of some words; the first when it is not given."""
        value = self._given.get(name, among[0])
        if value not in among:
            raise Problem(400, f"{name} must be one of {', '.join(among)}", name)
        return value

    def number(self, name: str, default: int | None, highest: int) -> int | None:
        """A number from 1 to `highest`."""
        text = self._given.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= highest):
            raise Problem(400, f"{name} must be a number from 1 to {highest}", name)
        return int(text)

    def time(self, name: str, default_unix_ms: int) -> int:
        """unix ms of an RFC 3339 time."""
        text = self._given.get(name)
        if text is None:
            return default_unix_ms
        try:
            if not _RFC_3339.fullmatch(text):
                raise ValueError
            moment = datetime.fromisoformat(text.replace(" ", "+").upper())
            return round(moment.timestamp() * 1000)
        except (ValueError, OverflowError):
            detail = f"{name} must be an RFC 3339 time with its offset, such as 2026-05-01T00:00:00Z"
            raise Problem(400, detail, name) from None

    def span(self, now_unix_ms: int, default_ms: int) -> tuple[int, int]:
        """[from, to) in unix ms; by default the time up to now."""
        end = self.time("to", now_unix_ms)
        start = self.time("from", end - default_ms)
        if start >= end:
            raise Problem(400, "from must be before to", "from")
        return start, end

    def page(self, tag: str, *shape: type) -> Page:
        """limit, and what a cursor of this tag holds: values of these types."""
        limit = self.number("limit", PAGE_DEFAULT, PAGE_MAX) or PAGE_DEFAULT
        text = self._given.get("cursor")
        if text is None:
            return Page(None, limit)
        held = _opened(text)
        if held[:1] != [tag] or [type(value) for value in held[1:]] != list(shape):
            raise Problem(400, "cursor must be `next` of a page of this same question", "cursor")
        return Page(held[1:], limit)


def cursor(tag: str, place: tuple[Any, ...]) -> str:
    """An opaque text for `Query.page`."""
    text = json.dumps([tag, *place], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _opened(text: str) -> list[Any]:
    try:
        if len(text) > _CURSOR_CHARACTERS_MAX or not text.isascii():
            raise ValueError
        held = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        held = None
    if not isinstance(held, list) or any(type(v) is int and abs(v) >> 62 for v in held):
        raise Problem(400, "cursor must be `next` of a page before", "cursor")
    return held


def rfc_3339(unix_ms: int | None) -> str | None:
    """UTC, in ms; None where no time is known, or none that RFC 3339 can say."""
    if unix_ms is None or not 0 <= unix_ms < UNIX_MS_END:
        return None
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
