"""Names in topics to device ids, one to one, and the same at every start.

A name becomes an id by writing it in small letters, digits and hyphens. Where that id is taken, by another name or by a
board, a part of the name's SHA-256 is added. What was given once stays: it stands in the device's meta. The
configuration may name ids itself. It knows no store: what is taken is asked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping

from gateway.errors import MessageRejected
from isocore.topics import DEVICE_ID_MAX

_OTHER = re.compile(r"[^a-z0-9]+")
_HASH_CHARS = 6
NAME_CHARS_MAX = 128


class Names:
    """Ids of one source's devices. `known`: name -> id of former starts; `given`: name -> id of the configuration."""

    def __init__(
        self, known: Mapping[str, str], given: Mapping[str, str], taken: Callable[[str], bool], devices_max: int
    ) -> None:
        self._ids = {**known, **given}
        self._given = frozenset(given.values())
        self._taken = taken
        self._max = devices_max

    def __len__(self) -> int:
        return len(self._ids)

    def known(self, name: str) -> str | None:
        """The id of a name that has one."""
        return self._ids.get(name)

    def id_of(self, name: str) -> str:
        """The id of a name, made when it is new. Raises MessageRejected when there are too many."""
        found = self._ids.get(name)
        if found is None:
            if len(name) > NAME_CHARS_MAX:
                raise MessageRejected("topic", f"a device's name of {len(name)} characters")
            if len(self._ids) >= self._max:
                raise MessageRejected(
                    "devices", f"{name[:60]!r} would be one device more than devices_max, {self._max}"
                )
            plain = slug(name)[:DEVICE_ID_MAX].strip("-")
            found = plain or "device"
            if not plain or self._is_taken(found):
                digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_CHARS]
                found = f"{found[: DEVICE_ID_MAX - _HASH_CHARS - 1]}-{digest}"
                if self._is_taken(found):
                    raise MessageRejected("devices", f"{name[:60]!r}: no id is free; give one in names")
            self._ids[name] = found
        return found

    def _is_taken(self, device: str) -> bool:
        return device in self._given or device in self._ids.values() or self._taken(device)


def slug(name: str) -> str:
    """A name in small letters, digits and hyphens."""
    return _OTHER.sub("-", name.lower()).strip("-")
