"""Tells a running receiver who belongs to the fleet, over its own HTTPS: what `isotherm keys revoke --cloud` does.

In a thread of its own with one deadline for the whole, so that neither a receiver that is away nor one that answers a
byte at a time holds up what the broker is told. It knows no fleet and no keys but the operator's.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.parse
from pathlib import Path

from host_tools.commands.brokers import is_loopback
from host_tools.errors import DeadlineError, HostError, InputError, RetryableError
from host_tools.membership import context

PATH = "/v1/members"
PORT = 8440
_ANSWER_BYTES_MAX = 4096


class Telling:
    """One list on its way to one receiver."""

    def __init__(self, url: str, identity: Path, document: bytes, timeout_s: float) -> None:
        """url: https://HOST[:PORT], http:// on a loopback address only. Raises InputError, KeyFileError."""
        host, port, plain = _parts(url)
        self._url = url
        self._tls = None if plain else context(identity)
        self._where = (host, port)
        self._document = document
        self._timeout_s = timeout_s
        self._deadline_s = time.monotonic() + timeout_s
        self._outcome: int | HostError | None = None
        self._thread = threading.Thread(target=self._run, name="cloud-members", daemon=True)
        self._thread.start()

    def wait(self) -> int:
        """The number of the list that the receiver has in force. Raises HostError when it did not say so in time."""
        self._thread.join(max(0.0, self._deadline_s - time.monotonic()))
        if self._outcome is None:
            raise DeadlineError(f"{self._url}: has not said in {self._timeout_s:g} s that the list is in force")
        if isinstance(self._outcome, HostError):
            raise self._outcome
        return self._outcome

    def _run(self) -> None:
        try:
            self._outcome = self._exchange()
        except HostError as error:
            self._outcome = error
        except (OSError, http.client.HTTPException) as error:
            self._outcome = RetryableError(f"{self._url}: the receiver cannot be told: {error}")

    def _exchange(self) -> int:
        connection = (
            http.client.HTTPConnection(*self._where, timeout=self._timeout_s)
            if self._tls is None
            else http.client.HTTPSConnection(*self._where, timeout=self._timeout_s, context=self._tls)
        )
        try:
            connection.request("PUT", PATH, self._document, {"Content-Type": "application/octet-stream"})
            response = connection.getresponse()
            data = response.read(_ANSWER_BYTES_MAX)
        finally:
            connection.close()
        if response.status == 404:
            raise HostError(f"{self._url}: the receiver takes no lists: start it with --root-key-file")
        said = _said(data)
        number = said.get("number")
        if response.status == 200 and isinstance(number, int):
            return number
        raise HostError(f"{self._url}: the receiver does not take the list: {response.status} {_letters(said)}")


def _parts(url: str) -> tuple[str, int, bool]:
    """Host, port and whether it is plain HTTP."""
    parts = urllib.parse.urlsplit(url)
    try:
        host, port = parts.hostname or "", parts.port or PORT
    except ValueError:
        host, port = "", 0
    if (
        parts.scheme not in ("https", "http")
        or not host
        or parts.path not in ("", "/")
        or parts.query
        or parts.username
    ):
        raise InputError(f"--cloud {url[:80]}: must be https://HOST[:PORT]")
    if parts.scheme == "http" and not is_loopback(host):
        raise InputError(f"--cloud {url[:80]}: http:// is for a loopback address; use https://")
    return host, port, parts.scheme == "http"


def _said(data: bytes) -> dict[str, object]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _letters(said: dict[str, object]) -> str:
    """What a receiver says, as no more than letters: it may say anything at all."""
    text = str(said.get("error", "and does not say why"))[:200]
    return "".join(sign if sign.isascii() and sign.isprintable() else "?" for sign in text)
