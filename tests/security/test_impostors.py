"""Who is not what he says, against the gateway's real daemon, the real broker and the operator's real command."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_tools import membership
from host_tools.errors import DeadlineError
from isocore import frame as frames
from isocore import topics
from isocore.record import SAMPLE
from tests.support.board_client import wait_for
from tests.support.daemon import Daemon
from tests.support.mqtt_client import Client
from tests.support.secure_broker import SecureBroker

pytestmark = pytest.mark.mosquitto

NODES = (("gw-test", "gateway"), ("operator", "operator"), ("fridge-1", "board"), ("fridge-2", "board"))
UP = topics.topic("fridge-1", topics.UP)
ACK = topics.topic("fridge-1", topics.ACK)


def made(folder: Path, hosts: tuple[str, ...] = ("127.0.0.1", "localhost")) -> SecureBroker:
    site = SecureBroker(folder, hosts)
    for name, role in NODES:
        site.admit(name, role)
    return site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SecureBroker]:
    with made(tmp_path / "site") as running:
        yield running


@pytest.fixture
def daemon(site: SecureBroker) -> Iterator[Daemon]:
    mqtt, _ = site.gateway_toml("gw-test")
    with Daemon(site.workdir / "gateway", site.port, mqtt=mqtt) as running:
        yield running
        assert running.stop() == 0
        assert running.ledger()["differences"] == []


@pytest.mark.parametrize("fault", ["authority", "name"])
def test_a_fake_broker_gets_no_gateway(tmp_path: Path, fault: str) -> None:
    """Of another authority of the same name; of the right one under another name. The log says which."""
    site = made(tmp_path / "site", ("elsewhere",) if fault == "name" else ("127.0.0.1",))
    fake = site if fault == "name" else made(tmp_path / "fake")
    mqtt, _ = site.gateway_toml("gw-test")
    with fake:
        daemon = Daemon(tmp_path / "gateway", fake.port, mqtt=mqtt)
        daemon.start(wait=False)
        try:
            says = {"authority": "certificate verify failed", "name": "IP address mismatch"}[fault]
            wait_for(lambda: says in daemon.log.read_text(encoding="utf-8"), what="the refusal")
            assert not daemon.status()["broker"]["connected"]
            assert daemon.stop() == 0
        finally:
            daemon.kill_now()
        assert "gw-test" not in fake.log, "it told its name to nobody"


def test_a_downgrade_is_refused(site: SecureBroker) -> None:
    """TLS 1.2 without forward secrecy or without AEAD is none of the broker's; the same client with both gets in."""
    for ciphers, good in (("ECDHE-ECDSA-AES128-GCM-SHA256", True), ("ECDHE-ECDSA-AES128-SHA256", False)):
        tls = site.tls("fridge-1")
        tls.maximum_version = ssl.TLSVersion.TLSv1_2
        tls.set_ciphers(ciphers)
        with socket.create_connection(site.where) as raw:
            if good:
                with tls.wrap_socket(raw, server_hostname="localhost") as inside:
                    assert inside.version() == "TLSv1.2"
            else:
                with pytest.raises(OSError):
                    tls.wrap_socket(raw, server_hostname="localhost")


def test_a_strangers_ack_and_will_reach_nobody(site: SecureBroker) -> None:
    """An ack would have a board forget readings; a will speaks after its sender has gone. By a shared subscription
    (`$share`) nothing is heard either."""
    with Client(site.where, site.tls("fridge-1")) as board, Client(site.where, site.tls("gw-test")) as gateway:
        board.subscribe(ACK)
        gateway.subscribe("iso/1/+/status", "iso/1/+/up")
        forged = json.dumps({"boot": 1, "seq": 1_000_000}).encode()
        with Client(site.where, site.tls("fridge-2")) as thief:
            thief.subscribe("$share/g/iso/1/fridge-1/ack", "$share/g/#")
            thief.publish(ACK, forged)
            thief.publish(topics.topic("fridge-2", topics.ACK), forged)
            gateway.publish(ACK, b"true")
            assert board.next() == ("message", (ACK, b"true"))
            gateway.publish(topics.topic("fridge-2", topics.ACK), b"end")
            assert thief.events.get(timeout=10) == ("message", (topics.topic("fridge-2", topics.ACK), b"end"))
        last = Client(site.where, site.tls("fridge-2"))
        last.paho.will_set(topics.topic("fridge-1", topics.STATUS), b"offline", 1, True)
        try:
            with last:
                last.paho.socket().shutdown(2)  # type: ignore[union-attr]  # gone without a word: the will is due
                assert last.next()[0] == "disconnect"
        except ConnectionRefusedError:
            pass  # newer brokers refuse such a will at once
        board.publish(UP, b"mark")
        assert gateway.heard(b"mark") == []


