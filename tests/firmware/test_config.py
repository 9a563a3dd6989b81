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
    ],
    "actuators": [{"type": "relay", "pin": 16, "channel": "probe", "on": ["high"], "active": 0, "safe": 1}],
    "model_keys": [{"id": "ops", "key": "ab" * 64}],
    "link": {"window": 2},
    "outbox": {"ram_records": 32, "spill_records": 16},
}


def test_a_whole_file() -> None:
    settings = config.parse(GOOD)
    assert [(c.name, c.kind, c.unit) for c in settings.channels] == [
        ("air", "temperature", "degC"),
        ("humidity", "humidity", "%RH"),
        ("probe", "temperature", "degC"),
        ("chip", "temperature", "degC"),
    ]
    assert [sensor.channels for sensor in settings.sensors] == [
        {"temperature": 0, "humidity": 1},
        {"temperature": 2},
        {"temperature": 3},
    ]
    assert settings.sensors[1].rom == bytes.fromhex("28ff64c0ffee0012")
    relay = settings.actuators[0]
    assert (relay.channel, relay.on, relay.active, relay.safe) == (2, ["high"], 0, 1)
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
        ("sensors.0.type", "dht11", "sensors.0.type"),
        ("sensors.0.pin", 99, "sensors.0.pin"),
        ("sensors.0.channels", {}, "sensors.0.channels"),
        ("sensors.0.channels.dew", "x", "sensors.0.channels.dew"),
        ("sensors.1.channels.temperature", "air", "sensors.1.channels.temperature"),
        ("sensors.1.rom", "28ff", "sensors.1.rom"),
        ("sensors.1.rom", "zz" * 8, "sensors.1.rom"),
        ("actuators.0.type", "siren", "actuators.0.type"),
        ("actuators.0.channel", "nowhere", "actuators.0.channel"),
        ("actuators.0.on", ["fault"], "actuators.0.on"),
        ("actuators.0.active", 2, "actuators.0.active"),
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
    for part in parents:
        at = at[int(part)] if part.isdigit() else at[part]
    at[leaf] = value
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
