"""The I2C sensors over register files written from the datasheets: values, every fault by its code, bounded steps.

Chips and bus are those of the virtual boards (host_tools/virtual/sim), here in this process with a clock of the test's.
"""

from __future__ import annotations

import importlib
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_tools.virtual.sim import i2c, i2c_chips
from isocore.record import FAULT_ALL_ZERO, FAULT_CRC, FAULT_MISSING, FAULT_POWER_ON, FAULT_RANGE, SMALL_INT_MAX
from isonode import sensors
from isonode.sensors import bme280, sht
from isonode.settings import Sensor
from tests.firmware.conftest import FIRMWARE, RunMicroPython

PERIOD = 1 << 30
SCL, SDA = 22, 21
READING_MS_MAX = 700  # whatever goes wrong: three tries of the slowest, with their pauses
ADDRESS = {"sht3x": 0x44, "sht4x": 0x46, "bme280": 0x76, "tmp102": 0x48, "tmp117": 0x49}
KINDS = sorted(ADDRESS)
WITH_HUMIDITY = ("bme280", "sht3x", "sht4x")
TOLERANCE_MILLI = {"sht3x": 2, "sht4x": 2, "bme280": 8, "tmp102": 63, "tmp117": 8}  # one bit of each


class World:
    """The room, and what is wrong in it."""

    FAULT_NONE, FAULT_CRC, FAULT_ZERO, FAULT_MISSING, FAULT_POWER_ON, FAULT_SHORT, FAULT_WEDGED, FAULT_BUSY = range(8)

    def __init__(self) -> None:
        self.temp_milli = 21_440
        self.humidity_milli = 48_300
        self.fault = 0
        self.reads = 0

    def was_read(self) -> None:
        self.reads += 1


class Line:
    """A pin on the bus, in a driver's hand."""

    OPEN_DRAIN = 7

    def __init__(self, wire: Any) -> None:
        self.wire = wire

    def init(self, mode: int, value: int) -> None:
        assert (mode, value) == (self.OPEN_DRAIN, 1), "anything else would drive the lines against a slave"

    def value(self, level: int) -> None:
        if self.wire is not None:
            self.wire.clock(level)


