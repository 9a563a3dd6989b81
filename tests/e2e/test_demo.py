"""The main job, run whole: real firmware, broker, gateway and receiver, disturbed on the way, and the books after it.

What the report says is checked here against the trace itself, not only against what the program checks.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from host_tools.convert import convert
from host_tools.demo.reconcile import INTEGER_FIELDS
from host_tools.traces import load_traces
from tests.support import demo

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

RECORDED = ("nab", "suthaharan", "occupancy")
BEGINNING_ROWS = 800

IDENTITIES = (
    ("sampled", ("sent", "suppressed")),
    ("sent", ("stored", "evicted")),
    ("stored", ("cloud_rows",)),
    ("events_sent", ("events_stored",)),
    ("events_stored", ("events_cloud",)),
    ("lost", ()),
    ("duplicates", ()),
)


def check_report(report: dict[str, Any]) -> None:
    """Every identity the report promises, in total and per board, and its form."""
    for part in (report, *report["per_board"].values()):
        for left, right in IDENTITIES:
            assert part[left] == sum(part[name] for name in right), (left, right)
        for name in INTEGER_FIELDS:
            assert type(part[name]) is int, name
        assert set(part["alarm_latency_ms"]) == {"p50", "p99"}
        assert 0 <= part["max_error_mc"] <= report["error_bound_mc"]
    assert report["uploaded"] == report["acked"] == report["stored"]


def test_rooms_disturbed_and_relearned(tmp_path: Path) -> None:
    done = demo.run(tmp_path, "--boards", "3", "--duration", "12")
    assert done.code == 0, done.output
    check_report(done.report)
    assert done.report["sampled"] > 1000 and done.report["suppressed"] > 0
    assert done.report["models_applied"] == 3
    assert done.report["verified"] == done.report["tagged"] > 100, "real boards' tags, checked by the receiver"
    assert "Tags verified at the cloud" in done.output
    for phase in ("receiver is stopped", "gateway is killed", "gateway is back", "receiver is back", "new model"):
        assert phase in " ".join(done.output.split())  # lines are broken where the figures before them end
    assert "Nothing lost, nothing doubled" in done.output
    assert not demo.gone(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"], "the run's folder was left behind"


def test_every_row_is_sampled_once_whatever_its_spacing(tmp_path: Path) -> None:
    """Irregular rows, two boards with other sensors, names that are no device ids."""
    rows: list[tuple[object, ...]] = []
    t_s = 0.0
    for number in range(400):
        t_s += (1.0, 59.5, 60.0, 61.25, 700.0)[number % 5]
        rows.append((t_s, "Büro 1", 21 + (number % 40) / 10, 40 + number % 20, ""))
        rows.append((t_s + 5000, "cold_store", -18 + (number % 7) / 4, "", int(number > 300)))
    header = ("t_s", "board", "temperature_c", "humidity_pct", "label")
    trace = demo.write_trace(tmp_path / "two.csv", rows, header)
    done = demo.run(tmp_path, "--trace", str(trace), "--duration", "8")
    assert done.code == 0, done.output
    check_report(done.report)
    assert {name: board["sampled"] for name, board in done.report["per_board"].items()} == {
        "buro-1": 800,
        "cold-store": 400,
    }


def test_without_faults_nothing_is_stopped(tmp_path: Path) -> None:
    rows = [(t * 10, "a", 20 + (t % 9) / 3) for t in range(600)]
    trace = demo.write_trace(tmp_path / "a.csv", rows, ("t_s", "board", "temperature_c"))
    done = demo.run(tmp_path, "--trace", str(trace), "--duration", "5", "--no-faults")
    assert done.code == 0, done.output
    check_report(done.report)
    assert "killed" not in done.output and "stopped" not in done.output.replace("Ctrl-C", "")
    assert done.report["sampled"] == 600


def run_traces(folder: Path, tmp_path: Path) -> None:
    """All rows of each trace arrive, or are held back by the filter, and nothing else happens to them."""
    found = load_traces([folder])
    done = demo.run(tmp_path, "--trace", str(folder), "--duration", "12")
    assert done.code == 0, done.output
    check_report(done.report)
    for board, trace in found.items():
        channels = 2 if trace.humidity_milli else 1
        assert done.report["per_board"][board]["sampled"] == len(trace) * channels
    assert done.report["models_applied"] == len(found)


def test_the_beginnings_of_all_recorded_traces(traces: Path, tmp_path: Path) -> None:
    """Hours, minutes and seconds apart, with humidity and without, at once."""
    folder = tmp_path / "traces"
    convert([traces / name for name in RECORDED], folder)
    for path in folder.glob("*.csv"):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[: BEGINNING_ROWS + 1]))
    run_traces(folder, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("name", RECORDED)
def test_recorded_trace(name: str, traces: Path, tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    convert([traces / name], folder)
    run_traces(folder, tmp_path)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_running(signal_number: signal.Signals, tmp_path: Path) -> None:
    process = demo.start(tmp_path, "--boards", "4", "--duration", "20")
    demo.wait_for_text(process, "the receiver is stopped")
    assert len(demo.processes_naming(tmp_path)) >= 6
    os.kill(process.pid, signal_number)
    rest, _ = process.communicate(timeout=30)
    assert demo.gone(tmp_path) == []
    if signal_number != signal.SIGKILL:
        assert process.returncode == 128 + signal_number
        assert "Traceback" not in rest
        assert list(tmp_path.iterdir()) == []
