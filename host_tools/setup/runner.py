"""Runs the programs that set-up needs (pip, apt-get, dpkg-deb), each with a bound and its output in one log.

Knows nothing of what they do. A child never outlives an interrupted set-up, and never asks: its input is closed.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from host_tools.setup.errors import SetupError

TICK_S = 0.25
KILL_AFTER_S = 5.0
TAIL_LINES = 60

# What other tools' environments would change about pip and Python without the user meaning it here.
FOREIGN = (
    "PYTHONPATH",
    "PYTHONHOME",
    "PIP_USER",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_REQUIRE_VIRTUALENV",
    "PIP_CONSTRAINT",
)

# How pip, urllib and apt put it that nobody answered.
UNREACHABLE = (
    "could not resolve",
    "temporary failure",
    "name or service not known",
    "could not connect",
    "cannot connect",
    "unable to connect",
    "cannot initiate the connection",
    "connection refused",
    "connection failed",
    "connection timed out",
    "connection reset",
    "read timed out",
    "newconnectionerror",
    "proxyerror",
    "maxretryerror",
    "network is unreachable",
    "no route to host",
    "certificate_verify_failed",
)


def tells_of_network(text: str) -> bool:
    """Whether a program's output says that the network, not the request, is at fault."""
    lower = text.lower()
    return any(sign in lower for sign in UNREACHABLE)


class Output:
    """How a child ended, and the last lines it printed."""

    def __init__(self, code: int, lines: Sequence[str]) -> None:
        self.code = code
        self.lines = list(lines)

    @property
    def text(self) -> str:
        """The last lines as one text."""
        return "\n".join(self.lines)


class Runner:
    """Starts child programs for one set-up."""

    def __init__(self, log: Path, environment: Mapping[str, str], tick: Callable[[], None] = lambda: None) -> None:
        self._log = log
        self.tick = tick
        self.environment = {name: value for name, value in environment.items() if name not in FOREIGN}

    def run(
        self,
        command: Sequence[str],
        *,
        timeout_s: float,
        on_line: Callable[[str], None] | None = None,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        keep_all: bool = False,
    ) -> Output:
        """Run to the end or to the bound; SetupError when it cannot start or hangs."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            log.write(f"$ {' '.join(command)}\n".encode())
            try:
                child = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env={**self.environment, **(environment or {})},
                    cwd=folder,
                )
            except OSError as error:
                raise SetupError(f"{command[0]} cannot be started: {error.strerror or error}.") from error
            lines: deque[str] = deque(maxlen=None if keep_all else TAIL_LINES)
            try:
                self._follow(child, time.monotonic() + timeout_s, log.write, lines, on_line)
                code = child.wait(timeout=KILL_AFTER_S)
            except subprocess.TimeoutExpired as error:
                raise SetupError(
                    f"{Path(command[0]).name} did not end within {timeout_s:.0f} s and was stopped; see {self._log}."
                ) from error
            finally:
                _end(child)
        return Output(code, lines)

    def _follow(
        self,
        child: subprocess.Popen[bytes],
        deadline_s: float,
        write: Callable[[bytes], object],
        lines: deque[str],
        on_line: Callable[[str], None] | None,
    ) -> None:
        """Read the child's output until it closes it, one tick at a time."""
        assert child.stdout is not None
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while True:
                if time.monotonic() > deadline_s:
                    raise subprocess.TimeoutExpired(child.args, 0)
                if not selector.select(TICK_S):
                    self.tick()
                    continue
                chunk = os.read(child.stdout.fileno(), 65536)
                write(chunk)
                *whole, rest = (rest + chunk).split(b"\n")
                if not chunk and rest:
                    whole.append(rest)
                for raw in whole:
                    line = raw.decode(errors="replace").rstrip()
                    lines.append(line)
                    if on_line is not None:
                        on_line(line)
                if not chunk:
                    return
                self.tick()


def _end(child: subprocess.Popen[bytes]) -> None:
    """Stop a child that still runs and release its pipe."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(timeout=KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    if child.stdout is not None:
        child.stdout.close()
