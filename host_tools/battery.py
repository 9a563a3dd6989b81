"""How long a board that sleeps deeply lasts on a battery: an estimate from measured wake times and stated currents.

Charge a day = sleeping + wakes without the radio + wakes with it, each its time times its current. Chip currents are
typical values of the chips' datasheets; what else the board draws (regulator, USB bridge, power LED, sensors) is
measured by its owner and given as `board_ua`. It knows no file and prints nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from host_tools.errors import HostError

DAY_S = 86_400.0
YEAR_DAYS = 365.25


@dataclass(frozen=True)
class Currents:
    """Typical currents of one chip at 3.3 V. sleep_ua: deep sleep on its timer with RTC memory kept."""

    sleep_ua: float
    awake_ma: float  # processor running, radio off
    radio_ma: float  # associated and listening, with short transmissions
    source: str


# The upper ends of the ranges given: firmware seldom idles during a short wake. Chips whose figures nobody here has
# checked are left out; their owner gives the three currents.
CURRENTS = {
    "esp32": Currents(
        10,
        44,
        100,
        "ESP32 Series Datasheet, current consumption by power modes: deep sleep with RTC timer and RTC memory; "
        "modem-sleep at 160 MHz, dual core; Wi-Fi RX",
    ),
}


@dataclass(frozen=True)
class Duty:
    """What a board does in a day. `wake_ms`, `radio_ms`: as it reports them in health; boot_ms comes before each.

    radio_day: wakes with the radio a day. boot_ms: the loader and MicroPython's start, which no program can measure.
    """

    period_s: float
    wake_ms: float
    radio_ms: float
    radio_day: float
    boot_ms: float = 300.0


@dataclass(frozen=True)
class Battery:
    """capacity_mah as printed on it; usable_pct: until the regulator gives up; selfdischarge_pct_year of the rest."""

    capacity_mah: float
    usable_pct: float = 80.0
    selfdischarge_pct_year: float = 3.0


@dataclass(frozen=True)
class Estimate:
    """Charge a day by what took it, in mAh, and days until the usable charge is gone."""

    sleep_mah: float
    wakes_mah: float
    radio_mah: float
    selfdischarge_mah: float
    days: float

    @property
    def day_mah(self) -> float:
        """Charge a day."""
        return self.sleep_mah + self.wakes_mah + self.radio_mah + self.selfdischarge_mah


def estimate(duty: Duty, battery: Battery, currents: Currents, board_ua: float) -> Estimate:
    """Raises HostError when a board would be awake for longer than its period."""
    wakes = DAY_S / duty.period_s
    if duty.radio_day > wakes:
        raise HostError(f"{duty.radio_day:g} wakes with the radio a day, but only {wakes:g} wakes: lower --radio-day")
    radio_s = duty.radio_day * (duty.radio_ms + duty.boot_ms) / 1000
    awake_s = (wakes - duty.radio_day) * (duty.wake_ms + duty.boot_ms) / 1000
    asleep_s = DAY_S - radio_s - awake_s
    if asleep_s < 0:
        raise HostError(f"the board would be awake for {(radio_s + awake_s) / 3600:.1f} h a day: raise --period-s")
    usable_mah = battery.capacity_mah * battery.usable_pct / 100
    sleep_mah = asleep_s / 3600 * (currents.sleep_ua + board_ua) / 1000
    wakes_mah = awake_s / 3600 * (currents.awake_ma + board_ua / 1000)
    radio_mah = radio_s / 3600 * (currents.radio_ma + board_ua / 1000)
    lost_mah = usable_mah * battery.selfdischarge_pct_year / 100 / YEAR_DAYS
    days = usable_mah / (sleep_mah + wakes_mah + radio_mah + lost_mah)
    return Estimate(sleep_mah, wakes_mah, radio_mah, lost_mah, days)
