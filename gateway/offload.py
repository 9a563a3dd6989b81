"""Where an analysis runs: here, or in the cloud. A controller with hysteresis, and nothing else.

    load      any figure at its upper bound, or the firmware throttles, `rise` looks in a row    -> away
    calm      every figure below its lower bound and no throttling, `fall` looks in a row        -> home
    between   stays as it is, so it cannot flap: a change each way takes at least `rise + fall` looks

Away sends a run to the cloud unless the link says no: it is metered, does not answer, or has too much to carry already
(from the upper bound of its backlog until it is below the lower one); then the run stays here, since it is bounded and
a result that comes late is worth less. A pin decides by itself. Pure: figures in, decision out; it knows no clock, no
machine and no store.
"""

from __future__ import annotations

from typing import NamedTuple

HERE, CLOUD, AUTO = "here", "cloud", "auto"
PLACES = (AUTO, HERE, CLOUD)
THROTTLING = ("under_voltage", "frequency_capped", "throttled", "soft_temperature_limit")  # bits 0 to 3: machine.py


class Band(NamedTuple):
    """Loaded at `high` and above, calm below `low`."""

    high: float
    low: float


class Limits(NamedTuple):
    """What counts as load and as calm, and for how many looks."""

    lag_rows: Band
    cpu: Band
    soc_celsius: Band
    backlog_rows: Band
    rise: int
    fall: int


class Figures(NamedTuple):
    """One look. cpu: busy share of all processors, 0 to 1. None: this machine does not tell, which is no load."""

    lag_rows: int
    cpu: float | None
    soc_celsius: float | None
    throttled: int
    backlog_rows: int
    reachable: bool
    metered: bool


class State(NamedTuple):
    """Away or not, and for how many looks in a row the opposite has been asked for; choked: by the link's backlog."""

    away: bool = False
    streak: int = 0
    choked: bool = False


class Decision(NamedTuple):
    """Where a run goes, and why."""

    place: str
    reasons: tuple[str, ...]


def loads(figures: Figures, limits: Limits) -> tuple[str, ...]:
    """What is at or beyond its upper bound."""
    found = [name for name, value, band in _banded(figures, limits) if value is not None and value >= band.high]
    return (*found, *(what for bit, what in enumerate(THROTTLING) if figures.throttled >> bit & 1))


def is_calm(figures: Figures, limits: Limits) -> bool:
    if figures.throttled & (1 << len(THROTTLING)) - 1:
        return False
    return all(value is None or value < band.low for _, value, band in _banded(figures, limits))


def _banded(figures: Figures, limits: Limits) -> tuple[tuple[str, float | None, Band], ...]:
    return (
        ("queue_lag", figures.lag_rows, limits.lag_rows),
        ("cpu", figures.cpu, limits.cpu),
        ("soc_temperature", figures.soc_celsius, limits.soc_celsius),
    )


def look(state: State, figures: Figures, limits: Limits) -> State:
    """The state after one more look."""
    band = limits.backlog_rows
    choked = figures.backlog_rows >= (band.low if state.choked else band.high)
    asked = is_calm(figures, limits) if state.away else bool(loads(figures, limits))
    if not asked:
        return State(state.away, 0, choked)
    needed = limits.fall if state.away else limits.rise
    if state.streak + 1 >= needed:
        return State(not state.away, 0, choked)
    return State(state.away, state.streak + 1, choked)


def objections(state: State, figures: Figures) -> tuple[str, ...]:
    """What speaks against the link."""
    found = []
    if not figures.reachable:
        found.append("cloud_away")
    if figures.metered:
        found.append("metered")
    if state.choked:
        found.append("backlog")
    return tuple(found)


def decide(pin: str, state: State, figures: Figures, limits: Limits) -> Decision:
    """Where one run goes. A pin to the cloud waits for the cloud rather than run here."""
    if pin != AUTO:
        return Decision(pin, ("pinned",))
    if not state.away:
        return Decision(HERE, ("calm",))
    against = objections(state, figures)
    if against:
        return Decision(HERE, against)
    return Decision(CLOUD, loads(figures, limits) or ("not_calm_yet",))
