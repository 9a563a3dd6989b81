"""Drivers: the processor's temperature, DHT22, DS18B20. Each `read` gives a moment's reading, or why there is none.

A reading is (value, fault): milli-units and 0, or 0 and a FAULT_*. What the libraries raise becomes a fault; its text
is kept in `trouble` for whoever logs. Libraries are imported by the first reading, in the sensor's own thread:
adafruit's pulseio takes over SIGTERM when a main thread imports it, and importing `board` runs pip to bring what it
misses, so pins are had from `microcontroller`, which does not. The same faults, and the same two tries, as the boards'
drivers (isonode/sensors). They know no filter and no clock but the one that they are given.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from gateway.config.local import LocalConfig, SensorConfig
from isocore.record import FAULT_ALL_ZERO, FAULT_CRC, FAULT_MISSING, FAULT_POWER_ON

Reading = tuple[int, int]
Bounds = tuple[int, int]
Channels = tuple[tuple[str, str, Bounds], ...]

TRIES = 2
DHT_SPACING_S = 2.1  # AM2302 datasheet: 2 s between readings; within 2 s adafruit_dht gives the former one again
_RAW_85 = 0x0550  # DS18B20 datasheet, table 1: +85 °C, which is also the power-on value ...
_FRESH = 0x0C  # ... and then byte 6 is this, and 0x10 after a conversion that gave 85 °C
_W1_LINE = re.compile(r"((?:[0-9a-f]{2} ){9}): crc=[0-9a-f]{2} (YES|NO)\n(?:[0-9a-f]{2} ){9}t=(-?\d{1,6})\n?", re.ASCII)
_MILLI = re.compile(r"-?\d{1,6}\n?", re.ASCII)
_W1_CHARS_MAX = 256


class Sensor(Protocol):
    """channels: (suffix of the name, unit, valid range in milli-units) of each reading, in their order."""

    channels: Channels
    trouble: str

    def read(self) -> list[Reading]:
        """One reading of each channel. May take seconds; what it raises is no fault of a sensor's."""
        ...


class CpuSensor:
    """The processor, through gpiozero.CPUTemperature."""

    channels: Channels = (("", "degC", (-40_000, 120_000)),)

    def __init__(self, file: str) -> None:
        self._file = file
        self._device: Any = None
        self.trouble = ""

    def read(self) -> list[Reading]:
        try:
            if self._device is None:
                from gpiozero import CPUTemperature

                self._device = CPUTemperature(self._file)
            return [(round(self._device.temperature * 1000), 0)]
        except (OSError, ValueError) as exc:
            self.trouble = f"{self._file}: {exc}"
            return [(0, FAULT_MISSING)]


class DhtSensor:
    """A DHT22, through adafruit_dht."""

    channels: Channels = (("-temperature", "degC", (-40_000, 80_000)), ("-humidity", "%RH", (0, 100_000)))

    def __init__(
        self,
        pin: int,
        pulseio: bool,
        monotonic_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._pin = pin
        self._pulseio = pulseio
        self._monotonic_s = monotonic_s
        self._sleep = sleep
        self._driver: Any = None
        self._next_s = monotonic_s()
        self.trouble = ""

    def read(self) -> list[Reading]:
        fault = FAULT_MISSING
        for _ in range(TRIES):
            wait_s = self._next_s - self._monotonic_s()
            if wait_s > 0:
                self._sleep(wait_s)
            try:
                return self._measure()
            except RuntimeError as exc:  # which fault it was only its text tells
                self.trouble = str(exc)
                fault = FAULT_MISSING if "not found" in self.trouble else FAULT_CRC
            finally:
                self._next_s = self._monotonic_s() + DHT_SPACING_S
        return [(0, fault), (0, fault)]

    def _measure(self) -> list[Reading]:
        if self._driver is None:
            import adafruit_dht
            import microcontroller

            self._driver = adafruit_dht.DHT22(getattr(microcontroller.pin, f"D{self._pin}"), use_pulseio=self._pulseio)
        self._driver.measure()
        temperature, humidity = self._driver.temperature, self._driver.humidity
        if temperature is None or humidity is None:
            return [(0, FAULT_MISSING)] * 2
        if not temperature and not humidity:
            self.trouble = "a frame of zeros, which passes its checksum"
            return [(0, FAULT_ALL_ZERO)] * 2
        return [(round(temperature * 1000), 0), (round(humidity * 1000), 0)]


class W1Sensor:
    """A DS18B20, through the kernel's w1 driver: a read of its file converts (750 ms) and fetches."""

    channels: Channels = (("", "degC", (-55_000, 125_000)),)

    def __init__(self, folder: str, name: str) -> None:
        self._folder = Path(folder)
        self._name = name
        self.trouble = ""

    def read(self) -> list[Reading]:
        fault = FAULT_MISSING
        for _ in range(TRIES):
            value, fault = self._once()
            if not fault:
                return [(value, 0)]
            if fault == FAULT_MISSING:
                break
        return [(0, fault)]

    def _once(self) -> Reading:
        try:
            device = self._device()
            return self._scratchpad(device) if (device / "w1_slave").exists() else self._plain(device)
        except (OSError, UnicodeDecodeError) as exc:
            self.trouble = str(exc)
            return 0, FAULT_MISSING

    def _device(self) -> Path:
        if self._name:
            return self._folder / self._name
        found = sorted(path for family in ("22", "28") for path in self._folder.glob(f"{family}-*"))
        if len(found) != 1:
            names = ", ".join(path.name for path in found[:8]) or "none"
            raise FileNotFoundError(f"{self._folder} holds {len(found)} sensors ({names}): say which by id")
        return found[0]

    def _scratchpad(self, device: Path) -> Reading:
        """w1_slave: the nine bytes with the kernel's word on their CRC, then once more with the milli-degrees."""
        with (device / "w1_slave").open(encoding="ascii") as file:
            text = file.read(_W1_CHARS_MAX)
        found = _W1_LINE.fullmatch(text)
        if found is None:
            self.trouble = f"{device.name}: w1_slave holds {text[:60]!r}"
            return 0, FAULT_MISSING
        scratch = bytes.fromhex(found[1])
        if not any(scratch):
            self.trouble = f"{device.name}: a scratchpad of zeros, which passes its CRC"
            return 0, FAULT_ALL_ZERO
        if found[2] == "NO":
            self.trouble = f"{device.name}: CRC"
            return 0, FAULT_CRC
        if scratch[1] << 8 | scratch[0] == _RAW_85 and scratch[6] == _FRESH:
            self.trouble = f"{device.name}: shows its power-on value"
            return 0, FAULT_POWER_ON
        return int(found[3]), 0

    def _plain(self, device: Path) -> Reading:
        """temperature: milli-degrees alone; empty when the CRC was wrong. 85 °C cannot be told from power-on here."""
        with (device / "temperature").open(encoding="ascii") as file:
            text = file.read(_W1_CHARS_MAX)
        if not _MILLI.fullmatch(text):
            self.trouble = f"{device.name}: temperature holds {text[:60]!r}"
            return 0, FAULT_CRC
        value = int(text)
        if value == 85_000:
            self.trouble = f"{device.name}: shows its power-on value"
            return 0, FAULT_POWER_ON
        return value, 0


def make(config: LocalConfig, sensor: SensorConfig) -> Sensor:
    """The driver of a configured sensor; nothing is imported or opened yet."""
    if sensor.kind == "cpu":
        return CpuSensor(config.cpu_file)
    if sensor.kind == "dht22":
        return DhtSensor(sensor.pin, sensor.pulseio)
    return W1Sensor(config.w1_folder, sensor.id)
