"""A board behind a serial port, through the `mpremote` program: the only file that runs it.

    HostError
    +-- DeviceError         one sentence: the port, what happened, what to do next
        +-- PortMissing     no such port
        +-- PortDenied      the user may not open it
        +-- PortBusy        another program has it
        +-- NoAnswer        nobody answers at the other end
        |   +-- BootLoop    the board restarts again and again
        +-- CableLost       the port went away while it was in use
        +-- FlashFull       no room on the board's flash
        +-- FileMissing     no such file or folder on the board
        +-- CodeFailed      code ran on the board and raised; `traceback` has the whole of it

mpremote interrupts the running program and resets the board softly before its first command, so the application is
stopped from the first call on; `reset` starts it again. Its watchdog goes on counting meanwhile, unless `held` feeds
it. Must not know what the files on a board mean.
"""

from __future__ import annotations

import ast
import codecs
import contextlib
import getpass
import os
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from host_tools import on_board
from host_tools.errors import HostError

TIMEOUT_S = 60.0
MPREMOTE = (sys.executable, "-m", "mpremote")
_RESTARTS = re.compile(r"rst:0x|ets [A-Z][a-z]{2} |soft reboot")  # what an ESP32's ROM and MicroPython say at a start
_INSTALL = "install the host extra (pip install 'isotherm[host]') or run `make setup`"
_CONSOLE_READY = "to exit this shell"  # the last that mpremote says before the board's own words
_REOPEN_S = 0.2
_SLOWEST_BYTES_S = 1000  # of files to a board; a line of 115,200 baud carries 11,520, a byte of a file as four at worst
_MEMORY = "/dev/shm"  # where Linux has it: a board's key is on its way through here, and meets no disk
_GONE = ("Input/output error", "SerialException", "disconnected", "[Errno 6]", "[Errno 5]", "[Errno 19]")

# One round trip for many files: names that are not there are left out.
_HASHES = """
import hashlib
for p in {paths!r}:
 try:
  h = hashlib.sha256()
  with open(p, 'rb') as f:
   while True:
    b = f.read(512)
    if not b:
     break
    h.update(b)
 except OSError:
  continue
 print(repr((p, h.digest())))
"""
_LISTING = "import os\nfor e in os.ilistdir({path!r}): print(repr((e[0], e[1], e[3] if len(e) > 3 else 0)))"
_SPACE = "import os\ns = os.statvfs('/')\nprint(repr((s[0] * s[2], s[0] * s[3])))"


class DeviceError(HostError):
    """Base of what can go wrong with a board on a port."""


class PortMissing(DeviceError):
    """No such port."""


class PortDenied(DeviceError):
    """The user may not open the port."""


class PortBusy(DeviceError):
    """Another program has the port."""


class NoAnswer(DeviceError):
    """Nobody answers at the other end."""


class BootLoop(NoAnswer):
    """The board restarts again and again."""


class CableLost(DeviceError):
    """The port went away while it was in use."""


class FlashFull(DeviceError):
    """No room on the board's flash."""


class FileMissing(DeviceError):
    """No such file or folder on the board."""


class CodeFailed(DeviceError):
    """Code ran on the board and raised."""

    def __init__(self, text: str, traceback: str) -> None:
        super().__init__(text)
        self.traceback = traceback


class Entry(NamedTuple):
    """One name in a folder of the board."""

    name: str
    is_folder: bool
    size_bytes: int


class Space(NamedTuple):
    """The board's file system."""

    total_bytes: int
    free_bytes: int


