"""What a receiver's store answers to questions, whatever keeps it (`ports.py`). Milli-units and unix ms."""

from __future__ import annotations

from typing import Any, NamedTuple

from host_tools.cloud.store_read import DeviceInfo
from host_tools.errors import StoreError

Place = tuple[Any, ...]  # where a page of alarms ended, within its section
SILENCE, IDENTITY, LIMIT, FAULTS, FORESEEN = "silence", "identity", "limit", "fault", "foreseen"
ACKS_SHOWN = 10  # of one alarm; the store keeps all
SECTIONS = (SILENCE, IDENTITY, "board", FORESEEN)  # in this order, each with cursors of its own


class TooLong(StoreError):
    """The question took longer than it may; a narrower one will not."""


class GatewayInfo(NamedTuple):
    """One gateway. rows_today, bytes_today: stored since midnight UTC; heard: of its last answered batch."""

    name: str
    posts: int
    bytes_uplink: int
    heard_unix_ms: int | None
    rows_today: int
    bytes_today: int
    silent_since_unix_ms: int | None


class DeviceState(NamedTuple):
    """One device. heard: of the last batch with fresh rows of it; silent_since: None while it speaks."""

    number: int
    info: DeviceInfo
    heard_unix_ms: int | None
    silent_since_unix_ms: int | None


class Latest(NamedTuple):
    """The last report of a channel, by identity."""

    channel: int
    boot: int
    seq: int
    value: int
    trend: int
    unix_ms: int | None
    trusted: bool
    verdict: str


class Point(NamedTuple):
    """One report within a span."""

    unix_ms: int
    boot: int
    seq: int
    kind: int
    value: int
    trend: int
    trusted: bool
    verdict: str


class Ack(NamedTuple):
    """What a person says. gateway, times: None: by any, and all that there is of it when this is done."""

    device: str
    reason: str
    gateway: str | None
    times: int | None
    who: str
    why: str


class Acked(NamedTuple):
    """One alarm. times: how many of it are acknowledged now; new: False when they were already."""

    device: str
    reason: str
    gateway: str
    times: int
    new: bool


class Acknowledgement(NamedTuple):
    """A person looked at an identity alarm. times: how many of it that was about."""

    who: str
    why: str
    times: int
    unix_ms: int


class Crossing(NamedTuple):
    """When a limit will be crossed, as an analysis foresees it. latest: None: perhaps not soon."""

    analysis: str
    limit_milli: int
    unix_ms: int
    earliest_unix_ms: int
    latest_unix_ms: int | None


class Alarm(NamedTuple):
    """One alarm. ended_by: None while it stands, "off", "again" (another of its kind followed), "boot", "heard",
    "acknowledged", or of one that was foreseen "limit" and "passed".

    channel, value, boot, seq: of the record that switched it on; value in milli-units, or the fault's code.
    """

    place: Place
    kind: str
    reason: str
    device: str | None
    gateway: str | None
    channel: int | None
    value: int | None
    boot: int | None
    seq: int | None
    since_unix_ms: int | None
    until_unix_ms: int | None
    ended_by: str | None
    times: int
    acknowledgements: tuple[Acknowledgement, ...] = ()
    crossing: Crossing | None = None


def is_place(only_open: bool, section: int, place: list[Any]) -> bool:
    """Whether `page` can go on there."""
    if not 0 <= section < len(SECTIONS):
        return False
    sensor = (str, str, int, str, int)
    if only_open:
        shapes: tuple[tuple[type, ...], ...] = ((int,), (str, str, str), (int, int), sensor)
    else:
        shapes = ((int,), (str, str, str), (int, int, int, int), (int, *sensor))
    return not place or tuple(type(part) for part in place) == shapes[section]
