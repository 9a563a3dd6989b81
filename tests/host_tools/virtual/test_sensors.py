"""Sensors below the drivers' line: frames, scratchpads and the 1-Wire protocol, through the image's drivers."""

from __future__ import annotations

from typing import Any

import pytest

from host_tools.virtual.spec import crc8, ds18b20_rom

from .conftest import Bench

pytestmark = pytest.mark.micropython

DHT = [{"type": "dht22", "pin": 4}]
ROM_A = bytes.fromhex("28ff641e0f5c0a") + bytes([crc8(bytes.fromhex("28ff641e0f5c0a"))])
ROM_B = bytes.fromhex("28ff641e0f5c0b") + bytes([crc8(bytes.fromhex("28ff641e0f5c0b"))])
ROM_C = ds18b20_rom("third")

READ_DHT = """
import machine, dht
sensor = dht.{kind}(machine.Pin(4))
try:
    sensor.measure()
    say([list(sensor.buf), sensor.temperature(), sensor.humidity()])
except OSError as error:
    say(["OSError", error.errno])
except Exception as error:
    say(["Exception", str(error)])
"""

ON_BUS = """
import machine, onewire, ds18x20, time, select
bus = onewire.OneWire(machine.Pin(5))
sensor = ds18x20.DS18X20(bus)
"""


def _dht(bench: Bench, temp_milli: int, humidity_milli: int | None, fault: str = "", kind: str = "dht22") -> Any:
    return bench.run(
        "import time\ntime.sleep_ms(1)\n" + READ_DHT.format(kind=kind.upper()),
        rows=[(0, temp_milli, humidity_milli, fault)],
        devices=[{"type": kind, "pin": 4}],
    )


def test_dht22_frame(bench: Bench) -> None:
    frame, temperature, humidity = _dht(bench, 25_440, 61_360)
    assert frame == [0x02, 0x66, 0x00, 0xFE, 0x66]
    assert (round(temperature, 3), round(humidity, 3)) == (25.4, 61.4)


def test_dht22_below_zero_has_a_sign_bit(bench: Bench) -> None:
    frame, temperature, _ = _dht(bench, -10_160, None)
    assert frame[2:4] == [0x80, 102]
    assert round(temperature, 3) == -10.2


def test_dht22_has_no_minus_zero(bench: Bench) -> None:
    assert _dht(bench, -20, 50_000)[0][2:4] == [0, 0]


def test_dht11_frame(bench: Bench) -> None:
    frame, temperature, humidity = _dht(bench, 23_000, 41_000, kind="dht11")
    assert (frame, temperature, humidity) == ([41, 0, 23, 0, 64], 23, 41)


def test_dht_all_zero_frame_passes_its_sum(bench: Bench) -> None:
    assert _dht(bench, 21_000, 50_000, "zero") == [[0, 0, 0, 0, 0], 0, 0]


def test_dht_bad_sum(bench: Bench) -> None:
    assert _dht(bench, 21_000, 50_000, "crc") == ["Exception", "checksum error"]


@pytest.mark.parametrize("fault", ["missing", "short"])
def test_dht_without_pulses_times_out(bench: Bench, fault: str) -> None:
    assert _dht(bench, 21_000, 50_000, fault) == ["OSError", 116]


def test_search_finds_every_device_once(bench: Bench) -> None:
    roms = [ROM_A, ROM_B, ROM_C]
    found = bench.run(
        ON_BUS + "say([bytes(rom).hex() for rom in sensor.scan()])",
        devices=[{"type": "ds18b20", "pin": 5, "rom": rom.hex()} for rom in roms],
    )
    assert sorted(found) == sorted(rom.hex() for rom in roms)


def test_search_on_an_empty_bus(bench: Bench) -> None:
    script = (
        ON_BUS
        + """
try:
    bus.reset(True)
except onewire.OneWireError:
    say([sensor.scan(), bus.reset(), bus.readbyte()])
"""
    )
    assert bench.run(script, devices=[]) == [[], False, 0xFF]


