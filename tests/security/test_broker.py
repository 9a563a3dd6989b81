"""Attacks on the broker: real mosquitto, configured as a fleet's is, against clients that ought not get anywhere.

Each attack stands beside the same step done rightly, so that a broker that refuses everyone fails as well.
"""

from __future__ import annotations

import datetime
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.access import BrokerAccess
from host_tools import membership
from host_tools.keys import authority
from host_tools.keys.sealed import write_file
from host_tools.rollout import Link
from isocore import topics
from tests.support.mqtt_client import WAIT_S, Client
from tests.support.secure_broker import SecureBroker

pytestmark = pytest.mark.mosquitto

NODES = (("gateway-1", "gateway"), ("operator", "operator"), ("fridge-1", "board"), ("fridge-2", "board"))
UP = topics.topic("fridge-1", topics.UP)
ACK = topics.topic("fridge-1", topics.ACK)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    """A fleet with a gateway, an operator and two boards, and its broker."""
    broker = SecureBroker(tmp_path_factory.mktemp("site"))
    for name, role in NODES:
        broker.admit(name, role)
    with broker:
        yield broker


def refused(where: tuple[str, int], tls: ssl.SSLContext | None) -> None:
    """No session comes of it. TLS 1.3 tells a client of its refusal only at the first read."""
    with pytest.raises(OSError), Client(where, tls):
        pass


def anonymous(site: SecureBroker) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(site.fleet.folder / "ca.pem"))


def test_members_get_in(site: SecureBroker) -> None:
    with Client(site.where, site.tls("gateway-1")) as gateway, Client(site.where, site.tls("fridge-1")) as board:
        gateway.subscribe("iso/1/+/up")
        board.subscribe(ACK)
        board.publish(UP, b"frame")
        assert gateway.next() == ("message", (UP, b"frame"))
        gateway.publish(ACK, b"{}")
        assert board.next() == ("message", (ACK, b"{}"))


def test_no_plaintext_listener(site: SecureBroker) -> None:
    refused(site.where, None)


def test_no_certificate(site: SecureBroker) -> None:
    refused(site.where, anonymous(site))


def test_wrong_authority(site: SecureBroker, tmp_path: Path) -> None:
    """Same names, same roles, another authority of the same name."""
    foreign = authority.create(tmp_path / "ca", "home", None).issue("gateway-1", "gateway")
    refused(site.where, forged(site, tmp_path, foreign.certificate_pem, foreign.key_pem))


def forged(site: SecureBroker, folder: Path, certificate: bytes, key: bytes) -> ssl.SSLContext:
    write_file(folder / "cert.pem", certificate, 0o600)
    write_file(folder / "key.pem", key, 0o600)
    write_file(folder / "ca.pem", (site.fleet.folder / "ca.pem").read_bytes(), 0o600)
    return membership.context(folder)


