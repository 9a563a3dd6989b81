"""Ten thousand records that wait for a gateway, sent while a board goes on sampling: `make soak`."""

from __future__ import annotations

import pytest

from host_tools.virtual.tap import read_tap
from tests.firmware.conftest import Bench, Row
from tests.firmware.test_board import drained, gapless, seqs
from tests.support.ack_gateway import AckGateway

pytestmark = [pytest.mark.micropython, pytest.mark.mosquitto]
DEADLINE_S = 120.0
RECORDS = 10_000
EVERY_MS = 10_000
LATE_MS = 1500  # a DS18B20 converts for 750 ms; a sample carries the time of its strobe


@pytest.mark.soak
def test_a_backlog_drains_without_starving_the_sampling(bench: Bench, gateway: AckGateway) -> None:
    """Every row is sampled, at its time on the board's clock, before, during and after; every record arrives once."""
    gateway.answering = False
    rows: list[Row] = [(i * EVERY_MS, 2000 + i * 7919 % 6000, None, "") for i in range(RECORDS + 2000)]
    board = bench.board(bench.config("backlog"), rows, speed=20_000)
    board.start()
    assert board.wait_for(lambda: board.counters.get("outbox", 0) >= RECORDS, DEADLINE_S), board.counters
    board.set_speed(600)
    began = board.counters
    gateway.answering = True
    assert board.wait_for(lambda: board.counters["outbox"] < 100, DEADLINE_S), board.counters
    ended = board.counters
    meanwhile = ended["sampled"] - began["sampled"]
    took_ms = ended["run_ms"] - began["run_ms"]
    print(f"{began['outbox']} records in {took_ms} ms of the board, {meanwhile} samples", ended)
    assert meanwhile > 10
    board.set_speed(20_000)
    assert board.wait_for(lambda: board.trace_done and drained(board), DEADLINE_S), board.counters
    board.stop()
    assert board.boots == 1 and board.counters["missed"] == board.counters["evicted"] == 0
    assert board.counters["sampled"] == len(rows)
    assert gapless(seqs(gateway, "backlog", 1))
    times = [row.t_s * 1000 + row.t_ms for row in read_tap(board.tap_path) if row.kind == 0]
    off_ms = [abs(at - times[0] - i * EVERY_MS) for i, at in enumerate(times)]
    print("latest sample", max(off_ms), "ms")
    assert max(off_ms) < LATE_MS
