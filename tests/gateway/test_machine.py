"""Figures of process and machine, from trees of files as the kernel shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import machine
from gateway.metrics import Metrics


def page(sys: Path) -> list[str]:
    metrics = Metrics()
    metrics.source(lambda: machine.families(1.5, sys))
    return [line.removeprefix("isotherm_gateway_") for line in metrics.render().splitlines() if line[0] != "#"]


def zone(sys: Path, number: int, kind: str, temp: str | None) -> None:
    folder = sys / "class" / "thermal" / f"thermal_zone{number}"
    folder.mkdir(parents=True)
    (folder / "type").write_text(f"{kind}\n")
    if temp is not None:
        (folder / "temp").write_text(f"{temp}\n")


def test_a_raspberry_pi(tmp_path: Path) -> None:
    zone(tmp_path, 0, "cpu-thermal", "48312")
    zone(tmp_path, 1, "rp1_adc", "-1500")
    zone(tmp_path, 2, "asleep", None)
    path = tmp_path / "devices/platform/soc/soc:firmware/get_throttled"
    path.parent.mkdir(parents=True)
    path.write_text("50005\n")  # under-voltage and throttled, now and before
    lines = page(tmp_path)
    assert 'machine_temperature_celsius{type="cpu-thermal",zone="0"} 48.312' in lines
    assert 'machine_temperature_celsius{type="rp1_adc",zone="1"} -1.5' in lines
    assert sum(line.startswith("machine_temperature") for line in lines) == 2
    now = {line for line in lines if line.startswith("machine_condition{")}
    assert now == {
        'machine_condition{condition="under_voltage"} 1',
        'machine_condition{condition="frequency_capped"} 0',
        'machine_condition{condition="throttled"} 1',
        'machine_condition{condition="soft_temperature_limit"} 0',
    }
    assert 'machine_condition_since_start{condition="throttled"} 1' in lines


@pytest.mark.parametrize("text", [None, "", "what", "\xff"])
def test_a_machine_without_such_firmware(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        path = tmp_path / "devices/platform/soc/soc:firmware/get_throttled"
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="latin-1")
    lines = page(tmp_path)
    assert not [line for line in lines if line.startswith("machine_")]
    memory = next(line for line in lines if line.startswith("resident_memory_bytes"))
    assert 5e6 < float(memory.split()[1]) < 5e9
