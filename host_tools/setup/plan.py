"""The order of set-up, its lock against a second one, and its exit code. Sees every step; does none itself."""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn, Protocol

from host_tools.setup.console import Console
from host_tools.setup.errors import SetupError, SpaceError, WriteError
from host_tools.setup.micropython import MicroPython
from host_tools.setup.packages import LEVELS, Packages
from host_tools.setup.promtool import Promtool
from host_tools.setup.runner import Runner
from host_tools.setup.system import SystemPackages
from host_tools.setup.umqtt import Umqtt

FREE_BYTES_MIN = {"host": 600_000_000, "cloud": 1_100_000_000, "test": 1_400_000_000}  # twice .venv and .tools
INTERRUPTED = 130


class Stage(Protocol):
    """What a step offers to the plan."""

    name: str

    def ready(self) -> bool:
        """Whether nothing needs doing; quick."""

    def install(self, runner: Runner, note: Callable[[str], None]) -> str:
        """Do it, and say what was done in a few words."""


def main(argv: Sequence[str], root: str) -> int:
    """Run what is missing; the exit codes are those of bootstrap.py."""
    parser = argparse.ArgumentParser(prog="bootstrap.py", description="Set Isotherm up on this machine.")
    parser.add_argument("level", nargs="?", choices=tuple(LEVELS), default="host", help="how much (default: host)")
    level = parser.parse_args(argv).level
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(sys.stderr)
    try:
        set_up(Path(root), level, console, os.environ)
    except SetupError as error:
        print(f"isotherm: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        print(f"isotherm: set-up failed{place}: {error.strerror or error}.", file=sys.stderr)
        return SetupError.exit_code
    except KeyboardInterrupt:
        print("\nisotherm: interrupted; nothing is half made, run the same command again.", file=sys.stderr)
        return INTERRUPTED
    return 0


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Turn SIGTERM into what Ctrl-C raises, so that both clean up."""
    raise KeyboardInterrupt


def set_up(root: Path, level: str, console: Console, environment: Mapping[str, str]) -> None:
    """Bring every step to ready, in order; one line if there was nothing to do."""
    tools = root / ".tools"
    packages = Packages(root, level)
    stages: list[Stage] = [
        SystemPackages(packages.python),
        packages,
        MicroPython(tools, environment),
        Umqtt(tools, packages.python),
        *([Promtool(tools, environment)] if packages.level == "test" else []),
    ]
    if all(stage.ready() for stage in stages):
        return
    if not os.access(root, os.W_OK):
        raise WriteError(f"{root} is not writable: run as its owner, or clone Isotherm into a folder of your own.")
    tools.mkdir(exist_ok=True)
    with _alone(tools, console):
        _sweep(tools)
        missing = [stage for stage in stages if not stage.ready()]
        if missing:
            need_space(root, shutil.disk_usage(root).free, FREE_BYTES_MIN[packages.level])
            console.say(f"Setting up Isotherm for this machine: {len(missing)} of {len(stages)} steps to do.")
        for stage in missing:
            step = console.step(stage.name)
            log = tools / "setup.log"
            try:
                step.done(stage.install(Runner(log, environment, step.tick), step.note))
            except BaseException:
                step.failed()
                raise


def need_space(root: Path, free_bytes: int, needed_bytes: int) -> None:
    """Refuse to begin what could not end."""
    if free_bytes < needed_bytes:
        raise SpaceError(
            f"only {free_bytes // 1_000_000} MB are free where {root} lies and set-up needs "
            f"{needed_bytes // 1_000_000}: make room, then run the same command again."
        )


@contextmanager
def _alone(tools: Path, console: Console) -> Iterator[None]:
    """Hold the lock of this folder; a second set-up waits for the first, then finds everything ready."""
    with (tools / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.say("Another set-up is at work in this folder; waiting for it (Ctrl-C stops waiting).")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sweep(tools: Path) -> None:
    """Remove what a set-up left that was killed outright."""
    for left in tools.glob(".partial-*"):
        shutil.rmtree(left, ignore_errors=True)
