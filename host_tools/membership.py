"""Tells a fleet's broker who belongs to it: access lists, revocations, new model keys, over the operator's own link.

Withdrawing a node takes three steps, each waited for: the signed list goes, retained, to every gateway, which renews
the broker's files and says so; from then on the node's certificate opens no connection. One that is open already
outlives mosquitto's reload (2.0.11: neither the list of revoked certificates nor the access list cuts it), so it is
taken over by a client of the same name, which the broker must disconnect for (MQTT 3.1.1, MQTT-3.1.4-2), under a
certificate made for this once and itself withdrawn. A gateway that is away finds the list when it returns, and
holds up no other: the connection is cut as soon as one gateway says that the list is in force, and again at the next.
The receiver of readings gets the same list over HTTPS, meanwhile.

It makes no keys and knows no registry file.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from host_tools.errors import DeadlineError, HostError, KeyFileError
from host_tools.keys.authority import Identity
from host_tools.keys.fleet import Fleet
from host_tools.keys.sealed import write_file
from host_tools.rollout import CONNECT_S, Link, broker_address
from isocore import topics

PORT = 8883
Address = tuple[str, int]


@dataclass(frozen=True)
class Withdrawal:
    """What was reached: the list's number, the gateways that have it in force, and what is to be said of the others."""

    number: int
    gateways: tuple[str, ...]
    missing: Mapping[str, str]


def address(text: str) -> Address:
    """HOST or HOST:PORT, 8883 where no port is given. Raises InputError."""
    return broker_address(text, PORT)


def context(folder: Path) -> ssl.SSLContext:
    """TLS as the owner of ca.pem, cert.pem and key.pem in a folder. Raises KeyFileError."""
    try:
        made = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        made.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    except OSError as error:
        raise KeyFileError(f"{folder}: ca.pem, cert.pem and key.pem cannot be used: {error}") from None
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made


def send_key_list(where: Address, tls: ssl.SSLContext, boards: Sequence[str], container: bytes) -> None:
    """Leave the signed list of model keys, retained, for every board. Returns when the broker has it."""
    with Link(*where, tls) as link:
        _send(link, [topics.topic(board, topics.KEYS_SET) for board in boards], container)


def send_access(
    where: Address, tls: ssl.SSLContext, gateways: Sequence[str], document: bytes, timeout_s: float
) -> None:
    """Send who may use the broker to its gateways, and wait until each has it in force.

    Raises DeadlineError naming those that did not say so, and what they said instead.
    """
    missing = _tell(where, tls, gateways, document, timeout_s)
    if missing:
        raise DeadlineError(not_in_force(missing))


def not_in_force(missing: Mapping[str, str]) -> str:
    """One sentence of gateways that did not say that they have the list in force."""
    who = ", ".join(name + missing[name] for name in sorted(missing))
    return f"not in force at {who}: the list waits there, retained"


def _tell(
    where: Address,
    tls: ssl.SSLContext,
    gateways: Sequence[str],
    document: bytes,
    timeout_s: float,
    confirmed: Callable[[], object] = lambda: None,
) -> dict[str, str]:
    """Send the list and wait, at most `timeout_s`. `confirmed` is called whenever gateways have it in force. Returns
    those that do not, each with what it said instead."""
    number = _number_of(document)
    waiting = dict.fromkeys(gateways, "")
    deadline_s = time.monotonic() + timeout_s

    def take(name: str, payload: bytes) -> None:
        device, leaf = topics.parse(name)
        if leaf != topics.ACCESS_STATE or device not in waiting:
            return
        has, refused = _said(payload)
        if has == number:
            del waiting[device]
        else:
            waiting[device] = f" (it has list {has}, {refused})"

    with Link(*where, tls) as link:
        link.subscribe([topics.topic(gateway, topics.ACCESS_STATE) for gateway in gateways], 1)
        _send(link, [topics.topic(gateway, topics.ACCESS_SET) for gateway in gateways], document, take)
        told = len(gateways)  # one may have answered already, while others were sent theirs
        while True:
            if len(waiting) < told:
                told = len(waiting)
                confirmed()
            event = link.next_event(deadline_s) if waiting else None
            if event is None:
                return waiting
            if event[0] == "message":
                take(event[1], event[2])


def withdraw(where: Address, identity: Path, fleet: Fleet, name: str, timeout_s: float) -> Withdrawal:
    """Have a revoked node withdrawn at the broker, and its live connection cut wherever a gateway has the list."""
    gateways = [node.name for node in fleet.registry.active("gateway")]
    if not gateways:
        raise HostError("the fleet has no gateway that could tell its broker")
    number = fleet.registry.number
    document = fleet.access_document()
    once: list[Identity] = []

    def confirmed() -> None:
        if not once:
            once.append(fleet.one_time(name))
        cut(where, once[0], identity)

    missing = _tell(where, context(identity), gateways, document, timeout_s, confirmed)
    return Withdrawal(number, tuple(name for name in gateways if name not in missing), missing)


def cut(where: Address, identity: Identity, folder: Path) -> None:
    """Take over a node's session and leave it. The key lies in a private folder for as long as OpenSSL reads it."""
    with TemporaryDirectory() as name:
        scratch = Path(name)
        write_file(scratch / "cert.pem", identity.certificate_pem, 0o600)
        write_file(scratch / "key.pem", identity.key_pem, 0o600)
        write_file(scratch / "ca.pem", (folder / "ca.pem").read_bytes(), 0o600)
        tls = context(scratch)
    with Link(*where, tls):
        pass  # connected is all it takes


def _send(link: Link, names: Sequence[str], payload: bytes, take: Callable[[str, bytes], object] | None = None) -> None:
    """Publish, and wait until the broker has it. `take` gets what comes meanwhile: an answer may be quicker."""
    waiting = {link.publish(name, payload) for name in names}
    deadline_s = time.monotonic() + CONNECT_S
    while waiting:
        number, reason = link.until("publish", deadline_s, take)
        if reason.is_failure:
            raise HostError(f"the broker refuses it: {reason}")
        waiting.discard(number)


def _said(payload: bytes) -> tuple[int | None, str]:
    """The number of the list that a gateway has, and why it refused another. A gateway may say anything at all: neither
    does it stop the command, nor does it reach the terminal as more than letters."""
    try:
        said = json.loads(payload)
        has, refused = said["number"], said.get("refused", "no refusal")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, "and what it says makes no sense"
    text = "".join(sign if sign.isascii() and sign.isprintable() else "?" for sign in str(refused)[:60])
    return (has, text) if isinstance(has, int) else (None, text)


def _number_of(document: bytes) -> int:
    from isocore import sign

    payload = document[sign.HEADER_BYTES : -sign.SIGNATURE_BYTES]
    number: int = json.loads(payload)["number"]
    return number
