"""From a reading to its records nothing is allocated, at the extremes of value, uptime and clock, on 32 bits."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from host_tools import compiling, places
from host_tools.virtual.interpreter import Interpreter
from tests.firmware.conftest import FIRMWARE, UMQTT, RunMicroPython

pytestmark = pytest.mark.micropython
HERE = Path(__file__).parent


def linked(folder: Path) -> tuple[Path, Path]:
    """(script, folder of the firmware): linked and compiled as a board's, with the script in the place of main.py."""
    found = {**compiling.sources(FIRMWARE), **compiling.sources(UMQTT, "lib"), "main.py": HERE / "hot_path.py"}
    for target, path in compiling.compiled_once(found, places.compiled_folder()).items():
        (folder / "flash" / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / "flash" / target)
    return folder / "flash" / "main.py", folder / "flash"


@pytest.mark.parametrize("deployed", [False, True])
def test_the_hot_path_runs_with_the_heap_locked(
    run_micropython: RunMicroPython, interpreter: Interpreter, tmp_path: Path, deployed: bool
) -> None:
    assert interpreter.bits == 32, "a 64-bit interpreter hides allocations: its small integers have 63 bits"
    script, firmware = linked(tmp_path) if deployed else (HERE / "hot_path.py", FIRMWARE)
    printed = run_micropython(script, firmware, UMQTT, tmp_path / "outbox", heap_bytes=400 * 1024)
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
