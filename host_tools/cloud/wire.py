"""The uplink's body, decoded strictly: bytes from anyone into a Batch, or a WireError that names the HTTP status.

Format: docs/uplink.md. Everything is checked before anything is believed: digest, size before and after
decompression, types, counts, ranges. It knows neither HTTP servers nor the store.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import zstandard

from host_tools.cloud import analyses as analyses_
from host_tools.cloud import frames as frames_
from host_tools.cloud import models as models_
from host_tools.cloud import windows as windows_
from host_tools.cloud.analyses import Request
from host_tools.cloud.frames import TaggedFrame
from host_tools.cloud.models import ModelState
from host_tools.cloud.strict import UNIX_MS_MAX, integer
from host_tools.cloud.windows import Window
from isocore.record import KIND_LAST, SMALL_INT_MAX
from isocore.topics import is_device_id

CONTENT_TYPE = "application/vnd.isotherm.batch+json"
VERSION = 1
BODY_BYTES_MAX = 4 << 20
TEXT_BYTES_MAX = 32 << 20
ROWS_MAX = 65536
DEVICES_MAX = 10000
CHANNELS_MAX = 255
NAME_MAX = 64
LANES = ("alarms", "live", "backfill", "windows", "models")
UPTIME_MS_MAX = SMALL_INT_MAX * 1000 + 999
_NUMBER_MAX = (1 << 53) - 1  # what JSON readers everywhere hold exactly
_TREND_MAX = 0x7FFF
_WINDOW_BYTES_MAX = 8 << 20  # what a zstd frame may ask for (RFC 8878 section 3.1.1.1.2 recommends 8 MB)
_OPTIONAL_KEYS = frozenset(("trend", "windows", "frames", "analyses", "models"))
_HEAD_KEYS = frozenset(("v", "gateway", "batch", "lane", "first_row", "last_row", "rows", "devices", "series"))
_KEYS = _HEAD_KEYS | _OPTIONAL_KEYS | {"seq", "uptime_ms", "kind", "channel", "value"}


class WireError(Exception):
    """A request refused. status: the HTTP status; reason: a fixed slug that names a counter."""

    def __init__(self, status: int, reason: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason


class Reading(NamedTuple):
    """One row. `device` indexes `Batch.devices`."""

    device: int
    boot: int
    seq: int
    kind: int
    channel: int
    value: int
    trend: int
    uptime_ms: int
    epoch_unix_ms: int | None
    trusted: int


@dataclass(frozen=True)
class Device:
    """A device of the batch's dictionary; class and channels are None when the gateway does not know them."""

    id: str
    device_class: str | None
    channels: tuple[tuple[str, str | None], ...] | None


@dataclass(frozen=True)
class Batch:
    """One batch, checked."""

    gateway: str
    number: int
    digest: bytes
    lane: str
    devices: tuple[Device, ...]
    readings: list[Reading]
    windows: tuple[Window, ...] = ()
    frames: tuple[TaggedFrame, ...] = ()
    analyses: tuple[Request, ...] = ()
    models: tuple[ModelState, ...] = ()


@dataclass(frozen=True)
class Head:
    """What the headers say."""

    gateway: str
    number: int
    encoding: str
    digest: bytes


def read_head(headers: Mapping[str, str]) -> Head:
    """Check the headers (names in lower case) before the body is read."""
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != CONTENT_TYPE:
        raise WireError(415, "content_type", f"Content-Type must be {CONTENT_TYPE}")
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in ("zstd", "gzip"):
        raise WireError(415, "encoding", "Content-Encoding must be zstd or gzip")
    gateway = headers.get("isotherm-gateway", "")
    if not is_device_id(gateway):
        raise WireError(400, "header", "Isotherm-Gateway must match [a-z0-9-]{1,32}")
    number = headers.get("isotherm-batch", "")
    if not (number.isascii() and number.isdigit() and len(number) <= 16 and 1 <= int(number) <= _NUMBER_MAX):
        raise WireError(400, "header", "Isotherm-Batch must be a number from 1 on")
    scheme, _, digits = headers.get("isotherm-digest", "").partition("=")
    try:
        digest = bytes.fromhex(digits)
    except ValueError:
        digest = b""
    if scheme != "sha-256" or len(digest) != 32 or len(digits) != 64:
        raise WireError(400, "header", "Isotherm-Digest must be sha-256= and 64 hexadecimal digits")
    return Head(gateway, int(number), encoding, digest)


