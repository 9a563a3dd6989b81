"""The time client: what a reply must be, what a server may do wrong, and that no wait is without a bound."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from isonode import sntp
from isonode.sntp import PAUSE_MIN_S, Refused, Sntp, check, request
from tests.firmware.conftest import Bench
from tests.firmware.fake_net import FakePort
from tests.firmware.test_board import DEADLINE_S, wave
from tests.support.ack_gateway import AckGateway
from tests.support.ntp_server import NtpServer, reply

NONCE = b"\x01\x02\x03\x04\x05\x06\x07\x08"
UNIX_S = 1_800_000_000.25
SINCE_2025_S = 1_800_000_000 - 1_735_689_600
EVERY_S = 3600


def question() -> bytes:
    return bytes(request(NONCE))


def test_a_good_reply_is_the_time() -> None:
    assert len(question()) == 48 and question()[0] == 0b00_100_011
    assert check(reply(question(), UNIX_S), NONCE) == (SINCE_2025_S, 250)
    assert check(reply(question(), UNIX_S, version=3, stratum=15, leap=1), NONCE) == (SINCE_2025_S, 250)


def test_the_era_that_begins_in_2036_is_read_as_such() -> None:
    in_2036 = 2_085_978_496 + 100.0  # 2^32 s after 1900, and a little
    assert check(reply(question(), in_2036), NONCE) == (2_085_978_596 - 1_735_689_600, 0)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"mode": 3}, "mode"),
        ({"mode": 5}, "mode"),
        ({"version": 2}, "version"),
        ({"version": 5}, "version"),
        ({"stratum": 0}, "kiss"),
        ({"stratum": 16}, "stratum"),
        ({"leap": 3}, "leap"),
        ({"root_dispersion": 0x20000}, "distance"),
        ({"root_delay": 0x40000}, "distance"),
        ({"ntp_s": 0}, "zero"),
    ],
)
def test_replies_that_prove_nothing(fields: dict[str, int], reason: str) -> None:
    with pytest.raises(Refused) as refusal:
        check(reply(question(), UNIX_S, **fields), NONCE)
    assert refusal.value.reason == reason


def test_replies_to_other_questions_and_cut_ones() -> None:
    with pytest.raises(Refused, match="origin"):
        check(reply(bytes(request(b"another!")), UNIX_S), NONCE)
    whole = reply(question(), UNIX_S)
    for size in range(48):
        with pytest.raises(Refused, match="short"):
            check(whole[:size], NONCE)


NTP, GATEWAY = "192.0.2.7", "192.0.2.1"


class Socket:
    """Connected to one server that answers at once, through the script."""

    def __init__(self, script: Callable[[bytes], bytes | None]) -> None:
        self.script = script
        self.inbox: list[bytes] = []
        self.closed = False

    def send(self, data: bytes) -> int:
        answer = self.script(bytes(data))
        if answer is not None:
            self.inbox.append(answer)
        return len(data)

    def recv(self, _size: int) -> bytes:
        if not self.inbox:
            raise OSError(11)
        return self.inbox.pop(0)

    def close(self) -> None:
        self.closed = True


class Port(FakePort):
    """The network as the client sees it; `asked`: (ms, host) of every question."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[int, str]] = []
        self.open: list[Socket] = []
        self.script: Callable[[bytes], bytes | None] = lambda q: reply(q, UNIX_S)
        self.elapsed = 0

    def go(self, ms: int) -> None:
        super().go(ms)
        self.elapsed += ms

    def socket_address(self, host: str, port: int) -> Any:
        return (host, port)

    def open_datagram(self, address: tuple[str, int] | None) -> Any:
        assert address is not None
        self.asked.append((self.elapsed, address[0]))
        self.open.append(Socket(self.script))
        return self.open[-1]

    def is_again(self, error: OSError) -> bool:
        return error.args[0] == 11


