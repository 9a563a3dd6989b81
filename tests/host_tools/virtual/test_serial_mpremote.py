"""The real `mpremote` program against a virtual board that runs the real firmware: each command that it must do."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_tools.virtual.board import VirtualBoard
from tests.support.serial_board import DEADLINE_S, MPREMOTE, FirmwareBoards, Line, mpremote, samples, wait_until

pytestmark = pytest.mark.micropython
BINARY = bytes(range(256)) * 12  # every control character, and more than one raw-paste window


def ok(board: VirtualBoard, *words: str, folder: Path | None = None) -> str:
    done = mpremote(board, *words, folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    return done.stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with text, bytes and a folder in it."""
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "note.txt").write_text("eins\nzwei\n", encoding="utf-8")
    (root / "sub" / "all.bin").write_bytes(BINARY)
    (root / "far.py").write_text("def answer():\n    return 41 + 1\n" + "# padding padding padding\n" * 40)
    return root


def test_exec(ported: VirtualBoard) -> None:
    assert ok(ported, "exec", "import sys\nprint(sys.platform, 6 * 7)") == "esp32 42\n"
    failed = mpremote(ported, "exec", "def f():\n  1 / 0\nf()")
    assert failed.returncode == 1
    assert failed.stdout == (
        'Traceback (most recent call last):\n  File "<stdin>", line 3, in <module>\n'
        '  File "<stdin>", line 2, in f\nZeroDivisionError: divide by zero\n'
    )


def test_exec_after_a_soft_reset_has_no_names_left_and_resume_keeps_them(ported: VirtualBoard) -> None:
    ok(ported, "exec", "left = 1")
    assert ok(ported, "resume", "exec", "print(left)") == "1\n"
    assert "NameError" in mpremote(ported, "exec", "print(left)").stdout


def test_run(ported: VirtualBoard, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "total = 0\n" + "total += 1  # and some words to make it long\n" * 200 + "print('läuft', total)\n"
    )
    assert ok(ported, "run", str(script)) == "läuft 200\n"


def test_fs_cp_cat_ls_sha256sum_rm(ported: VirtualBoard, tree: Path, tmp_path: Path) -> None:
    ok(ported, "fs", "cp", "tree/note.txt", ":note.txt", folder=tmp_path)
    assert ok(ported, "fs", "cat", "note.txt") == "eins\nzwei\n"
    assert "          10 note.txt\n" in ok(ported, "fs", "ls")
    assert hashlib.sha256(b"eins\nzwei\n").hexdigest() in ok(ported, "fs", "sha256sum", "note.txt")
    assert "Up to date: note.txt" in ok(ported, "fs", "cp", "tree/note.txt", ":note.txt", folder=tmp_path)
    ok(ported, "fs", "cp", ":note.txt", "back.txt", folder=tmp_path)
    assert (tmp_path / "back.txt").read_bytes() == b"eins\nzwei\n"
    ok(ported, "fs", "rm", "note.txt")
    gone = mpremote(ported, "fs", "cat", "note.txt")
    assert (gone.returncode, gone.stderr) == (1, "mpremote: cat: note.txt: No such file or directory.\n")


def test_fs_mkdir_touch_rmdir(ported: VirtualBoard) -> None:
    ok(ported, "fs", "mkdir", "made")
    ok(ported, "fs", "touch", "made/empty")
    assert ok(ported, "fs", "ls", "made") == "ls :made\n           0 empty\n"
    assert mpremote(ported, "fs", "rmdir", "made").returncode == 1
    ok(ported, "fs", "rm", "made/empty")
    ok(ported, "fs", "rmdir", "made")
    assert "made/" not in ok(ported, "fs", "ls")


def test_cp_r_both_ways(ported: VirtualBoard, tree: Path, tmp_path: Path) -> None:
    ok(ported, "cp", "-r", "tree", ":", folder=tmp_path)
    ok(ported, "cp", "-r", ":tree", "copy", folder=tmp_path)
    assert (tmp_path / "copy" / "sub" / "all.bin").read_bytes() == BINARY
    assert sorted(path.name for path in (tmp_path / "copy").rglob("*")) == ["all.bin", "far.py", "note.txt", "sub"]
    ok(ported, "rm", "-r", ":tree")


def test_soft_reset_runs_boot_and_not_main(firmware_boards: FirmwareBoards, ported: VirtualBoard) -> None:
    ok(ported, "exec", "import os\nos.rename('/boot.py', '/kept.py')\nopen('/boot.py', 'w').write('booted = 1')")
    boots = ported.event_counts["boot"]
    ok(ported, "soft-reset")
    assert ported.event_counts["boot"] > boots
    said = ok(ported, "exec", "import sys\nprint(booted, 'isonode.app' in sys.modules)")
    assert said == "1 False\n"
    ok(ported, "exec", "import os\nos.rename('/kept.py', '/boot.py')")
    assert ported.serial.plugged


def test_the_application_is_stopped_and_resumes_after_reset(ported: VirtualBoard) -> None:
    ok(ported, "reset")
    ported.wait_for(lambda: ported.history("reset")[-1]["cause"] == "HARD_RESET", DEADLINE_S)
    samples(ported)
    path = ported.serial.path
    reset_cause = ok(ported, "exec", "import machine; print(machine.reset_cause() == machine.SOFT_RESET)")
    assert reset_cause == "True\n"
    assert "KeyboardInterrupt: " in ported.log
    assert not any("raw REPL" in line or "sim/" in line for line in ported.log)
    ok(ported, "reset")
    samples(ported)
    assert ported.serial.path == path


