"""Find the MicroPython that plays the boards, and make sure that it can.

Order: the command in $MICROPYTHON, then `.tools/micropython/run` of the repository (made by bootstrap.py), then
`micropython` on PATH. Must not install anything.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from host_tools.virtual.errors import InterpreterMissing, InterpreterUnusable

OLDEST = (1, 23, 0)  # first with the `vfs` module
PROBE_TIMEOUT_S = 20.0
_ROOT = Path(__file__).resolve().parents[2]
_PROBE = """
import sys
print("version", *sys.implementation[1][:3])
print("bits", 64 if sys.maxsize > 2 ** 31 else 32)
try:
    import vfs
    print("littlefs", int(hasattr(vfs, "VfsLfs2")))
except ImportError:
    print("littlefs", 0)
try:
    import tls
    print("tls", int(hasattr(tls, "SSLContext")))
except ImportError:
    print("tls", 0)
"""


@dataclass(frozen=True)
class Interpreter:
    """A MicroPython that can play a board. notice: something its user should know, or ""; tls: it has that module."""

    command: tuple[str, ...]
    version: tuple[int, int, int]
    bits: int
    notice: str = ""
    tls: bool = True

    def heap_option(self, heap_bytes: int) -> tuple[str, str]:
        """The option that caps the heap; `w` scales a 32-bit board's size to a wider word."""
        return ("-X", f"heapsize={heap_bytes}{'w' if self.bits == 64 else ''}")


def find_micropython(env: Mapping[str, str] = os.environ, root: Path | None = None) -> Interpreter:
    """The interpreter to use, checked. Raises InterpreterMissing or InterpreterUnusable."""
    chosen = env.get("MICROPYTHON", "").strip()
    if chosen:
        return probe(tuple(shlex.split(chosen)), "the command in MICROPYTHON")
    own = (root or _ROOT) / ".tools" / "micropython" / "run"
    if own.exists():
        return probe((str(own),), "the MicroPython in .tools")
    found = shutil.which("micropython", path=env.get("PATH"))
    if found:
        return probe((found,), "micropython on PATH")
    raise InterpreterMissing(
        "MicroPython was not found: run `make setup`, or name an interpreter of version 1.23 or newer in MICROPYTHON"
    )


def probe(command: tuple[str, ...], origin: str) -> Interpreter:
    """Run the interpreter once and look at what it is."""
    label = f"{origin} ({shlex.join(command)})"
    remedy = "run `make setup`, or correct MICROPYTHON"
    try:
        done = subprocess.run(
            [*command, "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise InterpreterMissing(f"{label} does not exist: {remedy}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InterpreterUnusable(f"{label} does not run ({error}): {remedy}") from error
    facts = {words[0]: words[1:] for words in map(str.split, done.stdout.splitlines()) if words}
    try:
        major, minor, patch = (int(word) for word in facts["version"])
        bits = int(facts["bits"][0])
        littlefs = facts["littlefs"] == ["1"]
    except (KeyError, ValueError, IndexError) as error:
        detail = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise InterpreterUnusable(f"{label} is not a working MicroPython ({detail}): {remedy}") from error
    version = (major, minor, patch)
    if version < OLDEST:
        raise InterpreterUnusable(
            f"{label} is MicroPython {major}.{minor}.{patch}, too old: 1.23 or newer is needed; "
            "run `make setup`, or name a newer one in MICROPYTHON"
        )
    if not littlefs:
        raise InterpreterUnusable(
            f"{label} lacks littlefs (vfs.VfsLfs2): run `make setup`, or name a standard build in MICROPYTHON"
        )
    notice = ""
    if bits == 64:
        notice = (
            f"{label} is 64 bits wide and hides allocations that a 32-bit board makes; "
            "memory figures are not those of a board"
        )
    return Interpreter(command, version, bits, notice, facts.get("tls") == ["1"])
