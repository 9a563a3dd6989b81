"""What nobody should send, sent through a real broker to a whole virtual board, retained and not: counted, no more."""

from __future__ import annotations

import pytest

from host_tools.keys import signing
from isocore import topics
from tests.firmware.conftest import Bench
from tests.firmware.test_board import drained, gapless, seqs, wave
from tests.support.ack_gateway import AckGateway

pytestmark = [pytest.mark.micropython, pytest.mark.mosquitto]
DEADLINE_S = 30.0
HEAP_BYTES = 112 * 1024
NOISE = bytes(range(256)) * 400  # 100 KB

ACKS = [
    b"",
    b"\x00" * 200,
    b"[" * 4000,
    b'{"boot":' * 400,
    b"[" * 250,
    b'{"boot":1,"seq":0,"got":' + b"[" * 200 + b"]" * 200 + b"}",
    b'{"boot":1,"seq":1e999}',
    b'{"boot":1,"seq":' + b"9" * 230 + b"}",
    b'{"boot":1,"seq":0,"t":1800000000,"ms":1.5}',
    b'{"boot":1,"seq":0,"t":1800000000,"ms":[]}',
    b'{"boot":1,"seq":0,"t":' + b"9" * 200 + b"}",
    b'{"boot":1,"seq":0,"top":' + b"9" * 200 + b"}",
    b'{"boot":1,"seq":0,"got":{"0":1}}',
    b'{"boot":1,"seq":0,"got":[null,{}]}',
    b'{"boot":null,"seq":true}',
    b'"boot seq"',
    NOISE,
]
MODELS = [b"\x00", b"\xff" * 64, b"{" * 3000, b"m" * 4000, NOISE]
RETAINED = [
    (topics.ACK, b"[" * 4000),
    (topics.ACK, b'{"boot":1,"seq":0,"t":1800000000,"ms":1.5}'),
    (topics.MODEL_SET, NOISE),
]
KEYS = [b"k", b"\xff" * 200, NOISE]


def test_no_message_brings_a_board_down(bench: Bench, gateway: AckGateway) -> None:
    """Every pill while it runs, then ones that wait for it at each connect: one boot for each power-on, no gap."""
    device = "tough"
    key = signing.generate().public_key.hex()
    config = bench.config(device, clock="gateway", root_key=key)
    board = bench.board(config, wave(1500), speed=600, heap_bytes=HEAP_BYTES, epoch_s=None)
    board.start()
    assert board.wait_for(lambda: board.counters.get("acked", 0) > 3, DEADLINE_S), list(board.log)
    for payloads, leaf in ((ACKS, topics.ACK), (MODELS, topics.MODEL_SET), (KEYS, topics.KEYS_SET)):
        for payload in payloads:
            gateway.publish(topics.topic(device, leaf), payload)
    counted = len(ACKS) + 2  # and the two others of 100 KB; models and lists are refused elsewhere
    assert board.wait_for(lambda: board.counters["bad_messages"] >= counted, DEADLINE_S), board.counters
    acked = board.counters["acked"]
    assert board.wait_for(lambda: board.counters["acked"] > acked, DEADLINE_S), board.counters
    for boot, (leaf, payload) in enumerate(RETAINED, start=2):
        gateway.publish(topics.topic(device, leaf), payload, retain=True)
        board.power_cut()
        board.start()

        def is_well(boot: int = boot) -> bool:
            counters = board.counters
            return counters.get("boot") == boot and counters["acked"] > 3 and counters["bad_messages"] > 0

        assert board.wait_for(is_well, DEADLINE_S), (board.counters, list(board.log))
        gateway.publish(topics.topic(device, leaf), b"", retain=True)
    board.set_speed(20_000)
    assert board.wait_for(lambda: board.trace_done and drained(board), DEADLINE_S), board.counters
    board.stop()
    assert board.boots == 1 + len(RETAINED)
    assert all(gapless(seqs(gateway, device, boot)) for boot in range(1, board.boots + 1))