@pytest.mark.parametrize("shift_years", [-40, 40])
def test_dates(site: SecureBroker, tmp_path: Path, shift_years: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Expired, and not yet valid, from the right authority."""
    shift = datetime.timedelta(days=366 * shift_years)
    monkeypatch.setattr(authority, "NOT_BEFORE", authority.NOT_BEFORE + shift)
    monkeypatch.setattr(authority, "NOT_AFTER", authority.NOT_AFTER + shift)
    identity = authority.load(site.fleet.folder, None).issue("fridge-1", "board")
    refused(site.where, forged(site, tmp_path, identity.certificate_pem, identity.key_pem))


def test_servers_certificate_as_client(site: SecureBroker, tmp_path: Path) -> None:
    identity = authority.load(site.fleet.folder, None).issue("gateway-1", "receiver", ["localhost"])
    refused(site.where, forged(site, tmp_path, identity.certificate_pem, identity.key_pem))


def test_clients_certificate_as_server(site: SecureBroker, tmp_path: Path) -> None:
    """A board that plays broker: its certificate has no host name and is no server's, so nobody speaks to it."""
    board = site.workdir / "nodes" / "fridge-1"
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(board / "cert.pem", board / "key.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        with client, accepted:
            client.settimeout(WAIT_S)
            tls = site.tls("gateway-1")
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            talker = tls.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
            with pytest.raises(ssl.SSLWantReadError):
                talker.do_handshake()
            theirs, ours = ssl.MemoryBIO(), ssl.MemoryBIO()
            fake = server.wrap_bio(theirs, ours, server_side=True)
            theirs.write(outgoing.read())
            with pytest.raises(ssl.SSLWantReadError):
                fake.do_handshake()
            incoming.write(ours.read())
            with pytest.raises(ssl.SSLCertVerificationError):
                talker.do_handshake()


def test_wrong_host_name(site: SecureBroker) -> None:
    """127.0.0.2 reaches nobody here, but the name is what is checked: the address is the broker's own."""
    tls = site.tls("gateway-1")
    with socket.create_connection(site.where) as raw, pytest.raises(ssl.SSLCertVerificationError):
        tls.wrap_socket(raw, server_hostname="other.example")
    with socket.create_connection(site.where) as raw, tls.wrap_socket(raw, server_hostname="localhost") as good:
        assert good.version() in ("TLSv1.2", "TLSv1.3")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_older_tls(site: SecureBroker) -> None:
    tls = site.tls("gateway-1")
    tls.minimum_version = tls.maximum_version = ssl.TLSVersion.TLSv1_1
    tls.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection(site.where) as raw, pytest.raises((ssl.SSLError, OSError)):
        tls.wrap_socket(raw, server_hostname="localhost")


def test_another_boards_topics(site: SecureBroker) -> None:
    """fridge-2 neither speaks for fridge-1 nor hears what it is told, nor anything of all."""
    with (
        Client(site.where, site.tls("gateway-1")) as gateway,
        Client(site.where, site.tls("fridge-2")) as thief,
    ):
        gateway.subscribe("iso/1/+/up", "iso/1/+/status", "iso/1/+/model/state")
        thief.subscribe("#", "+/#", "iso/1/+/ack", ACK, "iso/1/fridge-1/#", "$SYS/#")
        for leaf in (topics.UP, topics.STATUS, topics.MODEL_STATE, topics.MODEL_SET, topics.ACK, topics.STATE):
            thief.publish(topics.topic("fridge-1", leaf), b"forged", retain=True)
        for leaf in (topics.ACK, topics.STATE, topics.MODEL_SET, topics.KEYS_SET):
            thief.publish(topics.topic("fridge-2", leaf), b"forged", retain=True)
        gateway.publish(ACK, b"secret")
        thief.publish(topics.topic("fridge-2", topics.UP), b"mine")
        assert gateway.heard(b"mine") == []
        gateway.publish(topics.topic("fridge-2", topics.ACK), b"end")
        assert thief.heard(b"end") == []
    with Client(site.where, site.tls("operator")) as late:
        late.subscribe("iso/1/+/status", "iso/1/+/model/state", "iso/1/+/meta")
        late.publish(topics.topic("fridge-2", topics.MODEL_SET), b"")
        assert late.events.empty()  # nothing forged was retained


@pytest.mark.parametrize("name", ["iso/1/fridge-1/up/#", "iso/1/+/up"])
def test_wildcards_in_a_published_name(site: SecureBroker, name: str) -> None:
    """A packet that no client library would build: the broker drops who sends it (MQTT-3.3.2-2)."""
    with (
        socket.create_connection(site.where, timeout=WAIT_S) as raw,
        site.tls("fridge-1").wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        tls.sendall(packet(0x10, b"\x00\x04MQTT\x04\x02\x00\x1e" + text("")))
        assert tls.recv(4) == b"\x20\x02\x00\x00"
        tls.sendall(packet(0x30, text(name) + b"x"))
        assert gone(tls)


def packet(kind: int, body: bytes) -> bytes:
    length, size = b"", len(body)
    while True:
        size, low = divmod(size, 128)
        length += bytes([low | (128 if size else 0)])
        if not size:
            return bytes([kind]) + length + body


def text(name: str) -> bytes:
    return len(name).to_bytes(2, "big") + name.encode()


def gone(tls: ssl.SSLSocket) -> bool:
    """Whether the other side ends the connection."""
    try:
        while tls.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def test_client_id_gateway(site: SecureBroker) -> None:
    """A board that calls itself `gateway-1` does not get the gateway's session."""
    with (
        Client(site.where, site.tls("gateway-1"), client_id="gateway-1") as gateway,
        Client(site.where, site.tls("fridge-1"), client_id="gateway-1") as thief,
    ):
        gateway.subscribe("iso/1/+/up")
        thief.publish(UP, b"still here")
        assert gateway.next() == ("message", (UP, b"still here"))


def test_oversized_packet(site: SecureBroker) -> None:
    with Client(site.where, site.tls("fridge-1")) as board:
        board.paho.publish(UP, bytes(80_000), qos=0)
        assert board.next()[0] == "disconnect"
    with Client(site.where, site.tls("fridge-1")) as board:
        board.publish(UP, bytes(60_000))


def test_flood_of_connections(site: SecureBroker) -> None:
    """Past its bound the broker takes no more, keeps whom it has, and takes others when there is room again."""
    with Client(site.where, site.tls("gateway-1")) as gateway:
        gateway.subscribe("iso/1/+/up")
        flood = []
        for _ in range(40):
            try:
                flood.append(socket.create_connection(site.where, timeout=WAIT_S))
            except OSError:
                break
        gateway.paho.publish(topics.topic("fridge-1", topics.ACK), b"x", qos=1).wait_for_publish(WAIT_S)
        for connection in flood:
            connection.close()
        deadline_s = time.monotonic() + WAIT_S
        while time.monotonic() < deadline_s:
            try:
                with Client(site.where, site.tls("fridge-1")) as board:
                    board.publish(UP, b"after the flood")
                break
            except OSError:
                continue
        assert gateway.next() == ("message", (UP, b"after the flood"))


def test_revoked_while_connected(tmp_path: Path) -> None:
    """The whole way: signed list, files renewed, broker reloads, the live connection is cut, and none comes back.

    What it had left retained is nobody's any more; another board does not notice.
    """
    site = SecureBroker(tmp_path)
    for name, role in NODES:
        site.admit(name, role)
    with site, Client(site.where, site.tls("gateway-1")) as gateway, Client(site.where, site.tls("fridge-2")) as other:
        access = BrokerAccess(site.access_folder, "home", site.fleet.root_key, site.reload)
        gateway.subscribe(topics.topic("gateway-1", topics.ACCESS_SET), "iso/1/+/up")
        other.subscribe(topics.topic("fridge-2", topics.ACK))
        with Client(site.where, site.tls("fridge-1")) as thief:
            thief.subscribe(ACK)
            site.fleet.revoke("fridge-1")
            document = site.fleet.access_document()
            with Link(*site.where, site.tls("operator")) as operator:
                operator.publish(topics.topic("gateway-1", topics.ACCESS_SET), document)
                kind, message = gateway.next()
                assert kind == "message" and access.offer(message[1])  # type: ignore[index]
            membership.cut(site.where, site.fleet.one_time("fridge-1"), site.workdir / "nodes" / "operator")
            assert thief.next()[0] == "disconnect"
        refused(site.where, site.tls("fridge-1"))
        other.publish(topics.topic("fridge-2", topics.UP), b"unharmed")
        assert gateway.next() == ("message", (topics.topic("fridge-2", topics.UP), b"unharmed"))
    lists = x509.load_pem_x509_crl((site.access_folder / "crl.pem").read_bytes())
    assert [entry.serial_number for entry in lists] == [site.fleet.registry.revoked[0].serial]
    assert isinstance(lists.signature_hash_algorithm, hashes.SHA256)
    assert isinstance(authority.load_certificate(site.fleet.folder / "ca.pem").public_key(), ec.EllipticCurvePublicKey)
