"""What sensors make of a room: which sensor fits a recording, its range and its resolution, and the rows boards play.

Integers only, in m°C and m%RH. Knows neither files nor firmware: traces and simulated rooms both hand their rows here.

Sources: Aosong AM2302 (DHT22) manual, "Technical parameters": -40 to 80 °C, 0 to 100 %RH, resolution 0.1.
Analog Devices DS18B20 datasheet, "Features" and "Temperature/Data relationship": -55 to 125 °C, 1/16 °C at 12 bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TextIO

DHT22_TEMP_MILLI = (-40000, 80000)
DHT22_HUMIDITY_MILLI = (0, 100000)
DS18B20_TEMP_MILLI = (-55000, 125000)
DHT22 = "dht22"
DS18B20 = "ds18b20"


class Row(NamedTuple):
    """One moment of a sensor's world. fault: "" or what goes wrong below the driver: crc, zero, missing, 85."""

    t_ms: int
    temp_milli: int
    humidity_milli: int | None
    fault: str


@dataclass(frozen=True)
class Sensing:
    """The sensors of one board: which one gives the temperature, and whether a DHT22 gives humidity."""

    temperature: str  # DHT22 or DS18B20
    humidity: bool

    @property
    def valid_milli(self) -> dict[str, tuple[int, int]]:
        """What each channel can read at all."""
        ranges = {"temperature": DHT22_TEMP_MILLI if self.temperature == DHT22 else DS18B20_TEMP_MILLI}
        if self.humidity:
            ranges["humidity"] = DHT22_HUMIDITY_MILLI
        return ranges

    def quantise_temp(self, temp_milli: int) -> int:
        """What the board reads when it is `temp_milli`."""
        if self.temperature == DHT22:
            return _nearest(temp_milli, 100) * 100
        raw = _nearest(temp_milli * 16, 1000)
        return raw * 125 // 2  # 62.5 m°C a step; floored, as the firmware's integers do

    @staticmethod
    def quantise_humidity(humidity_milli: int) -> int:
        """What the board reads when it is `humidity_milli`."""
        return _nearest(humidity_milli, 100) * 100


class Source(Protocol):
    """Anything a virtual board can play: a trace or a simulated room."""

    @property
    def board(self) -> str: ...
    @property
    def sensing(self) -> Sensing: ...
    def rows(self) -> Iterator[Row]: ...


def sensing_for(lowest_temp_milli: int, highest_temp_milli: int, humidity: bool) -> Sensing:
    """The sensors for a recording: a DHT22 where there is humidity and it bears the temperature, else a DS18B20."""
    bears = DHT22_TEMP_MILLI[0] <= lowest_temp_milli and highest_temp_milli <= DHT22_TEMP_MILLI[1]
    return Sensing(DHT22 if humidity and bears else DS18B20, humidity)


def write_rows(rows: Iterable[Row], out: TextIO, lead_ms: int = 0, rows_max: int | None = None) -> int:
    """Write rows as a virtual board plays them, `t_ms,temp_milli,humidity_milli,fault`. Returns how many.

    lead_ms: time between the board's power-on and row time 0, so that it is up when the first row comes.
    """
    count = 0
    for row in rows:
        if count == rows_max:
            break
        humidity = "" if row.humidity_milli is None else str(row.humidity_milli)
        out.write(f"{row.t_ms + lead_ms},{row.temp_milli},{humidity},{row.fault}\n")
        count += 1
    return count


def _nearest(value: int, step: int) -> int:
    """value / step to the nearest integer, halves away from zero."""
    return (value + step // 2) // step if value >= 0 else -((-value + step // 2) // step)
