"""Virtual boards on a serial port for tests, and a plain client of such a port.

`FirmwareBoards` runs the real firmware with a gateway that is not there; `Line` writes and reads bytes with a deadline.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.fleet import VirtualFleet
from host_tools.virtual.image import BoardFiles, ImageBuilder
from host_tools.virtual.interpreter import Interpreter
from host_tools.virtual.spec import BoardSpec

DEADLINE_S = 20.0
ROOT = Path(__file__).resolve().parents[2]
MPREMOTE = (sys.executable, "-m", "mpremote")
_POLL_S = 0.02


def wait_until(condition: Any, what: str, deadline_s: float = DEADLINE_S) -> None:
    """Poll until something holds."""
    end_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end_s, f"not within {deadline_s:g} s: {what}"
        time.sleep(_POLL_S)


def configuration(device: str) -> dict[str, Any]:
    """Of a board whose gateway is not there."""
    return {
        "device": device,
        "gateway": {"host": "127.0.0.1", "port": 1},
        "sampling": {"period_ms": 1000},
        "sensors": [{"type": "ds18b20", "pin": 5, "channels": {"temperature": "temperature"}}],
    }


class FirmwareBoards:
    """Makes boards with a serial port that run firmware/ as it is."""

    def __init__(self, folder: Path, interpreter: Interpreter, fleet: VirtualFleet, builder: ImageBuilder) -> None:
        self.folder = folder
        self._interpreter = interpreter
        self._fleet = fleet
        self._builder = builder
        self._master = builder.master(ROOT / "firmware", [ROOT / ".tools" / "umqtt"])

    def bare(self, device: str, files: dict[str, bytes] | None = None, **spec: Any) -> VirtualBoard:
        """A board that is on and has nothing but MicroPython, and perhaps a few files."""
        made = BoardSpec(device, serial=True, devices=[{"type": "ds18b20", "pin": 5}], **spec)
        board = VirtualBoard(made, self.folder / device, self._interpreter, self._fleet)
        self._builder.blank(board.flash_path)
        if files:
            self._builder.write_files(board.flash_path, files)
        board.start()
        return board

    def board(self, device: str, changes: dict[str, Any] | None = None, **spec: Any) -> VirtualBoard:
        """A board that is on; its gateway refuses every connection, which costs it nothing."""
        config = {**configuration(device), **(changes or {})}
        made = BoardSpec(device, config, serial=True, **spec)
        board = VirtualBoard(made, self.folder / device, self._interpreter, self._fleet)
        self._builder.make_boards(self._master, [BoardFiles(board.flash_path, made.flash_files())])
        board.start()
        samples(board)
        return board


def samples(board: VirtualBoard) -> None:
    """Wait until the application samples: a count from this process, not from one before it."""
    boots = board.event_counts["boot"]
    seen = board.event_counts["counters"]
    done = board.wait_for(
        lambda: board.event_counts["counters"] > seen and board.counters.get("sampled", 0) > 0, DEADLINE_S
    )
    assert done, (boots, list(board.log))


def mpremote(
    board: VirtualBoard, *words: str, folder: Path | None = None, program: Sequence[str] = MPREMOTE
) -> subprocess.CompletedProcess[str]:
    """Run the real program against a board."""
    return subprocess.run(
        [*program, "connect", board.serial.path, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=DEADLINE_S,
        cwd=folder,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},  # its own words and the board's in the order they were said
        check=False,
    )


class Line:
    """A file descriptor with something talkative behind it: a port, or a terminal with a program in it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.unread = b""

    @classmethod
    def open(cls, path: str) -> Line:
        return cls(os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))

    def close(self) -> None:
        os.close(self.descriptor)

    def send(self, data: bytes) -> None:
        assert os.write(self.descriptor, data) == len(data)

    def until(self, ending: bytes, deadline_s: float = DEADLINE_S) -> bytes:
        """Everything up to and with `ending`; what comes after it stays for the next call."""
        end_s = time.monotonic() + deadline_s
        while ending not in self.unread:
            left_s = end_s - time.monotonic()
            assert left_s > 0, f"no {ending!r} in {self.unread[-300:]!r}"
            if select.select([self.descriptor], [], [], left_s)[0]:
                self.unread += os.read(self.descriptor, 4096)
        said, _, self.unread = self.unread.partition(ending)
        return said + ending

    def take(self, count: int) -> bytes:
        """Exactly so many bytes."""
        end_s = time.monotonic() + DEADLINE_S
        while len(self.unread) < count:
            left_s = end_s - time.monotonic()
            assert left_s > 0, f"fewer than {count} bytes: {self.unread[-300:]!r}"
            if select.select([self.descriptor], [], [], left_s)[0]:
                self.unread += os.read(self.descriptor, 4096)
        taken, self.unread = self.unread[:count], self.unread[count:]
        return taken

    def prompt(self) -> None:
        """Interrupt whatever runs and take the friendly prompt, with nothing on its way any more."""
        self.send(b"\r\x03\r\x02\r")
        self.until(b"for more information.\r\n>>> ")
        self.send(b"print('all', 'heard')\r")
        self.until(b"\r\nall heard\r\n>>> ")
