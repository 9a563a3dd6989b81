"""What the store asks of the file system beside SQLite: names, sizes, syncs, room. The one seam for it.

A rename or a removal is durable only after the folder was synced (fsync(2), "Notes"); each call that needs it says so.
It knows no database. Errors are OSError.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_CHUNK_BYTES = 1 << 20


class Disk:
    """One folder's files. Tests give one that records, or that loses what was not synced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        return self.folder / name

    def names(self, prefix: str) -> list[str]:
        """Names that start so, sorted."""
        return sorted(entry.name for entry in os.scandir(self.folder) if entry.name.startswith(prefix))

    def size(self, name: str) -> int:
        """Bytes, or 0 when there is no such file."""
        try:
            return os.stat(self.path(name)).st_size
        except FileNotFoundError:
            return 0

    def exists(self, name: str) -> bool:
        return self.path(name).exists()

    def sync(self, name: str) -> None:
        """Make a file's bytes durable."""
        self._sync(self.path(name), os.O_RDWR)

    def sync_folder(self) -> None:
        """Make renames and removals durable."""
        self._sync(self.folder, os.O_RDONLY)

    def rename(self, old: str, new: str) -> None:
        os.rename(self.path(old), self.path(new))

    def remove(self, name: str) -> None:
        """Remove a file; none such is fine."""
        self.path(name).unlink(missing_ok=True)

    def touch(self, name: str) -> None:
        self.path(name).touch()

    def allocate(self, name: str, size: int) -> None:
        """A file of `size` bytes whose blocks are really there. Leaves nothing behind when there is no room."""
        try:
            fd = os.open(self.path(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, size)
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError:
            self.remove(name)
            raise

    def digest(self, name: str) -> str:
        """SHA-256 of a file, hex."""
        out = hashlib.sha256()
        with self.path(name).open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                out.update(chunk)
        return out.hexdigest()

    def free_bytes(self) -> int:
        """Room that the process may still use."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    @staticmethod
    def _sync(path: Path, flags: int) -> None:
        fd = os.open(path, flags | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
