"""The session: the parent's packets byte for byte, and nothing of its reading, with both of umqtt's interfaces."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from isocore import topics
from tests.firmware.conftest import Bench
from tests.firmware.fake_net import FakeSocket, packets
from tests.firmware.test_board import DEADLINE_S, drained, gapless, seqs, wave
from tests.firmware.test_models import KEY, container
from tests.support.ack_gateway import AckGateway

# micropython-lib's newer interface (`ssl` is a context, `connect` takes a time-out, sizes are unbounded), in our own
# words: what a subclass can see of it. Package registries have 1.3.4 as the last; the newer comes by `mip` only.
NEWER = """
import struct

class MQTTException(Exception):
    pass

class MQTTClient:
    def __init__(self, client_id, server, port=0, user=None, password=None, keepalive=0, ssl=None):
        if ssl is not None and not hasattr(ssl, "wrap_socket"):
            raise TypeError("ssl is a context")
        self.client_id, self.server, self.port, self.ssl = client_id, server, port or (8883 if ssl else 1883), ssl
        self.user, self.pswd, self.keepalive = user, password, keepalive
        self.sock, self.pid, self.cb = None, 0, None
        self.lw_topic, self.lw_msg, self.lw_qos, self.lw_retain = None, None, 0, False

    def _send_str(self, s):
        self.sock.write(struct.pack("!H", len(s)))
        self.sock.write(s)

    def set_callback(self, f):
        self.cb = f

    def set_last_will(self, topic, msg, retain=False, qos=0):
        self.lw_topic, self.lw_msg, self.lw_qos, self.lw_retain = topic, msg, qos, retain

    def connect(self, clean_session=True, timeout=None):
        raise AssertionError("blocks")

    def disconnect(self):
        raise AssertionError("leaves a TLS session's socket open")

    def _recv_len(self):
        raise AssertionError("blocks")

    def ping(self):
        self.sock.write(b"\\xc0\\0")

    def publish(self, topic, msg, retain=False, qos=0):
        head = bytearray([0x30 | qos << 1 | retain])
        size = 2 + len(topic) + len(msg)
        while size > 0x7F:
            head.append(size & 0x7F | 0x80)
            size >>= 7
        head.append(size)
        self.sock.write(head, len(head))
        self._send_str(topic)
        self.sock.write(msg)

    def subscribe(self, topic, qos=0):
        assert self.cb is not None
        self.pid += 1
        head = bytearray(b"\\x82\\0\\0\\0")
        struct.pack_into("!BH", head, 1, 2 + 2 + len(topic) + 1, self.pid)
        self.sock.write(head)
        self._send_str(topic)
        self.sock.write(qos.to_bytes(1, "little"))
        while 1:
            if self.wait_msg() == 0x90:
                resp = self.sock.read(4)
                assert resp[1] == head[2] and resp[2] == head[3]
                if resp[3] == 0x80:
                    raise MQTTException(resp[3])
                return

    def wait_msg(self):
        raise AssertionError("blocks")

    def check_msg(self):
        raise AssertionError("blocks")
