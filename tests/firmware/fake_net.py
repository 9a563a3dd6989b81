"""A network for the link's unit tests: a clock that stands until moved, sockets that record, a broker that is a script.

Fakes only: what a real broker does is tested in test_board.py.
"""

from __future__ import annotations

from typing import Any

from isocore import frame
from isonode.mqtt_reader import PUBLISH, split_publish

PERIOD = 1 << 30
EAGAIN = 11


def packets(stream: bytes) -> list[tuple[int, bytes]]:
    """A whole stream of MQTT packets as (first byte, body); asserts that it ends with a packet."""
    found = []
    at = 0
    while at < len(stream):
        head = stream[at]
        at += 1
        size = shift = 0
        while True:
            byte = stream[at]
            at += 1
            size |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                break
        found.append((head, stream[at : at + size]))
        at += size
    assert at == len(stream), "the last packet is cut short"
    return found


class FakeSocket:
    """Takes at most `room` bytes a write (-1: all, 0: would block); gives what `incoming` holds."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.writes: list[int] = []
        self.incoming: list[bytes] = []
        self.room = -1
        self.eof = False
        self.error: OSError | None = None
        self.closed = 0

    def write(self, data: memoryview) -> int | None:
        if self.error is not None:
            raise self.error
        if self.room == 0:
            return None
        taken = bytes(data if self.room < 0 else data[: self.room])
        self.sent += taken
        self.writes.append(len(taken))
        return len(taken)

    def readinto(self, buffer: memoryview) -> int | None:
        if self.incoming:
            part = self.incoming.pop(0)
            if len(part) > len(buffer):
                self.incoming.insert(0, part[len(buffer) :])
                part = part[: len(buffer)]
            buffer[: len(part)] = part
            return len(part)
        if self.eof:
            return 0
        return None

    def close(self) -> None:
        self.closed += 1

    def published(self) -> list[tuple[str, bytes]]:
        """(topic, payload) of every PUBLISH sent so far."""
        out = []
        for head, body in packets(bytes(self.sent)):
            if head & 0xF0 == PUBLISH:
                topic, payload, _ = split_publish(head, memoryview(body))
                out.append((topic.decode(), bytes(payload)))
        return out


class FakeDatagrams:
    """A UDP socket: `asked` holds what was sent, as (data, address); `incoming` what comes next."""

    def __init__(self, address: tuple[str, int] | None) -> None:
        self.address = address
        self.asked: list[tuple[bytes, tuple[str, int] | None]] = []
        self.incoming: list[bytes] = []
        self.closed = 0

    def send(self, data: bytes) -> None:
        assert self.address is not None
        self.asked.append((data, self.address))

    def sendto(self, data: bytes, address: tuple[str, int]) -> None:
        assert self.address is None
        self.asked.append((data, address))

    def recv(self, size: int) -> bytes:
        if not self.incoming:
            raise OSError(EAGAIN)
        return self.incoming.pop(0)[:size]

    def close(self) -> None:
        self.closed += 1


class FakePoll:
    """Remembers what is registered."""

    def __init__(self) -> None:
        self.masks: dict[Any, int] = {}

    def register(self, sock: Any, mask: int) -> None:
        self.masks[sock] = mask

    def modify(self, sock: Any, mask: int) -> None:
        assert sock in self.masks
        self.masks[sock] = mask

    def unregister(self, sock: Any) -> None:
        del self.masks[sock]


class FakePort:
    """Stands for the hal: the network clock, the radio, the resolver and the sockets."""

    POLLIN, POLLOUT, POLLERR, POLLHUP = 1, 4, 8, 16

    def __init__(self) -> None:
        self.now = PERIOD - 5000  # every test crosses the wrap
        self.up = True
        self.gave_up = False
        self.joins = 0
        self.leaves = 0
        self.dns = "192.0.2.53"
        self.datagrams: list[FakeDatagrams] = []
        self.connect_error: OSError | None = None
        self.sockets: list[FakeSocket] = []
        self.tried: list[str] = []
        self.limits: list[int] = []

    def net_ticks_ms(self) -> int:
        return self.now

    def ticks_add(self, ticks: int, delta: int) -> int:
        return (ticks + delta) % PERIOD

    def ticks_diff(self, end: int, start: int) -> int:
        return ((end - start + PERIOD // 2) % PERIOD) - PERIOD // 2

    def go(self, ms: int) -> None:
        self.now = (self.now + ms) % PERIOD

    def wifi_begin(self, ssid: str, password: str) -> None:
        self.joins += 1

    def wifi_end(self) -> None:
        self.leaves += 1

    def wifi_gave_up(self) -> bool:
        return self.gave_up

    def wifi_why(self) -> str:
        return "wrong password"

    def wifi_up(self) -> bool:
        return self.up

    def socket_address(self, host: str, port: int) -> tuple[str, int]:
        assert host.count(".") == 3, "a name would block"
        return host, port

    ROUTER, NAME_SERVER = 2, 3

    def neighbour(self, which: int) -> str:
        return self.dns if which == self.NAME_SERVER else "192.0.2.254"

    def is_again(self, error: OSError) -> bool:
        return error.args[0] == EAGAIN

    def open_datagram(self, address: tuple[str, int] | None) -> FakeDatagrams:
        self.datagrams.append(FakeDatagrams(address))
        return self.datagrams[-1]

    def open_socket(self, address: tuple[str, int]) -> FakeSocket:
        self.tried.append(address[0])
        if self.connect_error is not None:
            raise self.connect_error
        self.sockets.append(FakeSocket())
        return self.sockets[-1]

    def random_below(self, limit: int) -> int:
        self.limits.append(limit)
        return limit - 1


class FakeOutbox:
    """`count` records of boot 1, in frames of `size`; acks move the floor."""

    def __init__(self, size: int = 10) -> None:
        self.size = self.batch_records = size
        self.boot = 1
        self.last = 0
        self.acked = 0
        self.acks: list[tuple[int, int]] = []
        self.urgent: list[int] = []
        self.got: list[tuple[int, int]] = []

    def floor(self) -> tuple[int, int]:
        return 1, self.acked + 1

    def _frame(self, first: int, last: int) -> tuple[bytes, int, int, int]:
        return (
            frame.encode(1, 0, 0, [(seq, 2, 0, seq, seq * 1000, 0) for seq in range(first, last + 1)]),
            1,
            first,
            last,
        )

    def next_frame(self, boot: int, seq: int, seal: bool = False) -> tuple[bytes, int, int, int] | None:
        first = max(seq, self.acked) + 1
        last = min(first + self.size - 1, self.last)
        if last < first or (last - first + 1 < self.size and not seal):
            return None
        return self._frame(first, last)

    def next_urgent(self) -> tuple[bytes, int, int, int] | None:
        return self._frame(*[self.urgent.pop(0)] * 2) if self.urgent else None

    def urgent_got(self, first: int, last: int) -> None:
        self.got.append((first, last))

    def urgent_again(self) -> None:
        pass

    def ack(self, boot: int, seq: int) -> bool:
        self.acks.append((boot, seq))
        if boot != 1 or seq <= self.acked:
            return False
        self.acked = min(seq, self.last)
        return True
