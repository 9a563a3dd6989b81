"""Fixtures for virtual boards: the real interpreter, images of tiny firmware written by the tests, boards that end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.fleet import VirtualFleet
from host_tools.virtual.image import BoardFiles, ImageBuilder
from host_tools.virtual.interpreter import Interpreter, find_micropython
from host_tools.virtual.spec import BoardSpec

DEADLINE_S = 20.0
RESULT = "result "
SAY = "import json\ndef say(x): print('result ' + json.dumps(x))\n"  # how a firmware reports to Bench.result

Row = tuple[int, int, int | None, str]


class Bench:
    """Makes boards out of firmware texts and reads what they report."""

    def __init__(self, folder: Path, builder: ImageBuilder, interpreter: Interpreter, fleet: VirtualFleet) -> None:
        self.folder = folder
        self.builder = builder
        self.interpreter = interpreter
        self.fleet = fleet
        self._count = 0

    def board(self, main: str, *, boot: str = "", rows: Sequence[Row] | None = None, **spec: Any) -> VirtualBoard:
        """A board that is off, with this main.py."""
        self._count += 1
        firmware = self.folder / f"firmware{self._count}"
        firmware.mkdir()
        (firmware / "main.py").write_text(main, encoding="utf-8")
        (firmware / "boot.py").write_text(boot, encoding="utf-8")
        if rows is not None:
            spec["rows"] = self.write_rows(rows)
        name = spec.pop("device", f"board-{self._count}")
        board = VirtualBoard(BoardSpec(name, **spec), self.folder / name, self.interpreter, self.fleet)
        files = BoardFiles(board.flash_path, board.spec.flash_files())
        self.builder.make_boards(self.builder.master(firmware), [files])
        return board

    def write_rows(self, rows: Sequence[Row]) -> Path:
        path = self.folder / f"rows{self._count}.csv"
        lines = (f"{t},{temp},{'' if humidity is None else humidity},{fault}\n" for t, temp, humidity, fault in rows)
        path.write_text("".join(lines), encoding="ascii")
        return path

    def result(self, board: VirtualBoard) -> Any:
        """What the firmware printed after the word `result`, as JSON."""

        def lines() -> list[str]:
            return [line for line in board.log if line.startswith(RESULT)]

        done = board.wait_for(lambda: bool(lines()) or bool(board.event_counts["error"]), DEADLINE_S)
        assert done and lines(), f"no result; errors {board.history('error')}, log {list(board.log)}"
        return json.loads(lines()[-1][len(RESULT) :])

    def run(self, main: str, **options: Any) -> Any:
        """Start a board, take its result, switch it off. `say(value)` reports the result."""
        board = self.board(SAY + main, **options)
        board.start()
        try:
            return self.result(board)
        finally:
            board.power_cut()


@pytest.fixture(scope="session")
def interpreter() -> Interpreter:
    return find_micropython()


@pytest.fixture
def builder(interpreter: Interpreter, tmp_path_factory: pytest.TempPathFactory) -> ImageBuilder:
    return ImageBuilder(interpreter, tmp_path_factory.getbasetemp() / "images")


@pytest.fixture
def bench(tmp_path: Path, builder: ImageBuilder, interpreter: Interpreter) -> Iterator[Bench]:
    with VirtualFleet() as fleet:
        yield Bench(tmp_path, builder, interpreter, fleet)


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    """Write an executable shell script that stands where an interpreter would."""

    def write(text: str) -> Path:
        path = tmp_path / "micropython"
        path.write_text("#!/bin/sh\n" + text, encoding="utf-8")
        path.chmod(0o755)
        return path

    return write
