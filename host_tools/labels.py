"""Labelled failures for scoring: which rows of a trace they are, from the trace's own labels or from a file of windows.

A windows file is JSON: a list of [start, end], or an object of such lists by board or file name, as the Numenta Anomaly
Benchmark has them. Start and end are seconds on the trace's clock (`t_s`), or dates and times, UTC unless they say
otherwise. Knows no detector and no rules of scoring.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from host_tools import convert, scoring
from host_tools.errors import InputError
from host_tools.traces import Trace, load_traces

_CLOCK_S_MIN = 1e8  # 1973: a clock below it counts from the recording's start


@dataclass(frozen=True)
class Labelled:
    """One board's trace, its rows' times in seconds, and the rows of its failures (first, last)."""

    trace: Trace
    t_s: list[float]
    windows: list[tuple[int, int]]


def load(path: Path, windows_file: Path | None) -> list[Labelled]:
    """Read a trace, or a raw recording as `isotherm traces convert` knows them.

    Raises TraceError, and InputError for a windows file that does not fit.
    """
    offset_s = 0.0
    if convert.is_raw(path):
        with tempfile.TemporaryDirectory() as folder:
            (converted,) = convert.convert([path], Path(folder))
            offset_s = converted.start_s
            traces = load_traces([converted.path], lambda _: None)
    else:
        traces = load_traces([path], lambda _: None)
    listed = None if windows_file is None else _read(windows_file)
    found = []
    for trace in traces.values():
        t_s = [offset_s + trace.start_s + t_ms / 1000 for t_ms in trace.t_ms]
        if listed is None or windows_file is None:
            windows = scoring.windows_of_labels(trace.labels)
        else:
            spans = _spans(windows_file, _chosen(windows_file, listed, path, trace, len(traces)), t_s[0])
            windows = scoring.windows_of_times(t_s, spans)
        found.append(Labelled(trace, t_s, windows))
    return found


def _read(windows_file: Path) -> Any:
    try:
        listed = json.loads(windows_file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{windows_file}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise InputError(f"{windows_file}: is not JSON: {error}") from None
    if not isinstance(listed, list | dict):
        raise InputError(f"{windows_file}: is neither a list of [start, end] nor an object of such lists by board")
    return listed


def _chosen(windows_file: Path, listed: Any, path: Path, trace: Trace, traces: int) -> Any:
    if isinstance(listed, list):
        if traces > 1:
            raise InputError(f"{windows_file}: {path} holds {traces} boards, so windows are to be given by board")
        return listed
    for name, windows in listed.items():
        if name in (trace.board, trace.name) or (traces == 1 and Path(name).stem == path.stem):
            return windows
    raise InputError(f"{windows_file}: has no windows for {trace.name!r}; give [] where nothing failed")


def _spans(windows_file: Path, windows: Any, first_s: float) -> list[tuple[float, float]]:
    found = []
    for pair in windows if isinstance(windows, list) else [windows]:
        if not isinstance(pair, list) or len(pair) != 2:
            raise InputError(f"{windows_file}: {str(pair)[:60]!r} is no [start, end]")
        start_s, end_s = (_seconds(windows_file, at, first_s) for at in pair)
        if end_s < start_s:
            raise InputError(f"{windows_file}: the window {pair} ends before it starts")
        found.append((start_s, end_s))
    return found


def _seconds(windows_file: Path, at: object, first_s: float) -> float:
    if isinstance(at, int | float) and not isinstance(at, bool):
        return float(at)
    try:
        moment = datetime.fromisoformat(str(at))
    except ValueError:
        raise InputError(f"{windows_file}: {str(at)[:60]!r} is neither seconds nor a date and time") from None
    if first_s < _CLOCK_S_MIN:
        raise InputError(
            f"{windows_file}: windows are dates, but the trace counts seconds from its start: "
            "give seconds, or the raw recording"
        )
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
