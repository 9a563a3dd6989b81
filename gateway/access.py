"""Who may use the broker beside this gateway: takes the fleet's signed word for it, keeps it, has the broker read it.

A document (isocore/access.py) counts when the fleet's root signed it and its number is above the last one's. Then, in
this order, each file whole or not at all: the document itself, `crl.pem`, `acl`; then the broker is told. A cut between
any two is mended at the next start, which writes both files from the kept document again.

It knows no topic and no store. Signatures are checked in pure Python (isocore/sign.py): some milliseconds, a few times
a year.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.errors import GatewayError
from isocore import access, sign
from isocore.errors import SignatureError, TrustError

log = logging.getLogger("isotherm.access")

_DOCUMENT = "access.isos"


class BrokerAccess:
    """The two files of one broker. `reload` has mosquitto read them; it may raise OSError."""

    def __init__(self, folder: Path, fleet: str, root_key: bytes, reload: Callable[[], None]) -> None:
        self._folder = folder
        self._fleet = fleet
        self._root_key = root_key
        self._reload = reload
        self.number = 0
        self.refused = 0
        self.reason = ""  # why the last document was refused, "" for one that was taken

    def open(self) -> None:
        """Put the kept document in force again. A missing or damaged one leaves the files as they are."""
        try:
            document = (self._folder / _DOCUMENT).read_bytes()
        except FileNotFoundError:
            return
        except OSError as exc:
            raise GatewayError(f"{self._folder / _DOCUMENT}: cannot be read: {exc.strerror}") from exc
        self.offer(document)

    def offer(self, document: bytes) -> bool:
        """A document came. True when it is in force now, or was already; False when it is refused, with `reason`."""
        try:
            payload = sign.open_container(document, sign.KIND_ACCESS, [self._root_key], access.BYTES_MAX)
            number, nodes, crl = access.parse(payload, self._fleet)
            if number < self.number:
                raise TrustError("number", f"{number} is not above {self.number}")
        except (SignatureError, TrustError) as exc:
            self.refused += 1
            self.reason = exc.reason if isinstance(exc, SignatureError) else exc.field
            log.error("a list of who may use the broker is refused: %s", exc)
            return False
        self.reason = ""
        if number == self.number:
            return True
        try:
            _write(self._folder / _DOCUMENT, document, 0o600)
            _write(self._folder / "crl.pem", crl.encode("ascii"), 0o644)
            _write(self._folder / "acl", access.acl(nodes).encode("ascii"), 0o600)
            self._reload()
        except OSError as exc:
            self.reason = "storage"
            log.error("who may use the broker could not be put in force: %s", exc)
            return False
        self.number = number
        log.warning("who may use the broker: list %d is in force, %d nodes", number, len(nodes))
        return True

    @property
    def state(self) -> bytes:
        """What is published: which list is in force, and why another was refused."""
        said: dict[str, Any] = {"number": self.number}
        if self.reason:
            said["refused"] = self.reason
        return json.dumps(said).encode("ascii")


def _write(path: Path, data: bytes, mode: int) -> None:
    partial = path.with_name(f".{path.name}.new")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
