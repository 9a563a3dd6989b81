"""Where Tasmota, ESPHome and Zigbee2MQTT put their readings. Pure.

Each preset is a topic, an availability topic, a JSON pointer to a time stamp, and a function from a parsed payload to
(channel, value, unit). What is no temperature or humidity is left out, unless `units` names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from gateway.third_party.names import slug
from gateway.third_party.pointer import MISSING, resolve
from gateway.third_party.reading import CELSIUS, HUMIDITY

CHANNEL_CHARS_MAX = 64
Found = tuple[str, Any, str]  # channel, value as it stands there, its unit
Read = Callable[[Any, str | None, "Wanted"], Iterator[Found]]

TASMOTA, ESPHOME, ZIGBEE2MQTT, JSON = "tasmota", "esphome", "zigbee2mqtt", "json"


class Wanted(NamedTuple):
    """What the configuration asks for: channel -> pointer, channel -> unit."""

    values: Mapping[str, str]
    units: Mapping[str, str]


class Preset(NamedTuple):
    """plain: a payload is one value, not JSON."""

    topic: str
    availability: str
    time: str
    plain: bool
    read: Read


def channel_name(name: str) -> str:
    """A channel's name as it is kept."""
    return slug(name)[:CHANNEL_CHARS_MAX]


def _tasmota(document: Any, _: str | None, wanted: Wanted) -> Iterator[Found]:
    """{"Time":..., "DS18B20-1":{"Id":"0316A2","Temperature":21.4}, "TempUnit":"C"}.

    With several DS18B20 the number in the name counts those found at boot; the Id is the sensor's own and names it.
    """
    if not isinstance(document, dict):
        return
    celsius = document.get("TempUnit")
    temperature = celsius if isinstance(celsius, str) and celsius in ("C", "F") else CELSIUS
    for sensor, said in document.items():
        if not isinstance(said, dict):
            continue
        name = sensor
        if isinstance(said.get("Id"), str) and said["Id"]:
            name = f"{sensor.split('-')[0]}-{said['Id']}"
        for key, value in said.items():
            channel = channel_name(f"{name}-{key}")
            unit = {"Temperature": temperature, "Humidity": HUMIDITY}.get(key)
            unit = wanted.units.get(channel, unit)
            if unit and channel:
                yield channel, value, unit


def _esphome(value: Any, channel: str | None, wanted: Wanted) -> Iterator[Found]:
    name = channel_name(channel or "value")
    unit = wanted.units.get(name) or unit_by_name(name)
    if unit and name:
        yield name, value, unit


def _zigbee2mqtt(document: Any, _: str | None, wanted: Wanted) -> Iterator[Found]:
    """{"temperature":21.3,"humidity":55.2,"battery":97,"linkquality":120}."""
    if not isinstance(document, dict):
        return
    for key, value in document.items():
        name = channel_name(key)
        unit = wanted.units.get(name)
        if unit is None and not isinstance(value, dict | list | bool):
            unit = {"humidity": HUMIDITY}.get(name) or (CELSIUS if name in _Z2M_TEMPERATURES else None)
        if unit and name:
            yield name, value, unit


_Z2M_TEMPERATURES = ("temperature", "local-temperature", "device-temperature", "soil-temperature")


def _json(document: Any, channel: str | None, wanted: Wanted) -> Iterator[Found]:
    for name, pointer in wanted.values.items():
        value = resolve(document, pointer)
        if value is not MISSING:
            full = channel_name(f"{channel}-{name}") if channel else name
            yield full, value, wanted.units.get(name) or unit_by_name(name) or CELSIUS


def unit_by_name(name: str) -> str | None:
    """What a channel's name tells of its unit, or None."""
    if "humid" in name:
        return HUMIDITY
    return CELSIUS if "temp" in name else None


PRESETS = {
    TASMOTA: Preset("tele/{device}/SENSOR", "tele/{device}/LWT", "/Time", False, _tasmota),
    ESPHOME: Preset("{device}/sensor/{channel}/state", "{device}/status", "", True, _esphome),
    ZIGBEE2MQTT: Preset("zigbee2mqtt/{device}", "zigbee2mqtt/{device}/availability", "/last_seen", False, _zigbee2mqtt),
    JSON: Preset("", "", "", False, _json),
}
