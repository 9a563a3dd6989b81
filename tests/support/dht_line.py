"""A DHT22 on its wire, as Adafruit Blinka's pins show it: edges at the datasheet's times, on a clock that looks move.

Stands below the unmodified adafruit_dht: it takes the place of Blinka's `Pin` of the chip and of the `time` module that
the driver sees. Times are those of the Aosong AM2302 datasheet, table 6. It must not know what the driver makes of it.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

_POLL_US = 3.0  # between two looks at the pin: a Pi takes a few microseconds for one
_IDLE_US = 200.0  # where nothing can happen any more, time may run
_LOOK_US = 0.2  # between two looks at the clock


class SimTime:
    """The `time` module, as far as the driver uses it."""

    def __init__(self) -> None:
        self.now_us = 1_000_000.0
        self.slept_s: list[float] = []

    def monotonic(self) -> float:
        self.now_us += _LOOK_US
        return self.now_us / 1e6

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept_s.append(seconds)
        self.now_us += seconds * 1e6


def frame(humidity_tenths: int, temperature_tenths: int) -> bytes:
    """40 bits: humidity, temperature with its sign in bit 15, and the sum of the four bytes."""
    temperature = abs(temperature_tenths) | (0x8000 if temperature_tenths < 0 else 0)
    data = humidity_tenths.to_bytes(2, "big") + temperature.to_bytes(2, "big")
    return data + bytes([sum(data) & 0xFF])


class DhtLine:
    """The wire. `frames` are sent one a request, the last one for ever; b"" answers nothing, `cut` edges end early."""

    def __init__(self, time: SimTime) -> None:
        self.time = time
        self.frames: list[bytes] = [frame(500, 215)]
        self.requests = 0
        self.cut: int | None = None
        self._driven: int | None = 1  # by the host; None: released
        self._low_since_us = 0.0
        self._edges_us: list[float] = []

    def drive(self, level: int) -> None:
        if level == 0 and self._driven != 0:
            self._low_since_us = self.time.now_us
        self._driven = level

    def release(self) -> None:
        asked = self._driven == 0 and self.time.now_us - self._low_since_us >= 800  # table 6: 0.8 ms at least
        self._driven = None
        if asked:
            self.requests += 1
            answer = self.frames.pop(0) if len(self.frames) > 1 else self.frames[0]
            self._edges_us = self._waveform(self.time.now_us, answer) if answer else []
            if self.cut is not None:
                del self._edges_us[self.cut :]

    def level(self) -> int:
        edges = self._edges_us
        idle = not edges or self.time.now_us > edges[-1]
        self.time.now_us += _IDLE_US if idle else _POLL_US
        if self._driven is not None:
            return self._driven
        return (bisect_right(edges, self.time.now_us) + 1) % 2  # pulled up, and falling first

    @staticmethod
    def _waveform(start_us: float, data: bytes) -> list[float]:
        at = start_us + 30
        edges = [at, at + 80]  # the sensor's answer: low 80, high 80
        at += 160
        for byte in data:
            for bit in range(7, -1, -1):
                edges += [at, at + 50]  # low 50, then high 26 or 70
                at += 50 + (70 if byte >> bit & 1 else 26)
        return [*edges, at, at + 50]


def pin_class(line: DhtLine) -> type[Any]:
    """Blinka's Pin of the chip, with every pin at this wire."""

    class Pin:
        IN, OUT, OPEN_DRAIN, PULL_NONE, PULL_UP, PULL_DOWN = 0, 1, 2, 0, 1, 2

        def __init__(self, number: int) -> None:
            self.id = number
            self._mode = self.IN

        def init(self, mode: int = IN, pull: int | None = None) -> None:
            if mode == self.IN and self._mode != self.IN:
                line.release()
            self._mode = mode

        def value(self, level: int | None = None) -> int | None:
            if level is None:
                return line.level()
            line.drive(level)
            return None

    return Pin
