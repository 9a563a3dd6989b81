"""The port itself: it outlives resets, vanishes with its cable, is silent without power, never holds the board up."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.errors import BoardError
from host_tools.virtual.serial import SerialPort
from tests.support.serial_board import DEADLINE_S, Line, wait_until

from .conftest import Bench

pytestmark = pytest.mark.micropython
BANNER = b"for more information.\r\n>>> "
COUNT = """
import time
n = 0
while True:
    n += 1
    print("line", n, "x" * 200)
    time.sleep_ms(1)
"""


def at_prompt(board: VirtualBoard) -> Line:
    line = Line.open(board.serial.path)
    line.prompt()
    return line


def test_a_board_without_a_port_says_so(bench: Bench) -> None:
    board = bench.board("pass")
    with pytest.raises(BoardError, match="made without a serial port"):
        _ = board.serial


@pytest.mark.parametrize(
    ("action", "cause", "says"),
    [
        (b"import machine; machine.reset()\r", "HARD_RESET", b"rst:0xc (SW_CPU_RESET)"),
        (b"import machine; machine.WDT(timeout=100)\r", "WDT_RESET", b"rst:0x8 (TG1WDT_SYS_RESET)"),
        (b"import machine; machine.deepsleep(1000)\r", "DEEPSLEEP_RESET", b"rst:0x5 (DEEPSLEEP_RESET)"),
        (b"\x04", "SOFT_RESET", b"MPY: soft reboot"),
    ],
)
def test_the_port_outlives_resets(bench: Bench, action: bytes, cause: str, says: bytes) -> None:
    board = bench.board("print('main runs')", serial=True)
    board.start()
    path = board.serial.path
    line = at_prompt(board)
    line.send(action)
    line.until(says)
    line.until(b"main runs\r\n")
    line.until(BANNER)
    assert [event["cause"] for event in board.history("reset")] == [cause]
    assert board.serial.path == path and os.readlink(board.serial.link) == path
    line.close()


def test_an_armed_watchdog_outlives_a_soft_reset(bench: Bench) -> None:
    board = bench.board("pass", serial=True)
    board.start()
    line = at_prompt(board)
    line.send(b"import machine; dog = machine.WDT(timeout=1500)\r\x04")
    line.until(b"soft reboot")
    line.until(BANNER)
    line.until(b"TG1WDT_SYS_RESET")
    line.close()


def test_files_left_open_are_closed_by_a_soft_reset(bench: Bench) -> None:
    board = bench.board("pass", serial=True)
    board.start()
    line = at_prompt(board)
    line.send(b"f = open('/left', 'w'); f.write('x')\r")
    line.until(b"\r\n1\r\n>>> ")
    line.send(b"\x04")
    line.until(BANNER)
    line.send(b"open('/left').read()\r")
    line.until(b"\r\n'x'\r\n>>> ")
    line.close()


def test_unplugging_hangs_up_and_plugging_in_goes_on(bench: Bench) -> None:
    board = bench.board("pass", serial=True)
    board.start()
    line = at_prompt(board)
    line.send(b"kept = 5\r")
    line.until(b">>> ")
    link = board.serial.link
    board.serial.unplug()
    assert not board.serial.plugged and not os.path.lexists(link)
    assert board.running
    with pytest.raises(OSError) as gone:
        line.send(b"x")
    assert gone.value.errno == errno.EIO
    line.close()
    board.serial.plug()
    again = Line.open(str(link))
    again.send(b"kept\r")
    again.until(b"\r\n5\r\n>>> ")
    again.close()


def test_the_cable_can_be_pulled_at_a_byte(bench: Bench) -> None:
    board = bench.board("pass", serial=True)
    board.start()
    line = at_prompt(board)
    before = board.serial.to_board_bytes
    board.serial.unplug_after(10)
    line.send(b"0123456789abcdef")
    wait_until(lambda: not board.serial.plugged, "the cable is out")
    assert board.serial.to_board_bytes == before + 10
    line.close()


def test_without_power_the_port_is_silent(bench: Bench) -> None:
    board = bench.board("print('main runs')", serial=True)
    board.start()
    line = at_prompt(board)
    path = board.serial.path
    board.power_cut()
    line.send(b"1\r\x04\x03")  # nobody hears this, now or later
    wait_until(lambda: board.serial.to_board_bytes >= 4, "the bytes are taken")
    board.start()
    assert line.until(BANNER).startswith(b"rst:0x1 (POWERON_RESET)")
    assert not line.unread
    assert board.serial.path == path
    line.close()


def test_nobody_needs_to_listen(bench: Bench) -> None:
    board = bench.board(COUNT, serial=True)
    board.start()
    assert board.wait_for(lambda: any(text.startswith("line 600 ") for text in board.log), DEADLINE_S)
    assert board.serial.dropped_bytes > 100_000
    line = Line.open(board.serial.path)
    line.until(b"\r\nline ")
    assert int(line.until(b" ")) >= 600  # nothing stale
    line.close()


def test_a_program_that_stops_reading_does_not_stop_the_board(bench: Bench) -> None:
    board = bench.board(COUNT, serial=True)
    board.start()
    line = Line.open(board.serial.path)
    line.until(b"line ")
    # 200 KB are far more than a pty, the wire and the board's own pty hold together
    assert board.wait_for(lambda: any(text.startswith("line 1000 ") for text in board.log), DEADLINE_S)
    assert board.serial.dropped_bytes > 0
    line.prompt()  # and it still listens
    line.close()


def test_a_strobed_trace_waits_while_someone_is_at_the_prompt(bench: Bench) -> None:
    script = """
