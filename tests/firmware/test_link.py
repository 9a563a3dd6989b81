"""The link's state machine against a scripted network: bounds, back-off, window, resending, nonsense from outside."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from isocore import frame
from isonode import config
from isonode.link import Link
from isonode.mqtt import Session
from tests.firmware.fake_net import FakeOutbox, FakePoll, FakePort, FakeSocket, packets

CONNACK = b"\x20\x02\x00\x00"
SUBACK = b"\x90\x03\x00\x01\x00"
OPTIONS = {name: default for name, (_, _, default) in config.LINK_FIELDS.items()}
KEEPALIVE_MS = OPTIONS["keepalive_s"] * 1000
ACK_MS = OPTIONS["ack_timeout_ms"]


class Wire:
    """A link with its fakes, and the few things that tests do to it."""

    def __init__(self, **options: int) -> None:
        self.port = FakePort()
        self.poll = FakePoll()
        self.outbox = FakeOutbox()
        settings = SimpleNamespace(
            device="fridge-1", host="192.0.2.1", named=False, fallback="", port=1883, ssid="lab", wifi_password=""
        )
        settings.tls = settings.root_key = None
        settings.link = {**OPTIONS, **options}
        self.session = Session("fridge-1", OPTIONS["keepalive_s"], 4096)
        self.link = Link(self.port, self.poll, self.session, self.outbox, settings)
        self.link.boot = 1
        self.link.describe = lambda leaf: b'{"v":1}' if leaf == "meta" else None

    @property
    def sock(self) -> FakeSocket:
        return self.port.sockets[-1]

    def step(self, events: int = 0, times: int = 1) -> None:
        for _ in range(times):
            self.link.step(events)

    def connect(self) -> None:
        self.step()
        self.step(FakePort.POLLOUT)
        self.sock.incoming.append(CONNACK)
        self.step()
        self.sock.incoming.append(SUBACK + SUBACK)
        self.step(times=2)
        assert self.link.connects

    def append(self, count: int, urgent: bool = False) -> None:
        for _ in range(count):
            self.outbox.last += 1
            self.link.appended(self.outbox.last, urgent)

    def frames(self) -> list[tuple[int, int]]:
        got = [frame.decode(payload) for topic, payload in self.sock.published() if topic.endswith("/up")]
        return [(one.first_seq, one.last_seq) for one in got]

    def ack(self, seq: int, boot: Any = 1, **more: Any) -> None:
        self.message("ack", json.dumps({"boot": boot, "seq": seq, "t": 1800000000, "ms": 0, **more}).encode())

    def message(self, leaf: str, payload: bytes) -> None:
        topic = b"iso/1/fridge-1/" + leaf.encode()
        body = len(topic).to_bytes(2, "big") + topic + payload
        size = len(body)
        head = bytearray(b"\x30")
        while size > 127:
            head.append(size & 127 | 128)
            size >>= 7
        head.append(size)
        self.sock.incoming.append(bytes(head) + body)
        self.step(FakePort.POLLIN)


@pytest.fixture
def wire() -> Wire:
    return Wire()


def test_meta_and_status_come_before_any_frame(wire: Wire) -> None:
    wire.append(25)
    wire.connect()
    wire.step(times=3)
    published = wire.sock.published()
    assert [topic.rsplit("/", 1)[1] for topic, _ in published] == ["meta", "status", "up", "up"]
    assert published[1][1] == b"online"
    connect = packets(bytes(wire.sock.sent))[0]
    assert connect[0] == 0x10 and connect[1].endswith(b"\x00\x07offline")
    assert connect[1][7] == 0x26  # clean session, will, will retained; MQTT 3.1.1 figure 3.4
    assert len(wire.sock.writes) == len(packets(bytes(wire.sock.sent))) - 1  # one write each; the SUBSCRIBEs share one


def test_the_window_is_bounded_and_acks_open_it(wire: Wire) -> None:
    wire.append(200)
    wire.connect()
    wire.step(times=10)
    assert wire.frames() == [(1, 10), (11, 20), (21, 30), (31, 40)]
    wire.ack(20)
    wire.step(times=5)
    assert wire.frames()[4:] == [(41, 50), (51, 60)]
    assert wire.outbox.acks == [(1, 20)]


def test_a_small_frame_lingers_unless_it_is_urgent(wire: Wire) -> None:
    wire.connect()
    wire.append(3)
    wire.step(times=3)
    assert wire.frames() == [] and wire.link.next_ms() == OPTIONS["linger_ms"]
    wire.port.go(OPTIONS["linger_ms"])
    wire.step()
    assert wire.frames() == [(1, 3)]
    wire.append(1, urgent=True)
    wire.step()
    assert wire.frames() == [(1, 3), (4, 4)]


def test_events_overtake_a_full_window(wire: Wire) -> None:
    wire.append(400)
    wire.connect()
    wire.step(times=10)
    wire.append(1, urgent=True)
    wire.outbox.urgent = [401]
    wire.step()
    assert wire.frames()[-1] == (401, 401)
    wire.ack(0, got=[401, 401])
    assert wire.outbox.got == [(401, 401)]
    assert wire.link.retransmits == 0


def test_without_acks_it_sends_again_and_then_reconnects(wire: Wire) -> None:
    wire.append(20)
    wire.connect()
    wire.step(times=3)
    rounds = 0
    first = wire.sock
    while wire.sock is first and rounds < 100:
        rounds += 1
        assert wire.link.next_ms() <= max(KEEPALIVE_MS, OPTIONS["backoff_max_ms"])
        wire.port.go(max(1, wire.link.next_ms()))
        wire.sock.incoming.append(b"\xd0\x00")  # the broker is alive; the gateway is not
        wire.step()
    assert wire.frames() == [] and first.closed == 1
    wire.port.sockets.append(first)
    assert wire.frames() == [(1, 10), (11, 20)] * 3
    assert wire.link.retransmits == 4
    assert wire.link.last_error.startswith("no_ack")


def test_a_lost_frame_is_sent_again_at_once(wire: Wire) -> None:
    wire.append(40)
    wire.connect()
    wire.step(times=10)
    wire.ack(0, got=[11, 20])
    wire.ack(0, got=[21, 30])
    wire.step(times=3)
    assert wire.frames()[4:] == [(1, 10), (11, 20), (21, 30), (31, 40)]  # once, not twice
    wire.ack(40)
    assert wire.link.retransmits == 4


def test_silence_is_found_within_two_keep_alives(wire: Wire) -> None:
    wire.connect()
    start = wire.port.now
    while wire.sock.closed == 0:
        wire.port.go(max(1, wire.link.next_ms()))
        wire.step()
        assert wire.port.ticks_diff(wire.port.now, start) <= 2 * KEEPALIVE_MS
    assert packets(bytes(wire.sock.sent))[-1] == (0xC0, b"")
    assert wire.link.last_error.startswith("silence")


def test_silence_is_found_while_nothing_can_be_sent(wire: Wire) -> None:
    wire.connect()
    wire.sock.room = 0
    wire.append(50)
    start = wire.port.now
    while wire.sock.closed == 0:
        wire.port.go(max(1, wire.link.next_ms()))
        wire.step()
        assert wire.port.ticks_diff(wire.port.now, start) <= 2 * KEEPALIVE_MS


def test_pings_keep_a_quiet_link(wire: Wire) -> None:
    wire.connect()
    for _ in range(20):
        wire.port.go(max(1, wire.link.next_ms()))
        wire.step()
        wire.sock.incoming.append(b"\xd0\x00")
        wire.step(FakePort.POLLIN)
    assert wire.sock.closed == 0
    assert packets(bytes(wire.sock.sent)).count((0xC0, b"")) == 20


def test_partial_writes_are_finished_in_order(wire: Wire) -> None:
    wire.append(40)
    wire.connect()
    wire.sock.room = 7
    for _ in range(400):
        wire.step(FakePort.POLLOUT)
        if wire.session.sending:
            assert wire.poll.masks[wire.sock] & FakePort.POLLOUT
        if len(wire.sock.sent) > 900:
            break
    wire.sock.room = -1
    wire.step(times=5)
    assert wire.frames() == [(1, 10), (11, 20), (21, 30), (31, 40)]
    assert not wire.poll.masks[wire.sock] & FakePort.POLLOUT


def test_one_step_is_bounded(wire: Wire) -> None:
    wire.append(2000)
    wire.link._options["window"] = 16
    wire.connect()
    before = len(wire.sock.writes)
    wire.step()
    assert len(wire.sock.writes) - before <= 5
    wire.sock.incoming += [b"\xd0\x00" * 256] * 100
    wire.step(FakePort.POLLIN)
    assert len(wire.sock.incoming) >= 90


@pytest.mark.parametrize("attempts", [12])
def test_back_off_is_jittered_bounded_and_closes_every_socket(wire: Wire, attempts: int) -> None:
    for _ in range(attempts):
        while not wire.port.sockets or wire.sock.closed:
            wire.port.go(max(1, wire.link.next_ms()))
            wire.step()
        wire.step(FakePort.POLLERR)
    ceilings = wire.port.limits
    assert ceilings[:3] == [500, 1000, 2000] and max(ceilings) == OPTIONS["backoff_max_ms"]
    assert [sock.closed for sock in wire.port.sockets] == [1] * attempts
    assert wire.poll.masks == {}


def test_networks_that_do_not_connect(wire: Wire) -> None:
    wire.port.connect_error = OSError(118)
    wire.step()
    assert wire.link.last_error.startswith("connect")
    assert wire.port.sockets == []


@pytest.mark.parametrize("stage", ["connecting", "greeting", "subscribing"])
def test_every_stage_has_a_deadline(wire: Wire, stage: str) -> None:
    wire.step()
    if stage != "connecting":
        wire.step(FakePort.POLLOUT)
    if stage == "subscribing":
        wire.sock.incoming.append(CONNACK)
        wire.step()
    assert 0 < wire.link.next_ms() <= OPTIONS["connect_timeout_ms"]
    wire.port.go(OPTIONS["connect_timeout_ms"])
    wire.step()
    assert wire.sock.closed == 1
    assert wire.link.last_error == "timeout: " + stage


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"\x20\x02\x00\x05", "refused: not authorised"),
        (b"\x20\x02\x00\x63", "refused: 99"),
        (b"\x20\x03\x00\x00\x00", "protocol"),
        (b"\x30\x04\x00\x01ax", "protocol"),
        (b"HTTP/1.1 400 Bad Request", "protocol"),
    ],
)
def test_brokers_that_say_no(wire: Wire, answer: bytes, error: str) -> None:
    wire.step()
    wire.step(FakePort.POLLOUT)
    wire.sock.incoming.append(answer)
    wire.step()
    assert wire.link.last_error.startswith(error)
    assert wire.sock.closed == 1
    if error.startswith("refused"):
        assert wire.port.limits[-1] == OPTIONS["backoff_max_ms"]


def test_a_refused_subscription(wire: Wire) -> None:
    wire.step()
    wire.step(FakePort.POLLOUT)
    wire.sock.incoming.append(CONNACK)
    wire.step()
    wire.sock.incoming.append(b"\x90\x03\x00\x01\x80")
    wire.step()
    assert wire.link.last_error == "refused: subscription"


def test_wifi_that_never_comes_is_switched_off_and_on(wire: Wire) -> None:
    wire.port.up = False
    for _ in range(400):
        wire.step()
        wire.port.go(max(1, wire.link.next_ms()))
    assert wire.port.leaves >= 2 and wire.port.joins == wire.port.leaves + 1
    wire.port.up = True
    wire.port.go(60_000)
    wire.step(times=2)
    assert wire.port.sockets


def test_wifi_lost_closes_the_session(wire: Wire) -> None:
    wire.connect()
    wire.port.up = False
    wire.step()
    assert wire.sock.closed == 1 and wire.link.last_error == "wifi: lost"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"7",
        b"null",
        b"{}",
        b'{"boot":1}',
        b'{"boot":"1","seq":2}',
        b'{"boot":2,"seq":1}',
        b'{"boot":1,"seq":31}',
        b'{"boot":1,"seq":5,"got":3}',
        b'{"boot":1,"seq":5,"got":[1]}',
        b'{"boot":1,"seq":5,"got":[1,"2"]}',
        b'{"boot":1,"seq":5,"got":{"0":1}}',
        b'{"boot":1,"seq":5,"t":1800000000,"ms":1.5}',
        b'{"boot":1,"seq":5,"t":1800000000,"ms":[]}',
        b'{"boot":1,"seq":5,"t":"now"}',
        b'{"boot":1,"seq":5,"top":4294967296}',
        b'{"boot":-1,"seq":5}',
        b'{"boot":1,"seq":' + b"9" * 200 + b"}",
        b'{"boot":1,"seq":5,"more":"' + b"x" * 300 + b'"}',
        b"{" * 200,
    ],
)
def test_acks_that_cannot_be_are_counted_and_free_nothing(wire: Wire, payload: bytes) -> None:
    wire.append(30)
    wire.connect()
    wire.step(times=3)
    wire.message("ack", payload)
    assert wire.link.bad_messages == 1 and wire.outbox.acked == 0
    assert wire.sock.closed == 0
    wire.message("nonsense", b"x")
    assert wire.link.bad_messages == 2


def test_a_poison_pill_is_skipped_on_every_connect(wire: Wire) -> None:
    wire.connect()
    seen: list[bytes] = []
    wire.link.on_model = lambda payload: seen.append(bytes(payload))
    wire.message("model/set", b"m" * 100_000)
    for _ in range(100):
        wire.step(FakePort.POLLIN)
    assert seen == [] and wire.session.reader.oversized == 1 and wire.sock.closed == 0
    wire.message("model/set", b"m" * 3000)
    wire.step(FakePort.POLLIN)
    assert seen == [b"m" * 3000]
    wire.message("model/set", b"")  # how a retained message is taken back
    assert len(seen) == 1


def test_a_broken_pipe_is_one_typed_error(wire: Wire) -> None:
    wire.connect()
    wire.sock.error = OSError(104)
    wire.append(10)
    wire.step()
    assert wire.link.last_error.startswith("io") and wire.sock.closed == 1


def test_a_gateway_that_is_back_is_not_waited_for(wire: Wire) -> None:
    wire.append(10)
    wire.connect()
    wire.step()
    wire.port.go(ACK_MS)
    wire.step()
    assert wire.link.retransmits == 1
    assert wire.link.next_ms() > ACK_MS
    wire.ack(0)
    assert wire.link.next_ms() <= ACK_MS


def test_a_board_that_asks_for_its_number_sends_no_frame_before_the_answer(wire: Wire) -> None:
    known: list[int] = []
    wire.link.asking = True
    wire.link.on_known = known.append
    wire.append(3, urgent=True)
    wire.connect()

    def questions() -> int:
        return sum(topic.endswith("/meta") for topic, _ in wire.sock.published())

    asked = questions()
    assert asked == 1 and wire.frames() == []
    for _ in range(5):  # for as long as it takes, on one session, ever later
        wire.port.go(ACK_MS + OPTIONS["backoff_max_ms"])
        wire.message("ack", b"{}")  # the broker is there
        wire.step()
    assert questions() > asked + 2 and wire.frames() == [] and wire.link.connects == 1
    wire.message("ack", b'{"boot":0,"seq":0,"t":1800000000,"ms":0,"top":6}')
    wire.step()
    assert known == [6]
    wire.link.asking = False
    wire.link.renew()
    wire.step(times=3)
    assert wire.frames() == [(1, 3)]


def hal_functions(is_rp2: bool, station: object, network: object = None) -> dict[str, Any]:
    """The hal's functions for Wi-Fi, as they stand there: the file itself wants a board's modules."""
    source = (Path(__file__).resolve().parents[2] / "firmware" / "isonode" / "hal.py").read_text()
    wanted = ("wifi_begin", "wifi_gave_up", "wifi_why")
    found = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name in wanted]
    scope: dict[str, Any] = {"IS_RP2": is_rp2, "_station": [station], "network": network}
    scope.update(_CONNECTING=1001, _RECONNECTS=3)
    exec(compile(ast.Module(list(found), []), "hal.py", "exec"), scope)
    return scope


@pytest.mark.parametrize(
    ("is_rp2", "status", "why", "gave_up"),
    [
        (False, 201, "no such network", True),
        (True, -2, "no such network", True),
        (False, 15, "wrong password", True),
        (False, 202, "wrong password", True),
        (True, -3, "wrong password", True),
        (False, 210, "password missing", True),
        (False, 1001, "stuck connecting", False),
        (True, 1, "stuck connecting", False),
        (True, 2, "no address given", False),
        (False, 2, "not joined (2)", True),
        (False, 203, "not joined (203)", True),
    ],
)
def test_wifi_that_does_not_come_up_says_why(wire: Wire, is_rp2: bool, status: int, why: str, gave_up: bool) -> None:
    """Codes of ESP32 (network.STAT_*, esp_wifi_types.h) and RP2 (cyw43.h); at once when the chip tries no longer."""
    functions = hal_functions(is_rp2, SimpleNamespace(status=lambda: status))
    wire.port.wifi_why = functions["wifi_why"]  # type: ignore[method-assign]
    wire.port.wifi_gave_up = functions["wifi_gave_up"]  # type: ignore[method-assign]
    wire.port.up = False
    wire.step()
    assert (wire.link.last_error == "wifi: " + why) == gave_up
    wire.port.go(30_000)
    wire.step(times=1 if not gave_up else 0)
    assert wire.link.last_error == "wifi: " + why and wire.port.leaves == 1


@pytest.mark.parametrize(
    ("is_rp2", "connected", "status", "address", "then"),
    [
        (False, False, 1000, "0.0.0.0", "connect"),
        (False, False, 201, "0.0.0.0", "connect"),
        (False, False, 1001, "0.0.0.0", "wait"),  # has begun by itself
        (False, True, 1010, "192.0.2.7", "wait"),
        (False, True, 1010, "0.0.0.0", "raise"),
        (True, False, 0, "0.0.0.0", "connect"),
        (True, False, -3, "0.0.0.0", "connect"),
        (True, True, 3, "192.0.2.7", "wait"),
    ],
)
def test_the_radio_is_told_what_its_port_takes(
    is_rp2: bool, connected: bool, status: int, address: str, then: str
) -> None:
    """Power save off on RP2, whose `config` knows no `reconnects`; bounded tries on ESP32."""
    options: dict[str, int] = {}
    joins: list[tuple[str, str | None]] = []
    station = SimpleNamespace(
        active=lambda up: None,
        config=lambda **given: options.update(given),
        isconnected=lambda: connected,
        status=lambda: status,
        ifconfig=lambda: (address,),
        connect=lambda ssid, key: joins.append((ssid, key)),
    )
    begin = hal_functions(is_rp2, station, SimpleNamespace(WLAN=SimpleNamespace(PM_NONE=16)))["wifi_begin"]
    if then == "raise":
        with pytest.raises(OSError, match="address lost"):
            begin("lab", "")
    else:
        begin("lab", "")
    assert joins == ([("lab", None)] if then == "connect" else [])
    assert options == ({"pm": 16} if is_rp2 else {"reconnects": 3})


def test_a_radio_that_refuses_is_restarted(wire: Wire) -> None:
    def refuse(*_: str) -> None:
        raise OSError("Wifi Internal Error")

    wire.port.wifi_begin = refuse  # type: ignore[method-assign]
    wire.step()
    assert wire.link.last_error == "wifi: Wifi Internal Error" and wire.port.leaves == 1 and wire.link.next_ms() > 0
