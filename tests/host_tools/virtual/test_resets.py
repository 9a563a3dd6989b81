"""Resets and power: every way a board goes down and comes back, and that none outlives its supervisor."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.errors import BoardError
from host_tools.virtual.spec import load_hardware

from .conftest import DEADLINE_S, Bench

pytestmark = pytest.mark.micropython

CAUSES = {"PWRON_RESET": 1, "HARD_RESET": 2, "WDT_RESET": 3, "DEEPSLEEP_RESET": 4, "SOFT_RESET": 5}
REMEMBER = """
import machine, time
memory = machine.RTC().memory()
print("cause", machine.reset_cause(), "memory", memory)
machine.RTC().memory(memory + b"x")
time.sleep_ms(50)
first = machine.reset_cause() == machine.PWRON_RESET
"""


def _second_boot(board: VirtualBoard) -> dict[str, object]:
    board.start()
    return dict(board.wait_event("boot", DEADLINE_S, count=2))


@pytest.mark.parametrize(
    ("action", "cause"),
    [
        ("machine.reset()", "HARD_RESET"),
        ("machine.soft_reset()", "SOFT_RESET"),
        ("import sys; sys.exit()", "SOFT_RESET"),
        ("machine.deepsleep(3600000)", "DEEPSLEEP_RESET"),
        ("machine.WDT(timeout=100); time.sleep(100)", "WDT_RESET"),
    ],
)
def test_reset_and_its_cause(bench: Bench, action: str, cause: str) -> None:
    board = bench.board(REMEMBER + f"if first:\n    {action}\n")
    assert _second_boot(board)["cause"] == CAUSES[cause]
    assert [event["cause"] for event in board.history("reset")] == [cause]
    assert board.wait_for(lambda: f"cause {CAUSES[cause]} memory b'x'" in board.log, DEADLINE_S)
    assert board.restarts == 1
    board.power_cut()


def test_no_finally_runs_at_a_reset(bench: Bench) -> None:
    script = (
        REMEMBER
        + """
if first:
    try:
        machine.reset()
    except BaseException:
        print("caught")
    finally:
        print("finally")
"""
    )
    board = bench.board(script)
    _second_boot(board)
    board.power_cut()
    assert "caught" not in board.log and "finally" not in board.log


def test_deep_sleep_lets_board_time_pass(bench: Bench) -> None:
    script = REMEMBER + "if first:\n    machine.deepsleep(3600000)\nprint('awake', time.time())\n"
    board = bench.board(script, epoch_s=946_684_800)
    _second_boot(board)
    assert board.wait_for(lambda: any(line.startswith("awake") for line in board.log), DEADLINE_S)
    awake_s = int(next(line for line in board.log if line.startswith("awake")).split()[1])
    assert 3600 <= awake_s < 3700
    board.power_cut()


def test_watchdog_bites_a_hung_firmware(bench: Bench) -> None:
    board = bench.board(REMEMBER + "if first:\n    machine.WDT(timeout=100)\n    while True: pass\n")
    assert _second_boot(board)["cause"] == CAUSES["WDT_RESET"]
    board.power_cut()


def test_a_fed_watchdog_does_not_bite(bench: Bench) -> None:
    script = """
import machine, time
dog = machine.WDT(timeout=1000)
for _ in range(30):
    time.sleep_ms(50)
    dog.feed()
print("alive")
dog = machine.WDT(timeout=100000)
"""
    board = bench.board(script)
    board.start()
    assert board.wait_for(lambda: "alive" in board.log, DEADLINE_S)
    assert board.restarts == 0
    board.power_cut()


def test_an_exception_ends_at_the_prompt_and_the_watchdog_resets(bench: Bench) -> None:
    board = bench.board(REMEMBER + "machine.WDT(timeout=300)\nif first:\n    1 // 0\n")
    assert _second_boot(board)["cause"] == CAUSES["WDT_RESET"]
    error = board.history("error")[0]
    assert "ZeroDivisionError" in error["text"]
    assert "main.py" in error["text"]
    board.power_cut()


def test_a_failing_boot_script_keeps_main_from_running(bench: Bench) -> None:
    board = bench.board("print('main ran')", boot="raise ValueError('no boot')")
    board.start()
    assert board.wait_event("error", DEADLINE_S)["script"] == "boot.py"
    board.stop()
    assert "main ran" not in board.log


def test_power_cut_forgets_rtc_memory_but_not_flash(bench: Bench) -> None:
    script = """
