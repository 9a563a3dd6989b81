"""The simulated rooms: deterministic, sensible, and with something to see."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from host_tools.rooms import DAY_S, KINDS, Faults, SimulatedBoard, fleet


def test_the_same_seed_gives_the_same_rows() -> None:
    first, again, other = (list(fleet(3, seed, 7200)[0].rows()) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_names_and_rows() -> None:
    boards = fleet(7, period_s=30, duration_s=600)
    assert [board.board for board in boards] == [
        "room-1", "fridge-1", "freezer-1", "room-2", "fridge-2", "freezer-2", "room-3",
    ]  # fmt: skip
    for board in boards:
        rows = list(board.rows())
        assert [row.t_ms for row in rows] == [30000 * i for i in range(board.row_count)]
        assert board.duration_ms == rows[-1].t_ms
        assert all((row.humidity_milli is not None) == board.sensing.humidity for row in rows)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("kind", "usual_c", "extreme_c"),
    [("room", (14, 23), (5, 30)), ("fridge", (2, 7), (0, 12)), ("freezer", (-22, -14), (-25, -8))],
)
def test_temperatures_are_those_of_such_a_thing(
    kind: str, usual_c: tuple[int, int], extreme_c: tuple[int, int], seed: int
) -> None:
    board = SimulatedBoard(f"{kind}-9", kind, seed, 2 * DAY_S, faults=None)
    temps = sorted(row.temp_milli / 1000 for row in board.rows())
    assert usual_c[0] < temps[len(temps) // 20] < temps[-len(temps) // 20] < usual_c[1]
    assert extreme_c[0] < temps[0] < temps[-1] < extreme_c[1]


def test_a_fridge_cycles() -> None:
    temps = [row.temp_milli for row in SimulatedBoard("f", "fridge", 3, DAY_S, faults=None).rows()]
    middle = sum(temps) / len(temps)
    above = [temp > middle for temp in temps]
    crossings = sum(a != b for a, b in pairwise(above))
    assert 20 < crossings < 200  # 10 to 100 compressor cycles a day


def test_the_forgotten_door_shows() -> None:
    fridge = next(board for board in fleet(3, 1, DAY_S) if board.kind == "fridge")
    closed = replace(fridge, door_left_open_at_s=None)
    assert max(row.temp_milli for row in fridge.rows()) > 10000 > max(row.temp_milli for row in closed.rows())


def test_faults_come_in_spells_and_only_such_as_the_sensor_has() -> None:
    often = Faults(1, 1, 1, 1, rows_max=3)
    for kind in KINDS:
        faults = {row.fault for row in SimulatedBoard("x", kind, 1, DAY_S, faults=often).rows()}
        assert faults == {"", "crc", "missing", "zero"} | (set() if kind == "room" else {"85"})
    assert {row.fault for row in SimulatedBoard("x", "room", 1, DAY_S, faults=None).rows()} == {""}