def test_mount(ported: VirtualBoard, tree: Path, tmp_path: Path) -> None:
    code = """
import os, far
print(sorted(os.listdir()), far.answer())
print(open("sub/all.bin", "rb").read() == bytes(range(256)) * 12, len(open("note.txt").readlines()))
with open("made.bin", "wb") as f:
    f.write(bytes(range(256)))
os.mkdir("new")
os.rename("made.bin", "new/made.bin")
print(os.stat("new/made.bin")[6])
"""
    said = ok(ported, "mount", "tree", "exec", code, folder=tmp_path)
    assert said == ("Local directory tree is mounted at /remote\n['far.py', 'note.txt', 'sub'] 42\nTrue 2\n256\n")
    assert (tree / "new" / "made.bin").read_bytes() == bytes(range(256))


def test_mip_install_from_a_local_path(ported: VirtualBoard, tmp_path: Path) -> None:
    package = tmp_path / "package"
    (package / "thing").mkdir(parents=True)
    (package / "thing" / "__init__.py").write_text("VALUE = 7\n")
    urls = [["thing/__init__.py", "thing/__init__.py"]]
    (package / "package.json").write_text(json.dumps({"urls": urls, "version": "1.0"}))
    assert "Installing: /lib/thing/__init__.py" in ok(ported, "mip", "install", "package/package.json", folder=tmp_path)
    assert ok(ported, "exec", "import thing\nprint(thing.VALUE)") == "7\n"
    ok(ported, "rm", "-r", ":/lib/thing")


def test_df(ported: VirtualBoard) -> None:
    """mpremote 1.25 names the mount first, 1.29 the file system."""
    heading, *rows = ok(ported, "df").splitlines()
    names = heading.replace("mounted on", "mount").split()
    fields = rows[0].split() if len(rows[0].split()) == len(names) else ["/", *rows[0].split()]
    row = dict(zip(names, fields, strict=True))
    assert (int(row["size"]), row["mount"], row.get("filesystem", "<VfsLfs2>")) == (1 << 20, "/", "<VfsLfs2>")
    assert 0 < int(row["used"]) == int(row["size"]) - int(row["avail"])


def test_edit(ported: VirtualBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\necho "# edited" >> "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    ok(ported, "edit", "edited.py")
    assert ok(ported, "fs", "cat", "edited.py") == "# edited\n"
    ok(ported, "fs", "rm", "edited.py")


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_all_of_this_with_the_oldest_mpremote(tmp_path: Path) -> None:
    """Every other test of this file again, with the program that came with MicroPython 1.25."""
    older = tmp_path / "older"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(older), "mpremote==1.25.0"]
    subprocess.run(pip, check=True, timeout=300)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(older), os.environ.get("PYTHONPATH", "")))}
    version = subprocess.run([*MPREMOTE, "version"], env=environment, capture_output=True, text=True, check=True).stdout
    assert "1.25.0" in version
    again = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(again, env=environment, capture_output=True, text=True, check=False, timeout=800)
    assert done.returncode == 0, done.stdout[-3000:]


# ---- the console, driven as a person at a terminal would


class Console(Line):
    """A terminal with mpremote in it."""

    def __init__(self, board: VirtualBoard, *words: str) -> None:
        ours, its = pty.openpty()
        super().__init__(ours)
        command = [*MPREMOTE, "connect", board.serial.path, *words]
        self.process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, start_new_session=True)
        os.close(its)
        self.until(b"to exit this shell")
        wait_until(lambda: not termios.tcgetattr(ours)[3] & termios.ICANON, "mpremote takes the terminal")

    def leave(self) -> int:
        self.send(b"\x1d")
        return self.process.wait(DEADLINE_S)


@pytest.fixture
def console(ported: VirtualBoard) -> Iterator[Console]:
    made = Console(ported, "repl")
    yield made
    made.process.kill()
    made.process.wait()
    made.close()


def test_repl(ported: VirtualBoard, console: Console) -> None:
    console.send(b"\x03")
    console.until(b">>> ")
    console.send(b"1 + 41\r")
    console.until(b"\r\n42\r\n>>> ")
    console.send(b"for i in range(2):\r")
    console.until(b"\r\n...     ")  # indented for us
    console.send(b"print('no', i)\r\r")
    console.until(b"no 0\r\nno 1\r\n>>> ")
    boots = ported.event_counts["boot"]
    console.send(b"\x04")
    console.until(b"MPY: soft reboot\r\n")
    assert console.leave() == 0
    assert ported.wait_for(lambda: ported.event_counts["boot"] > boots, DEADLINE_S)
    samples(ported)  # Ctrl-D at the friendly prompt starts the application again


def test_mounting_survives_a_soft_reset_where_main_ends(ported: VirtualBoard, tree: Path, tmp_path: Path) -> None:
    ok(ported, "exec", "import os\nos.rename('/main.py', '/main.kept')")
    console = Console(ported, "mount", str(tree), "repl")
    try:
        console.send(b"import os; os.getcwd()\r")
        console.until(b"'/remote'\r\n>>> ")
        console.send(b"\x04")
        console.until(b"Remount local directory")
        console.until(b">>> ")
        console.send(b"import far; far.answer()\r")
        console.until(b"\r\n42\r\n>>> ")
        assert console.leave() == 0
    finally:
        console.process.kill()
        console.process.wait()
        console.close()
    ok(ported, "exec", "import os\nos.rename('/main.kept', '/main.py')")
