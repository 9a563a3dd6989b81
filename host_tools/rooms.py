"""Simulated rooms, fridges and freezers: what boards measure when no recording is given.

A small lumped thermal model each, stepped every few seconds: an air node between a slow mass and the outside, a heater
or a compressor behind a thermostat, doors and windows that people open, mostly by day. On top come sensor noise and the
faults sensors really have. All constants are ours, chosen so that the cycles look like those of ordinary appliances: a
fridge compressor runs about a third of the time in cycles of half an hour to an hour, a freezer defrosts every eight
to ten hours.

Deterministic by seed and name: the same arguments give the same rows on every machine. Integers out; knows neither
files nor boards.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from host_tools.sensing import DHT22, DS18B20, Row, Sensing

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
STEP_S_MAX = 10.0  # the fastest time constant is minutes
KINDS = ("room", "fridge", "freezer")
_NOISE_C = 0.02  # before the sensor's own quantisation
_NOISE_PCT = 0.15


@dataclass(frozen=True)
class Faults:
    """How often a sensor fails, per hour, and for how many rows in a row at most."""

    crc_per_hour: float = 0.02
    missing_per_hour: float = 0.01
    zero_per_hour: float = 0.005
    power_on_per_hour: float = 0.005  # DS18B20 browned out: it reads 85 °C
    rows_max: int = 4


@dataclass(frozen=True)
class SimulatedBoard:
    """One board's simulated world. Plays like a trace (`sensing.Source`)."""

    board: str
    kind: str  # one of KINDS; also the board's class
    seed: int
    duration_s: float
    period_s: float = 60.0
    start_of_day_s: float = 7 * HOUR_S  # time of day at row 0
    door_left_open_at_s: float | None = None  # a fridge's failure: someone forgot the door
    door_left_open_s: float = 3 * HOUR_S
    faults: Faults | None = Faults()

    @property
    def sensing(self) -> Sensing:
        """A DHT22 in rooms; a DS18B20, in its steel sleeve, where it is cold."""
        return Sensing(DHT22, True) if self.kind == "room" else Sensing(DS18B20, False)

    @property
    def duration_ms(self) -> int:
        """Time from the first row to the last."""
        return (self.row_count - 1) * round(self.period_s * 1000)

    @property
    def row_count(self) -> int:
        """How many rows `rows` yields."""
        return max(2, int(self.duration_s / self.period_s) + 1)

    def rows(self) -> Iterator[Row]:
        """The rows, from t = 0 on, one every `period_s`."""
        random = Random(f"{self.seed}/{self.board}/{self.kind}")
        world = _Room(random) if self.kind == "room" else _Cold(random, freezer=self.kind == "freezer")
        faults = _FaultSource(self.faults, self.sensing, Random(f"{self.seed}/{self.board}/faults"), self.period_s)
        steps = max(1, math.ceil(self.period_s / STEP_S_MAX))
        step_s = self.period_s / steps
        world.settle(self.start_of_day_s)
        for i in range(self.row_count):
            now_s = i * self.period_s
            if i:
                for part in range(steps):
                    at_s = now_s - self.period_s + part * step_s
                    world.step(self.start_of_day_s + at_s, step_s, self._forced_open(at_s))
            temp_c, humidity_pct = world.reading()
            humidity = None if humidity_pct is None else min(100000, max(0, round(humidity_pct * 1000)))
            yield Row(round(now_s * 1000), round(temp_c * 1000), humidity, faults.next())

    def _forced_open(self, at_s: float) -> bool:
        start_s = self.door_left_open_at_s
        return start_s is not None and start_s <= at_s < start_s + self.door_left_open_s


def fleet(
    boards: int, seed: int = 1, duration_s: float = DAY_S, period_s: float = 60.0, faults: Faults | None = Faults()
) -> list[SimulatedBoard]:
    """`boards` boards, room, fridge and freezer in turn, named kind-1, kind-2 ...

    The first fridge's door stays open for a while from 60 % of the run on, so that there is an alarm to see.
    """
    out = []
    for number in range(boards):
        kind = KINDS[number % len(KINDS)]
        left_open = kind == "fridge" and number == 1
        out.append(
            SimulatedBoard(
                board=f"{kind}-{number // len(KINDS) + 1}",
                kind=kind,
                seed=seed,
                duration_s=duration_s,
                period_s=period_s,
                start_of_day_s=7 * HOUR_S,
                door_left_open_at_s=0.6 * duration_s if left_open else None,
                door_left_open_s=min(3 * HOUR_S, 0.15 * duration_s),
                faults=faults,
            )
        )
    return out


