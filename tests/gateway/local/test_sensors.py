"""The drivers over what lies below them: gpiozero's mock pins, pulses under adafruit_dht, a folder as the kernel's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config.document import parse
from gateway.errors import ConfigError
from gateway.local.sensors import DHT_SPACING_S, CpuSensor, DhtSensor, W1Sensor
from isocore.record import FAULT_ALL_ZERO, FAULT_CRC, FAULT_MISSING, FAULT_POWER_ON
from tests.support.dht_line import DhtLine, SimTime, frame, pin_class

# -- the processor


@pytest.fixture
def mock_pins() -> Iterator[None]:
    from gpiozero import Device
    from gpiozero.pins.mock import MockFactory

    before, Device.pin_factory = Device.pin_factory, MockFactory()
    yield
    Device.pin_factory.close()
    Device.pin_factory = before


@pytest.mark.usefixtures("mock_pins")
def test_processor(tmp_path: Path) -> None:
    file = tmp_path / "temp"
    sensor = CpuSensor(str(file))
    assert sensor.read() == [(0, FAULT_MISSING)]
    assert "temp" in sensor.trouble
    for text, reading in (("43312\n", (43312, 0)), ("-5500\n", (-5500, 0)), ("", (0, FAULT_MISSING))):
        file.write_text(text, encoding="ascii")
        assert sensor.read() == [reading]


# -- DHT22


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> DhtLine:
    os.environ["BLINKA_OS_AGNOSTIC"] = "1"  # read at the first import only: Blinka's own stand-in for a chip
    import adafruit_dht
    import digitalio

    time = SimTime()
    made = DhtLine(time)
    monkeypatch.setattr(adafruit_dht, "time", time)
    monkeypatch.setattr(digitalio, "Pin", pin_class(made))
    return made


def dht(line: DhtLine) -> DhtSensor:
    return DhtSensor(4, False, line.time.monotonic, line.time.sleep)


@pytest.mark.parametrize(
    ("humidity", "temperature"), [(500, 215), (0, 215), (1000, 0), (333, -400), (999, 800), (1, -1), (652, 351)]
)
def test_dht22_reads_what_the_wire_says(line: DhtLine, humidity: int, temperature: int) -> None:
    line.frames = [frame(humidity, temperature)]
    assert dht(line).read() == [(temperature * 100, 0), (humidity * 100, 0)]


def test_dht22_is_asked_no_sooner_than_every_two_seconds(line: DhtLine) -> None:
    sensor = dht(line)
    line.frames = [frame(500, 215), frame(500, 216), frame(500, 217)]
    began_us = line.time.now_us
    assert [sensor.read()[0] for _ in range(3)] == [(21500, 0), (21600, 0), (21700, 0)]
    assert line.requests == 3, "each reading is one of its own, none is the former one again"
    assert line.time.now_us - began_us >= 2 * DHT_SPACING_S * 1e6


@pytest.mark.parametrize(
    ("frames", "cut", "fault"),
    [
        ([b""], None, FAULT_MISSING),
        ([frame(500, 215)], 6, FAULT_MISSING),
        ([frame(500, 215)], 60, FAULT_CRC),
        ([b"\x01\xf4\x00\xd7\x00"], None, FAULT_CRC),
        ([frame(2000, 215)], None, FAULT_CRC),  # the driver's "unplausible data"
        ([bytes(5)], None, FAULT_ALL_ZERO),
    ],
)
def test_dht22_faults(line: DhtLine, frames: list[bytes], cut: int | None, fault: int) -> None:
    line.frames, line.cut = frames, cut
    sensor = dht(line)
    assert sensor.read() == [(0, fault), (0, fault)]
    assert sensor.trouble
    assert line.requests == (1 if fault == FAULT_ALL_ZERO else 2)
    line.frames, line.cut = [frame(500, 215)], None
    assert sensor.read() == [(21500, 0), (50000, 0)]


def test_dht22_a_second_try_often_does(line: DhtLine) -> None:
    line.frames = [b"\x01\xf4\x00\xd7\x00", frame(500, 215)]
    assert dht(line).read() == [(21500, 0), (50000, 0)]


# -- DS18B20

GOOD = "73 01 4b 46 7f ff 0d 10 41 : crc=41 YES\n73 01 4b 46 7f ff 0d 10 41 t=23187\n"
BELOW = "5e ff 4b 46 7f ff 02 10 b8 : crc=b8 YES\n5e ff 4b 46 7f ff 02 10 b8 t=-10125\n"
WRONG_CRC = "73 01 4b 46 7f ff 0d 10 42 : crc=41 NO\n73 01 4b 46 7f ff 0d 10 42 t=23187\n"
POWER_ON = "50 05 4b 46 7f ff 0c 10 1c : crc=1c YES\n50 05 4b 46 7f ff 0c 10 1c t=85000\n"
REALLY_85 = "50 05 4b 46 7f ff 10 10 a5 : crc=a5 YES\n50 05 4b 46 7f ff 10 10 a5 t=85000\n"
SHORTED = "00 00 00 00 00 00 00 00 00 : crc=00 YES\n00 00 00 00 00 00 00 00 00 t=0\n"


def device(folder: Path, name: str = "28-0316a2793fff", **files: str) -> Path:
    made = folder / name
    made.mkdir(exist_ok=True)
    for file, text in files.items():
        (made / file).write_text(text, encoding="ascii")
    return made


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        (GOOD, (23187, 0)),
        (BELOW, (-10125, 0)),
        (REALLY_85, (85000, 0)),
        (WRONG_CRC, (0, FAULT_CRC)),
        (POWER_ON, (0, FAULT_POWER_ON)),
        (SHORTED, (0, FAULT_ALL_ZERO)),
        ("", (0, FAULT_MISSING)),
        ("no such thing\n", (0, FAULT_MISSING)),
        (GOOD * 2, (0, FAULT_MISSING)),
        (GOOD.replace("t=23187", "t=231870000"), (0, FAULT_MISSING)),
    ],
)
def test_ds18b20_by_its_scratchpad(tmp_path: Path, text: str, reading: tuple[int, int]) -> None:
    device(tmp_path, w1_slave=text)
    sensor = W1Sensor(str(tmp_path), "")
    assert sensor.read() == [reading]
    assert bool(sensor.trouble) == bool(reading[1])


@pytest.mark.parametrize(
    ("text", "reading"),
    [("23187\n", (23187, 0)), ("-10125", (-10125, 0)), ("", (0, FAULT_CRC)), ("85000\n", (0, FAULT_POWER_ON))],
)
def test_ds18b20_by_its_temperature_alone(tmp_path: Path, text: str, reading: tuple[int, int]) -> None:
    device(tmp_path, temperature=text)
    assert W1Sensor(str(tmp_path), "28-0316a2793fff").read() == [reading]


def test_ds18b20_missing_or_one_of_several(tmp_path: Path) -> None:
    sensor = W1Sensor(str(tmp_path / "w1"), "")
    assert sensor.read() == [(0, FAULT_MISSING)], "no bus"
    folder = tmp_path / "w1"
    folder.mkdir()
    (folder / "w1_bus_master1").mkdir()
    assert sensor.read() == [(0, FAULT_MISSING)]
    device(folder, "28-000000000001", w1_slave=GOOD)
    assert sensor.read() == [(23187, 0)]
    device(folder, "28-000000000002", w1_slave=BELOW)
    assert sensor.read() == [(0, FAULT_MISSING)]
    assert "28-000000000001, 28-000000000002" in sensor.trouble
    assert W1Sensor(str(folder), "28-000000000002").read() == [(-10125, 0)]
    (folder / "28-000000000002" / "w1_slave").unlink()
    (folder / "28-000000000002").rmdir()
    assert W1Sensor(str(folder), "28-000000000002").read() == [(0, FAULT_MISSING)], "pulled out"


def test_ds18b20_whose_file_cannot_be_read(tmp_path: Path) -> None:
    made = device(tmp_path)
    (made / "w1_slave").write_bytes(b"\xff" * 80)
    assert W1Sensor(str(tmp_path), "").read() == [(0, FAULT_MISSING)]
    (made / "w1_slave").unlink()
    (made / "w1_slave").mkdir()
    assert W1Sensor(str(tmp_path), "").read() == [(0, FAULT_MISSING)]


# -- the configuration


@pytest.mark.parametrize(
    ("sensor", "said"),
    [
        ({}, "sensors.x.kind is missing"),
        ({"kind": "dht21"}, "did you mean dht22?"),
        ({"kind": "dht22"}, "sensors.x.pin is missing"),
        ({"kind": "dht22", "pin": 40}, "it must be -1 to 27"),
        ({"kind": "ds18b20", "id": "28-xyz"}, "28-0316a2793fff"),
        ({"kind": "ds18b20", "id": "../../etc"}, "28-0316a2793fff"),
    ],
)
def test_a_sensor_with_a_mistake_is_refused(sensor: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(Path("gateway.toml"), {"local": {"sensors": {"x": sensor}}})
    assert said in str(refused.value)


def test_a_missing_package_is_told_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.config.local.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as refused:
        parse(Path("gateway.toml"), {"local": {"sensors": {"x": {"kind": "dht22", "pin": 4}}}})
    assert "dht22 needs the package adafruit_dht" in str(refused.value)
    assert "isotherm[pi]" in str(refused.value)
    assert parse(Path("gateway.toml"), {"local": {"sensors": {"x": {"kind": "ds18b20"}}}}), "the kernel is enough"


def test_one_thing_twice_is_a_mistake() -> None:
    sensors = {"a": {"kind": "dht22", "pin": 4}, "b": {"kind": "dht22", "pin": 4}}
    with pytest.raises(ConfigError) as refused:
        parse(Path("gateway.toml"), {"local": {"sensors": sensors}})
    assert "b and a are the same dht22" in str(refused.value)
    with pytest.raises(ConfigError):
        parse(Path("gateway.toml"), {"local": {"fleet": "home"}})
