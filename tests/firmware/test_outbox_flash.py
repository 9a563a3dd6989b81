"""The outbox on littlefs and the 32-bit interpreter: power cuts, erases, allocation. The chips are the scripts' own."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from host_tools.virtual.interpreter import Interpreter, find_micropython

HERE = Path(__file__).resolve().parent
FIRMWARE = HERE.parents[1] / "firmware"
CHIPS_BYTES = 4 * 1024 * 1024  # heap for scripts that hold chips in RAM
SOAK_CUTS = int(os.environ.get("ISOTHERM_SOAK_CUTS", "100000"))

pytestmark = pytest.mark.micropython


@pytest.fixture(scope="module")
def micropython() -> Interpreter:
    """The interpreter that plays the boards."""
    return find_micropython()


def run(
    micropython: Interpreter, heap_bytes: int, script: str, *args: object, timeout_s: float = 110
) -> dict[str, int]:
    """Run one of the scripts beside this file; returns the numbers it printed."""
    done = subprocess.run(
        [*micropython.command, *micropython.heap_option(heap_bytes), str(HERE / script), *map(str, args)],
        env={**os.environ, "MICROPYPATH": f"{FIRMWARE}:.frozen"},  # the script's own folder always comes first
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", done.stdout)}


@pytest.mark.parametrize(
    ("scenario", "least_cuts", "seen"),
    [
        ("young", 200, ()),
        ("draining", 150, ("deleted",)),
        ("full", 200, ("compactions",)),
        ("full_of_events", 500, ("compactions",)),
        ("cramped", 300, ("no_space", "compactions")),
        ("real_blocks", 300, ("compactions",)),
    ],
)
def test_power_cut_at_every_write_and_erase(
    micropython: Interpreter, scenario: str, least_cuts: int, seen: tuple[str, ...]
) -> None:
    figures = run(micropython, CHIPS_BYTES, "outbox_cuts.py", scenario)
    assert figures["cuts"] >= least_cuts
    assert figures["delivered"] > figures["cuts"]
    for name in seen:
        assert figures[name] > 0, f"the scenario no longer reaches {name}"


@pytest.mark.parametrize("seed", [1, 2])
def test_one_chip_through_many_cuts(micropython: Interpreter, seed: int) -> None:
    assert run(micropython, CHIPS_BYTES, "outbox_cuts.py", "random", seed, 300)["cuts"] == 300


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_one_chip_through_very_many_cuts(micropython: Interpreter) -> None:
    for seed in range(100, 100 + max(1, SOAK_CUTS // 5000)):
        run(micropython, CHIPS_BYTES, "outbox_cuts.py", "random", seed, 5000, timeout_s=3600)


def test_erases_for_a_record(micropython: Interpreter) -> None:
    """At most 0.11 erases a record in batches of ten or more, the deletion and the eviction of segments included."""
    figures = run(micropython, CHIPS_BYTES, "outbox_figures.py", "erases")
    assert 0 < figures["batch10"] <= 110
    assert figures["batch16"] <= 70
    assert figures["batch32"] <= 40
    assert figures["full10"] <= 110
    assert figures["full32"] <= 40


def test_walking_a_backlog_costs_the_same_for_each_frame(micropython: Interpreter) -> None:
    figures = run(micropython, CHIPS_BYTES, "outbox_figures.py", "backlog")
    assert figures["frames"] == 313
    assert figures["reads_at_10000"] <= 2 * figures["reads_at_1000"]


def test_memory_is_small_and_fixed(micropython: Interpreter, tmp_path: Path) -> None:
    figures = run(micropython, 112 * 1024, "outbox_figures.py", "memory", tmp_path / "outbox")
    width = micropython.bits // 32
    assert figures["state"] <= 5000 * width
    # The collector is conservative: a stale word on the stack may keep one call's frame (1.2 KB) alive.
    assert figures["full"] <= figures["state"] + 2500 * width
    assert figures["spill"] <= 5000 * width
    assert figures["frame"] <= 3000 * width


def test_append_allocates_nothing(micropython: Interpreter, tmp_path: Path) -> None:
    assert run(micropython, 112 * 1024, "outbox_hot.py", tmp_path)["ok"] == 1
