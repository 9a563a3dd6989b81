"""[third_party.NAME]: devices that publish values of their own over MQTT. Declarations only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gateway.config.keys import key, one_of
from gateway.third_party import pattern, pointer
from gateway.third_party.preset import JSON, PRESETS, channel_name, unit_by_name
from isocore.record import VALUE_MAX
from isocore.topics import is_device_id

INTRO = """\
Devices that publish values of their own over MQTT: one table a kind or place of them. docs/third-party.md tells how the
broker and the devices must be set for nothing to be lost. For Tasmota's own topics this is enough:

    [third_party.plugs]
    preset = "tasmota"
"""


def _topic(value: str) -> str | None:
    return pattern.wrong(value) if value else None


def _zone(value: str) -> str | None:
    try:
        if value:
            ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return "must be a time zone that this machine knows, such as Europe/Berlin or UTC"
    return None


def _unit(value: str) -> str | None:
    fine = 0 < len(value) <= 16 and value.isprintable()
    return None if fine else "must be a unit of at most 16 printable characters, such as degC, degF, K or %RH"


@dataclass(frozen=True)
class ThirdPartyConfig:
    """[third_party.NAME]"""

    preset: str = key(JSON, "tasmota, esphome, zigbee2mqtt or json", check=one_of(tuple(PRESETS)))
    topic: str = key("", 'topic with placeholders: {device}, {channel}; "": the preset\'s own', check=_topic)
    availability: str = key("", 'topic that says online or offline; "": the preset\'s own', check=_topic)
    values: dict[str, str] = key(
        {}, 'json: JSON pointer (RFC 6901) of each channel, such as {temperature = "/t"}', check=pointer.wrong
    )
    units: dict[str, str] = key(
        {},
        "unit of a channel as the device sends it: degC, degF, K, %RH, or any other; brings in further channels",
        check=_unit,
    )
    names: dict[str, str] = key(
        {},
        'device id for a name in the topic, such as {"Kitchen Plug" = "kitchen"}',
        check=lambda value: None if is_device_id(value) else "must match [a-z0-9-]{1,32}",
    )
    device_class: str = key(
        "third-party",
        "class of these devices",
        check=lambda value: None if is_device_id(value) else "must match [a-z0-9-]{1,32}",
    )
    time: str = key("", 'JSON pointer of a time stamp in the payload; "": the preset\'s own', check=pointer.wrong)
    time_zone: str = key("", 'zone of time stamps without an offset; "": such stamps are not used', check=_zone)
    valid_min_milli: int = key(
        -100000, "temperatures below are a fault, not a reading", -VALUE_MAX, VALUE_MAX, unit="m°C"
    )
    valid_max_milli: int = key(
        200000, "temperatures above are a fault, not a reading", -VALUE_MAX, VALUE_MAX, unit="m°C"
    )
    error_milli: int = key(
        0, "report only what leaves the last report by more; 0: every reading", 0, VALUE_MAX, unit="milli-units"
    )
    heartbeat_s: int = key(3600, "with error_milli: report at least so often", 0, 10000000)
    stuck_s: int = key(0, "a value unchanged for so long is a fault; 0: never", 0, 10000000)
    devices_max: int = key(200, "devices that may come in by this table", 1, 10000)

    def wrong(self, beside: Callable[[str], Path]) -> Iterator[tuple[str, str]]:
        if self.preset == JSON:
            if not self.topic:
                yield "topic", "is missing: say where values come from, such as sensors/{device}/state"
            if not self.values:
                yield (
                    "values",
                    'is missing: say where they stand in the payload, such as {temperature = "/t"}',
                )
            for name in self.values:
                if name != channel_name(name):
                    yield "values", f"has the channel {name!r}: a channel's name must match [a-z0-9-]{{1,64}}"
                elif name not in self.units and unit_by_name(name) is None:
                    yield "units", f"does not say the unit of {name}, such as degC"
        elif self.values:
            yield "values", f'is for preset "json", this one is "{self.preset}"'
        if self.valid_min_milli >= self.valid_max_milli:
            yield "valid_min_milli", "must be below valid_max_milli"
        if len(set(self.names.values())) < len(self.names):
            yield "names", "gives one id to two names"
