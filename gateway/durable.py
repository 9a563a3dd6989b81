"""Small files that are replaced whole: a power cut leaves the old one or the new one, never a torn one.

Written beside, synced, renamed, and the folder synced (rename(2), fsync(2) "Notes"). It knows nothing of what it
writes.
"""

from __future__ import annotations

import os
from pathlib import Path


def replace(path: Path, data: bytes) -> None:
    """Put `data` in place of a file, durably. Raises OSError."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    move(fresh, path)


def move(source: Path, target: Path) -> None:
    """Rename within a folder, durably. Raises OSError."""
    source.replace(target)
    number = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
