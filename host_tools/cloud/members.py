"""Who belongs to the fleet, by its own signed word, as the receiver keeps it: the document that gateways get as well.

`isotherm keys revoke --cloud URL` sends it (isocore/access.py, signed by the fleet's root). It counts when its number
is above the last one's, is on the disk before it is in force, and is so from the next request and the next commit on.
Then a gateway whose certificate was revoked is refused, on the connection it has open as well; one that shows a token
only, when it is not in it; and a board that is not in it is revoked, whatever an older file of reading keys says. It
holds no secret and knows no HTTP.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import NamedTuple

from host_tools.errors import InputError, KeyFileError
from host_tools.keys.authority import revoked_serials
from host_tools.keys.sealed import write_file
from isocore import access, sign
from isocore.errors import SignatureError, TrustError

log = logging.getLogger("isotherm.cloud")

FILE_NAME = "members.isos"
DOCUMENT_BYTES_MAX = access.BYTES_MAX  # of a whole container
OPERATOR, GATEWAY, BOARD = "operator", "gateway", "board"


class MembersError(InputError):
    """A document that is not taken; `conflict`: a newer one is in force."""

    def __init__(self, text: str, *, conflict: bool = False) -> None:
        super().__init__(text)
        self.conflict = conflict


class Listed(NamedTuple):
    """One document. serials: of revoked certificates."""

    number: int
    names: dict[str, frozenset[str]]
    serials: frozenset[int]

    def has(self, name: str, role: str, serial: int | None) -> bool:
        """A node is in force: by the certificate it shows, as a newcomer may come before the list that names him; by
        its name where it shows none."""
        return name in self.names[role] if serial is None else serial not in self.serials


class Members:
    """The document in force, kept in the store's folder."""

    def __init__(self, folder: Path, fleet: str, root_key: bytes) -> None:
        """Raises MembersError for a kept document that is damaged: without it, who was revoked would be let in."""
        self._path = folder / FILE_NAME
        self._fleet = fleet
        self._root_key = root_key
        self._changing = threading.Lock()
        self.current: Listed | None = None
        try:
            kept = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise MembersError(f"{self._path}: cannot be read: {error.strerror or error}") from None
        try:
            self.current = self._read(kept)
        except MembersError as error:
            text = f"{self._path}: {error}; move it away and run `isotherm keys revoke` with --cloud again"
            raise MembersError(text) from None

    def offer(self, document: bytes) -> int:
        """A document came: durable and in force when this returns its number. Raises MembersError, KeyFileError."""
        listed = self._read(document)
        with self._changing:
            before = self.current.number if self.current is not None else 0
            if listed.number < before:
                raise MembersError(
                    f"list {listed.number} is older than list {before}, which is in force", conflict=True
                )
            if listed.number > before:
                write_file(self._path, document, 0o600, replace=True)
                self.current = listed
                log.warning("who belongs to the fleet: list %d is in force", listed.number)
        return listed.number

    def _read(self, document: bytes) -> Listed:
        try:
            payload = sign.open_container(document, sign.KIND_ACCESS, [self._root_key], access.BYTES_MAX)
            number, nodes, crl = access.parse(payload, self._fleet)
            serials = revoked_serials(crl)
        except (SignatureError, TrustError, KeyFileError) as error:
            raise MembersError(f"no list of this fleet's members: {error}") from None
        names = {role: frozenset(name for name, has in nodes if has == role) for role in access.ROLES}
        return Listed(number, names, serials)
