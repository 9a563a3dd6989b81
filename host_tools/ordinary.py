"""Ordinary years: simulated temperatures in which nothing is wrong, to see how often limits cry wolf.

rooms.py simulates days from the physics of one appliance; this file makes long histories cheaply, with what makes
limits fail in the long run: seasons, warm and cold spells, weekends and holidays, changing loads, a thermostat that
somebody turns. No year contains a failure, so every alarm in it is a false one. All constants are ours, a-priori.

Deterministic by kind and seed. Knows no filter and no limits.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator
from random import Random

from host_tools.history import History, Run
from host_tools.sensing import DS18B20, DS18B20_TEMP_MILLI, Sensing

PERIOD_S = 300
DAY_S = 86400
_STEPS_DAY = DAY_S // PERIOD_S
_SENSOR = Sensing(DS18B20, False)


class _Wander:
    """A mean-reverting random walk (Ornstein-Uhlenbeck, exactly stepped): deviation and time constant in days."""

    def __init__(self, random: Random, deviation: float, days: float) -> None:
        self._random = random
        self._keep = math.exp(-1 / (days * _STEPS_DAY))
        self._kick = deviation * math.sqrt(1 - self._keep**2)
        self._value = random.gauss(0, deviation)

    def step(self) -> float:
        self._value = self._value * self._keep + self._random.gauss(0, self._kick)
        return self._value


def _season(day: float) -> float:
    """-1 at the end of January, 1 at the end of July; the year begins in July, as trouble does not."""
    return math.cos((day - 25) / 365 * 2 * math.pi)


def _hour(step: int) -> float:
    return step % _STEPS_DAY * 24 / _STEPS_DAY


def _day_swing(step: int) -> float:
    return math.cos((_hour(step) - 15) / 24 * 2 * math.pi)


def _office(random: Random, steps: int) -> Iterator[float]:
    """Heated and cooled in working hours, left alone at night, at weekends and over two holidays."""
    weather = _Wander(random, 3.0, 3)
    drift = _Wander(random, 0.4, 10)
    setpoint = random.uniform(20.5, 22.5)
    holidays = [random.randrange(20, 340) for _ in range(2)]
    air = setpoint
    for step in range(steps):
        day = step // _STEPS_DAY
        outside = 10 + 9 * _season(day) + weather.step() + 4 * _day_swing(step)
        free = setpoint + 0.12 * (outside - 14)
        holiday = any(start <= day % 365 < start + 9 for start in holidays)
        working = day % 7 < 5 and 7 <= _hour(step) < 19 and not holiday
        target = setpoint + 0.03 * (outside - 14) + drift.step() + 0.7 if working else max(free, 17.0) + drift.step()
        air += (target - air) * (1 - math.exp(-PERIOD_S / (3600 * (1.5 if working else 9))))
        yield air + random.gauss(0, 0.05)


def _home(random: Random, steps: int) -> Iterator[float]:
    """A living room: night setback in winter, warm spells in summer, windows, a thermostat turned now and then."""
    weather = _Wander(random, 3.5, 4)
    setpoint = random.uniform(19.5, 21.5)
    turned = 0.0
    air, opened = setpoint, 0
    for step in range(steps):
        outside = 11 + 9 * _season(step / _STEPS_DAY) + weather.step() + 4 * _day_swing(step)
        hour = _hour(step)
        if random.random() < 1 / (25 * _STEPS_DAY):
            turned = random.uniform(-1.0, 1.0)
        if 7 <= hour < 22 and random.random() < 3 / _STEPS_DAY:
            opened = random.randrange(1, 5)
        heated = setpoint + turned - (2.0 if hour < 6 or hour >= 23 else 0.0)
        target = max(heated, 0.6 * setpoint + 0.45 * outside)
        air += (target - air) * (1 - math.exp(-PERIOD_S / (3600 * 3)))
        if opened:
            opened -= 1
            air += (outside - air) * 0.06
        yield air + random.gauss(0, 0.05)


def _cold(random: Random, steps: int, setpoint: float, defrosts: bool) -> Iterator[float]:
    """A fridge or freezer: the compressor's cycle, doors by day, goods put in warm, defrosts in a freezer."""
    kitchen = _Wander(random, 0.15, 8)
    band, cycle_h = random.uniform(0.7, 1.2), random.uniform(0.6, 1.1)
    turned, door, defrost_h = 0.0, 0.0, random.uniform(8, 10)
    for step in range(steps):
        hour = _hour(step)
        if random.random() < 1 / (60 * _STEPS_DAY):
            turned = random.uniform(-0.5, 0.5)
        rate = 22 / _STEPS_DAY if 7 <= hour < 22 else 0.5 / _STEPS_DAY
        if random.random() < rate:
            door += random.expovariate(1 / (0.5 if not defrosts else 0.8))
        door *= math.exp(-PERIOD_S / 1800)
        at_h = step * PERIOD_S / 3600
        wave = abs(2 * (at_h / cycle_h % 1) - 1) * 2 - 1
        warm = 4.0 * math.exp(-(at_h % defrost_h) / 0.4) if defrosts else 0.0
        yield setpoint + turned + band * wave + door + warm + kitchen.step() + random.gauss(0, 0.05)


def _machine(random: Random, steps: int) -> Iterator[float]:
    """A machine's housing that runs day and night: load in steps of hours to days, a hall that follows the season."""
    hall, own = _Wander(random, 1.2, 4), _Wander(random, 1.0, 0.3)
    base, load, target = random.uniform(55, 85), 0.0, 0.0
    for step in range(steps):
        if random.random() < 1 / (1.5 * _STEPS_DAY):
            target = random.gauss(0, 3.0)
        load += (target - load) * (1 - math.exp(-PERIOD_S / 5400))
        outside = 3 * _season(step / _STEPS_DAY) + 0.7 * _day_swing(step)
        yield base + load + outside + hall.step() + own.step() + random.gauss(0, 0.2)


def _server_room(random: Random, steps: int) -> Iterator[float]:
    """Cooled by a unit that hunts in a band, with load by day and now and then a busy week."""
    band, period_h = random.uniform(0.4, 0.9), random.uniform(0.4, 0.9)
    load, slow = _Wander(random, 0.5, 0.5), _Wander(random, 0.5, 7)
    for step in range(steps):
        at_h = step * PERIOD_S / 3600
        wave = math.sin(at_h / period_h * 2 * math.pi)
        season = 0.6 * _season(step / _STEPS_DAY)
        yield 22.5 + band * wave + 0.4 * _day_swing(step) + season + load.step() + slow.step() + random.gauss(0, 0.05)


KINDS: dict[str, Callable[[Random, int], Iterator[float]]] = {
    "office": _office,
    "home": _home,
    "fridge": lambda random, steps: _cold(random, steps, random.uniform(3.5, 5.0), False),
    "freezer": lambda random, steps: _cold(random, steps, random.uniform(-20.0, -17.5), True),
    "machine": _machine,
    "server-room": _server_room,
}


def year(kind: str, seed: int, days: int = 365) -> History:
    """A history of `days` days, a sample every five minutes, as a DS18B20 reads it. kind: one of KINDS."""
    random = Random(f"ordinary/{kind}/{seed}")
    steps = days * _STEPS_DAY
    run = Run(
        array("q", (i * PERIOD_S * 1000 for i in range(steps))),
        array("i", (_SENSOR.quantise_temp(round(value * 1000)) for value in KINDS[kind](random, steps))),
        array("b", bytes(steps)),
    )
    return History(f"{kind}-{seed}", kind, "temperature", [run], PERIOD_S * 1000, True, DS18B20_TEMP_MILLI)
