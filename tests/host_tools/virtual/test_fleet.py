"""Many boards at once, and what one of them costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from host_tools.virtual.board import Event, VirtualBoard
from host_tools.virtual.errors import BoardError
from host_tools.virtual.fleet import VirtualFleet
from host_tools.virtual.image import BoardFiles
from host_tools.virtual.spec import BoardSpec, load_hardware
from host_tools.virtual.tap import ROW, read_tap

from .conftest import DEADLINE_S, Bench

pytestmark = pytest.mark.micropython

BOARDS = 50
RSS_KB_MAX = 8_192

SAMPLER = """
import machine, dht, io, select, time
sensor = dht.DHT22(machine.Pin(4))
class Strobe(io.IOBase):
    pending = False
    def edge(self, pin):
        self.pending = True
    def ioctl(self, request, argument):
        return argument if request == 3 and self.pending else 0
strobe = Strobe()
poller = select.poll()
poller.register(strobe, select.POLLIN)
machine.Pin(27, machine.Pin.IN).irq(strobe.edge, machine.Pin.IRQ_RISING)
seq = 0
while True:
    select.virtual_wait(poller, 60000, 1000)
    if strobe.pending:
        strobe.pending = False
        sensor.measure()
        seq += 1
        machine.tap(0, 0, seq, seq, 0, 0)
"""


def test_fifty_boards_play_a_trace(bench: Bench, tmp_path: Path) -> None:
    rows = bench.write_rows([(60_000 * i, 20_000, None, "") for i in range(100)])
    first = bench.board(SAMPLER, device="first")
    boards = [
        VirtualBoard(
            BoardSpec(f"b-{i}", rows=rows, strobe_pin=27, speed=6_000, devices=[{"type": "dht22", "pin": 4}]),
            tmp_path / "fleet" / str(i),
            bench.interpreter,
            bench.fleet,
        )
        for i in range(BOARDS)
    ]
    bench.builder.make_boards(first.flash_path, [BoardFiles(board.flash_path) for board in boards])
    for board in boards:
        board.start()
    for board in boards:
        board.wait_event("trace_end", DEADLINE_S)
    resident_kb = [_resident_kb(board.pid) for board in boards]
    for board in boards:
        board.stop()
    assert [len(list(read_tap(board.tap_path))) for board in boards] == [100] * BOARDS
    assert max(resident_kb) < RSS_KB_MAX


def _resident_kb(pid: int | None) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError(f"process {pid} has no VmRSS")


def test_events_reach_callbacks_and_a_failing_one_is_not_hidden(tmp_path: Path, bench: Bench) -> None:
    seen: list[tuple[str, str]] = []

    def note(board: VirtualBoard, event: Event) -> None:
        seen.append((board.spec.device, event["event"]))

    def fail(board: VirtualBoard, event: Event) -> None:
        if event["event"] == "boot":
            raise RuntimeError("callback failed")

    fleet = VirtualFleet()
    board = bench.board("import time\ntime.sleep(1000)", device="noted")
    board = VirtualBoard(board.spec, board.workdir, bench.interpreter, fleet)
    board.events += [note, fail]
    board.start()
    board.wait_event("counters", DEADLINE_S)
    board.stop()
    with pytest.raises(RuntimeError, match="callback failed"):
        fleet.close()
    assert seen[0] == ("noted", "boot")
    assert seen[-1] == ("noted", "off")


def test_closing_the_fleet_ends_its_boards(bench: Bench) -> None:
    fleet = VirtualFleet()
    made = bench.board("while True: pass")
    board = VirtualBoard(made.spec, made.workdir, bench.interpreter, fleet)
    board.start()
    fleet.close()
    assert board.pid is None
    with pytest.raises(BoardError, match="closed"):
        board.start()


def test_stop_of_a_hung_board_is_bounded_and_said(bench: Bench) -> None:
    board = bench.board("print('hung')\nwhile True: pass")
    board.start()
    assert board.wait_for(lambda: "hung" in board.log, DEADLINE_S)
    with pytest.raises(BoardError, match="did not stop"):
        board.stop(timeout_s=0.2)
    assert board.pid is None


def test_tap_reader_leaves_a_torn_tail(tmp_path: Path) -> None:
    path = tmp_path / "samples.bin"
    row = ROW.pack(1, 2, 345, 6, 7, 8, -9, 1_700_000_000_000_000)
    path.write_bytes(row * 3 + row[:11])
    assert [tuple(got) for got in read_tap(path)] == [(1, 2, 345, 6, 7, 8, -9, 1_700_000_000_000_000)] * 3


def test_a_board_without_sensors_in_its_config_has_none(bench: Bench) -> None:
    spec = BoardSpec("x", config={"sensors": [{"type": "chip", "channels": {}}, {"type": "ds18b20", "pin": 5}]})
    devices = spec.document(bench.folder, load_hardware())["devices"]
    assert [(device["type"], device["pin"], len(device["rom"])) for device in devices] == [("ds18b20", 5, 16)]


@pytest.mark.parametrize("speed", [0, -1])
def test_speed_must_be_positive(bench: Bench, speed: float) -> None:
    with pytest.raises(BoardError, match="speed"):
        BoardSpec("x", speed=speed).document(bench.folder, load_hardware())