class Hal:
    """Ticks that stand until moved, and a bus; also the chips' clock."""

    def __init__(self) -> None:
        self.now = PERIOD - 300
        self.world = World()
        self.wire = i2c.Wire(self.world)
        self.opened = 0
        self.calls = 0

    def ticks_ms(self) -> int:
        return self.now

    def ticks_add(self, ticks: int, ms: int) -> int:
        return (ticks + ms) % PERIOD

    def ticks_diff(self, end: int, start: int) -> int:
        return ((end - start + PERIOD // 2) % PERIOD) - PERIOD // 2

    def go(self, ms: int) -> None:
        self.now = (self.now + ms) % PERIOD

    def i2c_open(self, scl: int, sda: int) -> Any:
        self.opened += 1
        bus = object.__new__(i2c.SoftI2C)
        bus.wire = self.wire
        return bus

    def pin_open(self, number: int) -> Line:
        return Line(self.wire if number == SCL else None)

    def solder(self, kind: str, **more: Any) -> Any:
        chip = i2c_chips.KINDS[kind](self.world, self, more)
        self.wire.chips[ADDRESS[kind]] = chip
        return chip


@pytest.fixture
def hal() -> Hal:
    return Hal()


def setting(kind: str, first: int = 0, **channels: int) -> Sensor:
    if not channels:
        channels = {"temperature": first}
        if kind in WITH_HUMIDITY:
            channels["humidity"] = first + 1
    made = Sensor(kind, None, None, channels)
    made.scl, made.sda, made.address = SCL, SDA, ADDRESS[kind]
    return made


def make(hal: Hal, *settings: Sensor) -> list[Any]:
    return list(sensors.make(settings, hal))


def reading(sensor: Any, hal: Hal) -> tuple[list[int], list[int], int]:
    """One whole reading as the application does it: (values, faults, milliseconds it took)."""
    before = hal.now
    sensor.start(hal.now)
    for _ in range(40):
        hal.go(sensor.wait_ms(hal.now))
        if sensor.read(hal.now):
            return list(sensor.values), list(sensor.faults), hal.ticks_diff(hal.now, before)
    raise AssertionError("retries without end")


def soldered(hal: Hal, kind: str, **more: Any) -> tuple[Any, Any]:
    chip = hal.solder(kind, **more)
    return chip, make(hal, setting(kind))[0]


# ---- all of them


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temp_milli", [-39_937, -10_000, -63, 0, 21_440, 25_062, 84_900])
def test_a_reading_is_what_the_room_has(hal: Hal, kind: str, temp_milli: int) -> None:
    _, sensor = soldered(hal, kind)
    hal.world.temp_milli = temp_milli
    for _ in range(2):
        values, faults, took_ms = reading(sensor, hal)
        assert not any(faults) and took_ms < 160
        assert abs(values[0] - temp_milli) <= TOLERANCE_MILLI[kind]
        if kind in WITH_HUMIDITY:
            assert abs(values[1] - hal.world.humidity_milli) <= 60
    assert hal.world.reads == 2, "one conversion a reading"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("fault", "codes"),
    [
        (World.FAULT_MISSING, {FAULT_MISSING}),
        (World.FAULT_SHORT, {FAULT_MISSING}),
        (World.FAULT_ZERO, {FAULT_ALL_ZERO}),
        (World.FAULT_BUSY, {FAULT_MISSING}),
        (World.FAULT_POWER_ON, {FAULT_POWER_ON, FAULT_MISSING}),
    ],
)
def test_a_failure_is_a_fault_after_bounded_steps_and_ends_with_it(
    hal: Hal, kind: str, fault: int, codes: set[int]
) -> None:
    _, sensor = soldered(hal, kind)
    assert not any(reading(sensor, hal)[1])
    hal.world.fault = fault
    for _ in range(2):
        _, faults, took_ms = reading(sensor, hal)
        assert set(faults) <= codes and took_ms <= READING_MS_MAX
    hal.world.fault = 0
    hal.go(1_000)
    values, faults, _ = reading(sensor, hal)
    assert not any(faults) and abs(values[0] - hal.world.temp_milli) <= TOLERANCE_MILLI[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_wedged_bus_is_clocked_free_within_the_reading(hal: Hal, kind: str) -> None:
    _, sensor = soldered(hal, kind)
    reading(sensor, hal)
    hal.world.fault = World.FAULT_WEDGED
    values, faults, _ = reading(sensor, hal)
    assert not any(faults) and abs(values[0] - hal.world.temp_milli) <= TOLERANCE_MILLI[kind]
    assert hal.opened == 2 and sensor._bus.freed == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_chip_that_lost_its_power_between_readings_is_prepared_again(hal: Hal, kind: str) -> None:
    chip, sensor = soldered(hal, kind)
    reading(sensor, hal)
    chip.__init__(hal.world, hal, {})
    hal.go(60_000)
    values, faults, _ = reading(sensor, hal)
    assert not any(faults) and abs(values[0] - hal.world.temp_milli) <= TOLERANCE_MILLI[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_one_channel_is_enough(hal: Hal, kind: str) -> None:
    hal.solder(kind)
    name = "humidity" if kind in WITH_HUMIDITY else "temperature"
    (sensor,) = make(hal, setting(kind, **{name: 5}))
    values, faults, _ = reading(sensor, hal)
    assert sensor.channels == (5,) and len(values) == 1 and faults == [0]


def test_all_of_them_on_one_bus_and_one_that_is_missing_stops_none(hal: Hal) -> None:
    for kind in KINDS:
        if kind != "tmp102":
            hal.solder(kind)
    made = make(hal, *[setting(kind, 10 * i) for i, kind in enumerate(KINDS)])
    assert hal.opened == 1
    for sensor in made:
        sensor.start(hal.now)
    open_ = list(made)
    for _ in range(READING_MS_MAX):
        open_ = [sensor for sensor in open_ if sensor.wait_ms(hal.now) or not sensor.read(hal.now)]
        if not open_:
            break
        hal.go(1)
    assert not open_
    faults = {kind: set(sensor.faults) for kind, sensor in zip(KINDS, made, strict=True)}
    assert faults == {kind: {FAULT_MISSING if kind == "tmp102" else 0} for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_round_that_was_cut_short_harms_no_later_one(hal: Hal, kind: str) -> None:
    """The application begins a new round whether or not the last one came to its end."""
    _, sensor = soldered(hal, kind)
    dice = random.Random(kind)
    for _ in range(60):
        sensor.start(hal.now)
        for _ in range(dice.randrange(4)):
            hal.go(dice.randrange(12))
            if sensor.wait_ms(hal.now) == 0 and sensor.read(hal.now):
                break
    hal.go(200)
    assert not any(reading(sensor, hal)[1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_command_that_was_lost_never_gives_the_last_reading_again(hal: Hal, kind: str) -> None:
    """The data line was held while the command went out, and another sensor's step freed it before the fetch."""
    _, sensor = soldered(hal, kind)
    reading(sensor, hal)
    hal.go(60_000)
    hal.world.temp_milli += 5_000
    hal.world.fault = World.FAULT_WEDGED
    sensor.start(hal.now)
    sensor._bus.free()
    while not sensor.read(hal.now):
        hal.go(sensor.wait_ms(hal.now))
    assert not any(sensor.faults) and abs(sensor.values[0] - hal.world.temp_milli) <= TOLERANCE_MILLI[kind]


# ---- Sensirion


def test_sensirions_checksum() -> None:
    assert sht.crc8(b"\xbe\xef", 0, 2) == 0x92  # SHT3x-DIS, table 20
    assert sht.crc8(b"\x00\xbe\xef\x00", 1, 3) == 0x92


@given(st.integers(0, 65535), st.sampled_from([4375, 3125, 2500]))
def test_scaling_is_exact_to_half_a_milli_unit_in_31_bits(raw: int, fortieth: int) -> None:
    assert abs(sht.scaled(raw, fortieth) - raw * fortieth * 40 / 65535) <= 0.5
    assert raw * fortieth <= SMALL_INT_MAX


@pytest.mark.parametrize("kind", ["sht3x", "sht4x"])
def test_the_ends_of_the_scale(hal: Hal, kind: str) -> None:
    _, sensor = soldered(hal, kind)
    hal.world.temp_milli, hal.world.humidity_milli = 124_990, 100_000
    values, faults, _ = reading(sensor, hal)
    assert faults == [0, 0] and abs(values[0] - 124_990) <= 2 and values[1] == 100_000
    hal.world.temp_milli, hal.world.humidity_milli = -39_990, 0
    values, faults, _ = reading(sensor, hal)
    assert faults == [0, 0] and abs(values[0] + 39_990) <= 2 and values[1] <= 1
    hal.world.temp_milli = 130_000
    assert reading(sensor, hal)[1] == [FAULT_RANGE, 0]


def test_an_sht4x_beyond_its_ends_is_cut(hal: Hal) -> None:
    """Its formula reaches from -6 to 119 %RH; the datasheet says to cut it."""
    _, sensor = soldered(hal, "sht4x")
    hal.world.humidity_milli = 108_000
    assert reading(sensor, hal)[0][1] == 100_000
    hal.world.humidity_milli = -4_000
    assert reading(sensor, hal)[0][1] == 0


@pytest.mark.parametrize("kind", ["sht3x", "sht4x"])
def test_a_wrong_checksum_is_measured_again_and_then_a_fault(hal: Hal, kind: str) -> None:
    _, sensor = soldered(hal, kind)
    hal.world.fault = World.FAULT_CRC
    _, faults, _ = reading(sensor, hal)
    assert faults == [FAULT_CRC, FAULT_CRC] and hal.world.reads == 3
    sensor.start(hal.now)
    while not sensor._converting:
        hal.go(sensor.wait_ms(hal.now))
        sensor.read(hal.now)
    hal.world.fault = 0  # but this conversion was spoilt already
    while not sensor.read(hal.now):
        hal.go(sensor.wait_ms(hal.now))
    assert sensor.faults == [0, 0]


def test_a_heater_and_a_periodic_mode_left_by_another_firmware_are_ended(hal: Hal) -> None:
    chip, sensor = soldered(hal, "sht3x", heater=True, periodic=True)
    values, faults, _ = reading(sensor, hal)
    assert faults == [0, 0] and abs(values[0] - hal.world.temp_milli) <= 2 and not chip.heater
    assert chip.commands == [0x3093, 0x30A2, 0x2400]
    reading(sensor, hal)
    assert chip.commands[3:] == [0x2400], "prepared once"


def test_an_sht4x_is_reset_once(hal: Hal) -> None:
    chip, sensor = soldered(hal, "sht4x", heater=True)
    for _ in range(2):
        reading(sensor, hal)
    assert chip.commands == [0x94, 0xFD, 0xFD] and not chip.heater


# ---- BME280


def test_the_worked_example_of_the_compensation() -> None:
    """Bosch BMP280 datasheet, section 3.12: the same temperature sensor and formula as the BME280's."""
    data = bytes.fromhex("706b436718fc") + bytes(8)
    calibration = bme280.Calibration(data)
    assert (calibration.t1, calibration.t2, calibration.t3) == (27504, 26435, -1000)
    fine = calibration.fine(519888)
    assert fine == 128422 and (fine * 5 + 128) >> 8 == 2508


def reference_humidity(c: Any, raw: int, fine: int) -> int:
    """The datasheet's 32-bit formula (section 4.2.3) in integers without end: m%RH."""
    v = fine - 76800
    left = ((raw << 14) - (c.h4 << 20) - c.h5 * v + 16384) >> 15
    right = ((((((v * c.h6) >> 10) * (((v * c.h3) >> 11) + 32768)) >> 10) + 2097152) * c.h2 + 8192) >> 14
    v = left * right
    v -= ((((v >> 15) * (v >> 15)) >> 7) * c.h1) >> 4
    return (min(max(v, 0), 419430400) >> 12) * 1000 + 512 >> 10


def reference_fine(c: Any, raw: int) -> int:
    var1 = (((raw >> 3) - (c.t1 << 1)) * c.t2) >> 11
    return var1 + ((((((raw >> 4) - c.t1) * ((raw >> 4) - c.t1)) >> 12) * c.t3) >> 14)


CALIBRATIONS = st.binary(min_size=14, max_size=14)


@given(CALIBRATIONS, st.integers(0, (1 << 20) - 1))
def test_temperature_is_the_datasheets_to_the_bit_where_it_is_one(data: bytes, raw: int) -> None:
    c = bme280.Calibration(data)
    fine = c.fine(raw)
    assert abs(fine) <= 524287
    if abs((raw >> 4) - c.t1) < 32768 and abs(reference_fine(c, raw)) <= 524287:
        assert fine == reference_fine(c, raw)


# Any figures for which the datasheet's own 32-bit arithmetic does not overflow
@given(CALIBRATIONS, st.integers(0, 65535), st.integers(-204800, 435200))
def test_humidity_is_the_datasheets_to_the_bit(data: bytes, raw: int, fine: int) -> None:
    c = bme280.Calibration(data)
    v = fine - 76800
    left = ((raw << 14) - (c.h4 << 20) - c.h5 * v + 16384) >> 15
    right = ((((((v * c.h6) >> 10) * (((v * c.h3) >> 11) + 32768)) >> 10) + 2097152) * c.h2 + 8192) >> 14
    wanted = 0 if left <= 0 or right <= 0 else reference_humidity(c, raw, fine)
    if 0 < left * right < 1 << 31 or left <= 0 or right <= 0:
        assert c.humidity_milli(raw, fine) == wanted


def test_double_precision_and_integers_agree(hal: Hal) -> None:
    """Over the whole range, against the datasheet's other set of formulas, which the chip here is built with."""
    _, sensor = soldered(hal, "bme280")
    for temp_milli in range(-39_000, 85_000, 4_100):
        for humidity_milli in range(1_000, 100_000, 14_000):
            hal.world.temp_milli, hal.world.humidity_milli = temp_milli, humidity_milli
            values, faults, _ = reading(sensor, hal)
            assert faults == [0, 0]
            assert abs(values[0] - temp_milli) <= 8 and abs(values[1] - humidity_milli) <= 60


def test_another_chip_at_its_address_is_no_bme280(hal: Hal) -> None:
    chip, sensor = soldered(hal, "bme280")
    peek = chip._peek
    chip._peek = lambda register: 0x58 if register == 0xD0 else peek(register)  # a BMP280
    assert reading(sensor, hal)[1] == [FAULT_MISSING] * 2


def test_a_calibration_that_reads_differently_each_time_is_not_believed(hal: Hal) -> None:
    chip, sensor = soldered(hal, "bme280")
    peek, dice = chip._peek, random.Random(3)
    chip._peek = lambda register: peek(register) ^ (dice.randrange(256) if register == 0xE3 else 0)
    assert reading(sensor, hal)[1] == [FAULT_CRC] * 2


def test_a_bme280_out_of_range_has_no_humidity_either(hal: Hal) -> None:
    _, sensor = soldered(hal, "bme280")
    hal.world.temp_milli = 86_000
    assert reading(sensor, hal)[1] == [FAULT_RANGE] * 2


# ---- TMP102, TMP117

# SBOS397, table of the 12-bit format; SNOSD82, table of the 16-bit format
TMP102_WORDS = [
    (0x7FF0, 127_937),
    (0x6400, 100_000),
    (0x1900, 25_000),
    (0x0040, 250),
    (0xFFC0, -250),
    (0xE700, -25_000),
]
TMP117_WORDS = [(0x0001, 7), (0x0C80, 25_000), (0x3200, 100_000), (0xFFFF, -8), (0xF380, -25_000), (0xE480, -55_000)]


@pytest.mark.parametrize(
    ("kind", "word", "milli"),
    [("tmp102", *pair) for pair in TMP102_WORDS] + [("tmp117", *pair) for pair in TMP117_WORDS],
)
def test_the_datasheets_words(hal: Hal, kind: str, word: int, milli: int) -> None:
    chip, sensor = soldered(hal, kind)
    get = chip._get
    chip._get = lambda register: word if register == 0 else get(register)
    assert reading(sensor, hal)[:2] == ([milli], [0])


def test_a_tmp117_is_asked_who_it_is(hal: Hal) -> None:
    _, sensor = soldered(hal, "tmp117", identity=0x1116)  # a TMP116
    assert reading(sensor, hal)[1] == [FAULT_MISSING]
    _, sensor = soldered(hal, "tmp117", identity=0x2117)  # another revision
    assert reading(sensor, hal)[1] == [0]


def test_a_tmp117_is_no_tmp102(hal: Hal) -> None:
    hal.solder("tmp117")
    hal.wire.chips[ADDRESS["tmp102"]] = hal.wire.chips.pop(ADDRESS["tmp117"])
    (sensor,) = make(hal, setting("tmp102"))
    assert reading(sensor, hal)[1] == [FAULT_POWER_ON]


@pytest.mark.parametrize("kind", ["tmp102", "tmp117"])
def test_a_conversion_that_takes_a_little_longer_is_asked_for_again(hal: Hal, kind: str) -> None:
    chip, sensor = soldered(hal, kind)
    chip.CONVERSION_MS = 149 if kind == "tmp117" else 44
    assert reading(sensor, hal)[1] == [0] and hal.world.reads == 1


# ---- memory


@pytest.mark.micropython
def test_a_good_reading_allocates_nothing(run_micropython: RunMicroPython, tmp_path: Path) -> None:
    """On 32 bits with the heap locked, from start to the last step, for raw values over the whole range."""
    printed = run_micropython(Path(__file__).parent / "i2c_hot.py", FIRMWARE, heap_bytes=400 * 1024)
    assert printed.split() == [f"{kind}=5" for kind in KINDS]


def test_only_configured_drivers_are_loaded(hal: Hal) -> None:
    names = ("i2c", "bme280", "sht", "tmp1xx")
    before: dict[str, ModuleType] = {}
    for name in names:
        before["isonode.sensors." + name] = sys.modules.pop("isonode.sensors." + name)
    try:
        importlib.import_module("isonode.sensors")
        hal.solder("sht3x")
        sensors.make([setting("sht3x")], hal)
        loaded = [name for name in names if "isonode.sensors." + name in sys.modules]
    finally:
        sys.modules.update(before)
        for name in names:
            setattr(sensors, name, before["isonode.sensors." + name])
    assert loaded == ["i2c", "sht"]
