"""The broker's client at the wire: what a PUBLISH becomes on the short way, and what still goes the library's."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from gateway.metrics import Metrics
from gateway.mqtt import BrokerLink
from tests.support.board_client import wait_for

Heard = tuple[str, bytes, bool]
_CONNACK = bytes((0x20, 2, 0, 0))
_PLAIN, _RETAINED, _QOS_1 = 0x30, 0x31, 0x32


def publish(kind: int, name: bytes, rest: bytes) -> bytes:
    """A PUBLISH of fewer than 128 bytes (MQTT 3.1.1 section 3.3). rest: packet id, if any, and payload."""
    body = struct.pack(">H", len(name)) + name + rest
    return bytes((kind, len(body))) + body


@contextmanager
def connected(heard: list[Heard]) -> Iterator[tuple[Callable[[bytes], None], BrokerLink]]:
    """A link to a socket that answers like a broker: (send it bytes, the link)."""
    connections: list[socket.socket] = []

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                broker, _ = listener.accept()
            except OSError:
                return
            broker.recv(1000)
            broker.sendall(_CONNACK)
            subscribe = broker.recv(1000)
            broker.sendall(bytes((0x90, 3)) + subscribe[2:4] + b"\0")
            connections.append(broker)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        link = BrokerLink(
            "127.0.0.1",
            listener.getsockname()[1],
            "gw",
            60,
            ["a/+"],
            lambda name, payload, retained: heard.append((name, payload, retained)),
            Metrics(),
            backoff_max_s=0.01,
        )
        link.start()
        try:
            wait_for(lambda: link.connected)
            yield lambda data: connections[-1].sendall(data), link
        finally:
            link.stop(0)
            listener.shutdown(socket.SHUT_RDWR)
            for one in connections:
                one.close()
    thread.join(10)


def test_topic_payload_and_retain_as_they_were_sent() -> None:
    heard: list[Heard] = []
    with connected(heard) as (send, _):
        send(publish(_PLAIN, b"a/1", b"\0\xffdata") + publish(_RETAINED, "a/°".encode(), b""))
        send(publish(_QOS_1, b"a/2", b"\0\x07once"))
        wait_for(lambda: len(heard) == 3)
    assert heard == [("a/1", b"\0\xffdata", False), ("a/°", b"", True), ("a/2", b"once", False)]


def test_a_topic_that_is_not_utf_8_is_heard_without_its_name() -> None:
    heard: list[Heard] = []
    with connected(heard) as (send, link):
        send(publish(_PLAIN, b"a/\xff", b"x") + publish(_PLAIN, b"a/1", b"y"))
        wait_for(lambda: len(heard) == 2)
        assert link.connects == 1
    assert heard == [("(not UTF-8)", b"x", False), ("a/1", b"y", False)]


@pytest.mark.parametrize(
    "malformed",
    [bytes((_PLAIN, 0)), bytes((_PLAIN, 1, 0)), bytes((_PLAIN, 3, 0, 9, 65)), bytes((_PLAIN, 4, 0, 0, 65, 66))],
    ids=["empty", "no length", "topic past the end", "no topic"],
)
def test_a_malformed_one_ends_the_connection_and_nothing_else(malformed: bytes) -> None:
    heard: list[Heard] = []
    with connected(heard) as (send, link):
        send(malformed)
        wait_for(lambda: link.connects == 2 and link.connected)
        assert link.alive
        send(publish(_PLAIN, b"a/1", b"y"))
        wait_for(lambda: len(heard) == 1)
    assert heard == [("a/1", b"y", False)]


def test_nothing_is_heard_once_it_is_deaf() -> None:
    heard: list[Heard] = []
    with connected(heard) as (send, link):
        link.deafen()
        send(publish(_PLAIN, b"a/1", b"y") + publish(_PLAIN, b"", b"z"))  # the second ends the connection
        wait_for(lambda: link.connects == 2)
    assert heard == []
