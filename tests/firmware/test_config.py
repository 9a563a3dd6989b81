"""config.json: every mistake ends in one ConfigError that names the field."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from isonode import config
from isonode.errors import ConfigError

GOOD: dict[str, Any] = {
    "device": "fridge-1",
    "class": "fridge",
    "fleet": "demo",
    "board": "virtual",
    "gateway": {"host": "192.0.2.1", "port": 1883},
    "wifi": {"ssid": "lab", "password": "secret"},
    "clock": "rtc",
    "sampling": {"period_ms": 60000},
    "sensors": [
        {"type": "dht22", "pin": 4, "channels": {"temperature": "air", "humidity": "humidity"}},
        {"type": "ds18b20", "pin": 5, "rom": "28ff64c0ffee0012", "channels": {"temperature": "probe"}},
        {"type": "chip", "channels": {"temperature": "chip"}},
        {"type": "sht3x", "scl": 22, "sda": 21, "channels": {"humidity": "duct"}},
    ],
    "actuators": [
        {"type": "relay", "pin": 16, "channel": "probe", "on": ["high"], "active": 0, "safe": 1},
        {"type": "buzzer", "pin": 17, "channel": "air", "latching": True, "release_pin": 18, "blink_ms": 300},
    ],
    "model_keys": [{"id": "ops", "key": "ab" * 64}],
    "link": {"window": 2},
    "outbox": {"ram_records": 32, "spill_records": 16},
}


def test_a_gateway_by_name_with_a_fallback() -> None:
    settings = config.parse({**GOOD, "gateway": {"host": "raspberry-pi.local", "fallback": "192.0.2.1"}})
    assert settings.named and settings.fallback == "192.0.2.1"
    assert not config.parse(GOOD).named and config.parse(GOOD).fallback == ""
    for wrong in ("gw", "", 7):
        with pytest.raises(ConfigError) as raised:
            config.parse({**GOOD, "gateway": {"host": "gw", "fallback": wrong}})
        assert raised.value.field == "gateway.fallback"


def test_a_whole_file() -> None:
    settings = config.parse(GOOD)
    assert [(c.name, c.kind, c.unit) for c in settings.channels] == [
        ("air", "temperature", "degC"),
        ("humidity", "humidity", "%RH"),
        ("probe", "temperature", "degC"),
        ("chip", "temperature", "degC"),
        ("duct", "humidity", "%RH"),
    ]
    assert [sensor.channels for sensor in settings.sensors] == [
        {"temperature": 0, "humidity": 1},
        {"temperature": 2},
        {"temperature": 3},
        {"humidity": 4},
    ]
    duct = settings.sensors[3]
    assert (duct.pin, duct.scl, duct.sda, duct.address) == (None, 22, 21, 0x44)
    assert settings.sensors[1].rom == bytes.fromhex("28ff64c0ffee0012")
    relay = settings.actuators[0]
    assert (relay.channel, relay.on, relay.active, relay.safe) == (2, ["high"], 0, 1)
    buzzer = settings.actuators[1]
    assert (buzzer.latching, buzzer.release_pin, buzzer.release_level, buzzer.blink_ms) == (True, 18, 0, 300)
    assert (relay.latching, relay.release_pin, relay.blink_ms) == (False, None, 0)
    assert settings.model_keys == [b"\xab" * 64]
    assert settings.link["window"] == 2 and settings.link["keepalive_s"] == 30
    assert settings.outbox["ram_records"] == 32 and settings.trial_samples == 5
    assert settings.period_ms == 60000 and settings.strobe_pin is None


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("device", "Fridge 1", "device"),
        ("class", 3, "class"),
        ("fleet", "", "fleet"),
        ("gateway", None, "gateway"),
        ("gateway.host", "", "gateway.host"),
        ("gateway.host", "gate way", "gateway.host"),
        ("gateway.host", "192.0.2.300", "gateway.host"),
        ("gateway.host", "a" * 64 + ".lan", "gateway.host"),
        ("gateway.fallback", "192.0.2.2", "gateway.fallback"),
        ("ntp", {"host": "a..b"}, "ntp.host"),
        ("gateway.port", 70000, "gateway.port"),
        ("gateway.port", True, "gateway.port"),
        ("gateway.prot", 1883, "gateway.prot"),
        ("wifi.ssid", 7, "wifi.ssid"),
        ("clock", "sundial", "clock"),
        ("sampling", {}, "sampling"),
        ("sampling", {"period_ms": 1000, "strobe_pin": 1}, "sampling"),
        ("sampling", {"period_ms": 1}, "sampling.period_ms"),
        ("sampling", {"strobe_pin": "A"}, "sampling.strobe_pin"),
        ("sensors", [], "sensors"),
        ("sensors.0.type", "dht33", "sensors.0.type"),
        ("sensors.0", 7, "sensors.0"),
        ("sensors.0.pin", 99, "sensors.0.pin"),
        ("sensors.0.pin", 5, "sensors.1.pin"),  # a DHT22 on the probe's 1-Wire bus
        ("sensors.0.rom", "28ff64c0ffee0012", "sensors.0.rom"),
        ("sensors.2.pin", 7, "sensors.2.pin"),
        ("sensors.3.scl", None, "sensors.3.scl"),
        ("sensors.3.sda", 22, "sensors.3.sda"),
        ("sensors.3.address", 0x76, "sensors.3.address"),
        ("sensors.3.address", "0x4z", "sensors.3.address"),
        ("sensors.3.pin", 7, "sensors.3.pin"),
        ("sensors.4.address", "44", "sensors.4.type"),
        ("sensors.4", {"type": "sht4x", "scl": 22, "sda": 21, "channels": {"humidity": "x"}}, "sensors.4.address"),
        ("sensors.4", {"type": "tmp117", "scl": 21, "sda": 22, "channels": {"temperature": "x"}}, "sensors.4.scl"),
        (
            "sensors.4",
            {"type": "tmp102", "scl": 22, "sda": 21, "channels": {"humidity": "x"}},
            "sensors.4.channels.humidity",
        ),
        ("sensors.0.channels", {}, "sensors.0.channels"),
        ("sensors.0.channels.dew", "x", "sensors.0.channels.dew"),
        ("sensors.1.channels.temperature", "air", "sensors.1.channels.temperature"),
        ("sensors.1.rom", "28ff", "sensors.1.rom"),
        ("sensors.1.rom", "zz" * 8, "sensors.1.rom"),
        ("actuators.0.type", "siren", "actuators.0.type"),
        ("actuators.0.channel", "nowhere", "actuators.0.channel"),
        ("actuators.0.on", ["fault"], "actuators.0.on"),
        ("actuators.0.active", 2, "actuators.0.active"),
        ("actuators.0.pin", 4, "actuators.0.pin"),
        ("actuators.0.latching", 1, "actuators.0.latching"),
        ("actuators.0.release_pin", 16, "actuators.0.release_pin"),
        ("actuators.0.release_pin", 18, "actuators.0.release_pin"),  # it latches nothing
        ("actuators.0.release_level", 1, "actuators.0.release_level"),
        ("actuators.0.blink_ms", 500, "actuators.0.blink_ms"),
        ("actuators.1.blink_ms", 49, "actuators.1.blink_ms"),
        ("actuators.1.blink_ms", 60001, "actuators.1.blink_ms"),
        ("model_keys.0.key", "ab", "model_keys.0.key"),
        ("link.windows", 2, "link.windows"),
        ("link.window", 0, "link.window"),
        ("outbox.spill_records", 17, "outbox.spill_records"),
        ("outbox.segment_bytes", 262144, "outbox.capacity_bytes"),
        ("watchdog_ms", 10, "watchdog_ms"),
        ("colour", "red", "colour"),
    ],
)
def test_a_mistake_is_named(path: str, value: object, field: str) -> None:
    data: Any = copy.deepcopy(GOOD)
    at = data
    *parents, leaf = path.split(".")
    if path.startswith("sensors.4"):
        data["sensors"].append({})
    for part in parents:
        at = at[int(part)] if part.isdigit() else at[part]
    at[int(leaf) if leaf.isdigit() else leaf] = value
    with pytest.raises(ConfigError) as caught:
        config.parse(data)
    assert caught.value.field == field
    assert str(caught.value).startswith("config.json: " + field + ": ")


def test_no_file_and_no_json(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is missing"):
        config.load(str(tmp_path / "config.json"))
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="is not JSON"):
        config.load(str(tmp_path / "config.json"))
    with pytest.raises(ConfigError, match="must be an object"):
        config.parse([])


def test_nine_channels_are_too_many() -> None:
    data = copy.deepcopy(GOOD)
    data["actuators"] = []
    data["sensors"] = [
        {"type": "dht22", "pin": n, "channels": {"temperature": f"t{n}", "humidity": f"h{n}"}} for n in range(5)
    ]
    with pytest.raises(ConfigError, match="more than 8 channels"):
        config.parse(data)


def test_addresses_may_be_written_in_hexadecimal() -> None:
    data = copy.deepcopy(GOOD)
    for address, number in (("0x45", 0x45), (0x45, 0x45)):
        data["sensors"][3]["address"] = address
        assert config.parse(data).sensors[3].address == number
    data["sensors"][3]["address"] = True
    with pytest.raises(ConfigError, match=r"sensors\.3\.address: must be one of 0x44, 0x45"):
        config.parse(data)


def test_a_pin_that_is_taken_is_named_with_its_owner() -> None:
    data = copy.deepcopy(GOOD)
    data["sampling"] = {"strobe_pin": 16}
    with pytest.raises(ConfigError, match=r"actuators\.0\.pin: pin 16 is taken already by sampling\.strobe_pin"):
        config.parse(data)


def test_a_rom_is_given_once() -> None:
    data = copy.deepcopy(GOOD)
    twin = copy.deepcopy(data["sensors"][1])
    twin["channels"] = {"temperature": "twin"}
    data["sensors"].append(twin)
    with pytest.raises(ConfigError, match=r"sensors\.4\.rom: is given twice"):
        config.parse(data)


def test_the_key_for_tags_comes_from_a_file_of_its_own(tmp_path: Path) -> None:
    assert config.parse(GOOD).outbox["key"] is None
    path = tmp_path / "reading.key"
    path.write_bytes(bytes(range(32)))
    settings = config.parse({**GOOD, "reading_key": str(path)})
    assert (settings.outbox["key"], settings.config_error) == (bytes(range(32)), None)


@pytest.mark.parametrize("content", [None, b"", b"k" * 31, b"k" * 33])
def test_a_board_without_its_key_goes_on_untagged_and_says_so(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "reading.key"
    if content is not None:
        path.write_bytes(content)
    settings = config.parse({**GOOD, "reading_key": str(path)})
    assert settings.outbox["key"] is None
    assert settings.config_error == f"reading_key: {path} does not hold 32 bytes"


def test_a_key_stands_in_no_configuration() -> None:
    with pytest.raises(ConfigError, match="reading_key"):
        config.parse({**GOOD, "reading_key": 7})