def test_conversion_takes_its_time_and_rounds_to_a_sixteenth(bench: Bench) -> None:
    script = (
        ON_BUS
        + """
time.sleep_ms(1)
rom = sensor.scan()[0]
sensor.convert_temp()
busy = bus.readbit()
early = sensor.read_temp(rom)
time.sleep_ms(400)
still = sensor.read_temp(rom)
time.sleep_ms(350)
say([busy, early, still, sensor.read_temp(rom), list(sensor.buf)])
"""
    )
    busy, early, still, late, scratch = bench.run(
        script, rows=[(0, -10_140, None, "")], devices=[{"type": "ds18b20", "pin": 5, "rom": ROM_A.hex()}], speed=50
    )
    assert (busy, early, still) == (0, 85.0, 85.0)
    assert late == -10.125
    assert scratch[:2] == [0x5E, 0xFF]
    assert scratch[6] == 0x10 - 0x0E
    assert crc8(bytes(scratch)) == 0


def test_value_is_latched_when_the_conversion_starts(bench: Bench) -> None:
    script = (
        ON_BUS
        + """
time.sleep_ms(1)
rom = sensor.scan()[0]
sensor.convert_temp()
time.sleep_ms(8000)
say(sensor.read_temp(rom))
"""
    )
    rows = [(0, 4_000, None, ""), (6_000, 9_000, None, "")]
    assert bench.run(script, rows=rows, devices=[{"type": "ds18b20", "pin": 5, "rom": ROM_A.hex()}], speed=50) == 4.0


def test_resolution_can_be_lowered(bench: Bench) -> None:
    script = (
        ON_BUS
        + """
time.sleep_ms(1)
rom = sensor.scan()[0]
sensor.write_scratch(rom, b"\\x4b\\x46\\x1f")
sensor.convert_temp()
time.sleep_ms(94)
say([sensor.read_temp(rom), sensor.buf[4]])
"""
    )
    device = {"type": "ds18b20", "pin": 5, "rom": ROM_A.hex()}
    assert bench.run(script, rows=[(0, 20_940, None, "")], devices=[device]) == [20.5, 0x1F]


def test_devices_on_one_bus_answer_for_themselves(bench: Bench) -> None:
    script = (
        ON_BUS
        + """
time.sleep_ms(1)
sensor.convert_temp()
time.sleep_ms(750)
say({bytes(rom).hex(): sensor.read_temp(rom) for rom in sensor.scan()})
"""
    )
    devices = [
        {"type": "ds18b20", "pin": 5, "rom": ROM_A.hex()},
        {"type": "ds18b20", "pin": 5, "rom": ROM_B.hex(), "offset_milli": 1_500},
    ]
    found = bench.run(script, rows=[(0, 5_000, None, "")], devices=devices, speed=50)
    assert found == {ROM_A.hex(): 5.0, ROM_B.hex(): 6.5}


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("", [21.0, 0x10, True]),
        ("85", [85.0, 0x0C, True]),
        ("crc", "CRC error"),
        ("zero", [0.0, 0, True]),
        ("short", [0.0, 0, True]),
        ("missing", "OneWireError"),
    ],
)
def test_faults_of_a_ds18b20(bench: Bench, fault: str, expected: Any) -> None:
    script = (
        ON_BUS
        + """
rom = sensor.scan()[0]
time.sleep_ms(20)
try:
    sensor.convert_temp()
    time.sleep_ms(750)
    temp = sensor.read_temp(rom)
    say([temp, sensor.buf[6], bus.crc8(sensor.buf) == 0])
except onewire.OneWireError:
    say("OneWireError")
except Exception as error:
    say(str(error))
"""
    )
    device = {"type": "ds18b20", "pin": 5, "rom": ROM_A.hex()}
    assert bench.run(script, rows=[(10, 21_000, None, fault)], devices=[device], speed=50) == expected


def test_a_sensor_read_allocates_nothing(bench: Bench) -> None:
    script = """
import machine, dht, micropython, time
sensor = dht.DHT22(machine.Pin(4))
def step():
    sensor.measure()
    machine.tap(0, 1, -40000, 7, 1000000, time.ticks_ms() & 511)
step()
micropython.heap_lock()
try:
    step()
    verdict = "nothing"
except MemoryError:
    verdict = "something"
micropython.heap_unlock()
say(verdict)
"""
    assert bench.run(script, rows=[(0, -1_000, 40_000, "")], devices=DHT) == "nothing"