def refused(site: SecureBroker, name: str) -> bool:
    try:
        with Client(site.where, site.tls(name)):
            return False
    except OSError:
        return True


def test_what_a_revoked_board_left_retained(site: SecureBroker) -> None:
    """Nobody hears it while the name is withdrawn; the next generation's own word takes its place."""
    from gateway.access import BrokerAccess

    access = BrokerAccess(site.access_folder, "home", site.fleet.root_key, site.reload)
    status = topics.topic("fridge-1", topics.STATUS)
    with Client(site.where, site.tls("fridge-1")) as thief:
        thief.publish(status, b"planted", retain=True)
    site.fleet.revoke("fridge-1")
    assert access.offer(site.fleet.access_document())
    wait_for(lambda: refused(site, "fridge-1"), what="the broker, which was only told to read its lists again")
    with Client(site.where, site.tls("gw-test")) as gateway:
        gateway.subscribe("iso/1/+/status")
        with Client(site.where, site.tls("fridge-2")) as other:
            other.publish(topics.topic("fridge-2", topics.STATUS), b"mark")
        assert gateway.heard(b"mark") == []
    site.admit("fridge-1", "board")
    assert access.offer(site.fleet.access_document())
    wait_for(lambda: not refused(site, "fridge-1"), what="the broker, once more")
    with Client(site.where, site.tls("fridge-1")) as board:
        board.publish(status, b"online", retain=True)
    with Client(site.where, site.tls("gw-test")) as gateway:
        gateway.subscribe("iso/1/+/status")
        assert gateway.next() == ("message", (status, b"online"))


def frame(first: int, last: int, value: int = 20_000) -> bytes:
    records = [(seq, SAMPLE, 0, value + seq, seq * 1000, 0) for seq in range(first, last + 1)]
    encoded: bytes = frames.encode(1, 0, 0, records)
    return encoded


def acked(board: Client) -> int:
    kind, message = board.next()
    assert kind == "message"
    return int(json.loads(message[1])["seq"])  # type: ignore[index]


def test_frames_replayed_reordered_altered_and_of_another_board(site: SecureBroker, daemon: Daemon) -> None:
    """A reading counts once and stays as it came first; what is altered on the way is none; a name is its owner's."""
    first, second = frame(1, 10), frame(11, 20)

    with Client(site.where, site.tls("fridge-1")) as board, Client(site.where, site.tls("fridge-2")) as thief:
        board.subscribe(ACK)
        board.publish(UP, second)  # the later first: kept, and acknowledged only once nothing is missing before it
        assert acked(board) == 0
        board.publish(UP, first)
        assert acked(board) == 20
        for again in (first, second, first):
            board.publish(UP, again)
            assert acked(board) == 20
        flipped = bytearray(first)
        flipped[-1] ^= 1
        board.publish(UP, bytes(flipped))
        board.publish(UP, frame(1, 10, value=99_000))  # the same numbers, other readings
        assert acked(board) == 20
        thief.publish(UP, frame(21, 30))
        board.publish(UP, frame(21, 21))
        assert acked(board) == 21
    wait_for(lambda: daemon.status()["ingest"]["rejected"].get("frame_crc") == 1, what="the altered frame")
    status = daemon.status()["devices"]["fridge-1"]
    assert status["covered_seq"] == 21
    seen = daemon.status()["ledger"]["totals"]
    assert (seen["duplicates"], seen["conflicts"]) == (30, 10)  # the gateway's own alarms count among the received


@pytest.mark.parametrize(
    ("said", "shown"),
    [(b"{", "makes no sense"), (b"[1]", "makes no sense"), (b'{"number": 1, "refused": "\\u001b[2Jx"}', "?[2Jx")],
)
def test_a_gateway_that_talks_nonsense_stops_no_revocation(site: SecureBroker, said: bytes, shown: str) -> None:
    """The operator's command says who did not put the list in force, and its terminal gets letters only."""
    with Client(site.where, site.tls("gw-test")) as gateway:
        gateway.publish(topics.topic("gw-test", topics.ACCESS_STATE), said, retain=True)
        document = site.fleet.access_document()
        with pytest.raises(DeadlineError) as refused:
            membership.send_access(site.where, site.tls("operator"), ["gw-test"], document, 1.0)
        assert shown in str(refused.value) and str(refused.value).isprintable()
        number = json.dumps({"number": site.fleet.registry.number}).encode()
        gateway.publish(topics.topic("gw-test", topics.ACCESS_STATE), number, retain=True)
        membership.send_access(site.where, site.tls("operator"), ["gw-test"], document, 10.0)
