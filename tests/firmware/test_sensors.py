"""The sensor classes over scripted drivers: values to the milli-unit, every fault by its code, bounded retries.

The drivers' surface is what boards' images have (`dht`, `onewire`, `ds18x20`); the same classes run over the image's
drivers and simulated wires in test_board.py.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from isocore.record import FAULT_ALL_ZERO, FAULT_CRC, FAULT_MISSING, FAULT_POWER_ON
from isonode.settings import Sensor

PERIOD = 1 << 30


class Hal:
    """Ticks that stand until moved, pins that are numbers."""

    def __init__(self) -> None:
        self.now = PERIOD - 1000
        self.chip: int | None = 41_000

    def ticks_ms(self) -> int:
        return self.now

    def ticks_diff(self, end: int, start: int) -> int:
        return ((end - start + PERIOD // 2) % PERIOD) - PERIOD // 2

    def go(self, ms: int) -> None:
        self.now = (self.now + ms) % PERIOD

    def pin_open(self, number: int) -> int:
        return number

    def chip_temperature_milli(self) -> int | None:
        return self.chip


class Script:
    """What the drivers do next: bytes to show, or an exception to raise; the last entry stays."""

    def __init__(self) -> None:
        self.steps: list[Any] = []
        self.calls: list[str] = []
        self.roms: list[bytes] = []
        self.scratch: dict[bytes, list[Any]] = {}

    def next(self, steps: list[Any]) -> Any:
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        if isinstance(step, Exception):
            raise step
        return step


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def hal() -> Hal:
    return Hal()


@pytest.fixture(autouse=True)
def drivers(script: Script) -> Iterator[ModuleType]:
    """Modules with the surface of the image's drivers."""
    dht = ModuleType("dht")
    onewire = ModuleType("onewire")
    ds18x20 = ModuleType("ds18x20")

    class DHT22:
        def __init__(self, pin: int) -> None:
            self.buf = bytearray(5)

        def measure(self) -> None:
            script.calls.append("measure")
            self.buf[:] = script.next(script.steps)

    class OneWireError(Exception):
        pass

    class DS18X20:
        def __init__(self, bus: object) -> None:
            pass

        def scan(self) -> list[bytearray]:
            script.calls.append("scan")
            return [bytearray(rom) for rom in script.roms]

        def convert_temp(self) -> None:
            script.calls.append("convert")
            if not script.roms:
                raise OneWireError

        def read_scratch(self, rom: bytes) -> bytes:
            script.calls.append("read")
            shown: bytes = script.next(script.scratch[bytes(rom)])
            return shown

    dht.DHT22 = DHT22  # type: ignore[attr-defined]
    onewire.OneWireError = OneWireError  # type: ignore[attr-defined]
    onewire.OneWire = lambda pin: None  # type: ignore[attr-defined]
    ds18x20.DS18X20 = DS18X20  # type: ignore[attr-defined]
    made = {"dht": dht, "onewire": onewire, "ds18x20": ds18x20}
    before = {name: sys.modules.get(name) for name in made}
    sys.modules.update(made)
    for name in ("dht22", "ds18b20", "chip"):
        sys.modules.pop("isonode.sensors." + name, None)
    try:
        yield importlib.import_module("isonode.sensors")
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module
        for name in ("dht22", "ds18b20", "chip"):
            sys.modules.pop("isonode.sensors." + name, None)


def make(drivers: ModuleType, hal: Hal, *settings: Sensor) -> list[Any]:
    made: list[Any] = drivers.make(settings, hal)
    return made


def reading(sensor: Any, hal: Hal) -> tuple[list[int], list[int], int]:
    """One whole reading as the application does it: (values, faults, milliseconds it took)."""
    sensor.start(hal.now)
    took = 0
    for _ in range(10):
        wait_ms = sensor.wait_ms(hal.now)
        took += wait_ms
        hal.go(wait_ms)
        if sensor.read(hal.now):
            return list(sensor.values), list(sensor.faults), took
    raise AssertionError("retries without end")


# ---- DHT22


def dht_frame(humidity_tenths: int, temp_tenths: int) -> bytes:
    temp = abs(temp_tenths) | (0x8000 if temp_tenths < 0 else 0)
    data = humidity_tenths.to_bytes(2, "big") + temp.to_bytes(2, "big")
    return data + bytes([sum(data) & 255])


