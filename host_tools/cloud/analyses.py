"""Requests for analyses in a batch, decoded strictly, and the run itself: the same function as at the gateway.

The form is that of docs/uplink.md, "Analyses". It knows neither HTTP nor SQL.
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from host_tools.cloud.strict import UNIX_S_MAX, Refuse, integer
from host_tools.cloud.windows import LENGTH_S_MAX, REVISION_MAX
from isocore.analysis import SCORE_WINDOWS_MAX, Sensor, analyse, encode
from isocore.record import SMALL_INT_MAX
from isocore.topics import is_device_id

REQUESTS_MAX = 64
SENSORS_MAX = 10000
RESULT_CHARS_MAX = 4 << 20
_NAME_MAX = 64
_SUM_MAX = (1 << 63) - 1
_FIGURE_MAX = (1 << 53) - 1
_HEAD = frozenset(("name", "length_s", "start_s", "first_s", "low_milli", "high_milli"))
_BESIDE = frozenset(("sensors", "across", "windows", "result"))


class Print(NamedTuple):
    """What tells one set of a gateway's windows from another: how many, and sum and greatest of their revisions."""

    windows: int
    revisions: int
    last_revision: int


class Across(NamedTuple):
    """Shell patterns over devices, classes and channels of all gateways."""

    device: str
    device_class: str
    channel: str

    def fits(self, device: str, device_class: str | None, channel: str) -> bool:
        return (
            fnmatchcase(device, self.device)
            and fnmatchcase(device_class or "", self.device_class)
            and fnmatchcase(channel, self.channel)
        )


class Request(NamedTuple):
    """One run: of `sensors` (device id, channel), or of all that `across` fits. `result`: when the gateway made it."""

    name: str
    length_s: int
    start_s: int
    first_s: int
    low_milli: int | None
    high_milli: int | None
    sensors: tuple[tuple[str, int], ...] | None
    across: Across | None
    windows: Print | None
    result: str | None


def decode(value: Any, refuse: Refuse) -> tuple[Request, ...]:
    """The `analyses` of a batch. Raises what `refuse` makes of a sentence."""
    if not isinstance(value, list) or not 0 < len(value) <= REQUESTS_MAX:
        raise refuse(f"analyses must be a list of 1 to {REQUESTS_MAX}")
    return tuple(_request(item, refuse) for item in value)


def _request(item: Any, refuse: Refuse) -> Request:
    if not isinstance(item, dict) or not item.keys() >= _HEAD or not item.keys() <= _HEAD | _BESIDE:
        raise refuse(f"an analysis has {', '.join(sorted(_HEAD))}, and of {', '.join(sorted(_BESIDE))} what it needs")
    if ("sensors" in item) == ("across" in item):
        raise refuse("an analysis has either sensors or across")
    length_s = _integer(item["length_s"], "length_s", 1, LENGTH_S_MAX, refuse)
    start_s = _integer(item["start_s"], "start_s", 0, UNIX_S_MAX, refuse)
    if start_s % length_s:
        raise refuse("an analysis' start must be a multiple of its length")
    first_s = _integer(item["first_s"], "first_s", start_s - SCORE_WINDOWS_MAX * length_s, start_s, refuse)
    low_milli = _limit(item["low_milli"], "low_milli", refuse)
    high_milli = _limit(item["high_milli"], "high_milli", refuse)
    windows = _print(item["windows"], refuse) if item.get("windows") is not None else None
    result = item.get("result")
    if result is not None and (not isinstance(result, str) or not _is_result(result, length_s, start_s)):
        raise refuse("a result of an analysis must be what it encodes for that window")
    if "sensors" in item and windows is None:
        raise refuse("an analysis of sensors must say of which windows")
    sensors = _sensors(item["sensors"], refuse) if "sensors" in item else None
    across = _across(item["across"], refuse) if "across" in item else None
    if across is not None and result is not None:
        raise refuse("an analysis across gateways has its result made here")
    name = _name(item["name"], "an analysis' name", refuse)
    return Request(name, length_s, start_s, first_s, low_milli, high_milli, sensors, across, windows, result)


def _is_result(text: str, length_s: int, start_s: int) -> bool:
    if len(text) > RESULT_CHARS_MAX:
        return False
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(found, list)
        and len(found) == 4
        and found[1:3] == [length_s, start_s]
        and isinstance(found[3], list)
        and all(_is_row(row) for row in found[3])
    )


def _is_row(row: Any) -> bool:
    """One sensor's: which it is, and figures."""
    if not isinstance(row, list) or len(row) != 9 or not isinstance(row[0], str) or sensor_of(row[0]) is None:
        return False
    return all(figure is None or (type(figure) is int and abs(figure) <= _FIGURE_MAX) for figure in row[1:])


def sensor_of(key: str) -> tuple[str, int] | None:
    """Device and channel of a sensor as results name it; None: it is no such name."""
    device, _, channel = key.rpartition("/")
    if not is_device_id(device) or not (channel.isascii() and channel.isdecimal() and len(channel) <= 3):
        return None
    return (device, int(channel)) if int(channel) <= 255 else None


def _sensors(value: Any, refuse: Refuse) -> tuple[tuple[str, int], ...]:
    if not isinstance(value, list) or len(value) > SENSORS_MAX:
        raise refuse(f"sensors must be a list of at most {SENSORS_MAX}")
    found = []
    for item in value:
        if not isinstance(item, list) or len(item) != 2 or not is_device_id(item[0]):
            raise refuse("a sensor is [device id, channel]")
        found.append((item[0], _integer(item[1], "a sensor's channel", 0, 255, refuse)))
    return tuple(found)


def _across(value: Any, refuse: Refuse) -> Across:
    if not isinstance(value, dict) or value.keys() != {"device", "class", "channel"}:
        raise refuse("across has device, class and channel")
    return Across(*(_name(value[name], "a pattern", refuse) for name in ("device", "class", "channel")))


def _print(value: Any, refuse: Refuse) -> Print:
    if not isinstance(value, list) or len(value) != 3:
        raise refuse("windows of an analysis are [count, sum of revisions, last revision]")
    highest = (1 << 32, _SUM_MAX, REVISION_MAX)
    return Print(*(_integer(n, "a windows' figure", 0, most, refuse) for n, most in zip(value, highest, strict=True)))


def _name(value: Any, what: str, refuse: Refuse) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _NAME_MAX or not value.isprintable():
        raise refuse(f"{what} must be 1 to {_NAME_MAX} printable characters")
    return value


def _limit(value: Any, name: str, refuse: Refuse) -> int | None:
    return None if value is None else _integer(value, name, -SMALL_INT_MAX, SMALL_INT_MAX, refuse)


def _integer(value: Any, name: str, lowest: int, highest: int, refuse: Refuse) -> int:
    return integer(value, f"{name} of an analysis", lowest, highest, refuse)


def run(request: Request, means: dict[str, dict[int, int]]) -> bytes:
    """The result's bytes. means: {key of a sensor: {start_s: mean in milli-units}}."""
    if request.sensors is not None:
        keys = [f"{device}/{channel}" for device, channel in request.sensors]
    else:
        keys = list(means)
    sensors = [Sensor(key, means.get(key, {}), request.low_milli, request.high_milli) for key in keys]
    result: bytes = encode(analyse(sensors, request.length_s, request.start_s), request.length_s, request.start_s)
    return result


def foreseen(result: bytes) -> int:
    """How many sensors will cross a limit."""
    return sum(row[5] is not None for row in json.loads(result)[3])
