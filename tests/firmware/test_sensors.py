"""The sensor classes over scripted drivers: values to the milli-unit, every fault by its code, bounded retries.

The drivers' surface is what boards' images have (`dht`, `onewire`, `ds18x20`); the same classes run over the image's
drivers and simulated wires in test_board.py.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from isocore.record import FAULT_ALL_ZERO, FAULT_CRC, FAULT_MISSING, FAULT_POWER_ON, FAULT_RANGE
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
        self.shorted = False
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

    class DHT11(DHT22):
        pass

    class OneWireError(Exception):
        pass

    class OneWire:
        def __init__(self, pin: int) -> None:
            pass

        def reset(self) -> bool:
            return script.shorted or bool(script.roms)

        def readbit(self) -> int:
            return int(not script.shorted)

    class DS18X20:
        def __init__(self, bus: object) -> None:
            self.ow = bus

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
    dht.DHT11 = DHT11  # type: ignore[attr-defined]
    onewire.OneWireError = OneWireError  # type: ignore[attr-defined]
    onewire.OneWire = OneWire  # type: ignore[attr-defined]
    ds18x20.DS18X20 = DS18X20  # type: ignore[attr-defined]
    made = {"dht": dht, "onewire": onewire, "ds18x20": ds18x20}
    before = {name: sys.modules.get(name) for name in made}
    sys.modules.update(made)
    for name in ("dhtxx", "ds18b20", "chip"):
        sys.modules.pop("isonode.sensors." + name, None)
    try:
        yield importlib.import_module("isonode.sensors")
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module
        for name in ("dhtxx", "ds18b20", "chip"):
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
    ("humidity", "temp"), [(652, 351), (0, 1), (1000, 800), (1, 0), (500, -101), (500, -400), (999, -1)]
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


# beyond what the AM2302 can measure: the datasheet's -40 to 80 degC and 100 %RH
NONSENSE = [dht_frame(1001, 200), dht_frame(500, 801), dht_frame(500, -401), bytes([255, 255, 255, 255, 252])]


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (bytes(5), FAULT_ALL_ZERO),
        (Exception("checksum error"), FAULT_CRC),
        (OSError(116), FAULT_MISSING),
        *[(frame, FAULT_RANGE) for frame in NONSENSE],
    ],
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


# Aosong's DHT11 datasheet: whole and tenths of either quantity; its worked example is 53 %RH and 24.4 degC, and another
# has the sign in bit 7 of the temperature's tenths
@pytest.mark.parametrize(
    ("frame", "temp", "humidity"),
    [(bytes([53, 0, 24, 4, 81]), 24_400, 53_000), (bytes([53, 0, 10, 0x81, 192]), -10_100, 53_000)],
)
def test_dht11_values(drivers: ModuleType, hal: Hal, script: Script, frame: bytes, temp: int, humidity: int) -> None:
    (sensor,) = make(drivers, hal, Sensor("dht11", 4, None, {"temperature": 0, "humidity": 1}))
    assert type(sensor._driver).__name__ == "DHT11"
    script.steps = [frame]
    assert reading(sensor, hal)[:2] == ([temp, humidity], [0, 0])
    script.steps = [bytes([53, 0, 61, 0, 114])]
    assert reading(sensor, hal)[1] == [FAULT_RANGE] * 2


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
    hal.go(60_000)
    assert reading(sensor, hal)[1] == [0]
    scans = script.calls.count("scan")
    reading(sensor, hal)
    assert script.calls.count("scan") == scans, "a healthy bus is not searched"


def test_a_shorted_bus_is_not_searched(drivers: ModuleType, hal: Hal, script: Script) -> None:
    """Its zeros would look like a fork at every bit: the image's search goes on for seconds."""
    sensor = probe(drivers, hal, script, scratchpad(0x0191))
    script.shorted = True
    assert reading(sensor, hal)[1] == [FAULT_ALL_ZERO]
    assert "scan" not in script.calls and "convert" not in script.calls
    script.shorted = False
    hal.go(60_000)
    assert reading(sensor, hal) == ([25_062], [0], 750)


def test_a_bus_is_searched_once_a_round(drivers: ModuleType, hal: Hal, script: Script) -> None:
    sensors = make(
        drivers, hal, *[Sensor("ds18b20", 5, bytes([0x28, n]) + bytes(6), {"temperature": n}) for n in range(3)]
    )
    for sensor in sensors:
        sensor.start(hal.now)
        assert sensor.read(hal.now) and sensor.faults == [FAULT_MISSING]
    script.roms = [ROM_A]
    hal.go(60_000)
    for sensor in sensors:
        sensor.start(hal.now)
    assert script.calls.count("scan") == 1


def test_undefined_bits_of_a_lower_resolution_are_dropped(drivers: ModuleType, hal: Hal, script: Script) -> None:
    nine_bits = bytearray(scratchpad(0x0197))
    nine_bits[4] = 0x1F
    sensor = probe(drivers, hal, script, bytes(nine_bits))
    assert reading(sensor, hal)[:2] == ([25_000], [0])


@pytest.mark.parametrize("raw", [126 * 16, -56 * 16])
def test_ds18b20_beyond_its_range(drivers: ModuleType, hal: Hal, script: Script, raw: int) -> None:
    assert reading(probe(drivers, hal, script, scratchpad(raw)), hal)[1] == [FAULT_RANGE]


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
