"""Brokers that never speak: each call that could wait for one, on a whole board that goes on sampling."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host_tools.keys import authority
from host_tools.virtual.board import VirtualBoard
from tests.firmware.conftest import Bench

pytestmark = [pytest.mark.micropython, pytest.mark.mosquitto]
DEADLINE_S = 30.0
PERIOD_MS = 1000
PATIENCE_MS = 1500  # longer than a period: who waited for it would miss a sample
SPEED = 4
GOAL_MS = SPEED * (2 * PATIENCE_MS + 1000)  # of board time: two attempts, and a pause between them
SYN_SENT = "02"  # /proc/net/tcp


@contextlib.contextmanager
def mute(accepting: bool) -> Iterator[socket.socket]:
    """A port that takes connections and says nothing, or one that does not even take them."""
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=16 if accepting else 0))
        if not accepting:  # a full backlog: Linux then drops what knocks
            for _ in range(2):
                knocking = opened.enter_context(socket.socket())
                knocking.setblocking(False)
                knocking.connect_ex(server.getsockname())
        yield server


def knocks(server: socket.socket) -> bool:
    """Whether someone is on the way in and gets no answer."""
    port = f":{server.getsockname()[1]:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return any(line[2].endswith(port) and line[3] == SYN_SENT for line in lines)


def taken(server: socket.socket) -> int:
    """Connections that were made."""
    server.setblocking(False)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
            count += 1
    return count


def patient(bench: Bench, device: str, server: socket.socket, **more: Any) -> VirtualBoard:
    config = bench.config(
        device,
        gateway={"host": "127.0.0.1", "port": server.getsockname()[1], **more},
        sampling={"period_ms": PERIOD_MS},
        sensors=[{"type": "chip", "channels": {"temperature": "chip"}}],
    )
    config["link"]["connect_timeout_ms"] = PATIENCE_MS
    return bench.board(config, speed=SPEED, files=certificates(bench.folder) if more else {})


def certificates(folder: Path) -> dict[str, bytes]:
    (folder / "ca").mkdir()
    ca = authority.create(folder / "ca", "demo", None)
    board = ca.issue("fridge", "board")
    return {"/ca.der": ca.certificate_der, "/cert.der": board.certificate_der, "/key.der": board.key_der}


def test_no_call_that_waits_for_a_mute_broker_makes_a_sample_late(bench: Bench) -> None:
    """TCP connect, TLS handshake, CONNECT: each given up after its bound and begun again, sampling all the while."""
    tls = {"ca": "/ca.der", "cert": "/cert.der", "key": "/key.der", "host": "broker"}
    with mute(False) as closed, mute(True) as silent, mute(True) as handshake:
        boards = [
            patient(bench, "knocking", closed),
            patient(bench, "greeting", silent),
            patient(bench, "shaking-hands", handshake, tls=tls),
        ]
        for board in boards:
            board.start()
        assert boards[0].wait_for(lambda: knocks(closed), DEADLINE_S), "it does not wait for its connection"
        for board in boards:
            assert board.wait_for(lambda board=board: board.counters.get("uptime_ms", 0) > GOAL_MS, DEADLINE_S)
            board.stop()
            assert board.counters["missed"] == 0 and board.counters["lateness_max_ms"] < PATIENCE_MS
            assert board.counters["sampled"] >= GOAL_MS // PERIOD_MS and board.boots == 1
        assert taken(silent) >= 2 and taken(handshake) >= 2