import machine, os
count = len(os.listdir("/")) - 2
with open("/boot%d.txt" % count, "w") as file:
    file.write("x" * 100)
    file.flush()
    print("files", count, "memory", machine.RTC().memory(), "cause", machine.reset_cause())
    machine.RTC().memory(b"gone")
    import time
    time.sleep(1000)
"""
    board = bench.board(script)
    for count in range(3):
        board.start()
        assert board.wait_for(partial(board.log.__contains__, f"files {count} memory b'' cause 1"), DEADLINE_S)
        board.power_cut()
        assert not board.running
    assert bench.builder.read_file(board.flash_path, "/boot1.txt") == b"x" * 100


def test_a_board_that_keeps_resetting_is_slowed_down_not_given_up(bench: Bench) -> None:
    board = bench.board("import machine\nmachine.reset()")
    board.start()
    board.wait_event("boot", DEADLINE_S, count=5)
    assert board.running
    board.power_cut()


def test_stop_reports_and_a_stopped_board_starts_again(bench: Bench) -> None:
    board = bench.board("import time\ntime.sleep(1000)")
    board.start()
    with pytest.raises(BoardError, match="on already"):
        board.start()
    board.stop()
    assert not board.running
    assert [event["event"] for event in board.history()][-2:] == ["counters", "off"]
    board.stop()
    board.start()
    assert board.wait_event("boot", DEADLINE_S, count=2)["boot_count"] == 2


def test_counters_are_those_of_the_application(bench: Bench) -> None:
    script = """
import sys, time
class Node:
    counters = {"sampled": 41}
class App:
    node = Node()
sys.modules["isonode.app"] = App
time.sleep_ms(20)
Node.counters["sampled"] += 1
time.sleep(1000)
"""
    board = bench.board(script)
    board.start()
    assert board.wait_for(lambda: board.counters.get("sampled") == 42, DEADLINE_S)
    board.stop()
    assert board.history("off")[-1]["counters"] == {"sampled": 42}


def test_an_interpreter_that_breaks_is_a_crash(bench: Bench) -> None:
    board = bench.board("pass")
    board.flash_path.write_bytes(b"\xff" * 8192)
    board.start()
    assert board.wait_event("crash", DEADLINE_S)["returncode"] != 0
    assert not board.running
    assert "Error" in board.log_path.read_text(encoding="utf-8")


def test_no_image_no_start(bench: Bench) -> None:
    board = bench.board("pass")
    board.flash_path.unlink()
    with pytest.raises(BoardError, match="no flash image"):
        board.start()


def _bare(board: VirtualBoard) -> subprocess.Popen[bytes]:
    """The board's process without its supervisor."""
    document = board.spec.document(board.workdir, load_hardware())
    spec = board.workdir / "spec.json"
    spec.write_text(json.dumps(document), encoding="utf-8")
    runner = Path(sys.modules[VirtualBoard.__module__].__file__ or "").parent / "sim" / "runner.py"
    command = [*board._interpreter.command, "-X", "heapsize=200000", str(runner), str(spec)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.mark.parametrize("script", ["import time\ntime.sleep(1000)", "pass"])
def test_end_of_input_is_loss_of_power(bench: Bench, script: str) -> None:
    with _bare(bench.board(script)) as process:
        assert process.stdin is not None and process.stdout is not None
        assert b'"boot"' in process.stdout.readline()
        process.stdin.close()
        assert process.wait(DEADLINE_S) == 0


SUPERVISOR = """
import sys, time
from pathlib import Path
from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.interpreter import find_micropython
from host_tools.virtual.spec import BoardSpec
board = VirtualBoard(BoardSpec("orphan"), Path(sys.argv[1]), find_micropython())
board.start()
board.wait_event("boot", 20)
print(board.pid, flush=True)
time.sleep(1000)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux's")
def test_a_hung_board_dies_with_its_supervisor(bench: Bench) -> None:
    board = bench.board("while True: pass")
    command = [sys.executable, "-c", SUPERVISOR, str(board.workdir)]
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as supervisor:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        watch = os.pidfd_open(pid)
        try:
            supervisor.send_signal(signal.SIGKILL)
            supervisor.wait()
            poller = select.poll()
            poller.register(watch, select.POLLIN)
            assert poller.poll(DEADLINE_S * 1000), "the board outlived its supervisor"
        finally:
            os.close(watch)
