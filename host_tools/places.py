"""Where the project's own files lie: beside this package in a clone, under share/isotherm in an installed wheel.

Must not know what is in them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from host_tools.errors import HostError

_CLONE = Path(__file__).resolve().parents[1]
_SHARE = Path(sys.prefix) / "share" / "isotherm"


def boards_folder() -> Path:
    """The folder of board files. Raises HostError when it is nowhere."""
    return _find("boards")


def firmware_folder() -> Path:
    """The folder of the firmware's sources. Raises HostError when it is nowhere."""
    return _find("firmware")


def libraries_folder() -> Path:
    """The folder whose packages go to a board's /lib: umqtt, by its pinned hash. Raises HostError."""
    folder = _CLONE / ".tools" / "umqtt"
    if not (folder / "umqtt" / "simple.py").is_file():
        raise HostError("umqtt.simple is missing: run `make setup`")
    return folder


def state_folder() -> Path:
    """What this user's tools remember between runs (XDG Base Directory Specification); made when absent, mode 0700."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    folder = Path(base) / "isotherm"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def compiled_folder() -> Path:
    """Where compiled firmware is kept: beside what set-up made in a clone, else in this user's cache (XDG)."""
    if (_CLONE / ".tools").is_dir():
        return _CLONE / ".tools" / "compiled"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "isotherm" / "compiled"


def _find(name: str) -> Path:
    for folder in (_CLONE / name, _SHARE / name):
        if folder.is_dir():
            return folder
    raise HostError(f"{_CLONE / name}: there is no such folder: work in a clone of the project, or install it anew")