def decode(head: Head, body: bytes) -> Batch:
    """Decode a body. Raises WireError and nothing else for anything that is not a batch."""
    if len(body) > BODY_BYTES_MAX:
        raise WireError(413, "size", f"body of {len(body)} bytes, at most {BODY_BYTES_MAX}")
    if hashlib.sha256(body).digest() != head.digest:
        raise WireError(400, "digest", "Isotherm-Digest does not match the body")
    data = _parse(_decompress(head.encoding, body))
    if data["gateway"] != head.gateway or data["batch"] != head.number:
        raise WireError(400, "header", "gateway and batch in the body differ from the headers")
    if data["lane"] not in LANES:
        raise WireError(400, "lane", "lane must be one of " + ", ".join(LANES))
    first_row = _integer(data["first_row"], "first_row", 0, _NUMBER_MAX)
    _integer(data["last_row"], "last_row", first_row, _NUMBER_MAX)
    devices = _devices(data["devices"])
    windows: tuple[Window, ...] = ()
    if "windows" in data:
        windows = tuple(windows_.decode(data["windows"], len(devices), lambda text: WireError(400, "windows", text)))
    analyses: tuple[Request, ...] = ()
    if "analyses" in data:
        analyses = analyses_.decode(data["analyses"], lambda text: WireError(400, "analyses", text))
    models: tuple[ModelState, ...] = ()
    if "models" in data:
        models = models_.decode(data["models"], len(devices), lambda text: WireError(400, "models", text))
    readings = _readings(data, len(devices), 0 if windows or analyses or models else 1)
    frames: tuple[TaggedFrame, ...] = ()
    if "frames" in data:
        frames = frames_.decode(
            data["frames"], len(devices), len(readings), lambda text: WireError(400, "frames", text)
        )
    parts = (devices, readings, windows, frames, analyses, models)
    return Batch(head.gateway, head.number, head.digest, data["lane"], *parts)


def _decompress(encoding: str, body: bytes) -> bytes:
    """The text, at most TEXT_BYTES_MAX of it: a bomb costs no more than that."""
    try:
        if encoding == "zstd":
            decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES_MAX)
            text, complete, rest = _zstd(decompressor.decompressobj(), body)
        else:
            gzip = zlib.decompressobj(wbits=31)
            text = gzip.decompress(body, TEXT_BYTES_MAX + 1)
            complete, rest = gzip.eof, gzip.unused_data
    except (zstandard.ZstdError, zlib.error, MemoryError) as error:
        raise WireError(400, "compression", f"body is not sound {encoding}") from error
    if len(text) > TEXT_BYTES_MAX:
        raise WireError(413, "bomb", f"body grows past {TEXT_BYTES_MAX} bytes")
    if not complete:
        raise WireError(400, "compression", f"body is cut short inside its {encoding}")
    if rest:
        raise WireError(400, "compression", f"body goes on after its {encoding}")
    return text


def _zstd(stream: Any, body: bytes) -> tuple[bytes, bool, bytes]:
    # Fed in small pieces, since one piece of a zstd body may grow without bound before it returns.
    parts: list[bytes] = []
    size = 0
    at = 0
    while at < len(body) and not stream.eof and size <= TEXT_BYTES_MAX:
        part = stream.decompress(body[at : at + 1024])
        at += 1024
        size += len(part)
        parts.append(part)
    return b"".join(parts), stream.eof or size > TEXT_BYTES_MAX, stream.unused_data + body[at:]


def _refuse_number(text: str) -> Any:
    raise ValueError(f"{text[:20]} is not an integer")


def _parse(text: bytes) -> dict[str, Any]:
    try:
        data = json.loads(text.decode(), parse_float=_refuse_number, parse_constant=_refuse_number)
    except (ValueError, RecursionError) as error:
        raise WireError(400, "json", f"body is not JSON of integers: {str(error)[:100]}") from None
    if not isinstance(data, dict):
        raise WireError(400, "json", "body must be a JSON object")
    if type(data.get("v")) is not int or data["v"] != VERSION:
        raise WireError(422, "version", f"v must be {VERSION}")
    if unknown := data.keys() - _KEYS:
        raise WireError(400, "field", f"unknown field {sorted(unknown)[0][:40]!r}")
    if missing := _KEYS - _OPTIONAL_KEYS - data.keys():
        raise WireError(400, "field", f"field {min(missing)} is missing")
    return data


def _integer(value: Any, name: str, lowest: int, highest: int) -> int:
    return integer(value, name, lowest, highest, lambda text: WireError(400, "field", text))


