"""What a board's process gets when it has a serial port: console, event line, the flag for Ctrl-C, and its log.

Without a port a process prints events and text on its standard output; with one, text goes to the port and events to a
pipe of their own. Must not know the line's protocol, except how the prompt announces itself: what is typed and answered
there is no log of the firmware.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from host_tools.virtual.serial import SerialPort

PORT_LINK = "port"
_LINE_BYTES_MAX = 4096
# What a board says when it gives its prompt, and when its scripts run again.
_PROMPT_COMES = re.compile(rb"raw REPL; CTRL-B|MicroPython v.*; Virtual board with ")
_SCRIPTS_RUN = re.compile(rb"^MPY: soft reboot$|rst:0x[0-9a-f]+ \(")  # the latter right behind what a command printed
_NOT_TEXT = re.compile(rb"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


@dataclass
class Wiring:
    """The descriptors of one process. document: what its spec says of them."""

    document: dict[str, Any]
    stdout: int
    pass_fds: tuple[int, ...]
    events: IO[bytes]


class Console:
    """The serial port of one board and what hangs on it. log: takes each line that the firmware printed."""

    def __init__(self, workdir: Path, log: Callable[[bytes], None]) -> None:
        self.port = SerialPort(workdir / PORT_LINK, self._on_output)
        self._flag = workdir / "interrupt.flag"
        self._log = log
        self._partial = b""
        self._at_prompt = False
        self.interrupted = False  # by force: if the process ends of it, the next one begins at the prompt

    @contextlib.contextmanager
    def wiring(self, *, keep_input: bool) -> Iterator[Wiring]:
        """For starting one process; the parent's copy of the event line's end is closed after it.

        keep_input: what was sent to the process before it is meant for this one.
        """
        self.port.open()
        if not keep_input:
            self.port.discard_input()
        self._flag.write_bytes(b"0")
        console, reading = self.port.board_ends
        read_end, write_end = os.pipe()
        document = {
            "event_fd": write_end,
            "serial": {"input_fd": reading, "interrupt_flag": str(self._flag)},
        }
        events = os.fdopen(read_end, "rb", buffering=0)
        try:
            yield Wiring(document, console, (reading, write_end), events)
        except BaseException:
            events.close()
            raise
        finally:
            os.close(write_end)

    def started(self, process: subprocess.Popen[bytes]) -> None:
        """The process runs and may be interrupted."""
        self.interrupted = False

        def interrupt() -> None:
            """Ctrl-C for a process that computes and never waits.

            MicroPython's unix port raises KeyboardInterrupt within the signal handler (MICROPY_ASYNC_KBD_INTR), which
            in the middle of a garbage collection breaks the heap. What runs at the prompt gets the signal first, so
            that its names stay; the firmware, and what a signal did not stop, is replaced by a fresh prompt.
            """
            if self._flag.read_bytes() != b"1":
                return
            gently = self._at_prompt and not self.interrupted  # a guess that is a little late at worst
            self.interrupted = True
            process.send_signal(signal.SIGINT if gently else signal.SIGKILL)

        self.port.board_started(interrupt)

    def off(self) -> None:
        self.port.board_off()

    def close(self) -> None:
        self.port.close()

    def _on_output(self, data: bytes) -> None:
        lines = (self._partial + data).split(b"\n")
        self._partial = lines.pop()[-_LINE_BYTES_MAX:]
        for line in lines:
            text = _NOT_TEXT.sub(b"", line)
            if self._at_prompt:
                self._at_prompt = not _SCRIPTS_RUN.search(text)
            elif _PROMPT_COMES.match(text):
                self._at_prompt = True
            else:
                self._log(text)
