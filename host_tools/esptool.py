"""Espressif chips on a serial port, through the `esptool` program: the only file that runs it.

Works with esptool 4.8, whose commands have underscores, and 5, whose commands have dashes. Must not know boards,
images, or the order of steps.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from host_tools.errors import HostError

TIMEOUT_S = 600.0
PROGRAM = (sys.executable, "-m", "esptool")
BAUD = "460800"
_TAIL_CHARS = 8000
_READ_BYTES = 256
# "Connected to ESP32-S3 on /dev/ttyACM0:" of 5, "Detecting chip type... ESP32-S3" of 4.
_CHIP = re.compile(r"(?:Connected to|Detecting chip type\.\.\.) (ESP[\w-]*)")
_IMAGE_CHIP = re.compile(r"Chip ID: \d+ \((ESP[\w-]*)\)")

# Runs a command, hands what it prints to the callback as it comes; exit code and the end of the output.
Run = Callable[[Sequence[str], Callable[[str], object]], tuple[int, str]]


class EsptoolError(HostError):
    """esptool failed; the text names the port or file and the next step."""


def run(command: Sequence[str], heard: Callable[[str], object]) -> tuple[int, str]:
    """Run a program to its end. Raises EsptoolError when it does not exist or does not end."""
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError as error:
        raise EsptoolError(f"{command[0]} does not run ({error.strerror}): run `make setup`") from error
    said = ""
    assert process.stdout is not None
    with process:
        while data := process.stdout.read1(_READ_BYTES):  # type: ignore[attr-defined]
            text = data.decode("utf-8", "replace")
            heard(text)
            said = (said + text)[-_TAIL_CHARS:]
        code = process.wait(TIMEOUT_S)
    return code, said


class Esptool:
    """esptool at one port. heard: called with what it prints while it erases, writes and verifies."""

    def __init__(
        self, port: str, *, run: Run = run, heard: Callable[[str], object] = lambda _: None, options: Sequence[str] = ()
    ) -> None:
        self.port = port
        self._run = run
        self._heard = heard
        self._options = tuple(options)

    def command(self, name: str, *words: str, chip: str = "") -> list[str]:
        """The command line of one step."""
        spelled = name if _major() >= 5 else name.replace("-", "_")
        which = ["--chip", chip.lower().replace("-", "")] if chip else []
        return [*PROGRAM, *which, "--port", self.port, "--baud", BAUD, *self._options, spelled, *words]

    def chip(self) -> str:
        """The chip that answers, such as "ESP32-S3". Leaves it in its boot loader."""
        said = self._do(self.command("chip-id"), quiet=True)
        found = _CHIP.search(said)
        if found is None:
            raise EsptoolError(f"{self.port}: esptool did not say which chip answers: {_last(said)}")
        return found[1]

    def erase(self, chip: str) -> None:
        """Erase the whole flash."""
        self._do(self.command("erase-flash", chip=chip))

    def write(self, chip: str, offset: int, image: Path) -> None:
        """Write an image; esptool compares a hash of what it wrote."""
        self._do(self.command("write-flash", f"{offset:#x}", str(image), chip=chip))

    def verify(self, chip: str, offset: int, image: Path) -> None:
        """Compare the flash with the image, and let the chip start."""
        self._do(self.command("verify-flash", f"{offset:#x}", str(image), chip=chip))

    def image_chip(self, image: Path) -> str:
        """The chip an image is for, as its header says. Raises EsptoolError when it is no image."""
        name = "image-info" if _major() >= 5 else "image_info"
        version = [] if _major() >= 5 else ["--version", "2"]
        code, said = self._run([*PROGRAM, name, *version, str(image)], lambda _: None)
        found = _IMAGE_CHIP.search(said)
        if code or found is None:
            raise EsptoolError(f"{image}: is no image for an Espressif chip: {_last(said)}")
        return found[1]

    def _do(self, command: Sequence[str], quiet: bool = False) -> str:
        code, said = self._run(command, (lambda _: None) if quiet else self._heard)
        if code:
            raise EsptoolError(_why(self.port, said))
        return said


def _major() -> int:
    """Major version of the installed esptool."""
    try:
        return int(importlib.metadata.version("esptool").split(".")[0])
    except importlib.metadata.PackageNotFoundError as error:
        raise EsptoolError("esptool is not installed: install the host extra, or run `make setup`") from error


def _last(said: str) -> str:
    lines = [line.strip() for line in said.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"


def _why(port: str, said: str) -> str:
    if "No such file or directory" in said or "doesn't exist" in said:
        return f"{port}: there is no such port: plug the board in with a cable that carries data"
    if "Permission denied" in said:
        return (
            f"{port}: you may not open the port: join its group (sudo usermod -a -G dialout $USER), then log in again"
        )
    if "port is busy" in said or "Resource temporarily unavailable" in said or "exclusively lock" in said:
        return f"{port}: another program has the port open: close that console, editor or monitor"
    if "No serial data received" in said or "Failed to connect" in said or "No response" in said:
        return f"{port}: no chip answers: hold its BOOT button, press reset, let go, and run the same command again"
    return f"{port}: esptool failed: {_last(said)}"