def _list(value: Any, name: str, longest: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > longest:
        raise WireError(400, "field", f"{name} must be a list of at most {longest}")
    return value


def _name(value: Any, name: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= NAME_MAX or not value.isprintable():
        raise WireError(400, "field", f"{name} must be 1 to {NAME_MAX} printable characters")
    return value


def _devices(value: Any) -> tuple[Device, ...]:
    devices = []
    for item in _list(value, "devices", DEVICES_MAX):
        if not isinstance(item, dict) or item.keys() != {"id", "class", "channels"}:
            raise WireError(400, "field", "a device has id, class and channels")
        if not is_device_id(item["id"]):
            raise WireError(400, "field", "a device's id must match [a-z0-9-]{1,32}")
        device_class = None if item["class"] is None else _name(item["class"], "class")
        channels = None
        if item["channels"] is not None:
            channels = tuple(map(_channel, _list(item["channels"], "channels", CHANNELS_MAX)))
        devices.append(Device(item["id"], device_class, channels))
    if len({device.id for device in devices}) != len(devices):
        raise WireError(400, "field", "a device stands twice in devices")
    return tuple(devices)


def _channel(item: Any) -> tuple[str, str | None]:
    if not isinstance(item, dict) or not {"name"} <= item.keys() <= {"name", "unit", "kind"}:
        raise WireError(400, "field", "a channel has a name and a unit")
    unit = item.get("unit")
    return _name(item["name"], "a channel's name"), _name(unit, "a channel's unit") if unit else None


def _column(data: dict[str, Any], name: str, rows: int) -> list[int]:
    column = _list(data[name], name, ROWS_MAX)
    if len(column) != rows:
        raise WireError(400, "count", f"{name} holds {len(column)} of {rows} rows")
    if not set(map(type, column)) <= {int}:
        raise WireError(400, "field", f"{name} must hold integers only")
    return column


def _within(column: list[int], name: str, lowest: int, highest: int) -> list[int]:
    if column and (min(column) < lowest or max(column) > highest):
        raise WireError(400, "range", f"{name} must stay within {lowest} and {highest}")
    return column


def _readings(data: dict[str, Any], devices: int, rows_min: int) -> list[Reading]:
    rows = _integer(data["rows"], "rows", rows_min, ROWS_MAX)
    seq = _column(data, "seq", rows)
    uptime_ms = _column(data, "uptime_ms", rows)
    kind = _within(_column(data, "kind", rows), "kind", 1, KIND_LAST)
    channel = _within(_column(data, "channel", rows), "channel", 0, 255)
    value = _column(data, "value", rows)
    trend = [0] * rows
    if "trend" in data:
        trend = _within(_column(data, "trend", rows), "trend", -_TREND_MAX - 1, _TREND_MAX)
    readings: list[Reading] = []
    start = 0
    for item in _list(data["series"], "series", ROWS_MAX):
        device, boot, count, epoch_unix_ms, trusted = _series(item, devices)
        end = start + count
        if end > rows:
            raise WireError(400, "count", f"series add up to more than {rows} rows")
        columns = (
            _seqs(seq[start:end]),
            kind[start:end],
            channel[start:end],
            _values(channel[start:end], value[start:end]),
            trend[start:end],
            _uptimes(uptime_ms[start:end]),
        )
        readings.extend(
            Reading._make((device, boot, *row, epoch_unix_ms, trusted))  # the order of Reading's fields
            for row in zip(*columns, strict=True)
        )
        start = end
    if start != rows:
        raise WireError(400, "count", f"series add up to {start} of {rows} rows")
    return readings


def _series(item: Any, devices: int) -> tuple[int, int, int, int | None, int]:
    if not isinstance(item, list) or len(item) != 5:
        raise WireError(400, "field", "a series is [device, boot, count, epoch, trusted]")
    device = _integer(item[0], "a series' device", 0, devices - 1)
    boot = _integer(item[1], "a series' boot", 1, SMALL_INT_MAX)
    count = _integer(item[2], "a series' count", 1, ROWS_MAX)
    epoch = None if item[3] is None else _integer(item[3], "a series' epoch", 0, UNIX_MS_MAX)
    return device, boot, count, epoch, _integer(item[4], "a series' trusted flag", 0, 1)


def _seqs(steps: list[int]) -> list[int]:
    """First absolute, then differences, all of which rise."""
    if min(steps) < 1:
        raise WireError(400, "order", "seq does not rise within a series")
    return _within(list(accumulate(steps)), "seq", 1, SMALL_INT_MAX)


def _uptimes(steps: list[int]) -> list[int]:
    """First absolute, then a difference, then differences of differences."""
    differences = accumulate(steps[1:])
    return _within(list(accumulate(differences, initial=steps[0])), "uptime_ms", 0, UPTIME_MS_MAX)


def _values(channels: list[int], steps: list[int]) -> list[int]:
    """First of each channel absolute, then differences."""
    last: dict[int, int] = {}
    values = []
    for channel, step in zip(channels, steps, strict=True):
        value = last.get(channel, 0) + step
        last[channel] = value
        values.append(value)
    return _within(values, "value", -SMALL_INT_MAX, SMALL_INT_MAX)
