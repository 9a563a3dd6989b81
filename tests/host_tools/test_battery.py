"""The battery estimate: sums by hand, what it depends on, and clear refusals."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from host_tools.battery import CURRENTS, Battery, Currents, Duty, estimate
from host_tools.commands.battery import battery as command
from host_tools.errors import HostError

ROUND = Currents(sleep_ua=10, awake_ma=36, radio_ma=100, source="by hand")


def test_the_sum_by_hand() -> None:
    """24 wakes of 1 s with the radio, 1416 of 0.5 s without, the rest of a day asleep at 10 + 10 uA."""
    duty = Duty(period_s=60, wake_ms=400, radio_ms=900, radio_day=24, boot_ms=100)
    found = estimate(duty, Battery(1000, 100, 0), ROUND, board_ua=10)
    assert found.radio_mah == pytest.approx(24 / 3600 * 100.01)
    assert found.wakes_mah == pytest.approx(708 / 3600 * 36.01)
    assert found.sleep_mah == pytest.approx((86_400 - 24 - 708) / 3600 * 0.02)
    assert found.days == pytest.approx(1000 / found.day_mah)


def test_a_board_that_draws_milliamperes_is_no_battery_board() -> None:
    duty = Duty(60, 500, 4000, 24)
    lean = estimate(duty, Battery(3000), CURRENTS["esp32"], 20)
    devkit = estimate(duty, Battery(3000), CURRENTS["esp32"], 10_000)
    assert lean.days > 90 and devkit.days < 11


def test_what_cannot_be() -> None:
    with pytest.raises(HostError, match="awake for"):
        estimate(Duty(10, 20_000, 0, 0), Battery(1000), ROUND, 0)
    with pytest.raises(HostError, match="only 24 wakes"):
        estimate(Duty(3600, 500, 4000, 100), Battery(1000), ROUND, 0)


def test_the_command() -> None:
    duty = {"board-ua": 20, "period-s": 60, "wake-ms": 600, "radio-ms": 4000, "radio-day": 24, "capacity-mah": 3000}
    options = [f"--{name}={value}" for name, value in duty.items()]
    done = CliRunner().invoke(command, ["--chip", "esp32", *options])
    assert done.exit_code == 0 and "days" in done.output and "Datasheet" in done.output
    done = CliRunner().invoke(command, ["--chip", "esp32", *options, "--json", "--sleep-ua", "7"])
    assert json.loads(done.output)["days"] > 0
    done = CliRunner().invoke(command, [*options])
    assert done.exit_code != 0
    done = CliRunner().invoke(command, ["--chip", "z80", *options])
    assert done.exit_code != 0
