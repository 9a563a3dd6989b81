"""A board whose flash was wiped begins anew above all numbers that the gateway knows: real boards and gateway."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.store import Reader
from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.image import BoardFiles
from host_tools.virtual.tap import read_tap
from isocore.record import BOOT
from tests.firmware.conftest import FIRMWARE, Bench, RunMicroPython
from tests.firmware.test_board import DEADLINE_S, drained, wave
from tests.support.board_client import wait_for
from tests.support.daemon import Daemon
from tests.support.mosquitto import Mosquitto

pytestmark = [pytest.mark.micropython, pytest.mark.mosquitto]
HERE = Path(__file__).parent
RAM_RECORDS = 16
OUTBOX = {"ram_records": RAM_RECORDS, "spill_records": 4}

Said = list[tuple[int, int, int, int, int]]  # boot, seq, kind, channel, value


@pytest.fixture
def daemon(tmp_path: Path, broker: Mosquitto) -> Iterator[Daemon]:
    with Daemon(tmp_path / "gateway", broker.port) as running:
        yield running


def stored(daemon: Daemon) -> Said:
    reader = Reader(daemon.workdir / "data" / "isotherm.db")
    try:
        rows = [*reader.lane_rows("live", 1, 1 << 40, 10_000), *reader.lane_rows("alarms", 1, 1 << 40, 10_000)]
    finally:
        reader.close()
    return sorted((row.boot, row.seq, row.kind, row.channel, row.value) for row in rows)


def said(board: VirtualBoard) -> Said:
    """What the board put in its outbox, in order, under the numbers that it had then."""
    return [(row.boot, row.seq, row.kind, row.channel, row.value) for row in read_tap(board.tap_path) if row.kind]


def unnumbered(rows: Said) -> list[tuple[int, int, int, int]]:
    return [row[1:] for row in rows]


def wipe(bench: Bench, board: VirtualBoard) -> None:
    """Flash the firmware anew; the trace goes on where it was."""
    bench.builder.make_boards(bench.master, [BoardFiles(board.flash_path, board.spec.flash_files())])


def assert_whole(daemon: Daemon, board: VirtualBoard, device: str, offs: list[int]) -> None:
    """Every record once, in order, none taken for another; `offs`: how many the board had made at each loss of power.

    Losing power takes what was in RAM: the last few records before it, and nothing else.
    """
    kept = unnumbered(stored(daemon))
    made = unnumbered(said(board))
    for start, end in pairwise([0, *offs, len(made)]):
        size = end - start
        while kept[:size] != made[start : start + size]:
            size -= 1
        assert end - start - size < (RAM_RECORDS if end in offs else 1)
        kept = kept[size:]
    assert kept == []
    ledger = daemon.ledger()["ledger"]["devices"][device]
    assert (ledger["conflicts"], ledger["lost"]) == (0, 0)


def test_a_wiped_board_goes_on_above_its_former_numbers(bench: Bench, daemon: Daemon) -> None:
    board = bench.board(bench.config("wiped", outbox=OUTBOX), wave(300), speed=3_000)
    offs = []
    for boot in (1, 2, 3):
        board.start()
        assert board.wait_for(
            lambda boot=boot: board.counters.get("boot") == boot and board.counters["acked"] > 2, DEADLINE_S
        ), board.log
        assert board.wait_for(lambda: drained(board), DEADLINE_S), board.counters
        board.stop()
        offs.append(len(said(board)))
    wipe(bench, board)
    board.start()
    assert board.wait_for(lambda: board.trace_done and drained(board), DEADLINE_S), board.log
    board.stop()
    # 5 where something was on flash before the answer came: that took a start of its own
    assert board.counters["boot"] == board.boots and board.boots in (4, 5)
    assert_whole(daemon, board, "wiped", offs)
    assert {row[0] for row in stored(daemon)} == set(range(1, board.boots + 1))


def test_what_a_wiped_board_kept_on_flash_is_renumbered_before_it_is_sent(bench: Bench, daemon: Daemon) -> None:
    """Wiped while the gateway is away, power-cut in between: its records lie on flash under numbers that were used."""
    config = bench.config("far", outbox=OUTBOX)
    board = bench.board(config, wave(900), speed=3_000)
    offs = []
    for boot in (1, 2):
        board.start()
        ready = lambda boot=boot: board.counters.get("boot") == boot and drained(board)  # noqa: E731
        assert board.wait_for(ready, DEADLINE_S), board.log
        board.stop()
        offs.append(len(said(board)))
    daemon.kill()
    wipe(bench, board)
    board.start()
    assert board.wait_for(lambda: board.counters.get("boot") == 1 and board.counters["outbox_writes"] > 3, DEADLINE_S)
    board.power_cut()
    offs.append(len(said(board)))
    board.start()
    assert board.wait_for(lambda: board.counters.get("boot") == 2 and board.counters["outbox_writes"] > 3, DEADLINE_S)
    assert not board.counters["frames_sent"], "nothing is sent under a number that may have been used"
    daemon.start()
    assert board.wait_for(lambda: board.counters.get("boot") == 5, DEADLINE_S), board.counters
    board.set_speed(20_000)
    assert board.wait_for(lambda: board.trace_done and drained(board), DEADLINE_S), board.counters
    board.stop()
    assert board.counters["boot"] == 5, "1 and 2 became 3 and 4; the renumbering took a start of its own"
    assert {row[0] for row in stored(daemon)} == {1, 2, 3, 4, 5}
    assert_whole(daemon, board, "far", offs)


def test_a_board_that_knows_its_number_does_not_ask(bench: Bench, daemon: Daemon) -> None:
    board = bench.board(bench.config("based", boot_base=7000), wave(60), speed=3_000)
    board.start()
    assert board.wait_for(lambda: board.counters.get("acked", 0) > 2, DEADLINE_S), board.log
    board.stop()
    board.start()
    assert board.wait_for(lambda: board.trace_done and drained(board), DEADLINE_S), board.counters
    board.stop()
    assert {row[0] for row in stored(daemon) if row[2] == BOOT} == {7001, 7002}
    wait_for(lambda: daemon.status()["devices"] != {}, what="the device")


def test_renumbering_survives_a_cut_at_every_write(run_micropython: RunMicroPython) -> None:
    printed = run_micropython(HERE / "renumber_cuts.py", FIRMWARE, HERE, heap_bytes=512 * 1024)
    figures = dict(pair.split("=") for pair in printed.split())
    assert int(figures["cuts"]) >= 60
