"""The boards' side as a process of its own: publishes frames as fast as acknowledgements allow, or at a set rate.

Plain MQTT 3.1.1 on one socket and one thread, so that the client is never what is measured. It keeps a bounded window
of frames a board in flight, as boards do, and repeats from the watermark when acknowledgements stop. Knows the frame
format and topics; it must not know the gateway. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import random
import select
import socket
import struct
import time
import zlib
from typing import Any

from isocore import frame, topics
from isocore.record import HIGH_OFF, HIGH_ON, SAMPLE

BOARDS = 200
WINDOW = 4  # frames a board keeps in flight: the default of link.window in a board's configuration
REPEAT_S = 1.0
GIVE_UP_S = 60.0
_TEMPLATES = 64
_STEP_S = 60
_CRC = struct.Struct("<I")
_SEQ_UPTIME = struct.Struct("<II")


def device_name(number: int) -> str:
    """Also the devices of the stores that `stores.py` fills."""
    return f"bench-{number:03d}"


def packet(kind: int, body: bytes) -> bytes:
    """A control packet with its remaining length (MQTT 3.1.1 section 2.2.3)."""
    size = len(body)
    head = bytearray([kind])
    while True:
        size, low = divmod(size, 128)
        head.append(low | (128 if size else 0))
        if not size:
            return bytes(head) + body


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">H", len(data)) + data


class Client:
    """One connection, QoS 0. `poll` sends what is queued and returns the messages that came."""

    def __init__(self, port: int, name: str, subscriptions: tuple[str, ...] = ()) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(packet(0x10, text("MQTT") + bytes([4, 2]) + struct.pack(">H", 0) + text(name)))
        self._in = bytearray()
        self.out = bytearray()
        self._await(0x20)
        if subscriptions:
            body = struct.pack(">H", 1) + b"".join(text(one) + b"\0" for one in subscriptions)
            self._socket.sendall(packet(0x82, body))
            self._await(0x90)
        self._socket.setblocking(False)

    def _await(self, kind: int) -> None:
        while True:
            found = self._next()
            if found is not None:
                if found[0] & 0xF0 == kind:
                    return
                continue
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("the broker closed the connection")
            self._in += data

    def _next(self) -> tuple[int, bytes] | None:
        """Take one whole packet off what was read."""
        size = shift = 0
        at = 1
        while True:
            if at >= len(self._in):
                return None
            byte = self._in[at]
            at += 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        if len(self._in) < at + size:
            return None
        found = self._in[0], bytes(self._in[at : at + size])
        del self._in[: at + size]
        return found

    def publish(self, topic: str, payload: bytes) -> None:
        self.out += packet(0x30, text(topic) + payload)

    def poll(self, timeout_s: float) -> list[tuple[str, bytes]]:
        readable, writable, _ = select.select([self._socket], [self._socket] if self.out else [], [], timeout_s)
        if writable:
            del self.out[: self._socket.send(self.out)]
        messages = []
        if readable:
            data = self._socket.recv(1 << 18)
            if not data:
                raise ConnectionError("the broker closed the connection")
            self._in += data
            while (found := self._next()) is not None:
                kind, body = found
                if kind & 0xF0 == 0x30:
                    length = body[0] << 8 | body[1]
                    messages.append((body[2 : 2 + length].decode(), body[2 + length :]))
        return messages

    def close(self) -> None:
        self._socket.close()


class Frames:
    """Frames by board and number, made from templates: only seq, uptime and CRC differ."""

    def __init__(self, boot: int, size: int, seed: int = 1) -> None:
        chance = random.Random(seed)
        self.size = size
        self._templates = []
        for _ in range(_TEMPLATES):
            records = [
                (1 + i, SAMPLE, 0, 21000 + chance.randrange(-800, 800), 1000 + i * _STEP_S * 1000, 0)
                for i in range(size)
            ]
            self._templates.append(bytes(frame.encode(boot, 30_000_000, 0, records)[: -frame.CRC_BYTES]))

    def get(self, board: int, number: int) -> bytes:
        body = bytearray(self._templates[(board * 7 + number) % _TEMPLATES])
        _SEQ_UPTIME.pack_into(body, 8, number * self.size + 1, 1 + number * self.size * _STEP_S)
        return bytes(body) + _CRC.pack(zlib.crc32(body))


class _Board:
    """Where one board stands, in frames."""

    def __init__(self) -> None:
        self.sent = 0
        self.acked = 0
        self.moved_s = 0.0


def burst(port: int, boot: int, boards: int, readings: int, size: int, window: int) -> dict[str, Any]:
    """Send `readings` in all and wait until each is acknowledged."""
    frames = Frames(boot, size)
    per_board = -(-readings // (boards * size))
    up = [topics.topic(device_name(i), topics.UP) for i in range(boards)]
    index = {topics.topic(device_name(i), topics.ACK): i for i in range(boards)}
    # everything is encoded beforehand: a board's own work is not the gateway's
    packets = [
        [packet(0x30, text(up[i]) + frames.get(i, number)) for number in range(per_board)] for i in range(boards)
    ]
    client = Client(port, f"bench-load-{boot}", (topics.ROOT + "+/" + topics.ACK,))
    state = [_Board() for _ in range(boards)]
    repeats = acks = 0
    left = boards
    started_s = moved_s = time.monotonic()
    while left:
        now_s = time.monotonic()
        for i, board in enumerate(state):
            if board.sent > board.acked and now_s - board.moved_s > REPEAT_S:
                repeats += board.sent - board.acked
                board.sent = board.acked
            end = min(per_board, board.acked + window)
            if board.sent < end:
                if board.sent == board.acked:
                    board.moved_s = now_s
                for number in range(board.sent, end):
                    client.out += packets[i][number]
                board.sent = end
        for topic, payload in client.poll(0.2):
            at = index.get(topic)
            ack = json.loads(payload)
            if at is None or ack["boot"] != boot:
                continue
            acks += 1
            done = ack["seq"] // size
            board = state[at]
            if done > board.acked:
                board.acked = done
                board.sent = max(board.sent, done)
                board.moved_s = moved_s = time.monotonic()
                if done >= per_board:
                    left -= 1
        if time.monotonic() - moved_s > GIVE_UP_S:
            raise TimeoutError("no acknowledgement came any more")
    took_s = time.monotonic() - started_s
    client.close()
    return {"readings": boards * per_board * size, "seconds": took_s, "repeats": repeats, "acks": acks}


def steady(
    port: int, boot: int, boards: int, rate: int, size: int, seconds: float, alarms_per_s: float
) -> dict[str, Any]:
    """A steady stream, and alarms at random moments in it. Gives when each alarm was handed to the socket."""
    frames = Frames(boot, size)
    chance = random.Random(boot)
    client = Client(port, f"bench-steady-{boot}", (topics.ROOT + "+/" + topics.ACK,))
    alarm_up, alarm_ack = topics.topic("bench-alarm", topics.UP), topics.topic("bench-alarm", topics.ACK)
    sent_ns: dict[int, int] = {}
    acked_ns: dict[int, int] = {}
    started_s = time.monotonic()
    next_frame_s, next_alarm_s = started_s, started_s + 1.0  # the stream runs before the first alarm
    count = seq = 0
    end_s = started_s + seconds
    linger_s = end_s + 3.0
    while True:
        now_s = time.monotonic()
        if now_s >= linger_s or (now_s >= end_s and len(acked_ns) == seq):
            break
        while next_frame_s <= now_s < end_s:
            board = count % boards
            client.publish(topics.topic(device_name(board), topics.UP), frames.get(board, count // boards))
            count += 1
            next_frame_s += size / rate
        if next_alarm_s <= now_s < end_s:
            seq += 1
            record = (seq, HIGH_ON if seq % 2 else HIGH_OFF, 0, 30000 + seq, seq * 1000, 0)
            sent_ns[seq] = time.monotonic_ns()
            client.publish(alarm_up, frame.encode(boot, 30_000_000, 0, [record]))
            next_alarm_s = now_s + chance.uniform(0.5, 1.5) / alarms_per_s
        until_s = min(next_frame_s, next_alarm_s) if now_s < end_s else now_s + 0.05
        for topic, payload in client.poll(max(0.0, until_s - time.monotonic())):
            if topic == alarm_ack:
                came_ns = time.monotonic_ns()
                ack = json.loads(payload)
                for number in range(1, ack["seq"] + 1 if ack["boot"] == boot else 0):
                    acked_ns.setdefault(number, came_ns)
    client.close()
    return {
        "readings": count * size,
        "alarms": seq,
        "sent_ns": sent_ns,
        "ack_ms": [(acked_ns[n] - sent_ns[n]) / 1e6 for n in sent_ns if n in acked_ns],
    }


def blast(port: int, readings: int, size: int, boards: int) -> dict[str, Any]:
    """The stream of `burst` without waiting for anything: for the broker's own ceiling."""
    frames = Frames(1, size)
    up = [topics.topic(device_name(i), topics.UP) for i in range(boards)]
    count = readings // size
    packets = [packet(0x30, text(up[n % boards]) + frames.get(n % boards, n // boards)) for n in range(count)]
    client = Client(port, "bench-blast")
    started_ns = time.monotonic_ns()
    client.out += b"".join(packets)
    while client.out:
        client.poll(0.2)
    client.close()
    return {"messages": len(packets), "started_ns": started_ns}


def main() -> None:
    """Read the arguments, run one of the three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=("burst", "steady", "blast"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--boot", type=int, default=1)
    parser.add_argument("--boards", type=int, default=BOARDS)
    parser.add_argument("--readings", type=int, default=1000)
    parser.add_argument("--size", type=int, default=10)
    parser.add_argument("--window", type=int, default=WINDOW)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--alarms-per-s", type=float, default=12.0)
    o = parser.parse_args()
    if o.mode == "burst":
        out = burst(o.port, o.boot, o.boards, o.readings, o.size, o.window)
    elif o.mode == "steady":
        out = steady(o.port, o.boot, o.boards, o.rate, o.size, o.seconds, o.alarms_per_s)
    else:
        out = blast(o.port, o.readings, o.size, o.boards)
    print(json.dumps(out))


if __name__ == "__main__":
    main()
