"""The prompt of a virtual board byte for byte: raw REPL, raw-paste mode, the friendly prompt, and Ctrl-C everywhere.

Expected bytes are those of MicroPython's documentation ("REPL", sections on raw mode and raw-paste mode).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from host_tools.virtual.board import VirtualBoard
from tests.support.serial_board import DEADLINE_S, Line

from .conftest import Bench

pytestmark = pytest.mark.micropython
BANNER = b"for more information.\r\n>>> "
RAW = b"raw REPL; CTRL-B to exit\r\n>"


@pytest.fixture
def idle(bench: Bench) -> Iterator[tuple[VirtualBoard, Line]]:
    """A board whose main.py has ended, and its port."""
    board = bench.board("VALUE = 5", serial=True)
    board.start()
    line = Line.open(board.serial.path)
    line.prompt()
    yield board, line
    line.close()


def say(line: Line, code: bytes, answer: bytes) -> None:
    line.send(code + b"\r")
    assert line.until(b">>> ") == code + b"\r\n" + answer + b">>> "


# ---- raw REPL


def test_raw_repl(idle: tuple[VirtualBoard, Line]) -> None:
    _, line = idle
    line.send(b"\x01")
    assert line.until(b">") == b"\r\n" + RAW
    line.send(b"print(1)\nprint('two')\x04")
    assert line.until(b"\x04>") == b"OK1\r\ntwo\r\n\x04\x04>"
    line.send(b"1 // 0\x04")
    assert line.until(b"\x04>") == (
        b'OK\x04Traceback (most recent call last):\r\n  File "<stdin>", line 1, in <module>\r\n'
        b"ZeroDivisionError: divide by zero\r\n\x04>"
    )
    line.send(b"this is no\x03print(VALUE)\x04")  # Ctrl-C forgets what was typed
    assert line.until(b"\x04>") == b"OK5\r\n\x04\x04>"
    line.send(b"x =\x04")
    assert b"SyntaxError" in line.until(b"\x04>")
    line.send(b"\x01")
    assert line.until(b">") == RAW
    line.send(b"\x02")
    assert line.until(BANNER).startswith(b"\r\nMicroPython v1.")


def test_raw_soft_reset_stays_raw_and_runs_boot_only(bench: Bench) -> None:
    board = bench.board("print('main')", boot="print('boot')", serial=True)
    board.start()
    line = Line.open(board.serial.path)
    line.prompt()
    line.send(b"\x01")
    line.until(RAW)
    line.send(b"\x04")
    assert line.until(RAW) == b"OK\r\nMPY: soft reboot\r\nboot\r\n" + RAW
    line.send(b"\x02")
    line.until(BANNER)
    line.send(b"\x04")
    assert line.until(BANNER).startswith(b"\r\nMPY: soft reboot\r\nboot\r\nmain\r\nMicroPython")
    assert [event["cause"] for event in board.history("reset")] == ["SOFT_RESET", "SOFT_RESET"]
    line.close()


def test_sys_exit_at_the_prompt_is_a_soft_reset(idle: tuple[VirtualBoard, Line]) -> None:
    _, line = idle
    line.send(b"\x01")
    line.until(RAW)
    line.send(b"import sys\nsys.exit()\x04")
    assert line.until(RAW) == b"OK\x04\x04MPY: soft reboot\r\n" + RAW


# ---- raw-paste mode


def paste(line: Line, code: bytes) -> None:
    """Send code within the windows that the board grants, as the documentation describes it."""
    line.send(b"\x05A\x01")
    assert line.take(2) == b"R\x01"
    window = int.from_bytes(line.take(2), "little")
    left = window
    at = 0
    while at < len(code):
        if not left or line.unread:
            assert line.take(1) == b"\x01"
            left += window
            continue
        part = code[at : at + left]
        line.send(part)
        at += len(part)
        left -= len(part)


def test_raw_paste(idle: tuple[VirtualBoard, Line]) -> None:
    _, line = idle
    line.send(b"\x01")
    line.until(RAW)
    code = b"total = 0\n" + b"total += 1 # a line that costs a window\n" * 100 + b"print(total)\n"
    paste(line, code)
    line.send(b"\x04")
    assert line.until(b"\x04>").lstrip(b"\x01") == b"\x04100\r\n\x04\x04>"
    paste(line, b"print('never')")
    line.send(b"\x03")
    assert b"KeyboardInterrupt" in line.until(b"\x04>")
    line.send(b"print(total)\x04")  # and the plain raw mode still works
    assert line.until(b"\x04>") == b"OK100\r\n\x04\x04>"


def test_raw_paste_of_more_than_fits_is_ended_by_the_board(idle: tuple[VirtualBoard, Line]) -> None:
    _, line = idle
    line.send(b"\x01")
    line.until(RAW)
    line.send(b"\x05A\x01")
    assert line.take(5) == b"R\x01\x80\x00\x01"
    line.send(b"#" * 128)
    while (granted := line.take(1)) == b"\x01":
        line.send(b"#" * 128)
    assert granted == b"\x04"
    line.send(b"\x04")
    assert b"MemoryError" in line.until(b"\x04>")
    line.send(b"print(VALUE)\x04")
    assert line.until(b"\x04>") == b"OK5\r\n\x04\x04>"


def test_unknown_raw_commands_are_refused(idle: tuple[VirtualBoard, Line]) -> None:
    _, line = idle
    line.send(b"\x01")
    line.until(RAW)
    line.send(b"\x05B\x01")
    assert line.take(3) == b"R\x00>"
    line.send(b"print(1)\x04")
    assert line.until(b"\x04>") == b"OK1\r\n\x04\x04>"


# ---- friendly prompt


def test_statements_and_blocks(idle: tuple[VirtualBoard, Line]) -> None:
    _, line = idle
    say(line, b"VALUE", b"5\r\n")
    say(line, b"x = 3", b"")
    say(line, b"_", b"5\r\n")
    line.send(b"def f(a):\rreturn (a +\rx)\r\r")
    assert line.until(b"\r\n>>> ").count(b"... ") == 3
    say(line, b"f(4)", b"7\r\n")
    line.send(b"'''a\rb'''\r")
    assert b"'a\\nb'" in line.until(b">>> ")
    line.send(b"while True:\r\x03")
    line.until(b"... ")
    line.until(b"\r\n>>> ")


def test_editing_and_history(idle: tuple[VirtualBoard, Line]) -> None:
    _, line = idle
    line.send(b"1 +x\x7f 1\x1b[D\x1b[D 2 +\x1b[F0\r")  # typed, corrected, inserted, appended: 1 + 2 + 10
    line.until(b"\r\n13\r\n>>> ")
    line.send(b"\x1b[A\x1b[H5\r")  # the line before, with something in front
    line.until(b"\r\n63\r\n>>> ")
    line.send(b"\x1b[A\x1b[A\x1b[B\x01\x1b[3~\x05\x08\r")  # up, up, down; delete the first, erase the last
    line.until(b"\r\n4\r\n>>> ")
    line.send("print('ä€')\r".encode())
    line.until("\r\nä€\r\n>>> ".encode())


def test_paste_mode_and_input(idle: tuple[VirtualBoard, Line]) -> None:
    _, line = idle
    line.send(b"\x05")
    line.until(b"=== ")
    line.send(b"for i in range(2):\r    print('n', i)\r\rprint('end')\r\x04")
    assert line.until(b"end\r\n>>> ").endswith(b"n 0\r\nn 1\r\nend\r\n>>> ")
    line.send(b"input('who? ')\r")
    line.until(b"\r\nwho? ")
    line.send(b"me\r")
    assert line.until(b">>> ") == b"me\r\n'me'\r\n>>> "
    line.send(b"import sys; sys.stdin.read(3)\r")
    line.until(b"\r\n")
    line.send(b"a\rb")
    assert line.until(b">>> ") == b"'a\\nb'\r\n>>> "


# ---- Ctrl-C


@pytest.mark.parametrize(
    "waiting",
    [
        "import time\ntime.sleep(1000)",
        "import select\nselect.poll().poll()",
        "import machine\nmachine.deepsleep()",
        "try:\n    while True: __import__('time').sleep_ms(1)\nfinally:\n    print('finally')",
    ],
)
def test_ctrl_c_interrupts_main_where_it_waits(bench: Bench, waiting: str) -> None:
    board = bench.board(f"print('go')\n{waiting}", serial=True, speed=50)
    board.start()
    assert board.wait_for(lambda: "go" in board.log, DEADLINE_S)
    line = Line.open(board.serial.path)
    line.send(b"\x03")
    said = line.until(BANNER)
    assert b"KeyboardInterrupt: \r\n" in said
    assert b"sim/" not in said
    assert (b"finally" in said) == ("finally" in waiting)
    assert not board.history("error")
    line.close()


def test_ctrl_c_ends_a_main_that_never_waits(bench: Bench) -> None:
    board = bench.board("print('go')\nx = []\nwhile True: x = [1] * 50", serial=True)
    board.start()
    assert board.wait_for(lambda: "go" in board.log, DEADLINE_S)
    line = Line.open(board.serial.path)
    line.send(b"\x03")
    assert b"KeyboardInterrupt" in line.until(BANNER)
    board.wait_event("interrupted", DEADLINE_S)
    assert board.running and not board.history("reset")
    line.close()


def test_ctrl_c_ends_a_command_that_never_waits_and_names_stay(idle: tuple[VirtualBoard, Line]) -> None:
    _, line = idle
    say(line, b"mine = 8", b"")
    line.send(b"while True: pass\r\r")
    line.until(b"... \r\n")
    line.send(b"\x03")
    line.until(b"KeyboardInterrupt")
    line.until(b">>> ")
    line.send(b"\r")
    line.until(b">>> ")
    line.send(b"mine\r")
    line.until(b"\r\n8\r\n>>> ")


def test_kbd_intr_switches_ctrl_c_off(idle: tuple[VirtualBoard, Line]) -> None:
    _, line = idle
    line.send(b"\x01")
    line.until(RAW)
    code = (
        b"import micropython, sys\nmicropython.kbd_intr(-1)\nprint('off')\n"
        b"print(sys.stdin.buffer.read(3))\nmicropython.kbd_intr(3)\nprint('on')\nwhile True: sys.stdin.read(1)\x04"
    )
    line.send(code)
    line.until(b"off\r\n")
    line.send(b"a\x03b")
    assert line.until(b"on\r\n") == b"b'a\\x03b'\r\non\r\n"
    line.send(b"\x03")
    assert b"KeyboardInterrupt" in line.until(b"\x04>")


def test_stdout_cooks_text_and_leaves_bytes_alone(idle: tuple[VirtualBoard, Line]) -> None:
    _, line = idle
    line.send(b"\x01")
    line.until(RAW)
    line.send(
        b"import sys\nprint('a')\nout = sys.stdout.buffer\nout.write(b'b\\n')\nout.write('c\\n')\n"
        b"sys.stdout.write('d\\n')\nout.write(b'efg', 2)\x04"
    )
    assert line.until(b"\x04>") == b"OKa\r\nb\nc\nd\r\nef\x04\x04>"
