"""A real mosquitto for tests: on loopback, on a free port, with nothing kept on disk unless asked for.

It must not know what is published. Used by the tests of firmware, gateway and the whole path.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from host_tools.demo.processes import free_port
from host_tools.setup.system import find_mosquitto

_START_S = 10.0
# As root, mosquitto would become a user who may not write here.
_KEEP = "true\npersistence_location {folder}/\nautosave_interval 1" + ("\nuser root" if os.geteuid() == 0 else "")


def broker_program() -> str:
    """Path of the broker; the test fails where there is none."""
    found = find_mosquitto()
    if found is None:
        pytest.fail("mosquitto is not installed: run `make setup`")
    return found


class Mosquitto:
    """One broker. `kill` is -9; `start` after `stop` or `kill` comes back on the same port."""

    def __init__(self, workdir: Path, port: int = 0, extra: str = "", persistence: bool = False) -> None:
        self.workdir = workdir
        self.port = port or free_port()
        self._extra = extra
        self._kept = _KEEP.format(folder=workdir) if persistence else "false"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def config_path(self) -> Path:
        return self.workdir / "mosquitto.conf"

    @property
    def log_path(self) -> Path:
        return self.workdir / "mosquitto.log"

    def start(self) -> Mosquitto:
        """Start and wait until it accepts connections."""
        self.workdir.mkdir(parents=True, exist_ok=True)
        self.config_path.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence {self._kept}\n{self._extra}",
            encoding="utf-8",
        )
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [broker_program(), "-c", str(self.config_path)], stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return self
            except OSError:
                time.sleep(0.01)
        self.kill()
        raise RuntimeError("mosquitto did not start: " + self.log_path.read_text(encoding="utf-8", errors="replace"))

    def stop(self) -> None:
        """End it in order."""
        self._end(kill=False)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(kill=True)

    def reload(self) -> None:
        """SIGHUP: it reads its certificates again, and goes on listening (mosquitto 2.0 and newer)."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def _end(self, kill: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if kill:
            process.kill()
        else:
            process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Mosquitto:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()