def ports(mpremote: Sequence[str] = MPREMOTE) -> list[str]:
    """Serial ports with a USB device behind them, as `mpremote connect list` knows them."""
    try:
        done = subprocess.run(
            [*mpremote, "connect", "list"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        raise DeviceError(f"{mpremote[0]} does not exist: {_INSTALL}") from error
    # PORT SERIAL VID:PID MANUFACTURER PRODUCT; ports without USB, such as /dev/ttyS0, have 0000:0000
    rows = [line.split() for line in done.stdout.splitlines()]
    return [row[0] for row in rows if len(row) > 2 and row[2] != "0000:0000"]


class Device:
    """One board. `port` as mpremote's `connect` takes it. Nothing is opened between calls."""

    def __init__(
        self,
        port: str,
        *,
        mpremote: Sequence[str] = MPREMOTE,
        timeout_s: float = TIMEOUT_S,
        hold_ms: int = on_board.HOLD_MS,
    ) -> None:
        self.port = port
        self._hold_ms = hold_ms
        self._mpremote = tuple(mpremote)
        self._timeout_s = timeout_s
        self._before: tuple[str, ...] = ()  # mpremote's words ahead of every command

    def __repr__(self) -> str:
        return f"Device({self.port!r})"

    # ---- running code

    def exec(self, code: str, *, keep_state: bool = False, timeout_s: float | None = None) -> str:
        """Run code and return what it printed. keep_state: without a soft reset first, names of before stay."""
        resume = ["resume"] if keep_state and not self._before else []
        return self.command(*resume, "exec", code, timeout_s=timeout_s)

    def run(self, script: Path, *, timeout_s: float | None = None) -> str:
        """Run a local script on the board and return what it printed."""
        return self.command("run", str(script), timeout_s=timeout_s)

    def evaluate(self, code: str) -> list[Any]:
        """Run code that prints one Python literal a line."""
        answer = self.exec(code)
        try:
            return [ast.literal_eval(line) for line in answer.splitlines() if line.strip()]
        except (ValueError, SyntaxError) as error:
            raise DeviceError(f"{self.port}: the board answered {answer[:80]!r}, which makes no sense") from error

    # ---- files

    def entries(self, folder: str = "/") -> list[Entry]:
        """What a folder holds."""
        return [Entry(name, bool(kind & 0x4000), size) for name, kind, size in self._files(_LISTING, path=folder)]

    def hashes(self, paths: Iterable[str]) -> dict[str, bytes]:
        """SHA-256 of each of the files that is there."""
        return dict(self._files(_HASHES, paths=list(paths)))

    def space(self) -> Space:
        """Size and free bytes of the file system."""
        return Space(*self._files(_SPACE)[0])

    def read(self, path: str) -> bytes:
        """The content of a file."""
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "file"
            self.command("fs", "cp", f":{path}", str(target))
            return target.read_bytes()

    def write(self, files: Mapping[str, bytes], first: str = "") -> None:
        """Write files, in order, in one session. Their folders must be there. Not atomic: verify with `hashes`.

        first: code to run before, which may make the folders. Where the application is held, it stays so however long
        this takes; the time limit grows with what is sent.
        """
        with tempfile.TemporaryDirectory(dir=_MEMORY if Path(_MEMORY).is_dir() else None) as folder:
            words = ["exec", first] if first else []
            unheld_bytes = 0
            for number, (path, content) in enumerate(files.items()):
                source = Path(folder) / str(number)
                source.write_bytes(content)
                words += ["+"] * bool(words) + ["fs", "cp", str(source), f":{path}"]
                unheld_bytes += len(content)
                if self._before and unheld_bytes >= _SLOWEST_BYTES_S * self._hold_ms // 4000:
                    words += ["+", "exec", on_board.HOLD_ON.format(hold_ms=self._hold_ms)]
                    unheld_bytes = 0
            if words:
                self.command(*words, timeout_s=self._timeout_s + sum(map(len, files.values())) / _SLOWEST_BYTES_S)

    def copy_tree(self, source: Path, target: str) -> None:
        """Copy a local folder into a folder of the board; files that are the same are skipped."""
        self.command("fs", "cp", "-r", str(source), f":{target}")

    def make_folder(self, path: str) -> None:
        self.command("fs", "mkdir", path)

    def remove(self, path: str, *, whole_tree: bool = False) -> None:
        """Remove a file; with `whole_tree` a folder and all in it."""
        self.command("fs", "rm", *(["-r"] if whole_tree else []), path)

    def install(self, package: Path, target: str = "/lib") -> None:
        """Install a local MicroPython package (a folder with package.json, or that file)."""
        description = package / "package.json" if package.is_dir() else package
        self.command("mip", "install", "--target", target, str(description))

    # ---- resets and the console

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """From the first command on the application stands still and the board stays at its prompt; names are kept.

        Its watchdog is fed until `hold_ms` after the last command: a board that we lose restarts by itself.
        """
        self._before = ("exec", on_board.HOLD.format(hold_ms=self._hold_ms), "+")
        try:
            yield
        finally:
            self._before = ()

    def listen(self, end_s: float) -> Iterator[str]:
        """Lines that the board prints until a monotonic time, without disturbing it.

        A port that goes away, as chips with USB of their own do at a reset, is opened again when it is back.
        """
        while time.monotonic() < end_s:
            with contextlib.suppress(PortMissing):
                self.check_port()
                yield from self._overhear(end_s)
            time.sleep(min(_REOPEN_S, max(0.0, end_s - time.monotonic())))

    def _overhear(self, end_s: float) -> Iterator[str]:
        """One run of mpremote's console, which wants a terminal, that nobody types at."""
        ours, its = os.openpty()
        process = subprocess.Popen(
            [*self._mpremote, "connect", self.port, "resume", "repl"],
            stdin=its,
            stdout=its,
            stderr=its,
            process_group=0,
        )
        os.close(its)
        decode = codecs.getincrementaldecoder("utf-8")("replace")
        partial, talking = "", False
        try:
            while (left_s := end_s - time.monotonic()) > 0:
                if not select.select([ours], [], [], left_s)[0]:
                    break
                try:
                    data = os.read(ours, 4096)
                except OSError:  # EIO: mpremote has ended
                    break
                *lines, partial = (partial + decode.decode(data)).split("\n")
                for line in lines:
                    if talking:
                        yield line.strip("\r")
                    talking = talking or _CONSOLE_READY in line
        finally:
            process.kill()
            process.wait()
            os.close(ours)

    def soft_reset(self) -> None:
        """Reset the interpreter; boot.py runs, main.py does not, the board stays at its prompt."""
        self.command("soft-reset")

    def reset(self, first: str = "") -> None:
        """Reset the board as its button does: the application starts. first: code to run before."""
        self.command(*(("exec", first, "+") if first else ()), "reset")

    def console(self, *, mount: Path | None = None) -> int:
        """Hand the terminal to mpremote's console until Ctrl-]; its exit code."""
        self.check_port()
        words = ["mount", str(mount)] if mount is not None else []
        return subprocess.call([*self._mpremote, "connect", self.port, *words, "repl"])

    def command(self, *words: str, timeout_s: float | None = None) -> str:
        """Run one mpremote command, or several with "+" between them, and return what it printed."""
        self.check_port()
        words = (*self._before, *words)
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        try:
            done = subprocess.run(
                [*self._mpremote, "connect", self.port, *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=limit_s,
                check=False,
            )
        except FileNotFoundError as error:
            raise DeviceError(f"{self._mpremote[0]} does not exist: {_INSTALL}") from error
        except subprocess.TimeoutExpired as error:
            said = b"".join(part for part in (error.stdout, error.stderr) if isinstance(part, bytes))
            raise self._no_answer(said.decode("utf-8", "replace"), f"within {limit_s:g} s") from error
        if done.returncode:
            raise self._error(words[len(self._before) :], done)
        if self._before:
            self._before = ("resume", "exec", on_board.HOLD_ON.format(hold_ms=self._hold_ms), "+")
        return done.stdout

    # ---- what went wrong

    def _files(self, code: str, **values: object) -> list[Any]:
        try:
            return self.evaluate(code.format(**values))
        except CodeFailed as error:
            if "ENOENT" in error.traceback:
                raise FileMissing(f"{self.port}: the board has no {values.get('path', 'such file')}") from error
            raise

    def check_port(self) -> None:
        """What can be said before mpremote tries; forms such as `id:...` are its own business."""
        if "/" not in self.port:
            return
        path = Path(self.port)
        if not path.exists():
            raise PortMissing(
                f"{self.port}: there is no such port: plug the board in with a cable that carries data, "
                "and look with `mpremote connect list`"
            )
        if not os.access(path, os.R_OK | os.W_OK):
            raise PortDenied(self._denied(path))

    def _denied(self, path: Path) -> str:
        try:
            group = path.group()
        except (KeyError, NotImplementedError):
            group = "that owns it"
        return (
            f"{self.port}: {getpass.getuser()} may not open the port: join the group {group} "
            f"(sudo usermod -a -G {group} {getpass.getuser()}), then log out and in again"
        )

    def _error(self, words: Sequence[str], done: subprocess.CompletedProcess[str]) -> DeviceError:
        """The error behind a failed command, from what mpremote said; its own exit code is always 1."""
        code, out, err = done.returncode, done.stdout, done.stderr
        both = f"{out}\n{err}"
        if "No module named mpremote" in err:
            return DeviceError(f"mpremote is not installed: {_INSTALL}")
        if "/" in self.port and not Path(self.port).exists():
            return self._cable_lost()
        if "failed to access" in err:
            return PortBusy(f"{self.port}: another program has the port open: close that console, editor or monitor")
        if "could not enter raw repl" in both:
            return self._no_answer(both, "to Ctrl-C")
        if any(word in err for word in _GONE):
            return self._cable_lost()
        if "No space left" in both or "ENOSPC" in both or "OSError: 28" in both:
            return FlashFull(
                f"{self.port}: the board's flash is full: remove files (`mpremote connect {self.port} fs ls`), "
                "or wipe the board"
            )
        said = (err.strip() or out.strip()).splitlines()
        last = said[-1].removeprefix("mpremote: ") if said else f"it ended with code {code} and gave no reason"
        if "No such file" in last:
            return FileMissing(f"{self.port}: {last.rstrip('.')} on the board")
        if "Traceback" in out:
            return CodeFailed(f"{self.port}: the code failed on the board: {out.strip().splitlines()[-1]}", out)
        return DeviceError(f"{self.port}: `mpremote {words[0]}` failed: {last}")

    def _cable_lost(self) -> CableLost:
        return CableLost(
            f"{self.port}: the port went away in the middle: plug the cable in again and run the same command once more"
        )

    def _no_answer(self, said: str, bound: str) -> NoAnswer:
        if len(_RESTARTS.findall(said)) > 1:
            return BootLoop(
                f"{self.port}: the board restarts again and again and never gives its prompt: "
                "erase its flash and put MicroPython and the firmware on it anew"
            )
        return NoAnswer(
            f"{self.port}: no MicroPython answered {bound}: check that it is the right port, "
            "press the board's reset button, and try again"
        )
