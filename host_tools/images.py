"""MicroPython images as files: is this the right one, and is it the one that was seen before? Must not know ports.

Of most images no hash is published with the board files. The hash that is seen first under a file's name is kept, and
another one under the same name is refused later (trust on first use).
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path

from host_tools.boards import Board
from host_tools.errors import InputError

_SEEN = "images.json"
# Microsoft, "UF2 File Format": two magic numbers, flags, target, size, number, count, family; magic at the end.
_UF2_BLOCK = struct.Struct("<8I476xI")
_UF2_MAGIC = (0x0A324655, 0x9E5D5157, 0x0AB16F30)
_UF2_HAS_FAMILY = 0x2000
# Families as the boot ROMs know them (RP2350 Datasheet, "UF2 Targeting Rules").
UF2_FAMILIES = {"rp2040": {0xE48BFF56}, "rp2350": {0xE48BFF59, 0xE48BFF5A, 0xE48BFF57}}


class ImageError(InputError):
    """An image that is refused."""


def find(board: Board, folder: Path) -> Path:
    """The newest image in a folder whose name fits the board. Raises ImageError saying where to get one."""
    found = sorted(folder.glob(board.image_pattern)) if board.image_pattern else []
    if not found:
        raise ImageError(
            f"--image: none named {board.image_pattern} lies in {folder}: download {board.micropython_version} from "
            f"{board.image_page}, and name the file"
        )
    return found[-1]


def digest(path: Path) -> str:
    """SHA-256 of a file in hexadecimal digits. Raises ImageError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror or error}") from None


def check_hash(board: Board, path: Path, memory: Path) -> str:
    """Compare with the board file's hash, or with the one seen first. Returns what to tell the user.

    Raises ImageError at a mismatch. `memory`: the folder where first hashes are kept.
    """
    found = digest(path)
    known = board.image_sha256.get(path.name)
    if known is not None:
        if found != known:
            raise ImageError(f"{path}: its SHA-256 is not the one {board.path.name} has for it: download it again")
        return "SHA-256 as in the board file"
    seen = _seen(memory / _SEEN)
    if path.name not in seen:
        _remember(memory / _SEEN, {**seen, path.name: found})
        return f"SHA-256 {found[:16]}..., seen for the first time and kept"
    if seen[path.name] != found:
        raise ImageError(
            f"{path}: its SHA-256 is not the one seen first under this name: download it again; if that one was the "
            f"wrong one, remove its line from {memory / _SEEN}"
        )
    return "SHA-256 as seen before"


def check_uf2(board: Board, path: Path) -> None:
    """Is it a whole UF2 file for the board's chip? Raises ImageError."""
    wanted = UF2_FAMILIES[board.chip]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not data or len(data) % _UF2_BLOCK.size:
        raise ImageError(f"{path}: is no whole UF2 file: download it again")
    for at in range(0, len(data), _UF2_BLOCK.size):
        first, second, flags, _, _, _, _, family, last = _UF2_BLOCK.unpack_from(data, at)
        if (first, second, last) != _UF2_MAGIC:
            raise ImageError(f"{path}: is no UF2 file: block {at // _UF2_BLOCK.size} is damaged; download it again")
        if flags & _UF2_HAS_FAMILY and family not in wanted:
            raise ImageError(f"{path}: is for another chip (family {family:#x}) than {board.title}'s {board.chip}")


def _seen(path: Path) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: cannot be read ({error}): mend or remove it") from None


def _remember(path: Path, seen: dict[str, str]) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(seen, indent=1, sort_keys=True), encoding="utf-8")
    os.replace(partial, path)
