"""On recorded rooms the trainer's choice keeps the bound and sends fewer reports (docs/filter.md has the table)."""

from __future__ import annotations

from pathlib import Path

import pytest

from host_tools.convert import convert
from host_tools.history import History, from_traces, replay
from host_tools.traces import load_traces
from host_tools.train import Goal, train_one
from isocore.model import ChannelParams


@pytest.fixture(scope="module")
def rooms(traces: Path, tmp_path_factory: pytest.TempPathFactory) -> list[History]:
    folder = tmp_path_factory.mktemp("rooms")
    convert([traces / "occupancy"], folder)
    return [one for one in from_traces(load_traces([folder]).values()) if one.channel == "temperature"]


# What a DHT22 reads: where the bound is one step of the sensor, most of what can be saved is saved by waiting.
@pytest.mark.parametrize(("error_milli", "share_at_once", "share_waiting"), [(500, 0.85, 0.79), (100, 0.95, 0.86)])
def test_fewer_reports_within_the_bound(
    rooms: list[History], error_milli: int, share_at_once: float, share_waiting: float
) -> None:
    goals = {"": Goal(error_milli=error_milli)}
    at_once, waits = (train_one(rooms, "home", "*", 1, goals, delay_s=delay_s) for delay_s in (0, 300))
    plain = ChannelParams()
    plain.error_milli = error_milli
    sent = sum(replay(history, plain).messages for history in rooms)
    assert at_once.predicted_after.messages <= share_at_once * sent
    assert waits.predicted_after.messages <= share_waiting * sent
    assert max(at_once.predicted_after.max_error_milli, waits.predicted_after.max_error_milli) <= error_milli