def dht(drivers: ModuleType, hal: Hal) -> Any:
    return make(drivers, hal, Sensor("dht22", 4, None, {"temperature": 0, "humidity": 1}))[0]


@pytest.mark.parametrize(
    ("humidity", "temp"), [(652, 351), (0, 1), (1000, 800), (1, 0), (500, -101), (500, -400), (999, 1250)]
)
def test_dht22_values(drivers: ModuleType, hal: Hal, script: Script, humidity: int, temp: int) -> None:
    sensor = dht(drivers, hal)
    script.steps = [dht_frame(humidity, temp)]
    values, faults, _ = reading(sensor, hal)
    assert values == [temp * 100, humidity * 100] and faults == [0, 0]


def test_dht22_is_left_alone_for_two_seconds(drivers: ModuleType, hal: Hal, script: Script) -> None:
    sensor = dht(drivers, hal)
    script.steps = [dht_frame(500, 200)]
    assert reading(sensor, hal)[2] == 2000  # after power-up
    assert reading(sensor, hal)[2] == 2000
    hal.go(60_000)
    assert reading(sensor, hal)[2] == 0


@pytest.mark.parametrize(
    ("failure", "code"),
    [(bytes(5), FAULT_ALL_ZERO), (Exception("checksum error"), FAULT_CRC), (OSError(116), FAULT_MISSING)],
)
def test_dht22_failures(drivers: ModuleType, hal: Hal, script: Script, failure: Any, code: int) -> None:
    sensor = dht(drivers, hal)
    script.steps = [failure]
    _, faults, took = reading(sensor, hal)
    assert faults == [code, code] and script.calls == ["measure"] * 2 and took == 4000
    script.steps = [failure, dht_frame(500, 200)]
    values, faults, _ = reading(sensor, hal)
    assert faults == [0, 0] and values == [20_000, 50_000]


def test_dht22_with_one_channel(drivers: ModuleType, hal: Hal, script: Script) -> None:
    (sensor,) = make(drivers, hal, Sensor("dht22", 4, None, {"humidity": 3}))
    script.steps = [dht_frame(451, 200)]
    assert sensor.channels == (3,)
    assert reading(sensor, hal)[:2] == ([45_100], [0])


# ---- DS18B20

ROM_A = bytes.fromhex("28aa000000000001")
ROM_B = bytes.fromhex("28bb000000000002")


def scratchpad(raw: int, byte6: int | None = None) -> bytes:
    low = raw & 0xFFFF
    remain = 0x10 - (raw & 15) if byte6 is None else byte6
    return bytes([low & 255, low >> 8, 0x4B, 0x46, 0x7F, 0xFF, remain, 0x10, 0])


POWER_ON = scratchpad(0x0550, 0x0C)


def probe(drivers: ModuleType, hal: Hal, script: Script, *shown: Any) -> Any:
    script.roms = [ROM_A]
    script.scratch = {ROM_A: list(shown)}
    return make(drivers, hal, Sensor("ds18b20", 5, None, {"temperature": 0}))[0]


# Maxim DS18B20 datasheet, table 1
@pytest.mark.parametrize(
    ("raw", "milli"),
    [
        (0x07D0, 125_000),
        (0x0191, 25_062),
        (0x00A2, 10_125),
        (0x0008, 500),
        (-0x0008, -500),
        (-0x00A2, -10_125),
        (-0x0191, -25_063),
        (-0x0370, -55_000),
        (0x0550, 85_000),
    ],
)
def test_ds18b20_values(drivers: ModuleType, hal: Hal, script: Script, raw: int, milli: int) -> None:
    sensor = probe(drivers, hal, script, scratchpad(raw))
    values, faults, took = reading(sensor, hal)
    assert (values, faults, took) == ([milli], [0], 750)


def test_85_degrees_of_a_fresh_sensor_is_converted_again(drivers: ModuleType, hal: Hal, script: Script) -> None:
    sensor = probe(drivers, hal, script, POWER_ON, scratchpad(0x0191))
    values, faults, took = reading(sensor, hal)
    assert (values, faults, took) == ([25_062], [0], 1500)
    script.scratch[ROM_A] = [POWER_ON]
    assert reading(sensor, hal)[1:] == ([FAULT_POWER_ON], 1500)


