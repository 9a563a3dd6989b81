"""Which MicroPython is taken, and what is said when none serves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from host_tools.virtual.errors import InterpreterMissing, InterpreterUnusable
from host_tools.virtual.interpreter import Interpreter, find_micropython

Script = Callable[[str], Path]


def _answers(version: str, bits: int = 32, littlefs: int = 1) -> str:
    return f"echo version {version}; echo bits {bits}; echo littlefs {littlefs}\n"


def test_the_real_one_is_new_enough_and_has_littlefs(interpreter: Interpreter) -> None:
    assert interpreter.version >= (1, 23, 0)
    assert interpreter.bits in (32, 64)
    assert bool(interpreter.notice) == (interpreter.bits == 64)


def test_environment_comes_first_and_may_hold_arguments(script: Script, tmp_path: Path) -> None:
    command = f"/bin/sh {script(_answers('1 25 0'))}"
    found = find_micropython({"MICROPYTHON": command, "PATH": ""}, tmp_path)
    assert found.command == ("/bin/sh", str(tmp_path / "micropython"))
    assert found.version == (1, 25, 0)


def test_own_tools_come_before_path(script: Script, tmp_path: Path) -> None:
    on_path = script(_answers("1 24 0"))
    own = tmp_path / ".tools" / "micropython" / "run"
    own.parent.mkdir(parents=True)
    own.write_text("#!/bin/sh\n" + _answers("1 25 0"), encoding="utf-8")
    own.chmod(0o755)
    env = {"PATH": str(on_path.parent)}
    assert find_micropython(env, tmp_path).command == (str(own),)
    own.unlink()
    assert find_micropython(env, tmp_path).command == (str(on_path),)


def test_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(InterpreterMissing, match="make setup"):
        find_micropython({"PATH": ""}, tmp_path)


def test_named_one_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(InterpreterMissing, match=r"no-such-program.*does not exist"):
        find_micropython({"MICROPYTHON": str(tmp_path / "no-such-program")}, tmp_path)


def test_too_old(script: Script, tmp_path: Path) -> None:
    with pytest.raises(InterpreterUnusable, match=r"1\.22\.2, too old"):
        find_micropython({"MICROPYTHON": str(script(_answers("1 22 2")))}, tmp_path)


def test_without_littlefs(script: Script, tmp_path: Path) -> None:
    with pytest.raises(InterpreterUnusable, match="lacks littlefs"):
        find_micropython({"MICROPYTHON": str(script(_answers("1 25 0", littlefs=0)))}, tmp_path)


def test_not_micropython(script: Script, tmp_path: Path) -> None:
    with pytest.raises(InterpreterUnusable, match=r"not a working MicroPython \(cannot run\)"):
        find_micropython({"MICROPYTHON": str(script("echo cannot run >&2; exit 3\n"))}, tmp_path)


def test_64_bits_serve_with_a_notice_and_a_scaled_heap(script: Script, tmp_path: Path) -> None:
    found = find_micropython({"MICROPYTHON": str(script(_answers("1 25 0", bits=64)))}, tmp_path)
    assert "hides allocations" in found.notice
    assert found.heap_option(1000) == ("-X", "heapsize=1000w")
