"""`isotherm board battery`: how long a board that sleeps deeply lasts. Options and printing; see battery.py."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import click

from host_tools import battery as estimates
from host_tools.errors import InputError

_POSITIVE = click.FloatRange(min=0, min_open=True)
_NOT_NEGATIVE = click.FloatRange(min=0)


@click.command()
@click.option("--chip", default="", help="Take the currents of its datasheet: " + ", ".join(estimates.CURRENTS) + ".")
@click.option("--sleep-ua", type=_POSITIVE, help="Current in deep sleep, in uA, instead of the chip's.")
@click.option("--awake-ma", type=_POSITIVE, help="Current awake without the radio, in mA, instead of the chip's.")
@click.option("--radio-ma", type=_POSITIVE, help="Current with the radio on, in mA, instead of the chip's.")
@click.option("--board-ua", type=_NOT_NEGATIVE, required=True, help="What the rest of the board draws always, in uA.")
@click.option("--period-s", type=_POSITIVE, required=True, help="Time between two samples.")
@click.option("--wake-ms", type=_NOT_NEGATIVE, required=True, help="A wake without the radio: wake_ms in health.")
@click.option("--radio-ms", type=_NOT_NEGATIVE, required=True, help="A wake with the radio: radio_ms in health.")
@click.option("--radio-day", type=_NOT_NEGATIVE, required=True, help="Wakes with the radio a day.")
@click.option("--boot-ms", type=_NOT_NEGATIVE, default=300.0, show_default=True, help="From power to the firmware.")
@click.option("--capacity-mah", type=_POSITIVE, required=True, help="The battery's capacity as printed on it.")
@click.option("--usable-pct", type=click.FloatRange(1, 100), default=80.0, show_default=True, help="Of it, usable.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def battery(
    chip: str,
    sleep_ua: float | None,
    awake_ma: float | None,
    radio_ma: float | None,
    board_ua: float,
    period_s: float,
    wake_ms: float,
    radio_ms: float,
    radio_day: float,
    boot_ms: float,
    capacity_mah: float,
    usable_pct: float,
    as_json: bool,
) -> None:
    """Estimate how long a board that sleeps deeply lasts on a battery.

    \b
    Example:
      isotherm board battery --chip esp32 --board-ua 20 --period-s 60 --wake-ms 600 \\
        --radio-ms 4000 --radio-day 24 --capacity-mah 3000
    """
    given = {"sleep_ua": sleep_ua, "awake_ma": awake_ma, "radio_ma": radio_ma}
    overrides = {name: value for name, value in given.items() if value is not None}
    if chip and chip not in estimates.CURRENTS:
        raise InputError(f"--chip {chip}: no currents are known; give --sleep-ua, --awake-ma and --radio-ma instead")
    if not chip and len(overrides) < len(given):
        raise InputError("give --chip, or all of --sleep-ua, --awake-ma and --radio-ma")
    known = estimates.CURRENTS.get(chip, estimates.Currents(0, 0, 0, "given"))
    currents = replace(known, **overrides)  # type: ignore[arg-type]
    duty = estimates.Duty(period_s, wake_ms, radio_ms, radio_day, boot_ms)
    cell = estimates.Battery(capacity_mah, usable_pct)
    found = estimates.estimate(duty, cell, currents, board_ua)
    if as_json:
        click.echo(json.dumps({**asdict(found), "day_mah": found.day_mah, "source": currents.source}, indent=2))
        return
    parts = (
        ("asleep", found.sleep_mah),
        ("wakes without radio", found.wakes_mah),
        ("wakes with radio", found.radio_mah),
        ("self-discharge", found.selfdischarge_mah),
    )
    for name, charge_mah in parts:
        click.echo(f"{name:20} {charge_mah:9.3f} mAh a day  {charge_mah / found.day_mah:5.0%}")
    click.echo(f"{'lasts':20} {found.days:9.0f} days       {found.days / estimates.YEAR_DAYS:.1f} years")
    click.echo(f"currents: {currents.source}; the board's own {board_ua:g} uA as given")
