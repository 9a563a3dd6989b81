"""Runs `isotherm demo` as a user does, in a process of its own, and finds what it might leave behind."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RUN_S_MAX = 110.0


@dataclass
class Finished:
    """A demo that has ended."""

    code: int
    output: str
    report: dict[str, Any]


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    """Start a demo whose run folder lies in `folder`."""
    environment = {**os.environ, "TMPDIR": str(folder), "NO_COLOR": "1", "COLUMNS": "120"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "firmware")])
    return subprocess.Popen(
        [sys.executable, "-m", "host_tools.cli", "demo", *options],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(folder: Path, *options: str) -> Finished:
    """Run a demo to its end and read its report."""
    report = folder / "report.json"
    process = start(folder, *options, "--report", str(report))
    try:
        output, _ = process.communicate(timeout=RUN_S_MAX)
    finally:
        process.kill()
    text = report.read_text(encoding="utf-8") if report.exists() else ""
    return Finished(process.returncode, output, json.loads(text) if text else {})


def wait_for_text(process: subprocess.Popen[str], text: str) -> str:
    """Read a demo's output until a line holds `text`. Fails when it ends before."""
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"the demo ended without saying {text!r}:\n{seen}")


def processes_naming(folder: Path) -> list[str]:
    """Command lines of running processes that mention `folder`, as all of a demo's do."""
    return list(pids_naming(folder).values())


def pids_naming(folder: Path) -> dict[int, str]:
    """The same by process id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # it has just ended
            if str(folder) in command and entry.name != str(os.getpid()):
                found[int(entry.name)] = command
    return found


def gone(folder: Path, within_s: float = 10.0) -> list[str]:
    """What still runs of a demo after at most `within_s`."""
    deadline_s = time.monotonic() + within_s
    while (left := processes_naming(folder)) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return left


def write_trace(path: Path, rows: Iterable[Sequence[object]], header: Sequence[str]) -> Path:
    """A trace file."""
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(header)
        writer.writerows(rows)
    return path