class Poll:
    def register(self, *_: object) -> None: ...

    def unregister(self, *_: object) -> None: ...


@pytest.fixture
def port() -> Port:
    return Port()


def client(port: Port, hosts: tuple[str, ...] = (NTP, GATEWAY, "")) -> Sntp:
    return Sntp(port, Poll(), lambda: hosts, 123, EVERY_S)


def run(port: Port, of: Sntp, seconds: int) -> list[tuple[int, int]]:
    """Step it ten times a second."""
    out = []
    for _ in range(seconds * 10):
        wall = of.step()
        if wall is not None:
            out.append(wall)
        port.go(100)
    return out


def test_it_asks_once_and_then_seldom(port: Port) -> None:
    of = client(port)
    assert run(port, of, 3 * EVERY_S - 10) == [(SINCE_2025_S, 300)] * 3  # half of the 100 ms to the next look
    assert [host for _, host in port.asked] == [NTP] * 3 and of.replies == 3
    assert all(one.closed for one in port.open)


def test_servers_take_turns_and_pauses_grow_to_their_bound(port: Port) -> None:
    port.script = lambda q: None
    port.dns = ""
    of = client(port, ("nowhere", NTP, GATEWAY))
    assert run(port, of, 4 * EVERY_S) == []
    assert {host for _, host in port.asked} == {NTP, GATEWAY}
    gaps = [after - before for (before, _), (after, _) in zip(port.asked, port.asked[1:], strict=False)]
    assert min(gaps) >= PAUSE_MIN_S * 1000 and len(port.asked) < 16 and max(gaps) <= 2 * (EVERY_S + 5) * 1000
    assert of.timeouts == len(port.asked) and of.last_reason in ("timeout", "network")
    assert all(one.closed for one in port.open[:-1])


def test_a_kiss_of_death_ends_the_friendship(port: Port) -> None:
    port.script = lambda q: reply(q, UNIX_S, stratum=0)
    of = client(port, (NTP, GATEWAY))
    run(port, of, 4 * EVERY_S)
    assert [host for _, host in port.asked] == [NTP, GATEWAY], "no server is asked again that said no, for a day"
    port.script = lambda q: reply(q, UNIX_S)
    run(port, of, 90_000)
    assert of.replies >= 1


def test_late_and_forged_replies_do_not_hide_the_true_one(port: Port) -> None:
    of = client(port)
    of.step()
    true = port.open[-1].inbox.pop()
    port.open[-1].inbox += [b"", b"x" * 48, true[:30], true]
    assert run(port, of, 1) == [(SINCE_2025_S, 400)]


def test_a_slow_reply_is_no_time(port: Port) -> None:
    of = client(port)
    of.step()
    port.go(1200)
    assert of.step() is None and of.last_reason == "slow"


@pytest.fixture
def ntp() -> Iterator[NtpServer]:
    server = NtpServer()
    yield server
    server.close()


@pytest.mark.micropython
@pytest.mark.mosquitto
def test_a_board_takes_the_time_from_a_server(bench: Bench, gateway: AckGateway, ntp: NtpServer) -> None:
    """The server is a month ahead of the gateway, and believed."""
    month_s = 30 * 86_400
    ntp.offset_s = month_s
    gateway.unix_s = lambda: 1_000_000_000  # before 2025: no board takes that
    config = bench.config("timed", clock="sntp", ntp={"host": "127.0.0.1", "port": ntp.port})
    board = bench.board(config, wave(200), speed=60, epoch_s=None)
    board.start()
    assert gateway.wait_for(lambda: any(frame.epoch_s for frame in gateway.frames), DEADLINE_S), board.log
    board.stop()
    known = next(frame.epoch_unix_ms() for frame in gateway.frames if frame.epoch_s)
    import time

    assert known is not None and abs(known / 1000 - time.time() - month_s) < 3600
    assert ntp.questions == 1, "asked once"
    assert sntp.PACKET_BYTES == 48
