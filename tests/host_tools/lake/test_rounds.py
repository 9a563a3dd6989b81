"""`isotherm cloud lake write` as a program: one round, and rounds until a signal; beside a receiver elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from host_tools.cli import run
from host_tools.lake.snapshot import SNAPSHOT
from host_tools.lake.storage import open_storage
from tests.support.lake import batch, fill, in_lake, reading, stored

ROOT = Path(__file__).resolve().parents[3]
DEADLINE_S = 120.0


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def start(data: Path, lake: Path, *options: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "host_tools.cli",
        "cloud",
        "lake",
        "write",
        "--data",
        str(data),
        "--lake",
        str(lake),
    ]
    path = os.pathsep.join((str(ROOT), str(ROOT / "firmware")))
    return subprocess.Popen(
        [*command, *options],
        env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def line_of(child: subprocess.Popen[str]) -> str:
    """The next line it prints; the test's time limit bounds the wait."""
    assert child.stdout is not None
    return child.stdout.readline()


def test_one_round(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = tmp_path / "lake"
    arguments = ["cloud", "lake", "write", "--data", str(data), "--lake", str(lake)]
    assert run(arguments) == 1
    assert "no such store; `isotherm cloud serve" in capsys.readouterr().err
    fill(data)
    assert run(arguments) == 0
    assert capsys.readouterr().out == f"{lake}: the store holds nothing yet\n"
    fill(data, batch(1, reading(1), reading(2)))
    assert run(arguments) == 0
    assert capsys.readouterr().out == f"{lake}: 2 readings; up to batch 1 of the store\n"
    assert run(arguments) == 0
    assert capsys.readouterr().out == f"{lake}: nothing new; up to batch 1 of the store\n"


@pytest.mark.parametrize("text", ["", "15", "0s", "soon", "-1h", "1 fortnight"])
def test_a_length_of_time_that_is_none(data: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cloud", "lake", "write", "--data", str(data), "--lake", "lake", "--every", text]) == 2
    assert "no length of time such as 30s, 15min, 1h or 1day" in capsys.readouterr().err


def test_rounds_go_on_until_a_signal_and_through_a_failure(data: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    fill(data, batch(1, reading(1)))
    child = start(data, lake, "--every", "1s")
    try:
        assert "1 readings; up to batch 1" in line_of(child)
        good = (lake / SNAPSHOT).read_bytes()
        while "nothing new" in (said := line_of(child)):
            if (lake / SNAPSHOT).read_bytes() == good:
                (lake / SNAPSHOT).write_bytes(b"{")
                assert child.stderr is not None
                complaint = child.stderr.readline()
                assert "snapshot.json: is no file of a lake" in complaint
                assert "next round in 1 s" in complaint
                fill(data, batch(2, reading(2)))
                (tmp_path / "snapshot").write_bytes(good)
                os.replace(tmp_path / "snapshot", lake / SNAPSHOT)
        assert "1 readings; up to batch 2" in said
        child.send_signal(signal.SIGTERM)
        assert child.wait(DEADLINE_S) == 0
    finally:
        child.kill()
        child.communicate()
    assert in_lake(open_storage(str(lake))) == stored(data)
