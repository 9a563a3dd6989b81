"""Options become a plan: which boards, which sensors, how fast; and what cannot be is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from host_tools.demo.plan import BOARDS_DEFAULT, LEAD_MS, RUN_S_DEFAULT, make_plan
from host_tools.errors import InputError, TraceError
from tests.support.demo import write_trace

HEADER = ("t_s", "board", "temperature_c", "humidity_pct")


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Board a: 101 rows over 1,000 s with humidity; board b: 11 rows over 10,000 s, too hot for a DHT22."""
    rows: list[tuple[object, ...]] = [(t * 10, "a", 20 + t / 100, 50) for t in range(101)]
    rows += [(t * 1000, "b", 90 + t, 40) for t in range(11)]
    return write_trace(tmp_path / "t.csv", rows, HEADER)


def test_default_is_nine_simulated_rooms_with_a_model_a_class() -> None:
    plan = make_plan()
    assert len(plan.boards) == BOARDS_DEFAULT
    assert {board.device_class for board in plan.boards} == {"room", "fridge", "freezer"}
    assert plan.per_class and plan.faults


def test_each_trace_is_played_whole_in_the_same_time(trace: Path) -> None:
    a, b = make_plan(trace_paths=[trace]).boards
    assert a.speed == pytest.approx(1000 / RUN_S_DEFAULT)
    assert b.speed == pytest.approx(10_000 / RUN_S_DEFAULT)
    assert (a.row_count, b.row_count) == (101, 11)


def test_speed_and_duration_together_cut_a_trace(trace: Path, tmp_path: Path) -> None:
    a, b = make_plan(trace_paths=[trace], speed=50, duration_s=10).boards
    assert (a.row_count, a.duration_ms) == (51, 500_000)
    assert (b.row_count, b.duration_ms) == (1, 0)
    assert a.write_rows(tmp_path / "rows") == 51
    assert (tmp_path / "rows").read_text().splitlines()[0] == f"{LEAD_MS},20000,50000,"


def test_sensors_fit_what_was_recorded(trace: Path) -> None:
    a, b = make_plan(trace_paths=[trace]).boards
    assert [sensor["type"] for sensor in a.sensors()] == ["dht22"]
    assert [sensor["type"] for sensor in b.sensors()] == ["ds18b20", "dht22"]
    assert a.channels == b.channels == ("temperature", "humidity")
    assert {device["type"] for device in b.devices()} == {"ds18b20", "dht22"}


def test_fewer_and_more_boards_than_a_trace_has(trace: Path) -> None:
    said: list[str] = []
    assert [board.name for board in make_plan(trace_paths=[trace], boards=1, say=said.append).boards] == ["a"]
    many = make_plan(trace_paths=[trace], boards=5, say=said.append)
    assert [board.name for board in many.boards] == ["a", "b", "a-x2", "b-x2", "a-x3"]
    assert "first 1 of 2" in said[0] and "play as 5" in said[1]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"boards": 0}, "--boards"),
        ({"boards": 100_000}, "--boards"),
        ({"speed": 0.0}, "--speed"),
        ({"speed": float("nan")}, "--speed"),
        ({"speed": 1e9}, "--speed: .* days of simulated rooms"),
        ({"duration_s": -1.0}, "--duration"),
        ({"duration_s": float("inf")}, "--duration"),
    ],
)
def test_what_cannot_be_is_refused_by_name(options: dict[str, float], named: str) -> None:
    with pytest.raises(InputError, match=named):
        make_plan(**options)  # type: ignore[arg-type]


def test_missing_trace_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"no\.csv"):
        make_plan(trace_paths=[tmp_path / "no.csv"])
