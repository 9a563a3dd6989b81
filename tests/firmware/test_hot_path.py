"""From a reading to its records nothing is allocated, at the extremes of value, uptime and clock, on 32 bits."""

from __future__ import annotations

from pathlib import Path

import pytest

from host_tools.virtual.interpreter import Interpreter
from tests.firmware.conftest import FIRMWARE, UMQTT, RunMicroPython

pytestmark = pytest.mark.micropython
HERE = Path(__file__).parent


def test_the_hot_path_runs_with_the_heap_locked(
    run_micropython: RunMicroPython, interpreter: Interpreter, tmp_path: Path
) -> None:
    assert interpreter.bits == 32, "a 64-bit interpreter hides allocations: its small integers have 63 bits"
    printed = run_micropython(HERE / "hot_path.py", FIRMWARE, UMQTT, tmp_path / "outbox", heap_bytes=400 * 1024)
    figures = {name: int(value) for name, value in (pair.split("=") for pair in printed.split())}
    assert figures["rounds"] == 84
    assert figures["sampled"] == figures["sent"] + figures["suppressed"] > 40
    assert figures["events"] > 40
    assert figures["seq"] == figures["sent"] + figures["events"]


def test_the_lock_would_catch_an_allocation(run_micropython: RunMicroPython) -> None:
    script = (
        "import micropython\n"
        "x = 1 << 29\ny = 0\nok = None\n"
        "micropython.heap_lock()\n"
        "try:\n    y = x + x\n    ok = True\n"
        "except MemoryError:\n    ok = False\n"
        "micropython.heap_unlock()\nprint(ok)\n"
    )
    assert run_micropython(script).strip() == "False"