class _Openings:
    """A door or window that people open: at random, mostly by day."""

    def __init__(self, random: Random, per_day: float, mean_s: float) -> None:
        self._random = random
        self._per_s = per_day / DAY_S
        self._mean_s = mean_s
        self._left_s = 0.0

    def step(self, of_day_s: float, step_s: float) -> bool:
        """True while it stands open."""
        if self._left_s > 0:
            self._left_s -= step_s
            return True
        hour = of_day_s % DAY_S / HOUR_S
        busy = 1.6 if 7 <= hour < 22 else 0.05
        if self._random.random() < self._per_s * busy * step_s:
            self._left_s = self._random.expovariate(1 / self._mean_s)
        return False


class _Room:
    """A heated room: air, walls, outside weather, a radiator on a thermostat, sun, people and a window."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._outside_mean_c = random.uniform(2.0, 9.0)
        self._outside_swing_c = random.uniform(3.0, 5.0)
        self._setpoint_c = random.uniform(20.0, 22.0)
        self._sun_c_h = random.uniform(0.3, 0.9)  # how fast the afternoon sun alone would heat the air
        self._window = _Openings(random, per_day=4, mean_s=360.0)
        self._weather_c = 0.0
        self._heating = False
        self._air_c = self._setpoint_c
        self._wall_c = self._setpoint_c - 1.0
        self._water_g_m3 = random.uniform(6.5, 8.5)

    def settle(self, of_day_s: float) -> None:
        """Forget the arbitrary start: let half a day pass."""
        for i in range(720):
            self.step(of_day_s - DAY_S / 2 + i * 60.0, 60.0, False)

    def step(self, of_day_s: float, step_s: float, forced_open: bool) -> None:
        hour = of_day_s % DAY_S / HOUR_S
        dt_h = step_s / HOUR_S
        self._weather_c += -self._weather_c * dt_h / 18 + self._random.gauss(0, 0.35) * math.sqrt(dt_h)
        outside_c = (
            self._outside_mean_c
            + self._weather_c
            - self._outside_swing_c * math.cos((hour - 3) / 24 * 2 * math.pi)  # coldest at 3, warmest at 15
        )
        setpoint_c = self._setpoint_c if 6 <= hour < 22 else self._setpoint_c - 2.5
        if self._air_c < setpoint_c - 0.3:
            self._heating = True
        elif self._air_c > setpoint_c + 0.3:
            self._heating = False
        is_open = self._window.step(of_day_s, step_s) or forced_open
        sun_c_h = self._sun_c_h * max(0.0, math.sin((hour - 8) / 10 * math.pi)) if 8 <= hour < 18 else 0.0
        people_c_h = 0.25 if 8 <= hour < 22 else 0.1
        flow_c_h = (self._wall_c - self._air_c) * 1.8 + (outside_c - self._air_c) * (1.8 if is_open else 0.12)
        self._air_c += (flow_c_h + (4.5 if self._heating else 0.0) + sun_c_h + people_c_h) * dt_h
        self._wall_c += ((self._air_c - self._wall_c) * 0.12 + (outside_c - self._wall_c) * 0.01) * dt_h
        outside_g_m3 = 0.75 * _saturation_g_m3(outside_c)
        exchange_per_h = 6.0 if is_open else 0.4
        sources_g_m3_h = 0.9 if 8 <= hour < 22 else 0.5
        self._water_g_m3 += (exchange_per_h * (outside_g_m3 - self._water_g_m3) + sources_g_m3_h) * dt_h

    def reading(self) -> tuple[float, float | None]:
        humidity_pct = 100 * self._water_g_m3 / _saturation_g_m3(self._air_c)
        return (
            self._air_c + self._random.gauss(0, _NOISE_C),
            min(99.0, max(1.0, humidity_pct + self._random.gauss(0, _NOISE_PCT))),
        )


class _Cold:
    """A fridge or freezer: air, contents, insulation, compressor on a thermostat, door, and defrosts in a freezer."""

    def __init__(self, random: Random, freezer: bool) -> None:
        self._random = random
        self._kitchen_c = random.uniform(20.0, 23.0)
        setpoint_c = random.uniform(-19.0, -17.5) if freezer else random.uniform(3.8, 4.8)
        band_c = 1.2
        self._on_c, self._off_c = setpoint_c + band_c, setpoint_c - band_c
        # Shares of the difference an hour. The cooling is what the insulation loses, about three times over.
        self._loss_per_h = random.uniform(0.09, 0.12) if freezer else random.uniform(0.22, 0.30)
        self._cooling_c_h = self._loss_per_h * (self._kitchen_c - setpoint_c) * random.uniform(2.8, 3.4)
        self._contents_per_h = 0.5
        self._door = _Openings(random, per_day=6 if freezer else 24, mean_s=20.0)
        self._door_per_h = 6.0 if freezer else 4.0
        self._defrost_every_s = random.uniform(8, 10) * HOUR_S if freezer else math.inf
        self._defrost_in_s = self._defrost_every_s * random.random()
        self._defrost_left_s = 0.0
        self._running = False
        self._air_c = setpoint_c
        self._contents_c = setpoint_c

    def settle(self, of_day_s: float) -> None:
        """Forget the arbitrary start: let half a day pass."""
        for i in range(2160):
            self.step(of_day_s - DAY_S / 2 + i * 20.0, 20.0, False)

    def step(self, of_day_s: float, step_s: float, forced_open: bool) -> None:
        dt_h = step_s / HOUR_S
        is_open = self._door.step(of_day_s, step_s) or forced_open
        if self._defrost_left_s > 0:
            self._defrost_left_s -= step_s
            self._running = False
        else:
            self._defrost_in_s -= step_s
            if self._defrost_in_s <= 0:
                self._defrost_in_s = self._defrost_every_s
                self._defrost_left_s = 15 * 60.0
            if self._air_c > self._on_c:
                self._running = True
            elif self._air_c < self._off_c:
                self._running = False
        outward_per_h = self._loss_per_h + (self._door_per_h if is_open else 0.0)
        flow_c_h = (self._kitchen_c - self._air_c) * outward_per_h + (self._contents_c - self._air_c) * 1.5
        if self._running:
            flow_c_h -= self._cooling_c_h
        if self._defrost_left_s > 0:
            flow_c_h += 14.0  # the heater on the evaporator
        self._air_c += flow_c_h * dt_h
        self._contents_c += (self._air_c - self._contents_c) * self._contents_per_h * dt_h

    def reading(self) -> tuple[float, float | None]:
        return self._air_c + self._random.gauss(0, _NOISE_C), None


class _FaultSource:
    """Draws the faults of one sensor: a spell of a few rows each."""

    def __init__(self, faults: Faults | None, sensing: Sensing, random: Random, period_s: float) -> None:
        self._random = random
        self._left = 0
        self._fault = ""
        self._rows_max = faults.rows_max if faults else 1
        self._chances: list[tuple[str, float]] = []
        if faults:
            hours = period_s / HOUR_S
            rates = {"crc": faults.crc_per_hour, "missing": faults.missing_per_hour, "zero": faults.zero_per_hour}
            if sensing.temperature == DS18B20:
                rates["85"] = faults.power_on_per_hour
            self._chances = [(name, rate * hours) for name, rate in rates.items()]

    def next(self) -> str:
        """The fault of the next row, or ""."""
        if self._left:
            self._left -= 1
            return self._fault
        for name, chance in self._chances:
            if self._random.random() < chance:
                self._fault = name
                self._left = self._random.randrange(self._rows_max)
                return name
        return ""


def _saturation_g_m3(temp_c: float) -> float:
    """Water in saturated air, from the Magnus formula over water (WMO-No. 8, annex 4.B) and the ideal gas law."""
    vapour_hpa = 6.112 * math.exp(17.62 * temp_c / (243.12 + temp_c))
    return 216.7 * vapour_hpa / (273.15 + temp_c)
