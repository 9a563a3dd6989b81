"""Fixtures for what talks to boards over a serial line: virtual boards with a port that run the real firmware."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.fleet import VirtualFleet
from host_tools.virtual.image import ImageBuilder
from host_tools.virtual.interpreter import find_micropython
from tests.support.serial_board import FirmwareBoards


@pytest.fixture(scope="module")
def firmware_boards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirmwareBoards]:
    """A maker of boards; all are off when the module's tests are over."""
    interpreter = find_micropython()
    folder = tmp_path_factory.mktemp("boards")
    with VirtualFleet() as fleet:
        yield FirmwareBoards(folder, interpreter, fleet, ImageBuilder(interpreter, folder / "images"))


@pytest.fixture(scope="module")
def ported(firmware_boards: FirmwareBoards) -> VirtualBoard:
    """One board with a serial port for the tests of a module: none relies on what another left behind."""
    return firmware_boards.board("ported")
