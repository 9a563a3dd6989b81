"""The lake's writer beside a receiver: a process of its own, at a lower priority, started again when it ends.

A process, not a thread: the receiver's loop and its store's writer share one interpreter lock, which rows on their way
to Arrow would hold for tenths of a second at a time, and a writer that runs out of memory must not take the receiver
with it. Knows only the command line of `isotherm cloud lake write`.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

NICENESS = 10
AGAIN_S = 60.0  # after a writer that ended by itself; what is wrong with a disk or a bucket is not mended sooner
STOP_S = 20.0  # a round under way may end by itself for so long; then it is killed, which does no harm


def packages_missing() -> str | None:
    """The first package of the extra that is not installed."""
    return next((name for name in ("pyarrow", "fsspec") if importlib.util.find_spec(name) is None), None)


class LakeWriter:
    """Keeps one writer running from `start` to `stop`."""

    def __init__(self, data: Path, where: str, every: str, complain: Callable[[str], None]) -> None:
        self._command = [sys.executable, "-P", "-m", "host_tools.cli", "cloud", "lake", "write"]
        self._command += ["--data", str(data), "--lake", where, "--every", every, "--beside", str(os.getpid())]
        self._complain = complain
        self._stopping = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="lake-writer")

    def start(self) -> None:
        """Begin, once the store is there."""
        self._thread.start()

    def stop(self) -> None:
        """End the writer; returns when it is gone."""
        self._stopping.set()
        with self._lock:
            child = self._child
        if child is not None:
            child.terminate()
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            with self._lock:
                if self._stopping.is_set():
                    return
                child = self._child = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)
            os.setpriority(os.PRIO_PROCESS, child.pid, NICENESS)
            code = child.wait()
            if self._stopping.is_set():
                return
            self._complain(f"isotherm: the lake's writer ended with code {code}; again in {AGAIN_S:.0f} s")
            self._stopping.wait(AGAIN_S)
