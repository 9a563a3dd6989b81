"""The fleet as its gateway sees it: one row a board, out of the gateway's /status document. Filters, tables of values.

One source: the gateway's own document. The broker's retained topics say as much of firmware, model and health, but not
when a board was last heard, nor which alarms stand, and two sources would differ. It knows no terminal and no command.
"""

from __future__ import annotations

import csv
import http.client
import io
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

from host_tools import selecting
from host_tools.errors import HostError, InputError, RetryableError

URL = "http://127.0.0.1:9464"
TIMEOUT_S = 5.0
BYTES_MAX = 32_000_000
_TEXT_MAX = 80
INVENTORY = ("device", "device_class", "board", "firmware", "fleet", "boot", "channels", "model_sequence", "model_id")


@dataclass(frozen=True)
class Board:
    """One board. Times in Unix milliseconds; what is not known is None."""

    device: str
    device_class: str | None
    online: bool
    last_seen_unix_ms: int | None
    firmware: str | None
    board: str | None
    fleet: str | None
    boot: int | None
    channels: str
    model_sequence: int | None
    model_state: str | None
    model_id: str | None
    model_reason: str | None
    mode: str | None
    uptime_s: int | None
    reset: str | None
    free_heap_bytes: int | None
    rssi_dbm: int | None
    outbox: int | None
    faults: int | None
    evicted: int | None
    alarms: tuple[str, ...]

    @property
    def complaints(self) -> list[str]:
        """What a person would look into; empty when all is well."""
        found = [] if self.online else ["offline"]
        if self.mode == "safe":
            found.append("safe mode")
        if self.model_state in ("reverted", "refused"):
            found.append(f"model {self.model_state} {self.model_reason or ''}".rstrip())
        return found + [f"alarm {alarm}" for alarm in self.alarms]


COLUMNS = tuple(one.name for one in fields(Board))


@dataclass(frozen=True)
class Filter:
    """Which boards to show. Empty or None: no matter."""

    selectors: Sequence[str] = ()
    offline: bool = False
    alarm: bool = False
    sequence: int | None = None

    def takes(self, board: Board) -> bool:
        """Whether a board passes."""
        return (
            (not self.selectors or selecting.matches(self.selectors, board.device, board.device_class))
            and not (self.offline and board.online)
            and not (self.alarm and not board.alarms)
            and self.sequence in (None, board.model_sequence)
        )


def fetch(url: str) -> Any:
    """The document of a running gateway. Raises RetryableError when it does not answer, InputError for a bad URL."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"--gateway: {url!r} is not http://HOST:PORT")
    try:
        with urllib.request.urlopen(url.rstrip("/") + "/status", timeout=TIMEOUT_S) as reply:
            data = reply.read(BYTES_MAX + 1)
    except (OSError, http.client.HTTPException, urllib.error.URLError) as error:
        reason = getattr(error, "reason", None) or error
        raise RetryableError(
            f"no gateway answers at {url}: {reason}; it listens on its own machine only: run this there, or bring its "
            "port here (ssh -L 9464:127.0.0.1:9464 GATEWAY)"
        ) from None
    return decoded(data, url)


def decoded(data: bytes, where: str) -> Any:
    """A document out of its bytes. Raises HostError."""
    try:
        if len(data) > BYTES_MAX:
            raise ValueError("it is too large")
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise HostError(f"{where}: is no status document of a gateway: {error}") from None


def boards(document: Any, where: str = URL) -> list[Board]:
    """Every board in a /status document, by name. Raises HostError when it is none."""
    devices = document.get("devices") if isinstance(document, dict) else None
    if not isinstance(devices, dict):
        raise HostError(f"{where}: is no status document of a gateway: it has no devices")
    alarms: dict[str, list[str]] = {}
    for alarm in document.get("alarms") or ():
        if isinstance(alarm, dict):
            text = " ".join(str(alarm[key]) for key in ("rule", "channel") if alarm.get(key))
            alarms.setdefault(str(alarm.get("device")), []).append(text[:_TEXT_MAX])
    return [_board(name, _dict(said), tuple(alarms.get(name, ()))) for name, said in sorted(devices.items())]


def _board(name: str, said: dict[str, Any], alarms: tuple[str, ...]) -> Board:
    meta, model, health = _dict(said.get("meta")), _dict(said.get("model_state")), _dict(said.get("health"))
    channels = meta.get("channels")
    known = [one for one in channels if isinstance(one, dict)] if isinstance(channels, list) else []
    names = [_text(one.get("name")) or "?" for one in known]
    return Board(
        name,
        _text(said.get("class")),
        said.get("status") == "online",
        _int(said.get("last_seen_unix_ms")),
        _text(meta.get("firmware")),
        _text(meta.get("board")),
        _text(meta.get("fleet")),
        _int(said.get("boot")),
        " ".join(names),
        _int(model.get("sequence")),
        _text(model.get("state")),
        _text(model.get("id")),
        _text(model.get("reason")),
        _text(health.get("mode") or meta.get("mode")),
        _int(health.get("uptime_s")),
        _text(health.get("reset")),
        _int(health.get("free_heap_bytes")),
        _int(health.get("rssi_dbm")),
        _int(health.get("outbox")),
        _int(health.get("faults")),
        _int(health.get("evicted")),
        alarms,
    )


def plain(board: Board, columns: Sequence[str] = COLUMNS) -> dict[str, Any]:
    """For JSON and CSV."""
    found = asdict(board)
    return {name: found[name] for name in columns}


def to_csv(found: Iterable[Board], columns: Sequence[str] = COLUMNS) -> str:
    """RFC 4180 with a header; alarms are joined by "; "."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    for board in found:
        row = plain(board, columns)
        writer.writerow(
            ["; ".join(value) if isinstance(value, tuple) else "" if value is None else value for value in row.values()]
        )
    return out.getvalue()


def ago(unix_ms: int | None, now_unix_s: float) -> str:
    """How long ago, for people; a date beyond two days."""
    if unix_ms is None:
        return "never"
    past_s = now_unix_s - unix_ms / 1000
    if past_s < 120:
        return f"{max(0, past_s):.0f} s ago"
    if past_s < 7200:
        return f"{past_s / 60:.0f} min ago"
    if past_s < 172_800:
        return f"{past_s / 3600:.0f} h ago"
    return datetime.fromtimestamp(unix_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _int(value: Any) -> int | None:
    return value if type(value) is int else None


def _text(value: Any) -> str | None:
    """What a board calls itself, without what would move a terminal's cursor."""
    if not isinstance(value, str):
        return None
    return "".join(sign if sign.isprintable() else "?" for sign in value[:_TEXT_MAX])