"""


@pytest.fixture(params=["1.3.4", "newer"])
def mqtt(request: pytest.FixtureRequest, tmp_path: Path, umqtt_file: Path) -> Iterator[ModuleType]:
    """isonode.mqtt over one of the two parents."""
    package = tmp_path / "umqtt"
    package.mkdir()
    text = NEWER if request.param == "newer" else umqtt_file.read_text(encoding="utf-8")
    (package / "simple.py").write_text(text, encoding="utf-8")
    names = ("umqtt", "umqtt.simple", "isonode.mqtt")
    before = {name: sys.modules.pop(name, None) for name in names}
    sys.path.insert(0, str(tmp_path))
    try:
        yield importlib.import_module("isonode.mqtt")
    finally:
        sys.path.remove(str(tmp_path))
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


def sent(session: object, sock: FakeSocket) -> bytes:
    assert session.flush()  # type: ignore[attr-defined]
    data = bytes(sock.sent)
    sock.sent.clear()
    return data


def test_connect_longer_than_127_bytes(mqtt: ModuleType) -> None:
    session = mqtt.Session("fridge-1", 30, 4096, "u" * 100, "p" * 100)
    session.set_last_will("iso/1/fridge-1/status", b"offline", True)
    sock = FakeSocket()
    session.attach(sock)
    session.put_connect()
    ((head, body),) = packets(sent(session, sock))
    assert head == 0x10 and len(body) > 127
    assert body[:10] == b"\x00\x04MQTT\x04\xe6\x00\x1e"  # MQTT 3.1.1 clause 3.1.2: user, password, will, keep-alive 30
    fields, at = [], 10
    while at < len(body):
        size = int.from_bytes(body[at : at + 2], "big")
        fields.append(body[at + 2 : at + 2 + size])
        at += 2 + size
    assert fields == [b"fridge-1", b"iso/1/fridge-1/status", b"offline", b"u" * 100, b"p" * 100]


def test_packets_are_one_write_each(mqtt: ModuleType) -> None:
    session = mqtt.Session("a", 30, 4096)
    sock = FakeSocket()
    session.attach(sock)
    session.put_publish("iso/1/a/up", b"\x01" * 200)
    assert packets(sent(session, sock)) == [(0x30, b"\x00\x0aiso/1/a/up" + b"\x01" * 200)]
    session.put_publish("iso/1/a/status", b"online", True)
    assert packets(sent(session, sock)) == [(0x31, b"\x00\x0eiso/1/a/statusonline")]
    session.put_ping()
    assert packets(sent(session, sock)) == [(0xC0, b"")]
    assert len(sock.writes) == 3


def test_a_packet_larger_than_the_buffer(mqtt: ModuleType) -> None:
    session = mqtt.Session("a", 30, 4096)
    sock = FakeSocket()
    session.attach(sock)
    for size in (5000, 3, 4000):
        session.put_publish("t", bytes(size))
        assert packets(sent(session, sock)) == [(0x30, b"\x00\x01t" + bytes(size))]


def test_the_packet_id_wraps(mqtt: ModuleType) -> None:
    session = mqtt.Session("a", 30, 4096)
    sock = FakeSocket()
    session.attach(sock)
    session.pid = 65534
    for want in (65535, 1):
        session.put_subscribe("x/y")
        assert packets(sent(session, sock)) == [(0x82, want.to_bytes(2, "big") + b"\x00\x03x/y\x00")]


def test_subscriptions_may_share_a_write(mqtt: ModuleType) -> None:
    session = mqtt.Session("a", 30, 4096)
    sock = FakeSocket()
    session.attach(sock)
    session.put_subscribe("x")
    session.put_subscribe("y")
    assert packets(sent(session, sock)) == [(0x82, b"\x00\x01\x00\x01x\x00"), (0x82, b"\x00\x02\x00\x01y\x00")]
    assert len(sock.writes) == 1


def test_a_large_packet_is_given_back_and_a_frame_stays_where_it_was(mqtt: ModuleType) -> None:
    session = mqtt.Session("a", 30, 4096)
    session.attach(FakeSocket())
    usual = session.sock.data
    session.put_publish("iso/1/a-device-of-thirty-two-letters-in-all/up", bytes(24 + 32 * 14 + 16))
    assert session.flush() and session.sock.data is usual, "a tagged frame of a whole batch"
    before = len(usual)
    session.put_publish("t", bytes(5000))
    assert len(session.sock.data) > 5000 and session.flush() and len(session.sock.data) == before
    session.put_publish("t", bytes(5000))
    session.close()
    assert len(session.sock.data) == before


@pytest.mark.parametrize("parts", [[b"\xd0\x00"], [b"\xd0", b"\x00"], [b"\xd0\x00\xd0\x00", b"\xd0\x00"]])
def test_an_answer_to_a_ping_is_something_that_came_and_no_more(mqtt: ModuleType, parts: list[bytes]) -> None:
    session = mqtt.Session("a", 30, 4096)
    sock = FakeSocket()
    session.attach(sock)
    for part in parts:
        sock.incoming.append(part)
        assert session.receive()
    assert not session.receive()
    sock.incoming.append(b"\x20\x02\x00\x00")
    assert session.receive() and session.accepted, "the next packet is read from its start"


def test_two_bytes_inside_a_packet_are_no_answer_to_a_ping(mqtt: ModuleType) -> None:
    session = mqtt.Session("a", 30, 4096)
    sock = FakeSocket()
    session.attach(sock)
    session.accepted = True
    came: list[bytes] = []
    session.on_message = lambda topic, payload: came.append(bytes(payload))
    for part in (b"\x30\x05\x00\x01t", b"\xd0\x00"):
        sock.incoming.append(part)
        session.receive()
    assert came == [b"\xd0\x00"]
    sock.incoming.append(b"\xd0\x01")
    with pytest.raises(mqtt.LinkError):  # not of this length: the parser has to see it
        session.receive()
        sock.incoming.append(b"\x00\x00")
        session.receive()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(110), "timeout"),  # Linux
        (OSError(116), "timeout"),  # newlib, and so ESP32 and RP2
        (OSError(-110), "timeout"),  # out of a TLS session
        (OSError(-116), "timeout"),
        (OSError(-0x6800), "timeout"),  # MBEDTLS_ERR_SSL_TIMEOUT
        (OSError(104), "io"),
        (OSError(-0x7780, "fatal alert"), "io"),
        (OSError(), "io"),
        (OSError("words"), "io"),
        (ValueError("certificate"), "tls"),
    ],
)
def test_every_error_of_a_connection_has_one_reason(mqtt: ModuleType, error: Exception, reason: str) -> None:
    session = mqtt.Session("a", 30, 4096)

    class Broken:
        def write(self, data: bytes) -> int:
            raise error

        def readinto(self, buf: bytearray) -> int:
            raise error

    for act in (session.receive, session.flush):
        session.connection = Broken()
        session.put_ping()
        with pytest.raises(mqtt.LinkError) as caught:
            act()
        assert caught.value.reason == reason


@pytest.mark.micropython
@pytest.mark.mosquitto
def test_a_board_delivers_over_the_newer_interface(bench: Bench, gateway: AckGateway) -> None:
    """A whole board against a real broker: records up, acknowledgements and a model down, over a broken session too."""
    bench.take_sources({"lib/umqtt/simple.py": NEWER.encode()})
    config = bench.config("newer", model_keys=[{"id": "ops", "key": KEY.public_key.hex()}], trial_samples=1)
    board = bench.board(config, wave(300), speed=6_000, heap_bytes=512 << 10)
    gateway.publish(topics.topic("newer", topics.MODEL_SET), container(1), retain=True)
    board.start()
    assert board.wait_for(lambda: board.counters.get("model_sequence") == 1, DEADLINE_S), list(board.log)
    board.drop_wifi()
    assert board.wait_for(lambda: board.counters["outbox"] > 5, DEADLINE_S), board.counters
    board.restore_wifi()
    assert board.wait_for(lambda: board.trace_done and drained(board), DEADLINE_S), board.counters
    board.stop()
    assert board.boots == 1 and gapless(seqs(gateway, "newer", 1))
    gateway.publish(topics.topic("newer", topics.MODEL_SET), b"", retain=True)
