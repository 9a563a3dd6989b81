"""Boards through mpremote: what a caller gets, and one sentence with the port and the next step for each failure."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from host_tools import device
from host_tools.device import Device
from host_tools.virtual.board import VirtualBoard
from tests.support.serial_board import DEADLINE_S, FirmwareBoards, samples

pytestmark = pytest.mark.micropython
FILL = """
n = 0
try:
    while True:
        with open("/fill%d" % n, "w") as f:
            f.write(bytes(4096))
        n += 1
except OSError as e:
    print(e.errno)
"""


def on(board: VirtualBoard) -> Device:
    return Device(str(board.serial.link), timeout_s=DEADLINE_S)


def test_code_and_its_failure(ported: VirtualBoard, tmp_path: Path) -> None:
    board = on(ported)
    assert board.exec("kept = 3\nprint('a')") == "a\n"
    assert board.exec("print(kept)", keep_state=True) == "3\n"
    assert board.evaluate("print((1, b'\\x00')); print([])") == [(1, b"\0"), []]
    with pytest.raises(device.CodeFailed, match=r"the code failed on the board: NameError: name 'kept'") as failed:
        board.exec("print(kept)")
    assert 'File "<stdin>", line 1' in failed.value.traceback
    with pytest.raises(device.DeviceError, match="makes no sense"):
        board.evaluate("print('no literal at all')")
    script = tmp_path / "script.py"
    script.write_text("print('from a file')")
    assert board.run(script) == "from a file\n"


def test_files(ported: VirtualBoard, tmp_path: Path) -> None:
    board = on(ported)
    content = bytes(range(256)) * 5
    board.make_folder("/things")
    board.write({"/things/a.bin": content, "/things/b b.txt": b"", "/things/c": b"\r\n\x04"})
    assert board.read("/things/a.bin") == content
    assert sorted(board.entries("/things")) == [("a.bin", False, 1280), ("b b.txt", False, 0), ("c", False, 3)]
    assert device.Entry("things", True, 0) in board.entries()
    contents = {"/things/a.bin": content, "/things/b b.txt": b""}
    wanted = {path: hashlib.sha256(data).digest() for path, data in contents.items()}
    assert board.hashes([*wanted, "/things/none"]) == wanted
    space = board.space()
    assert space.total_bytes == 1 << 20 and 0 < space.free_bytes < space.total_bytes
    tree = tmp_path / "tree"
    (tree / "in").mkdir(parents=True)
    (tree / "in" / "x.py").write_text("X = 1\n")
    board.copy_tree(tree, "/things")
    assert board.read("/things/tree/in/x.py") == b"X = 1\n"
    board.remove("/things/c")
    board.remove("/things", whole_tree=True)
    assert "things" not in [entry.name for entry in board.entries()]
    for missing in (lambda: board.entries("/none"), lambda: board.read("/none"), lambda: board.remove("/none")):
        with pytest.raises(device.FileMissing, match=r"none"):
            missing()
    board.write({})


def test_a_local_package(ported: VirtualBoard, tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "one.py").write_text("ONE = 1\n")
    (package / "package.json").write_text('{"urls": [["one.py", "one.py"]], "version": "1"}')
    board = on(ported)
    board.install(package)
    assert board.exec("import one; print(one.ONE)") == "1\n"


def test_resets(ported: VirtualBoard) -> None:
    board = on(ported)
    board.soft_reset()
    assert ported.history("reset")[-1]["cause"] == "SOFT_RESET"
    board.reset()
    assert ported.wait_for(lambda: ported.history("reset")[-1]["cause"] == "HARD_RESET", DEADLINE_S)
    samples(ported)


def test_no_such_port(tmp_path: Path) -> None:
    path = str(tmp_path / "ttyUSB7")
    with pytest.raises(device.PortMissing) as error:
        Device(path).exec("1")
    assert str(error.value) == (
        f"{path}: there is no such port: plug the board in with a cable that carries data, "
        "and look with `mpremote connect list`"
    )


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ttyUSB0"
    path.touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(device.PortDenied, match=rf"join the group {path.group()} \(sudo usermod -a -G "):
        Device(str(path)).exec("1")


def test_a_busy_port(ported: VirtualBoard) -> None:
    other = os.open(ported.serial.link, os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(other, fcntl.LOCK_EX)
    try:
        with pytest.raises(device.PortBusy, match=r"port: another program has the port open"):
            on(ported).exec("1")
    finally:
        os.close(other)


def test_a_full_flash(firmware_boards: FirmwareBoards) -> None:
    board = on(firmware_boards.board("full"))
    assert board.exec(FILL) == "28\n"
    with pytest.raises(device.FlashFull, match=r"port: the board's flash is full: remove files"):
        board.write({"/more": bytes(20_000)})
    with pytest.raises(device.FlashFull):
        board.exec("f = open('/more', 'w')\nf.write(bytes(20000))\nf.close()")


def test_the_cable_pulled_in_the_middle(ported: VirtualBoard) -> None:
    board = on(ported)
    ported.serial.unplug_after(20_000)
    with pytest.raises(device.CableLost, match=r"port: the port went away in the middle: plug the cable in again"):
        board.write({"/cut": bytes(60_000)})
    with pytest.raises(device.PortMissing):
        board.exec("1")
    ported.serial.plug()
    board.write({"/cut": b"whole"})
    assert board.read("/cut") == b"whole"
    board.remove("/cut")


def test_a_board_without_power(firmware_boards: FirmwareBoards) -> None:
    silent = firmware_boards.board("silent")
    silent.power_cut()
    with pytest.raises(device.NoAnswer, match=r"port: no MicroPython answered within 1 s: .* reset button"):
        Device(str(silent.serial.link), timeout_s=1).exec("1")


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], Device]:
    """A Device whose mpremote is a script: for what no healthy board can be made to do."""

    def make(text: str) -> Device:
        path = tmp_path / "mpremote"
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return Device("id:1234", mpremote=[str(path)], timeout_s=DEADLINE_S)

    return make


def test_a_board_in_a_boot_loop(program: Callable[[str], Device]) -> None:
    said = r"b'rst:0xc (SW_CPU_RESET),boot:0x13\r\n...rst:0xc (SW_CPU_RESET),boot:0x13\r\n'"
    board = program(f'echo "{said}"\necho "mpremote: could not enter raw repl" >&2\nexit 1\n')
    with pytest.raises(device.BootLoop, match=r"id:1234: the board restarts again and again"):
        board.exec("1")


def test_nothing_that_answers(program: Callable[[str], Device]) -> None:
    board = program('echo "mpremote: could not enter raw repl" >&2\nexit 1\n')
    with pytest.raises(device.NoAnswer, match="no MicroPython answered to Ctrl-C") as error:
        board.exec("1")
    assert not isinstance(error.value, device.BootLoop)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('echo "mpremote: cp: missing destination path" >&2; exit 1', "`mpremote fs` failed: cp: missing destination"),
        ("exit 1", "`mpremote fs` failed: it ended with code 1 and gave no reason"),
        ('echo "/usr/bin/python: No module named mpremote" >&2; exit 1', "mpremote is not installed: install the host"),
    ],
)
def test_other_failures(program: Callable[[str], Device], text: str, says: str) -> None:
    with pytest.raises(device.DeviceError, match=says):
        program(text).command("fs", "cp")


def test_a_long_transfer_is_held_and_has_its_time(tmp_path: Path) -> None:
    """A whole firmware takes longer over a slow line than the hold of one command: it is renewed between files."""
    path = tmp_path / "mpremote"
    path.write_text(f'#!/bin/sh\nfor word; do echo "$word"; done >> {tmp_path}/words\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    board = Device("id:1234", mpremote=[str(path)], hold_ms=400)
    with board.held():
        board.write({f"/{number}": bytes(60) for number in range(5)})
    words = (tmp_path / "words").read_text().split("\n")
    marks = [word for word in words if word.startswith((":/", "_hold_end = time.ticks_add(time.ticks_ms(), 400)"))]
    assert [mark[:2] for mark in marks[1:]] == [":/", ":/", "_h", ":/", ":/", "_h", ":/"]
    board.write({f"/{number}": bytes(60) for number in range(5)})
    assert (tmp_path / "words").read_text().count("_hold_end = ") == 3, "nothing is held: nothing to renew"
    late = Device("id:1234", mpremote=["/bin/sh", "-c", "sleep 1"], timeout_s=0.01)
    with pytest.raises(device.NoAnswer, match=r"within 0\.11 s"):
        late.write({"/x": bytes(100)})


def test_no_program() -> None:
    with pytest.raises(device.DeviceError, match="install the host extra"):
        Device("id:1234", mpremote=["/no/such/mpremote"]).exec("1")


def test_the_console_is_mpremotes_own(program: Callable[[str], Device]) -> None:
    assert program('[ "$*" = "connect id:1234 mount there repl" ] && exit 7').console(mount=Path("there")) == 7


def test_an_endless_restart_is_told_from_silence(firmware_boards: FirmwareBoards) -> None:
    board = firmware_boards.board("looping")
    on(board).write({"/boot.py": b"import machine\nmachine.reset()\n"})
    with pytest.raises(device.BootLoop):
        on(board).reset()  # needs a soft reset first, which runs boot.py
    assert board.running


def test_defaults_run_this_pythons_mpremote() -> None:
    assert device.MPREMOTE[0] == sys.executable
    assert repr(Device("/dev/ttyACM0")) == "Device('/dev/ttyACM0')"
