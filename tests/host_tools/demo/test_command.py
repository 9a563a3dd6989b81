"""`isotherm demo` with something missing or wrong: one sentence on what to do, its exit code, nothing left behind."""

from __future__ import annotations

import shutil
import tempfile
from collections import namedtuple
from pathlib import Path

import pytest

from host_tools.cli import run
from host_tools.demo import processes, stack
from host_tools.demo.processes import Child, ProcessError, accepts_connections, free_port
from tests.support.demo import write_trace


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the run would keep its files."""
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said on stderr: one line."""
    text = capsys.readouterr().err.strip()
    assert len(text.splitlines()) == 1, text
    return text


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["--trace", "nowhere.csv"], 2, "nowhere.csv"),
        (["--boards", "0"], 2, "--boards"),
        (["--speed", "nan"], 2, "--speed"),
        (["--report", "no-such-folder/r.json"], 2, "no-such-folder"),
    ],
)
def test_bad_options(arguments: list[str], code: int, named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", *arguments]) == code
    assert named in complaint(capsys)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "empty"),
        ("t_s,board,temperature_c\n", "no rows"),
        ("t_s,board,temperature_c\n0,a,21\n60,a,nan\n", "line 3, column temperature_c"),
        ("t_s,board,temperature_c\n60,a,21\n0,a,21\n", "line 3, column t_s"),
        ("t_s,board,temperature_c,colour\n0,a,21,red\n", "colour"),
        ("t_s,board\n0,a\n", "temperature_c"),
    ],
)
def test_bad_trace_names_file_and_place(
    text: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    assert run(["demo", "--trace", str(path)]) == 2
    said = complaint(capsys)
    assert "bad.csv" in said and named in said


def test_broker_missing(run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(processes, "find_mosquitto", lambda: None)
    assert run(["demo"]) == 1
    assert "mosquitto" in complaint(capsys)
    assert list(run_folder.iterdir()) == []


@pytest.mark.parametrize("command", ["/nonexistent/micropython", "true"])
def test_interpreter_missing_or_of_no_use(
    command: str, run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MICROPYTHON", command)
    assert run(["demo", "--boards", "1"]) == 1
    assert "MICROPYTHON" in complaint(capsys)
    assert list(run_folder.iterdir()) == []


def test_disk_nearly_full(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(stack.shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 5_000_000, 5_000_000))
    assert run(["demo"]) == 1
    assert "5 MB free" in complaint(capsys)
    assert list(run_folder.iterdir()) == []


def test_report_that_cannot_be_written_is_refused_before_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = write_trace(tmp_path / "a.csv", [(0, "a", 20)], ("t_s", "board", "temperature_c"))
    assert run(["demo", "--trace", str(trace), "--report", str(tmp_path)]) == 2
    assert "--report" in complaint(capsys)


def test_child_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    shell = shutil.which("sh")
    assert shell
    child = Child("the part", [shell, "-c", "echo the disk is on fire; exit 3"], tmp_path / "log")
    with pytest.raises(ProcessError, match="the part stopped at once: the disk is on fire"):
        child.start(ready=lambda: False)


def test_child_that_never_gets_ready_is_killed(tmp_path: Path) -> None:
    child = Child("the part", ["sleep", "60"], tmp_path / "log")
    with pytest.raises(ProcessError, match="was not ready"):
        child.start(accepts_connections(free_port()), timeout_s=0.2)
    assert not child.running
