"""Where a lake's files lie: bytes by name, through fsspec. Knows neither Parquet nor which files belong together.

`Storage` is what a backend must do, and tests/contract/test_lake_storage.py is the proof: `put` shows the whole file or
the one before, never a part; what `put` returned from is durable. Local disks get that by a hidden file, fsync, rename,
fsync of the folder; object stores by their PUT, which is atomic there. A backend whose writes are not (sftp, ftp) fails
that contract.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import fsspec
from fsspec.implementations.local import LocalFileSystem

from host_tools.errors import InputError
from host_tools.lake.errors import LakeError, NotThere


class Storage(Protocol):
    """Files by name, relative to the lake, with `/`. All raise LakeError for what the backend refuses."""

    name: str  # for people

    def put(self, path: str, data: bytes) -> None:
        """Make or replace a file, in one step for whoever reads; durable on return."""

    def get(self, path: str) -> bytes:
        """A file's content. Raises NotThere."""

    def remove(self, path: str) -> None:
        """Remove a file, if it is there."""

    def list(self, folder: str = "") -> list[str]:
        """All files below a folder, sorted; none where there is no such folder. What `put` has not finished is none."""

    def place(self, path: str) -> str:
        """What other programs call this file."""

    def filesystem(self) -> Any:
        """What pyarrow opens files with, under the names of `inside`."""

    def inside(self, path: str) -> str:
        """A file's name for `filesystem`."""


class FsspecStorage:
    """Any file system of fsspec whose writes of a whole file are atomic."""

    def __init__(self, fs: Any, root: str) -> None:
        self._fs = fs
        self._root = root.rstrip("/")
        self.name = str(fs.unstrip_protocol(self._root))

    def put(self, path: str, data: bytes) -> None:
        """One PUT."""
        with self._said(path):
            self._fs.pipe_file(self.inside(path), data)

    def get(self, path: str) -> bytes:
        """One GET."""
        with self._said(path):
            return bytes(self._fs.cat_file(self.inside(path)))

    def remove(self, path: str) -> None:
        """One DELETE; gone already is well."""
        with self._said(path):
            try:
                self._fs.rm_file(self.inside(path))
            except FileNotFoundError:
                return
            finally:
                self._fs.invalidate_cache()

    def list(self, folder: str = "") -> list[str]:
        """Names below a folder."""
        start = self.inside(folder) if folder else self._root
        with self._said(folder):
            self._fs.invalidate_cache()
            found = [str(name) for name in self._fs.find(start)]
        names = [name[len(self._root) :].lstrip("/") for name in found]
        return sorted(name for name in names if not PurePosixPath(name).name.startswith("."))

    def place(self, path: str) -> str:
        """With the protocol."""
        return str(self._fs.unstrip_protocol(self.inside(path)))

    def filesystem(self) -> Any:
        """fsspec's own, which pyarrow takes."""
        return self._fs

    def inside(self, path: str) -> str:
        """Below the root."""
        return f"{self._root}/{path}"

    @contextmanager
    def _said(self, path: str) -> Iterator[None]:
        """A backend's errors as ours; libraries of object stores bring their own, mostly OSError's children."""
        try:
            yield
        except FileNotFoundError:
            raise NotThere(f"{self.place(path)}: there is no such file") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise LakeError(f"{self.place(path)}: {reason}") from error


class LocalStorage(FsspecStorage):
    """A folder of a local disk."""

    def put(self, path: str, data: bytes) -> None:
        """Hidden file, fsync, rename, fsync of the folder: a power cut leaves this content or the one before."""
        target = Path(self.inside(path))
        partial = _partial(target)
        with self._said(path):
            _make(target.parent)
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self._show(partial, target)
            _sync(target.parent)

    def remove(self, path: str) -> None:
        """The file and what an interrupted `put` left of it."""
        target = Path(self.inside(path))
        with self._said(path):
            target.unlink(missing_ok=True)
            _partial(target).unlink(missing_ok=True)

    def place(self, path: str) -> str:
        """A plain path."""
        return self.inside(path)

    def _show(self, partial: Path, target: Path) -> None:
        os.replace(partial, target)


def open_storage(where: str) -> Storage:
    """The storage of a path or URL. Raises InputError for one that fsspec does not know or has no package for."""
    try:
        fs, root = fsspec.core.url_to_fs(where)
    except (ValueError, ImportError) as error:
        raise InputError(f"--lake {where}: {error}") from None
    if isinstance(fs, LocalFileSystem):
        storage = LocalStorage(fs, root)
        storage.name = where
        return storage
    return FsspecStorage(fs, root)


def _partial(target: Path) -> Path:
    """Hidden: Spark, pyarrow and a glob for *.parquet all pass it by."""
    return target.with_name(f".{target.name}.partial")


def _make(folder: Path) -> None:
    if folder.is_dir():
        return
    _make(folder.parent)
    folder.mkdir(mode=0o750, exist_ok=True)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
