"""The controller: hysteresis as a property of any course of figures, pins, and links that say no."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.machine import Load
from gateway.offload import AUTO, CLOUD, HERE, Band, Figures, Limits, State, decide, is_calm, loads, look, objections

LIMITS = Limits(Band(1000, 100), Band(0.85, 0.6), Band(78.0, 70.0), backlog_rows=Band(5000, 1000), rise=3, fall=5)
CALM = Figures(0, 0.1, 45.0, 0, 0, True, False)
LOADED = CALM._replace(cpu=0.99)
BETWEEN = CALM._replace(cpu=0.7)


def after(looks: list[Figures], state: State | None = None) -> list[State]:
    states = [state or State()]
    for figures in looks:
        states.append(look(states[-1], figures, LIMITS))
    return states[1:]


ANY = st.builds(
    Figures,
    st.integers(0, 2000),
    st.one_of(st.none(), st.floats(0, 1)),
    st.one_of(st.none(), st.floats(20, 95)),
    st.sampled_from((0, 1, 4, 8, 0x50000)),
    st.integers(0, 9000),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(ANY, max_size=120))
def test_it_cannot_flap(looks: list[Figures]) -> None:
    """Away only after `rise` looks of load in a row, home only after `fall` calm ones: so it changes no faster."""
    states = after(looks)
    changes = [i for i in range(len(states)) if states[i].away != (states[i - 1].away if i else False)]
    for i in changes:
        if states[i].away:
            assert i + 1 >= LIMITS.rise
            assert all(loads(figures, LIMITS) for figures in looks[i + 1 - LIMITS.rise : i + 1])
        else:
            assert all(is_calm(figures, LIMITS) for figures in looks[i + 1 - LIMITS.fall : i + 1])
    for first, second in pairwise(changes):
        assert second - first >= (LIMITS.fall if states[first].away else LIMITS.rise)


@given(ANY, st.booleans())
def test_load_that_lasts_sends_away_and_calm_that_lasts_brings_home(figures: Figures, away: bool) -> None:
    last = after([figures] * (LIMITS.rise + LIMITS.fall), State(away))[-1]
    if loads(figures, LIMITS):
        assert last.away
    elif is_calm(figures, LIMITS):
        assert not last.away
    else:
        assert last.away == away  # between the bounds it stays as it is


def test_a_spike_shorter_than_asked_for_changes_nothing() -> None:
    assert not any(state.away for state in after([LOADED, LOADED, CALM] * 20))
    gone = State(away=True)
    assert all(state.away for state in after([CALM] * 4 + [BETWEEN] + [CALM] * 4, gone))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"lag_rows": 1000}, "queue_lag"),
        ({"cpu": 0.85}, "cpu"),
        ({"soc_celsius": 78.0}, "soc_temperature"),
        ({"throttled": 0x50001}, "under_voltage"),
        ({"throttled": 0x4}, "throttled"),
    ],
)
def test_each_figure_is_a_reason_by_itself(change: dict[str, float], reason: str) -> None:
    figures = CALM._replace(**change)  # type: ignore[arg-type]
    assert loads(figures, LIMITS) == (reason,)
    assert after([figures] * LIMITS.rise)[-1].away
    assert decide(AUTO, State(True), figures, LIMITS) == (CLOUD, (reason,))


def test_what_was_since_the_start_of_the_machine_is_not_now() -> None:
    assert loads(CALM._replace(throttled=0x50000), LIMITS) == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"metered": True}, "metered"), ({"reachable": False}, "cloud_away"), ({"backlog_rows": 5000}, "backlog")],
)
def test_a_link_that_objects_keeps_runs_here_but_a_pin_decides(change: dict[str, bool], reason: str) -> None:
    figures = LOADED._replace(**change)  # type: ignore[arg-type]
    assert decide(AUTO, look(State(True), figures, LIMITS), figures, LIMITS) == (HERE, (reason,))
    assert decide(CLOUD, State(), figures, LIMITS) == (CLOUD, ("pinned",))
    assert decide(HERE, State(True), LOADED, LIMITS) == (HERE, ("pinned",))


@given(st.lists(ANY, max_size=120))
def test_a_backlog_that_objects_does_so_until_it_is_drained(looks: list[Figures]) -> None:
    choked = False
    for figures, state in zip(looks, after(looks), strict=True):
        if figures.backlog_rows >= LIMITS.backlog_rows.high:
            choked = True
        elif figures.backlog_rows < LIMITS.backlog_rows.low:
            choked = False
        assert ("backlog" in objections(state, figures)) == choked  # between the bounds it stays as it is


def stat(folder: Path, *ticks: int) -> None:
    (folder / "stat").write_text(f"cpu  {' '.join(map(str, ticks))} 0 0\ncpu0 1 2 3\n")


def test_the_machines_figures(tmp_path: Path) -> None:
    """As a Raspberry Pi shows them; niced work is no load."""
    zone = tmp_path / "class" / "thermal" / "thermal_zone0"
    firmware = tmp_path / "devices" / "platform" / "soc" / "soc:firmware"
    for folder in (zone, firmware):
        folder.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("81250\n")
    (firmware / "get_throttled").write_text("50005\n")
    load = Load(tmp_path, tmp_path)
    stat(tmp_path, 100, 0, 100, 800, 0, 0, 0, 0)
    assert load.cpu() is None
    stat(tmp_path, 160, 0, 120, 900, 10, 5, 5, 0)
    assert load.cpu() == pytest.approx(90 / 200)
    stat(tmp_path, 160, 100, 120, 900, 10, 5, 5, 0)
    assert load.cpu() == 0.0
    assert load.cpu() is None  # no time went by
    assert (load.soc_celsius(), load.throttled()) == (81.25, 0x50005)
    bare = Load(tmp_path / "none", tmp_path / "none")
    assert (bare.cpu(), bare.soc_celsius(), bare.throttled()) == (None, None, 0)
