"""Step 3: a 32-bit MicroPython for this machine, into `.tools/micropython/`, started by `.tools/micropython/run`.

Boards have 31-bit small integers; a 64-bit interpreter hides what they allocate (docs/adr/0004). On 64-bit Debian and
Raspberry Pi OS the 32-bit packages of Debian 13 are unpacked into a private folder and run through that folder's own
loader. Elsewhere the installed `micropython` serves, with a notice. `MICROPYTHON=` overrides both.
"""

from __future__ import annotations

import platform
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from host_tools.setup import apt
from host_tools.setup.errors import MissingError, NetworkError, SetupError
from host_tools.setup.runner import Runner
from host_tools.virtual.errors import InterpreterMissing, VirtualError
from host_tools.virtual.interpreter import Interpreter, probe

RELEASE = "trixie"  # Debian 13: MicroPython 1.25.0, built with tls, asyncio and VfsLfs2
PACKAGES = ("micropython", "libc6", "libffi8", "libmbedcrypto16", "libmbedtls21", "libmbedx509-7")
RECIPE = f"1 {RELEASE} {' '.join(PACKAGES)}"  # a new recipe rebuilds the folder
NARROW = {"x86_64": "i386", "i686": "i386", "aarch64": "armhf", "armv7l": "armhf"}  # machine: Debian's 32-bit port
PROBE_TIMEOUT_S = 20.0
INSTEAD = (
    "install MicroPython 1.23 or newer (Ubuntu: `sudo apt install micropython`, Homebrew: `brew install micropython`) "
    "or set MICROPYTHON= to an interpreter with tls and VfsLfs2, then run the same command again."
)
WRAPPER = """#!/bin/sh
# Runs the 32-bit MicroPython beside this file through its own loader and libraries. Made by host_tools/bootstrap.py.
here=${{0%/*}}/fs
exec "$here/{loader}" --library-path "{libraries}" "$here/{program}" "$@"
"""


def fault(error: Exception) -> str:
    """What is wrong with an interpreter, without the advice to run the set-up that is speaking."""
    return re.sub(r"[:;] run `make setup`.*", "", str(error))


class MicroPython:
    """Sees to it that virtual boards have an interpreter."""

    name = "MicroPython"

    def __init__(self, tools: Path, environment: Mapping[str, str]) -> None:
        self._tools = tools
        self._home = tools / "micropython"
        self._stamp = self._home / "recipe"
        self._fallback = tools / "micropython-installed"
        self._override = environment.get("MICROPYTHON", "")

    def ready(self) -> bool:
        """Whether nothing needs doing: overridden, unpacked by this recipe, or served by the installed one."""
        if self._override:
            try:
                probe(tuple(shlex.split(self._override)), "the command in MICROPYTHON")
            except (VirtualError, ValueError) as error:  # ValueError: a quote left open
                raise MissingError(
                    f"{fault(error)}; correct MICROPYTHON, or unset it and run the same command again."
                ) from error
            return True
        if _content(self._stamp) == RECIPE:
            return (self._home / "run").exists()
        return _content(self._fallback) == RECIPE and shutil.which("micropython") is not None

    def install(self, runner: Runner, note: Callable[[str], None]) -> str:
        """Unpack the 32-bit one; where that cannot be, accept the installed one."""
        try:
            return self._unpack(runner, note)
        except SetupError as error:
            reason = error
        try:
            installed = self._installed()
        except VirtualError as error:
            if isinstance(reason, NetworkError):
                raise NetworkError(
                    f"{reason}: check the network and apt's proxy, then run the same command again."
                ) from reason
            raise MissingError(f"{reason}, and {fault(error)}: {INSTEAD}") from reason
        if not isinstance(reason, NetworkError):
            self._fallback.write_text(RECIPE, encoding="utf-8")
        notice = f"; {installed.notice}" if installed.notice else ""
        return f"{_described(installed)}, the installed one ({reason}){notice}"

    def _installed(self) -> Interpreter:
        path = shutil.which("micropython")
        if path is None:
            raise InterpreterMissing("there is no `micropython` on PATH")
        return probe((path,), "micropython on PATH")

    def _unpack(self, runner: Runner, note: Callable[[str], None]) -> str:
        architecture = NARROW.get(platform.machine())
        if architecture is None or not apt.available() or not apt.KEYRING.is_file():
            raise MissingError("a private 32-bit MicroPython is made on 64-bit Debian and Raspberry Pi OS only")
        reason: SetupError = MissingError("no Debian mirror is configured in /etc/apt")
        for mirror in apt.mirrors():
            scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=self._tools))
            try:
                note(f"{RELEASE} packages for {architecture}, {len(PACKAGES)} of them")
                made = scratch / "made"
                apt.unpack(runner, mirror, RELEASE, architecture, PACKAGES, scratch / "apt", made / "fs")
                found = self._finish(runner, made)
                shutil.rmtree(self._home, ignore_errors=True)
                made.rename(self._home)
                return f"{_described(found)}, in .tools"
            except SetupError as error:
                reason = error
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        raise reason

    def _finish(self, runner: Runner, made: Path) -> Interpreter:
        """Write the wrapper, see that what it starts is narrow and complete, and stamp it."""
        wrapper = made / "run"
        wrapper.write_text(WRAPPER.format(**layout(made / "fs")), encoding="utf-8")
        wrapper.chmod(0o755)
        try:
            found = probe((str(wrapper),), "the 32-bit MicroPython")
        except VirtualError as error:
            raise MissingError(fault(error)) from error
        if found.bits != 32 or runner.run([str(wrapper), "-c", "import tls"], timeout_s=PROBE_TIMEOUT_S).code != 0:
            raise MissingError("the MicroPython of Debian 13 is not 32 bits wide here, or lacks tls")
        (made / "recipe").write_text(RECIPE, encoding="utf-8")
        return found


def layout(tree: Path) -> dict[str, str]:
    """Where an unpacked tree has its loader, its libraries and the program, relative to the tree."""
    loaders = [path for path in sorted(tree.rglob("ld-linux*.so.*")) if not path.is_dir()]
    folders = sorted({path.parent for path in tree.rglob("lib*.so.*") if not path.is_dir()})
    program = tree / "usr" / "bin" / "micropython"
    if not loaders or not folders or not program.exists():
        raise MissingError("the unpacked packages hold no loader, libraries or micropython")
    loader = next((path for path in loaders if path.parent == tree / "usr" / "lib"), loaders[0])
    return {
        "loader": loader.relative_to(tree).as_posix(),
        "libraries": ":".join(f"$here/{folder.relative_to(tree).as_posix()}" for folder in folders),
        "program": program.relative_to(tree).as_posix(),
    }


def _described(found: Interpreter) -> str:
    return f"{found.version[0]}.{found.version[1]}, {found.bits} bits"


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
