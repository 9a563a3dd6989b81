"""MicroPython onto a bare chip, step by step: with esptool, or by copying a UF2 file to the boot ROM's drive.

Everything that can be checked is checked before the first byte of the flash is touched. From then on a failure says
that the board will not start, and how to go on. Must not know command lines.
"""

from __future__ import annotations

import getpass
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from host_tools import images
from host_tools.boards import Board
from host_tools.device import Device
from host_tools.errors import HostError, InputError
from host_tools.esptool import Esptool

INFO = "INFO_UF2.TXT"
DRIVE_S = 20.0  # for the boot ROM's drive to come and, after the copy, to go
_LOOK_S = 0.2


class WrongChip(HostError):
    """Another chip than the board file's; nothing was written."""


class HalfFlashed(HostError):
    """The flash is neither the old nor the new one; the text says how to go on."""


@dataclass(frozen=True)
class Step:
    """What is done next, for people, and how. changes: it alters the board."""

    text: str
    do: Callable[[], None]
    changes: bool = True


def esp_steps(board: Board, tool: Esptool, image: Path) -> list[Step]:
    """Detect, erase, write, verify."""
    offset = board.image_offset
    assert offset is not None
    chip = board.esptool_chip

    def detect() -> None:
        found = tool.chip()
        if found != chip:
            raise WrongChip(
                f"{tool.port}: an {found} answers, but {board.name} has an {chip}: choose another --board "
                "(`isotherm board list`) or another --port; nothing was written"
            )

    def line(name: str, *words: str) -> str:
        return " ".join(tool.command(name, *words, chip=chip)[1:])

    at = f"{offset:#x}"
    return [
        Step(f"detect the chip, which must be an {chip}: {' '.join(tool.command('chip-id')[1:])}", detect, False),
        Step(f"erase the flash: {line('erase-flash')}", lambda: tool.erase(chip)),
        Step(
            f"write {image.name} at {at}: {line('write-flash', at, str(image))}",
            lambda: tool.write(chip, offset, image),
        ),
        Step(f"verify: {line('verify-flash', at, str(image))}", lambda: tool.verify(chip, offset, image)),
    ]


def check_esp_image(board: Board, tool: Esptool, image: Path) -> None:
    """Raises HostError unless the image is for the board's chip and fits."""
    size = image.stat().st_size if image.is_file() else 0
    if not size:
        raise images.ImageError(f"{image}: there is no such file, or nothing in it")
    if size + (board.image_offset or 0) > board.flash_bytes:
        raise images.ImageError(
            f"{image}: has {size} bytes, more than the {board.flash_bytes} of {board.title}'s flash"
        )
    found = tool.image_chip(image)
    if found != board.esptool_chip:
        raise images.ImageError(f"{image}: is for an {found}, but {board.title} has an {board.esptool_chip}")


def uf2_steps(board: Board, port: str, image: Path, *, folders: Sequence[Path] = ()) -> list[Step]:
    """Find the drive (asking a running MicroPython for it), check whose it is, copy, wait until the board restarts."""
    found: list[Path] = []

    def find() -> None:
        if Path(port).is_dir():
            found.append(Path(port))
        elif drives := list(_drives(folders)):
            found.append(drives[0])
        else:
            Device(port).command("bootloader")
            found.append(_wait_for_drive(board, folders))
        if not (found[0] / INFO).is_file():
            raise InputError(f"--port: {found[0]} is no boot drive: it holds no {INFO}")

    def check() -> None:
        info = (found[0] / INFO).read_text(encoding="ascii", errors="replace")
        shown = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in info.splitlines())}
        if shown.get("Board-ID") != board.uf2_id:
            shows = shown.get("Board-ID", "board without a name")
            raise WrongChip(
                f"{found[0]}: is the drive of a {shows}, but {board.name} shows "
                f"{board.uf2_id}: choose another --board; nothing was written"
            )

    def copy() -> None:
        target = found[0] / image.name
        with image.open("rb") as source, target.open("wb") as drive:
            shutil.copyfileobj(source, drive)
            drive.flush()
            os.fsync(drive.fileno())

    def restarted() -> None:
        end_s = time.monotonic() + DRIVE_S
        while (found[0] / INFO).exists():
            if time.monotonic() > end_s:
                raise HostError(f"{found[0]}: the drive stays: the board did not take {image.name}")
            time.sleep(_LOOK_S)

    return [
        Step(f"find the boot drive (at {port}, or from a board that runs MicroPython there)", find, False),
        Step(f"check that {INFO} on it shows {board.uf2_id}", check, False),
        Step(f"copy {image} to it", copy),
        Step("wait until the drive goes, and with it the boot loader", restarted),
    ]


def carry_out(port: str, steps: Sequence[Step], say: Callable[[str], None], recover: str) -> None:
    """Do the steps in order. A failure, Ctrl-C included, after the first change names the way back."""
    changed = False
    for number, step in enumerate(steps, 1):
        say(f"{number}/{len(steps)} {step.text}")
        changed = changed or step.changes
        try:
            step.do()
        except (HostError, OSError, KeyboardInterrupt) as error:
            if not changed:
                raise
            why = "stopped" if isinstance(error, KeyboardInterrupt) else str(error).removeprefix(f"{port}: ")
            raise HalfFlashed(f"{port}: {why}. The board will not start as it is now: {recover}") from error


def _drives(folders: Sequence[Path]) -> Iterator[Path]:
    """Boot drives that the desktop, or the user, has mounted."""
    user = getpass.getuser()
    for folder in folders or (Path("/media") / user, Path("/run/media") / user, Path("/Volumes"), Path("/mnt")):
        yield from (path.parent for path in sorted(folder.glob(f"*/{INFO}")))


def _wait_for_drive(board: Board, folders: Sequence[Path]) -> Path:
    end_s = time.monotonic() + DRIVE_S
    while time.monotonic() < end_s:
        for drive in _drives(folders):
            return drive
        time.sleep(_LOOK_S)
    raise HostError(
        f"{board.title}: its boot drive did not appear: hold BOOTSEL while plugging it in, mount the drive, and "
        "name its folder with --port"
    )
