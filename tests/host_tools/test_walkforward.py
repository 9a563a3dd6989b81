"""Limits trained anew each day: nothing known in advance, failures found, ordinary weeks left in peace."""

from __future__ import annotations

import json
import os
from array import array
from dataclasses import replace
from pathlib import Path

import pytest

from host_tools import cli, labels, ordinary, scoring, walkforward
from host_tools.errors import InputError
from host_tools.fitting import Rules
from host_tools.history import DAY_MS, History, Run, from_traces

ROWS_DAY = ordinary.DAY_S // ordinary.PERIOD_S


def changed(history: History, from_row: int, to_row: int, by_milli: int) -> History:
    """The history with a stretch of it warmer."""
    run = history.runs[0]
    values = array("i", (v + by_milli * (from_row <= i < to_row) for i, v in enumerate(run.value)))
    return replace(history, runs=[Run(run.t_ms, values, run.fault)])


def test_a_machine_that_fails_is_found_at_once_and_only_then() -> None:
    history = ordinary.year("machine", 1, 25)
    calm = list(walkforward.walk(history))
    failed_at = 20 * ROWS_DAY + 100
    found = list(walkforward.walk(changed(history, failed_at, failed_at + 200, -40_000)))
    first = next(alarm for alarm in found if alarm.row >= failed_at)
    assert first.row <= failed_at + 3  # a sudden fall by its rate, at the latest after the debounce
    assert {"low", "rate"} & {alarm.kind for alarm in found}
    assert sum(alarm.row < failed_at for alarm in found) == sum(alarm.row < failed_at for alarm in calm)


def test_a_slow_drift_is_found_by_the_limits() -> None:
    history = ordinary.year("server-room", 1, 25)
    run = history.runs[0]
    start = 18 * ROWS_DAY
    values = array("i", (v + max(0, i - start) * 10 for i, v in enumerate(run.value)))  # 2.9 °C a day
    found = list(walkforward.walk(replace(history, runs=[Run(run.t_ms, values, run.fault)])))
    assert found[0].kind == "high"
    assert start < found[0].row < start + 3 * ROWS_DAY


def test_what_comes_later_changes_no_alarm_before_it() -> None:
    history = ordinary.year("home", 2, 24)
    changed_late = changed(history, 20 * ROWS_DAY, 24 * ROWS_DAY, 9_000)
    before = [alarm for alarm in walkforward.walk(history) if alarm.row < 20 * ROWS_DAY]
    assert [alarm for alarm in walkforward.walk(changed_late) if alarm.row < 20 * ROWS_DAY] == before


def test_the_first_week_has_no_limits() -> None:
    history = changed(ordinary.year("office", 1, 8), 3 * ROWS_DAY, 4 * ROWS_DAY, 30_000)
    assert all(alarm.t_ms >= 7 * DAY_MS for alarm in walkforward.walk(history))


@pytest.mark.parametrize("kind", sorted(ordinary.KINDS))
def test_ordinary_weeks_raise_next_to_no_alarm(kind: str) -> None:
    """The whole budget is measured over years by a command (docs/training.md); here a first look at each kind."""
    history = ordinary.year(kind, 11, 28)
    assert history.samples == 28 * ROWS_DAY
    assert len(list(walkforward.walk(history))) <= 2


def test_an_ordinary_year_is_the_same_everywhere() -> None:
    first, again = (ordinary.year("freezer", 5, 2) for _ in range(2))
    assert first.runs == again.runs
    assert first.runs != ordinary.year("freezer", 6, 2).runs


def write_trace(path: Path, history: History, start_s: float = 0.0, name: str = "oven") -> None:
    run = history.runs[0]
    rows = (f"{start_s + t / 1000},{name},{v / 1000}" for t, v in zip(run.t_ms, run.value, strict=True))
    path.write_text("t_s,board,temperature_c\n" + "\n".join(rows) + "\n")


def test_the_command_prints_score_false_alarms_and_each_detection(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failed_s = 20 * ordinary.DAY_S
    history = changed(ordinary.year("machine", 1, 25), 20 * ROWS_DAY, 20 * ROWS_DAY + 200, -40_000)
    write_trace(tmp_path / "oven.csv", history)
    (tmp_path / "w.json").write_text(json.dumps({"oven": [[failed_s - 3600, failed_s + 7 * 3600]]}))
    assert cli.run(["model", "score", f"{tmp_path}/oven.csv", "--windows", f"{tmp_path}/w.json"]) == 0
    shown = capsys.readouterr().out
    assert "1 of 1 found" in shown
    assert "day 20.0" in shown
    assert "a year)" in shown


def test_windows_by_date_by_name_and_what_is_refused(tmp_path: Path) -> None:
    history = ordinary.year("office", 1, 9)
    write_trace(tmp_path / "a.csv", history, 1_700_000_000.0)
    (tmp_path / "w.json").write_text('{"x/a.csv": [["2023-11-15 22:13:20", "2023-11-15T22:23:20Z"]]}')
    (one,) = labels.load(tmp_path / "a.csv", tmp_path / "w.json")
    assert one.windows == [(ROWS_DAY, ROWS_DAY + 2)]
    for text, said in {
        '{"b": []}': "no windows for 'oven'",
        "[[1]]": "is no \\[start, end\\]",
        '[["soon", "later"]]': "neither seconds nor",
        "[[1700000300, 1700000000]]": "ends before",
        "5": "neither a list",
        "{": "not JSON",
    }.items():
        (tmp_path / "w.json").write_text(text)
        with pytest.raises(InputError, match=said):
            labels.load(tmp_path / "a.csv", tmp_path / "w.json")
    write_trace(tmp_path / "b.csv", history)
    (tmp_path / "w.json").write_text('[["2023-11-15 22:13:20", "2023-11-15 22:23:20"]]')
    with pytest.raises(InputError, match="counts seconds from its start"):
        labels.load(tmp_path / "b.csv", tmp_path / "w.json")


def test_a_trace_of_days_is_too_short_to_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trace(tmp_path / "a.csv", ordinary.year("office", 1, 3))
    assert cli.run(["model", "score", f"{tmp_path}/a.csv"]) != 0
    assert "nothing to score" in capsys.readouterr().err


@pytest.mark.skipif("ISOTHERM_TRACES" not in os.environ, reason="recorded traces: set ISOTHERM_TRACES")
def test_the_recorded_failures_are_found() -> None:
    folder = Path(os.environ["ISOTHERM_TRACES"]) / "nab"
    (one,) = labels.load(folder / "ambient_temperature_system_failure.csv", folder / "windows.json")
    history = from_traces([one.trace])[0]
    alarms = list(walkforward.walk(history, Rules()))
    result = scoring.score(one.t_s, one.windows, [alarm.row for alarm in alarms])
    assert result.points >= 75
    assert result.false_a_year <= 6