import machine, time
seen = 0
def edge(pin):
    global seen
    seen += 1
machine.Pin(27, machine.Pin.IN).irq(edge, machine.Pin.IRQ_RISING)
import dht
sensor = dht.DHT22(machine.Pin(4))
while True:
    time.sleep_ms(100)
    sensor.measure()
"""
    rows = [(1000 * i, 20_000 + i, 50_000, "") for i in range(1, 2000)]
    board = bench.board(script, rows=rows, serial=True, strobe_pin=27, speed=20, devices=[{"type": "dht22", "pin": 4}])
    board.start()
    assert board.wait_for(lambda: board.counters.get("rows", 0) > 20, DEADLINE_S)
    line = at_prompt(board)
    line.send(b"a = seen\r")
    line.until(b">>> ")
    line.send(b"time.sleep(1)\r")
    line.until(b">>> ")
    line.send(b"seen - a\r")
    line.until(b"\r\n0\r\n>>> ")
    line.close()


def test_the_log_is_what_the_firmware_printed(bench: Bench) -> None:
    board = bench.board("print('from main')", boot="print('from boot')", serial=True)
    board.start()
    line = at_prompt(board)
    line.send(b"print('from a person')\r")
    line.until(b"person\r\n>>> ")
    line.send(b"\x04")
    line.until(BANNER)
    once = ["from boot", "from main"]
    wait_until(lambda: len(board.log) >= 5, "both runs are logged")
    assert list(board.log) == ["rst:0x1 (POWERON_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)", *once, *once]
    line.close()


def test_ports_end_with_their_boards(bench: Bench) -> None:
    board = bench.board("pass", serial=True)
    board.start()
    path, link = board.serial.path, board.serial.link
    assert Path(path).exists()
    board.close()
    assert not os.path.lexists(link) and board.serial.path == ""


def test_opening_and_closing_without_a_board(tmp_path: Path) -> None:
    port = SerialPort(tmp_path / "port")
    port.close()
    port.open()
    port.open()
    line = Line.open(str(tmp_path / "port"))
    line.send(b"hello")
    wait_until(lambda: port.to_board_bytes == 5, "the bytes are taken")
    line.close()
    port.close()
    port.close()
    assert not port.plugged
