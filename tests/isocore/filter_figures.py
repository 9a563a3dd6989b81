"""Prints how much boards send: the table of docs/filter.md.

    ISOTHERM_TRACES=folder .venv/bin/python -m tests.isocore.filter_figures

Recordings as the fitting sensor reads them and, for the occupancy set, as they were written down; simulated rooms
beside them. The way of reporting is the trainer's choice: from the whole set, and, to be honest about choosing, from
the first half of each recording and then measured on the second.
"""

from __future__ import annotations

import os
import sys
import tempfile
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "firmware")]

from host_tools.convert import convert  # noqa: E402
from host_tools.history import History, Run, from_traces, replay  # noqa: E402
from host_tools.rooms import DAY_S, SimulatedBoard  # noqa: E402
from host_tools.traces import Trace, load_traces  # noqa: E402
from host_tools.train import WAYS, Reporting, choose_reporting, ways_to_try  # noqa: E402
from isocore.model import ChannelParams  # noqa: E402

ERRORS_MILLI = (500, 100)
DELAYS_S = (0, 300)


def as_written(traces: Sequence[Trace]) -> list[History]:
    """Recordings in m°C, without any sensor's steps."""
    found = from_traces(traces)
    for history, trace in zip([one for one in found if one.channel == "temperature"], traces, strict=True):
        history.runs = [Run(trace.t_ms, trace.temp_milli, array("b", bytes(len(trace))))]
    return [one for one in found if one.channel == "temperature"]


def simulated(kind: str, count: int) -> list[History]:
    """A week each, as the fitting sensor reads it."""
    found = []
    for seed in range(count):
        board = SimulatedBoard(f"{kind}-{seed}", kind, 100 + seed, 7 * DAY_S, faults=None)
        run = Run()
        for row in board.rows():
            run.add(row.t_ms, board.sensing.quantise_temp(row.temp_milli))
        found.append(
            History(board.board, kind, "temperature", [run], 60_000, True, board.sensing.valid_milli["temperature"])
        )
    return found


def half(history: History, second: bool) -> History:
    """The first or the second half of a recording."""
    (run,) = history.runs
    middle = len(run.t_ms) // 2
    part = slice(middle, None) if second else slice(middle)
    cut = Run(run.t_ms[part], run.value[part], run.fault[part])
    return History(
        history.device, history.device_class, history.channel, [cut], history.period_ms, True, history.valid_milli
    )


def share_of(group: Sequence[History], way: Reporting, error_milli: int) -> float:
    """Reports in % of the samples. The error bound is checked on the way."""
    params = ChannelParams()
    params.error_milli = error_milli
    way.set_on(params)
    found = [replay(history, params) for history in group]
    assert max(one.max_error_milli for one in found) <= error_milli
    return 100 * sum(one.messages for one in found) / sum(one.samples for one in found)


def best_way(group: Sequence[History], error_milli: int, delay_s: int) -> Reporting:
    """The trainer's choice."""
    params = ChannelParams()
    params.error_milli = error_milli
    return choose_reporting(group, params, ways_to_try(params, delay_s))[2]


def print_table(sets: Sequence[tuple[str, list[History]]], say: Callable[[str], None] = print) -> None:
    say("| recordings | bound | send-on-delta | no delay | 5 min | 2nd halves: send-on-delta | no delay | 5 min |")
    say("|---|---|---|---|---|---|---|---|")
    for name, group in sets:
        firsts, seconds = ([half(history, second) for history in group] for second in (False, True))
        for error_milli in ERRORS_MILLI:
            cells = [f"{share_of(group, WAYS[0], error_milli):.3f}"]
            halves = [f"{share_of(seconds, WAYS[0], error_milli):.3f}"]
            for delay_s in DELAYS_S:
                way = best_way(group, error_milli, delay_s)
                cells.append(f"{share_of(group, way, error_milli):.3f} ({way})")
                halves.append(f"{share_of(seconds, best_way(firsts, error_milli, delay_s), error_milli):.3f}")
            say(f"| {name} | {error_milli / 1000:g} | " + " | ".join(cells + halves) + " |")


def main() -> None:
    folder = os.environ.get("ISOTHERM_TRACES")
    sets: list[tuple[str, list[History]]] = []
    if folder:
        with tempfile.TemporaryDirectory() as scratch:
            convert([Path(folder)], Path(scratch))
            traces = load_traces([Path(scratch)])
        for start, name in (("occupancy", "office, 1 min"), ("mote", "motes, 5 s"), ("ambient", "office, 1 h")):
            chosen = [trace for board, trace in traces.items() if board.startswith(start)]
            if start == "occupancy":
                sets.append((name + ", as written", as_written(chosen)))
            sets.append((name + ", as read", [one for one in from_traces(chosen) if one.channel == "temperature"]))
    else:
        print("ISOTHERM_TRACES is not set: simulated rooms only", file=sys.stderr)
    for kind, count in (("room", 4), ("fridge", 2), ("freezer", 2)):
        sets.append((f"simulated {kind}s, 1 min", simulated(kind, count)))
    print_table(sets)


if __name__ == "__main__":
    main()
