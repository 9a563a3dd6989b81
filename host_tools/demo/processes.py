"""Child processes of a run: started with a log file each, never outliving the run.

Knows how to find a free port and the broker; knows nothing of what the processes say to one another.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from host_tools.errors import HostError
from host_tools.setup.system import find_mosquitto

_PR_SET_PDEATHSIG = 1  # linux/prctl.h: the kernel signals this process when its parent dies


class ProcessError(HostError):
    """A part of the run did not start, or stopped by itself."""


def free_port() -> int:
    """A TCP port on 127.0.0.1 that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def broker_program() -> str:
    """Path of the broker. Raises ProcessError when it is not installed."""
    found = find_mosquitto()
    if found is None:
        raise ProcessError("mosquitto is not installed: run `make setup`, or `apt-get install mosquitto` as root")
    return found


def _die_with_parent() -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """One process of the run. Can be started again after it was stopped or killed."""

    def __init__(self, name: str, command: Sequence[str], log: Path, env: dict[str, str] | None = None) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self.env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self, ready: Callable[[], bool] | None = None, timeout_s: float = 15.0) -> None:
        """Start and wait until `ready()`. Raises ProcessError with the log's last line when it does not get there."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.env,
                start_new_session=True,  # Ctrl-C reaches the run, which stops its children in order
                preexec_fn=_die_with_parent,
            )
        deadline = time.monotonic() + timeout_s
        while ready is not None and not ready():
            if self._process.poll() is not None:
                raise ProcessError(f"{self.name} stopped at once: {self.last_line()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ProcessError(f"{self.name} was not ready after {timeout_s:.0f} s: {self.last_line()}")
            time.sleep(0.02)

    def stop(self, timeout_s: float = 10.0) -> None:
        """SIGTERM, and SIGKILL after `timeout_s`."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
        self._process.wait()

    def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()

    def last_line(self) -> str:
        """The last thing it said, for an error message."""
        with contextlib.suppress(OSError):
            lines = self.log.read_text(errors="replace").strip().splitlines()
            if lines:
                return lines[-1][:300]
        return "it said nothing"


def accepts_connections(port: int) -> Callable[[], bool]:
    """A readiness probe: something listens on 127.0.0.1:`port`."""

    def probe() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.settimeout(1.0)
            return client.connect_ex(("127.0.0.1", port)) == 0

    return probe