def test_ds18b20_crc_is_read_again_and_zeros_are_no_temperature(drivers: ModuleType, hal: Hal, script: Script) -> None:
    sensor = probe(drivers, hal, script, Exception("CRC error"), scratchpad(0x0191))
    assert reading(sensor, hal) == ([25_062], [0], 750)
    script.scratch[ROM_A] = [Exception("CRC error")]
    assert reading(sensor, hal)[1] == [FAULT_CRC]
    script.scratch[ROM_A] = [bytes(9)]
    assert reading(sensor, hal)[1] == [FAULT_ALL_ZERO]


def test_a_missing_ds18b20_is_looked_for_and_found(drivers: ModuleType, hal: Hal, script: Script) -> None:
    sensor = probe(drivers, hal, script, scratchpad(0x0191))
    script.roms = []
    assert reading(sensor, hal)[1] == [FAULT_MISSING]
    script.roms = [ROM_A]
    assert reading(sensor, hal)[1] == [0]
    scans = script.calls.count("scan")
    reading(sensor, hal)
    assert script.calls.count("scan") == scans, "a healthy bus is not searched"


def test_several_on_one_bus_share_one_conversion(drivers: ModuleType, hal: Hal, script: Script) -> None:
    script.roms = [ROM_B, ROM_A, bytes.fromhex("10cc000000000003")]
    script.scratch = {ROM_A: [scratchpad(16)], ROM_B: [scratchpad(32)]}
    sensors = make(
        drivers,
        hal,
        Sensor("ds18b20", 5, None, {"temperature": 0}),
        Sensor("ds18b20", 5, ROM_A, {"temperature": 1}),
        Sensor("ds18b20", 5, None, {"temperature": 2}),
    )
    for sensor in sensors:
        sensor.start(hal.now)
    assert script.calls.count("convert") == 1
    hal.go(750)
    assert all(sensor.wait_ms(hal.now) == 0 and sensor.read(hal.now) for sensor in sensors)
    assert [sensor.values[0] for sensor in sensors[:2]] == [2000, 1000]
    assert sensors[2].faults == [FAULT_MISSING]  # the third on the bus is a DS18S20, which has another scratchpad


def test_waiting_counts_from_the_end_of_the_command(drivers: ModuleType, hal: Hal, script: Script) -> None:
    """The command itself takes bus time: a scratchpad read 750 ms after its beginning would be the one before."""
    sensor = probe(drivers, hal, script, scratchpad(0x0191))
    sensor.start(hal.now)
    hal.go(700)
    late = hal.now
    sensor.start((late - 3) % PERIOD)  # the round began 3 ms ago
    assert sensor.wait_ms(late) == 750


# ---- chip


def test_chip(drivers: ModuleType, hal: Hal) -> None:
    (sensor,) = make(drivers, hal, Sensor("chip", None, None, {"temperature": 0}))
    assert reading(sensor, hal) == ([41_000], [0], 0)
    hal.chip = None
    assert reading(sensor, hal)[1] == [FAULT_MISSING]


# ---- actuator


def test_outputs_follow_the_alarm_and_take_the_safe_state() -> None:
    from isonode.actuator import Output
    from isonode.settings import Actuator

    class Pin:
        def __init__(self, number: int, level: int) -> None:
            self.levels = [level]

        def value(self, level: int) -> None:
            self.levels.append(level)

    pins: list[Pin] = []

    def make_pin(number: int, level: int) -> Pin:
        pins.append(Pin(number, level))
        return pins[-1]

    state = SimpleNamespace(high=False, low=False, rate=False, fault_code=0)
    relay = Output(Actuator("relay", 16, 0, ["high"], 1, 0), make_pin)
    inverted = Output(Actuator("led", 2, 0, ["low", "rate"], 0, 1), make_pin)
    steps = [
        (("high", True), 1, 1),
        (("low", True), 1, 0),
        (("high", False), 0, 0),
        (("fault_code", 6), 0, 0),
        (("low", False), 0, 0),
        (("fault_code", 0), 0, 1),
        (("rate", True), 0, 0),
        (("fault_code", 1), 0, 0),
    ]
    for (name, value), relay_level, inverted_level in steps:
        setattr(state, name, value)
        relay.follow(state)
        inverted.follow(state)
        assert (pins[0].levels[-1], pins[1].levels[-1]) == (relay_level, inverted_level), name
    assert len(pins[0].levels) == 3, "a pin is written only when it changes"
