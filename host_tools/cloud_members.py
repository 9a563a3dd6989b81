"""Tells a running receiver who belongs to the fleet, over its own HTTPS: what `isotherm keys revoke --cloud` does.

In a thread of its own with one deadline for the whole, so that neither a receiver that is away nor one that answers a
byte at a time holds up what the broker is told. It knows no fleet and no keys but the operator's.
"""

from __future__ import annotations

import http.client
import threading
import time
from pathlib import Path

from host_tools.cloud_http import letters, parts, said
from host_tools.errors import DeadlineError, HostError, RetryableError
from host_tools.membership import context

PATH = "/v1/members"
_ANSWER_BYTES_MAX = 4096


class Telling:
    """One list on its way to one receiver."""

    def __init__(self, url: str, identity: Path, document: bytes, timeout_s: float) -> None:
        """url: https://HOST[:PORT], http:// on a loopback address only. Raises InputError, KeyFileError."""
        host, port, plain = parts(url, "--cloud")
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
        answer = said(data)
        number = answer.get("number")
        if response.status == 200 and isinstance(number, int):
            return number
        raise HostError(f"{self._url}: the receiver does not take the list: {response.status} {letters(answer)}")
