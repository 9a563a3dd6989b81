"""Who may write, for which gateway, and how fast. Knows headers and certificates' subjects, no socket and no store.

    one token         whoever shows it may write for any gateway: for a receiver of one household
    gateway tokens    each gateway has its own and writes under its own name only
    certificates      the common name is the gateway's, and the unit, where there is one, is "gateway" (host_tools/keys)

What is asked for is asked for together. Tokens are kept as digests and compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from host_tools.cloud.members import GATEWAY, OPERATOR, Members
from host_tools.cloud.wire import WireError
from host_tools.errors import InputError
from isocore.topics import is_device_id

TOKEN_CHARACTERS_MIN = 16
RATE_PER_S = 200.0  # batches of one gateway; it freezes a few dozen a second when it catches up
_BURST_S = 5.0  # of that rate may come at once
_NAMES_MAX = 10_000  # whose rates are remembered; more begin anew
SERIAL = "certificate serial"  # beside the subject's attributes, none of which has a blank in its name
_MEMBERS = "/members"  # no gateway's name: whoever sends lists of members has a rate of his own
_NOBODY = hashlib.sha256(b"").digest()


def check_token(token: str, path: Path) -> str:
    """A token of a file. Raises InputError."""
    if len(token) < TOKEN_CHARACTERS_MIN or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(f"{path}: a token has at least {TOKEN_CHARACTERS_MIN} printable ASCII characters on one line")
    return token


def read_gateway_tokens(path: Path) -> dict[str, str]:
    """Lines of GATEWAY TOKEN; # begins a comment. Raises InputError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: gateway tokens cannot be read: {error}") from None
    tokens: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        gateway, _, token = line.strip().partition(" ")
        if not is_device_id(gateway) or gateway in tokens:
            raise InputError(f"{path}: line {number}: begins with a gateway's name, [a-z0-9-]{{1,32}}, each once")
        tokens[gateway] = check_token(token.strip(), path)
    if not tokens or len(set(tokens.values())) != len(tokens):
        raise InputError(f"{path}: must hold lines of GATEWAY TOKEN, each token once")
    return tokens


class Gates:
    """Decides on each batch. certificates: the server took a client's certificate in the handshake."""

    def __init__(
        self,
        token: str | None = None,
        gateway_tokens: Mapping[str, str] | None = None,
        *,
        certificates: bool = False,
        members: Members | None = None,
        rate_per_s: float = RATE_PER_S,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token = None if token is None else _digest(token)
        self._tokens = None if gateway_tokens is None else {name: _digest(t) for name, t in gateway_tokens.items()}
        self._certificates = certificates
        self.members = members  # None: who was revoked is known to the broker only
        self._rate_per_s = rate_per_s
        self._clock_s = clock_s
        self._left: dict[str, tuple[float, float]] = {}  # gateway -> batches it may send at once, as of when

    @property
    def apart(self) -> bool:
        """True when a gateway's credentials are its own, and so no credentials for questions about all."""
        return self._certificates or self._tokens is not None

    def open_to(self, authorization: str) -> None:
        """The one token, for whatever it guards. Raises WireError."""
        if self._token is not None and not hmac.compare_digest(_shown(authorization), self._token):
            raise WireError(401, "token", "a valid bearer token is needed")

    def admit(self, gateway: str, authorization: str, peer: Mapping[str, str] | None) -> None:
        """Let a batch of this gateway in. peer: subject of the client's certificate. Raises WireError."""
        if self._certificates:
            if peer is None or peer.get("organizationalUnitName", "gateway") != "gateway":
                raise WireError(403, "certificate", "the certificate is not a gateway's")
            if peer.get("commonName") != gateway:
                raise WireError(403, "certificate", "the certificate is another gateway's")
        if self._tokens is not None:
            known = hmac.compare_digest(_shown(authorization), self._tokens.get(gateway, _NOBODY))
            if not known or gateway not in self._tokens:
                raise WireError(401, "token", "the bearer token of this gateway is needed")
        elif self._token is not None:
            self.open_to(authorization)
        self._in_force(gateway, GATEWAY, peer)
        self._slow_down(gateway)

    def admit_list(self, peer: Mapping[str, str] | None) -> None:
        """Let a list of the fleet's members be looked at: its own signature decides. Raises WireError."""
        if self._certificates:
            if peer is None or peer.get("organizationalUnitName") != OPERATOR:
                raise WireError(403, "certificate", "the certificate is not an operator's")
            self._in_force(peer.get("commonName", ""), OPERATOR, peer)
        self._slow_down(_MEMBERS)

    def _in_force(self, name: str, role: str, peer: Mapping[str, str] | None) -> None:
        """A node and the certificate it shows, by the fleet's list. Asked at each request: open connections count."""
        listed = self.members.current if self.members is not None else None
        serial = int(peer[SERIAL], 16) if peer is not None and SERIAL in peer else None
        if listed is not None and not listed.has(name, role, serial):
            raise WireError(403, "revoked", f"this {role}, or the certificate it shows, does not belong to the fleet")

    def _slow_down(self, gateway: str) -> None:
        """A token bucket for each gateway."""
        now_s = self._clock_s()
        if len(self._left) > _NAMES_MAX:
            self._left.clear()
        most = self._rate_per_s * _BURST_S
        left, before_s = self._left.get(gateway, (most, now_s))
        left = min(most, left + (now_s - before_s) * self._rate_per_s)
        if left < 1:
            self._left[gateway] = (left, now_s)
            raise WireError(429, "rate", f"more than {self._rate_per_s:g} batches a second")
        self._left[gateway] = (left - 1, now_s)


def subject(certificate: Mapping[str, Any] | None) -> dict[str, str] | None:
    """The subject of `ssl.SSLSocket.getpeercert()`, by attribute, and SERIAL, the certificate's own number in
    hexadecimal; None when nobody showed one."""
    if not certificate:
        return None
    found = {str(name): str(value) for part in certificate.get("subject", ()) for name, value in part}
    return found | {SERIAL: str(certificate["serialNumber"])} if "serialNumber" in certificate else found


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _shown(authorization: str) -> bytes:
    scheme, _, shown = authorization.partition(" ")
    return _digest(shown.strip()) if scheme.lower() == "bearer" else _NOBODY
