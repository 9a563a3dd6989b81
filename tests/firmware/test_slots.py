"""Which firmware a board starts: boot.py's choice, its trial across power cuts, and the line that all sides share."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from isocore import slot
from tests.firmware.conftest import FIRMWARE, RunMicroPython

HERE = Path(__file__).parent


@pytest.mark.micropython
def test_no_cut_of_a_trial_leaves_a_board_without_firmware(run_micropython: RunMicroPython) -> None:
    printed = run_micropython(HERE / "slot_cuts.py", FIRMWARE, HERE, heap_bytes=512 * 1024)
    cuts = [int(line.partition("=")[2]) for line in printed.splitlines() if line.startswith("cuts=")]
    assert len(cuts) == slot.TRIAL_STARTS + 2
    assert all(count >= 6 for count in cuts), cuts


def boot_function(name: str) -> object:
    """One function out of boot.py, which may import nothing that lies in a slot and so has its own."""
    tree = ast.parse((FIRMWARE / "boot.py").read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.Import) and _wanted(node, name)]
    scope: dict[str, object] = {}
    exec(compile(tree, "boot.py", "exec"), scope)
    return scope[name]


def _wanted(node: ast.stmt, name: str) -> bool:
    return node.name == name if isinstance(node, ast.FunctionDef) else node.names[0].name == "binascii"


def test_boot_py_and_everyone_else_write_the_same_line() -> None:
    line = boot_function("_line")
    assert callable(line)
    for state in (("a", "-", slot.PROVEN), ("b", "a", 3), ("-", "b", slot.REVERTED), ("a", "b", 0)):
        assert line(*state) == slot.to_line(*state)
        assert slot.parse(slot.to_line(*state)) == state


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ISL1",
        slot.to_line("a", "b", 1)[:-2],
        slot.to_line("a", "b", 1).replace(" 1 ", " 2 "),
        "ISL1 a b x 0",
        slot.to_line("c", "a", 1),
        slot.to_line("a", "c", 1),
    ],
)
def test_a_line_that_cannot_be_trusted_is_none(text: str) -> None:
    assert slot.parse(text) is None
