"""Names to addresses without waiting: the packets, the order in which addresses are tried, and whole boards."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_tools.virtual.tap import read_tap
from isonode.errors import LinkError
from isonode.finder import _ASK_EVERY_MS
from isonode.resolver import MDNS, TRIES_MS, Resolver, address_in, query
from tests.firmware.conftest import Bench
from tests.firmware.fake_net import FakePoll, FakePort
from tests.firmware.test_board import DEADLINE_S, drained, gapless, seqs, wave
from tests.firmware.test_link import Wire
from tests.support.ack_gateway import AckGateway
from tests.support.mosquitto import Mosquitto
from tests.support.name_server import NameServer, answer

FALLBACK = "192.0.2.9"
QUESTION = query("gw.lan", 0x1234)


def test_a_question_byte_for_byte() -> None:
    assert QUESTION == b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02gw\x03lan\x00\x00\x01\x00\x01"


def test_answers_through_an_alias_and_in_other_letters() -> None:
    assert address_in(answer(QUESTION, "192.0.2.1"), QUESTION) == "192.0.2.1"
    assert address_in(answer(query("GW.lan", 0x1234), "192.0.2.1"), QUESTION) == "192.0.2.1"


@pytest.mark.parametrize("other", [query("gw.lan", 0x1235), query("gx.lan", 0x1234)])
def test_answers_to_other_questions_are_none(other: bytes) -> None:
    assert address_in(answer(other, "192.0.2.1"), QUESTION) is None
    assert address_in(QUESTION, QUESTION) is None  # a question is no answer


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (answer(QUESTION, None, 3), "no such name"),
        (answer(QUESTION, None, 2), "name server says 2"),
        (answer(QUESTION, None), "no address"),
        (answer(QUESTION, "224.0.0.1"), "no address"),
        (answer(QUESTION, "0.0.0.0"), "no address"),
    ],
)
def test_answers_that_help_nobody(reply: bytes, says: str) -> None:
    with pytest.raises(LinkError, match=says):
        address_in(reply, QUESTION)


@given(st.binary(max_size=80), st.booleans())
def test_whatever_comes_is_an_address_none_or_one_error(tail: bytes, ours: bool) -> None:
    reply = QUESTION[:2] + b"\x81\x80\x00\x01\xff\xff\0\0\0\0" + QUESTION[12:] + tail if ours else tail
    try:
        found = address_in(reply, QUESTION)
    except LinkError as error:
        assert error.reason == "resolve"
    else:
        assert found is None or found.count(".") == 3


@pytest.mark.parametrize(("name", "server"), [("gw", ("192.0.2.53", 53)), ("Pi.local", MDNS)])
def test_a_silent_server_costs_four_seconds_and_no_waiting(name: str, server: tuple[str, int]) -> None:
    port = FakePort()
    poll = FakePoll()
    resolver = Resolver(port, poll, name)
    start = port.now
    with pytest.raises(LinkError, match="no answer"):
        while True:
            assert resolver.step(port.now) is None
            port.go(100)
    assert port.ticks_diff(port.now, start) == sum(TRIES_MS) == 4000
    resolver.close()
    (sock,) = port.datagrams
    assert [address for _, address in sock.asked] == [server] * len(TRIES_MS)
    assert (sock.address is None) == (server == MDNS)  # one-shot mDNS is answered by whom it concerns
    assert sock.closed == 1 and poll.masks == {}


# ---- which address is tried ------------------------------------------------------------------------------------------


class Named(Wire):
    """A link to a gateway given by name."""

    def __init__(self, fallback: str = FALLBACK) -> None:
        super().__init__()
        self.link._config.named = True
        self.link._config.host = "gw"
        self.link._config.fallback = fallback

    def next_attempt(self) -> None:
        before = len(self.port.tried)
        for _ in range(2000):
            self.port.go(max(1, self.link.next_ms()))
            self.step()
            if len(self.port.tried) > before:
                return
        raise AssertionError("no attempt was made")

    def answer(self, address: str | None, code: int = 0) -> None:
        question = self.port.datagrams[-1].asked[-1][0]
        self.port.datagrams[-1].incoming.append(answer(question, address, code))
        self.step(FakePort.POLLIN)

    def come_up(self) -> None:
        self.step(FakePort.POLLOUT)
        self.sock.incoming.append(b"\x20\x02\x00\x00")
        self.step()
        self.sock.incoming.append(b"\x90\x03\x00\x01\x00" * 2)
        self.step(times=2)

    def lose(self) -> None:
        self.sock.eof = True
        self.step(FakePort.POLLIN)

    @property
    def questions(self) -> int:
        return len(self.port.datagrams)


def test_the_name_is_asked_for_once_while_its_address_works() -> None:
    wire = Named()
    wire.step()
    wire.answer("192.0.2.1")
    wire.come_up()
    for _ in range(5):
        wire.lose()
        wire.next_attempt()
        wire.come_up()
    assert wire.link.connects == 6 and wire.port.tried == ["192.0.2.1"] * 6
    assert wire.questions == 1


def test_a_failing_address_is_asked_for_anew_at_a_bounded_rate() -> None:
    wire = Named()
    wire.step()
    wire.answer("192.0.2.1")
    wire.come_up()
    wire.lose()
    start = wire.port.now
    wire.next_attempt()
    assert wire.port.tried[-1] == "192.0.2.1" and wire.questions == 1
    elapsed_ms = 0
    while elapsed_ms < 5 * _ASK_EVERY_MS:
        wire.step(FakePort.POLLERR)  # refused
        before = wire.questions
        for _ in range(400):  # the back-off, and a name server that says nothing
            wire.port.go(max(1, wire.link.next_ms()))
            wire.step()
            if wire.link.state == 3:
                break
        elapsed_ms = wire.port.ticks_diff(wire.port.now, start)
        assert wire.questions - before <= 1
    assert 2 <= wire.questions <= 2 + elapsed_ms // _ASK_EVERY_MS
    assert {"192.0.2.1", FALLBACK} == set(wire.port.tried), "both are tried meanwhile"
    assert all(one.closed == 1 for one in wire.port.datagrams)


def test_a_gateway_that_moved_is_found() -> None:
    wire = Named("")
    wire.step()
    wire.answer("192.0.2.1")
    wire.come_up()
    wire.lose()
    wire.next_attempt()
    wire.step(FakePort.POLLERR)
    while wire.questions < 2:
        wire.port.go(max(1, wire.link.next_ms()))
        wire.step()
    wire.answer("192.0.2.2")
    assert wire.port.tried[-1] == "192.0.2.2"
    wire.come_up()
    assert wire.link.connects == 2


@pytest.mark.parametrize("how", ["silent", "no such name", "no server"])
def test_the_fallback_serves_when_the_name_does_not(how: str) -> None:
    wire = Named()
    if how == "no server":
        wire.port.dns = ""
    wire.step()
    if how == "no such name":
        wire.answer(None, 3)
    for _ in range(50):
        if wire.port.tried:
            break
        wire.port.go(max(1, wire.link.next_ms()))
        wire.step()
    assert wire.port.tried == [FALLBACK]
    wire.come_up()
    assert wire.link.connects == 1
    assert wire.link.last_error.startswith("resolve"), "it is told although the fallback serves"


def test_without_a_fallback_it_is_a_reason_and_no_crash() -> None:
    wire = Named("")
    wire.port.dns = ""
    wire.step()
    assert wire.link.last_error == "resolve: gw: no name server known" and wire.port.tried == []
    wire.port.dns = "192.0.2.53"
    wire.port.go(_ASK_EVERY_MS)
    wire.step()
    wire.answer("192.0.2.1")
    assert wire.port.tried == ["192.0.2.1"]


def test_wifi_lost_while_asking() -> None:
    wire = Named()
    wire.step()
    wire.port.up = False
    wire.step()
    assert wire.link.last_error == "wifi: lost" and wire.port.datagrams[0].closed == 1 and wire.poll.masks == {}
    wire.port.up = True
    wire.port.go(wire.link.next_ms())
    wire.step()
    assert wire.questions == 2, "another network, perhaps: asked at once"


# ---- whole boards ----------------------------------------------------------------------------------------------------

WIFI = {"ssid": "lab", "password": "correct horse"}


@pytest.fixture
def names() -> Iterator[NameServer]:
    server = NameServer()
    yield server
    server.close()


def named_board(bench: Bench, device: str, names: NameServer, **gateway: Any) -> Any:
    config = bench.config(device, wifi=WIFI, gateway={"port": bench.port, **gateway})
    ports = {53: names.port, MDNS[1]: names.port}
    return bench.board(config, wave(300), speed=6_000, wifi=WIFI, udp_ports=ports)


@pytest.mark.micropython
@pytest.mark.mosquitto
@pytest.mark.parametrize("name", ["gateway", "raspberry-pi.local"])
def test_a_board_finds_its_gateway_by_name(
    bench: Bench, gateway: AckGateway, names: NameServer, broker: Mosquitto, name: str
) -> None:
    names.names[name] = "127.0.0.1"
    device = "named-" + name.replace(".", "-")
    board = named_board(bench, device, names, host=name)
    board.start()
    assert board.wait_for(lambda: board.counters.get("acked", 0) > 3, DEADLINE_S), list(board.log)
    broker.kill()
    assert board.wait_for(lambda: board.counters["outbox"] > 10, DEADLINE_S), board.counters
    broker.start()
    assert board.wait_for(lambda: board.trace_done and drained(board), DEADLINE_S), board.counters
    board.stop()
    assert gapless(seqs(gateway, device, 1)) and board.counters["missed"] == 0
    assert 1 <= len(names.asked) <= 2 and set(names.asked) == {name}


@pytest.mark.micropython
@pytest.mark.mosquitto
def test_a_silent_name_server_delays_no_sample(bench: Bench, gateway: AckGateway, names: NameServer) -> None:
    """While the name is asked for, samples are taken at their times; then the fallback serves."""
    names.silent = True
    config = bench.config(
        "patient",
        wifi=WIFI,
        sampling={"period_ms": 1000},
        sensors=[{"type": "chip", "channels": {"temperature": "chip"}}],
        gateway={"port": bench.port, "host": "gateway", "fallback": "127.0.0.1"},
    )
    board = bench.board(config, speed=1, wifi=WIFI, udp_ports={53: names.port})
    board.start()
    assert board.wait_for(lambda: board.counters.get("acked", 0) > 0, DEADLINE_S), list(board.log)
    board.stop()
    times_ms = [row.t_s * 1000 + row.t_ms for row in read_tap(board.tap_path) if row.kind == 0]
    assert len(names.asked) == 3, "asked three times in four seconds"
    assert len(times_ms) >= 4 and {after - before for before, after in pairwise(times_ms)} == {1000}
    assert board.counters["missed"] == 0
