"""The file of `isotherm keys cloud`, as the receiver uses it: who is in force, and each board's key for its tags.

The file is looked at again before each commit: a board that was revoked is refused from the first batch after the file
was replaced. A file that is broken or older than the one before changes nothing, and is told. No key is ever shown.
"""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path
from typing import Any

from host_tools.cloud.members import BOARD, Listed, Members
from host_tools.errors import InputError, KeyFileError
from host_tools.keys import reading_keys
from isocore.topics import is_device_id

log = logging.getLogger("isotherm.cloud")

_BYTES_MAX = 16_000_000


class Keys:
    """One state of the file. boards and revoked: name -> generation; untagged: in force, and without tags."""

    def __init__(self, document: dict[str, Any]) -> None:
        """Raises ValueError, KeyError, TypeError and AttributeError for what is no such file."""
        if document["v"] != 1:
            raise ValueError("another version")
        self.number = int(document["number"])
        self.boards: dict[str, int] = {_name(name): int(value) for name, value in document["boards"].items()}
        self.revoked: dict[str, int] = {_name(n): int(value) for n, value in document.get("revoked", {}).items()}
        self.untagged = frozenset(map(_name, document.get("untagged", [])))
        self._master = bytes.fromhex(document["master"])
        if len(self._master) != reading_keys.KEY_BYTES:
            raise ValueError("the master has another length")
        self._derived: dict[tuple[str, int], bytes] = {}

    def without(self, listed: Listed) -> Keys:
        """These, as a newer list of the fleet's members has them: a board that is not in it is revoked."""
        gone = {name: n for name, n in self.boards.items() if name not in listed.names[BOARD]}
        gone |= {name: 0 for name in self.untagged if name not in listed.names[BOARD]}
        made = copy.copy(self)
        made.boards = {name: n for name, n in self.boards.items() if name not in gone}
        made.untagged = self.untagged - gone.keys()
        made.revoked = self.revoked | gone
        return made

    def key(self, device: str, generation: int) -> bytes:
        """A board's key, 32 bytes."""
        found = self._derived.get((device, generation))
        if found is None:
            found = self._derived[device, generation] = reading_keys.derive(self._master, device, generation)
        return found


def _name(name: Any) -> str:
    if not is_device_id(name):
        raise ValueError("a name that is none")
    return str(name)


class KeyFile:
    """The file as it is now."""

    def __init__(self, path: Path, members: Members | None = None) -> None:
        """members: who belongs to the fleet, where the receiver is told. Raises KeyFileError."""
        self._path = path
        self._seen = self._mark()
        self._keys = _load(path)
        self._members = members
        self._met: tuple[Keys, Listed, Keys] | None = None  # the file's keys, a list, and what comes of both

    def current(self) -> Keys:
        """The keys of the file, or those from before when the file is not sound, less who was revoked since."""
        keys = self._of_the_file()
        listed = self._members.current if self._members is not None else None
        if listed is None or listed.number <= keys.number:
            return keys
        if self._met is None or self._met[0] is not keys or self._met[1] is not listed:
            self._met = (keys, listed, keys.without(listed))
        return self._met[2]

    def _of_the_file(self) -> Keys:
        try:
            mark = self._mark()
            if mark == self._seen:
                return self._keys
            self._seen = mark
            fresh = _load(self._path)
        except KeyFileError as error:
            log.error("%s; the keys from before stay in force", error)
            return self._keys
        if fresh.number < self._keys.number:
            log.error("%s: is older than the one in force, and is not taken", self._path)
        else:
            self._keys = fresh
        return self._keys

    def _mark(self) -> tuple[int, int, int]:
        try:
            status = self._path.stat()
        except OSError as error:
            raise KeyFileError(f"{self._path}: cannot be read: {error.strerror or error}") from None
        return status.st_mtime_ns, status.st_size, status.st_ino


def _load(path: Path) -> Keys:
    try:
        if path.stat().st_mode & 0o077:
            raise InputError(f"{path}: others may read it: `chmod 600 {path}`")
        with path.open("rb") as file:
            return Keys(json.loads(file.read(_BYTES_MAX)))
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    except InputError as error:
        raise KeyFileError(str(error)) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        text = f"{path}: is no file of `isotherm keys cloud` ({type(error).__name__})"
        raise KeyFileError(text) from None
