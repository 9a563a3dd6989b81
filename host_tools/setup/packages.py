"""Step 2: the virtual environment `.venv`, filled from a lock with hashes, and the project itself, editable.

Knows the locks and pip; nothing of what the packages are for. Everything pip installs is in the lock with its
hash, the build tool included: it is installed first, and pip is forbidden to fetch another.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from host_tools.setup.errors import IntegrityError, NetworkError, SetupError, SpaceError
from host_tools.setup.runner import Output, Runner, tells_of_network

LEVELS = {  # each contains the one before
    "host": "host_tools/requirements.lock",
    "cloud": "host_tools/requirements-cloud.lock",
    "test": "tests/requirements.lock",
}
PACKAGES = ("gateway", "host_tools", "firmware/isocore")
VENV_TIMEOUT_S = 180.0
PIP_TIMEOUT_S = 1800.0
PIP_ENVIRONMENT = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_NO_COLOR": "1"}


class Packages:
    """Makes `.venv` what the asked level needs; never takes away what a higher level brought."""

    name = "Python packages"

    def __init__(self, root: Path, level: str) -> None:
        self._root = root
        self._venv = root / ".venv"
        self._stamp = self._venv / "isotherm-setup.json"
        self.python = self._venv / "bin" / "python"
        order = list(LEVELS)
        present = self._read_stamp().get("level")
        self._level = present if present in order and order.index(present) > order.index(level) else level

    @property
    def level(self) -> str:
        """What it makes `.venv` ready for."""
        return self._level

    def ready(self) -> bool:
        """Whether `.venv` was filled from exactly these files, by this Python, at this place."""
        return self.python.exists() and self._read_stamp() == self._wanted()

    def install(self, runner: Runner, note: Callable[[str], None]) -> str:
        """Create or bring up to date; an interrupted first creation leaves nothing."""
        lock = self._root / LEVELS[self._level]
        locked = lock.read_text(encoding="utf-8")
        fresh = not self._reusable()
        self._stamp.unlink(missing_ok=True)
        try:
            if fresh:
                note("creating .venv")
                self._create(runner)
            note("build tool")
            self._pip(runner, self._build_tool(locked), note, 0)
            total = len(re.findall(r"^\S+==", locked, re.MULTILINE))
            self._pip(runner, ["--require-hashes", "-r", str(lock)], note, total)
            note("isotherm itself")
            self._pip(runner, ["--no-deps", "-e", str(self._root)], note, 0)
            self._stamp.write_text(json.dumps(self._wanted()), encoding="utf-8")
        except BaseException:
            if fresh:
                shutil.rmtree(self._venv, ignore_errors=True)
            raise
        return f"{total} packages in .venv"

    def _read_stamp(self) -> dict[str, str]:
        try:
            stamp = json.loads(self._stamp.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return stamp if isinstance(stamp, dict) else {}

    def _wanted(self) -> dict[str, str]:
        digest = hashlib.sha256()
        for path in (LEVELS[self._level], "pyproject.toml"):
            digest.update((self._root / path).read_bytes())
        digest.update(repr([name for name in PACKAGES if (self._root / name).is_dir()]).encode())
        files = digest.hexdigest()
        return {"level": self._level, "files": files, "root": str(self._root), "python": _python_identity()}

    def _reusable(self) -> bool:
        """Whether the present `.venv` is of this Python and this place, so that pip can update it."""
        stamp = self._read_stamp()
        same = stamp.get("root") == str(self._root) and stamp.get("python") == _python_identity()
        return same and self.python.exists()

    def _create(self, runner: Runner) -> None:
        output = runner.run([_base_python(), "-m", "venv", "--clear", str(self._venv)], timeout_s=VENV_TIMEOUT_S)
        if output.code != 0:
            raise _failure(output, "python -m venv")

    def _build_tool(self, locked: str) -> list[str]:
        """Arguments that install only the locked setuptools, by its hash."""
        block = re.search(r"^setuptools==\S+(?: ;[^\\\n]*)?(?: \\\n +--hash=\S+)+", locked, re.MULTILINE)
        if block is None:
            raise SetupError(f"{LEVELS[self._level]} does not pin setuptools: run `make lock`.")
        path = self._venv / "build-tool.lock"
        path.write_text(block.group(0) + "\n", encoding="utf-8")
        return ["--require-hashes", "-r", str(path)]

    def _pip(self, runner: Runner, arguments: list[str], note: Callable[[str], None], total: int) -> None:
        seen = 0

        def follow(line: str) -> None:
            nonlocal seen
            if line.startswith("Collecting "):
                seen += 1
                note(f"{seen} of {total}: {line.split()[1]}" if total else line.split()[1])
            elif line.startswith("Installing collected"):
                note("unpacking")

        command = [str(self.python), "-m", "pip", "install", "--no-build-isolation", "--progress-bar", "off"]
        command += ["--no-compile", "--retries", "2", *arguments]
        output = runner.run(command, timeout_s=PIP_TIMEOUT_S, on_line=follow, environment=PIP_ENVIRONMENT)
        if output.code != 0:
            raise _failure(output, "pip")


def _base_python() -> str:
    """The Python outside any virtual environment: `.venv` must not be made by itself."""
    return str(getattr(sys, "_base_executable", None) or sys.executable)


def _python_identity() -> str:
    version = ".".join(str(number) for number in sys.version_info[:3])
    return f"{version} {os.path.realpath(_base_python())}"


def _failure(output: Output, who: str) -> SetupError:
    """What went wrong, in one sentence."""
    text = output.text
    if tells_of_network(text):
        return NetworkError(
            f"{who} cannot reach its package index: check the network, the proxy and `pip config list`, "
            "then run the same command again."
        )
    if "THESE PACKAGES DO NOT MATCH THE HASHES" in text:
        return IntegrityError(
            f"{who} was given a package whose hash is not the one in the lock: the index or a cache altered it; "
            "try `pip cache purge`, then the same command again."
        )
    if "No space left on device" in text:
        return SpaceError(f"{who} ran out of disk space: make room, then run the same command again.")
    errors = [line for line in output.lines if line.startswith(("ERROR:", "error:"))]
    last = errors[-1] if errors else (output.lines[-1] if output.lines else f"exit code {output.code}")
    return SetupError(f"{who} failed ({last[:200]}); the whole output is in .tools/setup.log.")
