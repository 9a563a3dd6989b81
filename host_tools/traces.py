"""Traces: recorded temperatures that boards replay, read strictly and held compactly.

A trace is CSV with a header: `t_s` (seconds, rising per board), `board`, `temperature_c`, optional `humidity_pct`,
optional `label` (blank and 0 mean none). One file may hold many boards, interleaved or not; a board may go on in the
next file. Whatever is wrong is refused with file, line and column.

The result is integers only: ms from the board's own first row, m°C and m%RH. Knows nothing of boards' firmware; what
a sensor does to a value is in `sensing.py`.
"""

from __future__ import annotations

import csv
import hashlib
import re
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from host_tools.errors import TraceError
from host_tools.sensing import DHT22_TEMP_MILLI, DS18B20_TEMP_MILLI, Row, Sensing, sensing_for, write_rows
from isocore.topics import DEVICE_ID_MAX

REQUIRED = ("t_s", "board", "temperature_c")
OPTIONAL = ("humidity_pct", "label")
STEP_MS_MIN = 1000  # a DS18B20 converts 12 bits in up to 750 ms (datasheet, "AC Electrical Characteristics", tCONV)
_TIME_S_MAX = 1e11  # the year 5138; beyond it a float no longer holds the milliseconds
_LABEL_NONE = frozenset(("", "0", "0.0", "false", "no"))
# Headers of raw recordings that `isotherm traces convert` knows.
RAW_HEADERS = (
    ("timestamp", "value"),
    ("reading", "mote_id", "indoor", "humidity", "temperature", "label"),
    ("date", "temperature", "humidity", "light", "co2", "humidityratio", "occupancy"),
)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


@dataclass
class Trace:
    """One board's recording. Columns are parallel; `humidity_milli` is empty when the board has no such column."""

    board: str  # a legal device id
    name: str  # as it stands in the file
    path: Path
    start_s: float = 0.0  # t_s of the first row
    t_ms: array[int] = field(default_factory=lambda: array("q"))
    temp_milli: array[int] = field(default_factory=lambda: array("i"))
    humidity_milli: array[int] = field(default_factory=lambda: array("i"))
    labels: array[int] = field(default_factory=lambda: array("b"))

    def __len__(self) -> int:
        return len(self.t_ms)

    @property
    def duration_ms(self) -> int:
        """Time from the first row to the last."""
        return self.t_ms[-1]

    @property
    def sensing(self) -> Sensing:
        """The sensors that can have measured this."""
        return sensing_for(min(self.temp_milli), max(self.temp_milli), bool(self.humidity_milli))

    def rows(self) -> Iterator[Row]:
        """The recording row by row, t_ms from the first row."""
        humidity = self.humidity_milli
        for i, t_ms in enumerate(self.t_ms):
            yield Row(t_ms, self.temp_milli[i], humidity[i] if humidity else None, "")

    def write_rows(self, out: TextIO, lead_ms: int = 0, rows_max: int | None = None) -> int:
        """Write the rows a virtual board plays, `lead_ms` after its power-on. Returns how many."""
        return write_rows(self.rows(), out, lead_ms, rows_max)


def slug(name: str) -> str:
    """A device id for any name: accents dropped, lower case, other characters to `-`, cut at a word where possible.

    A name without one usable character becomes `board-` and eight hex digits of its SHA-256.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    text = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    if not text:
        return "board-" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return _cut(text, DEVICE_ID_MAX)


def _cut(text: str, length: int) -> str:
    if len(text) <= length:
        return text
    head, _, _ = text[: length + 1].rpartition("-")
    return (head if len(head) >= length // 2 else text[:length]).strip("-")


class _Names:
    """Names in files to device ids: the same name is the same board, two names never share an id."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._ids: dict[str, str] = {}
        self._taken: set[str] = set()
        self._say = say

    def device(self, name: str) -> str:
        """The id of `name`: its slug, or the slug with -2, -3 ... in order of appearance."""
        known = self._ids.get(name)
        if known is not None:
            return known
        base = slug(name)
        chosen = base
        count = 1
        while chosen in self._taken:
            count += 1
            tail = f"-{count}"
            chosen = _cut(base, DEVICE_ID_MAX - len(tail)) + tail
        self._ids[name] = chosen
        self._taken.add(chosen)
        if chosen != name:
            self._say(f"board {name!r} runs as {chosen!r}")
        return chosen


def trace_files(paths: Iterable[Path]) -> list[Path]:
    """The files behind `paths`, each a file or a folder (its *.csv, by name)."""
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        found = sorted(p for p in path.iterdir() if p.suffix.lower() == ".csv" and p.is_file())
        if not found:
            raw = any(p.suffix.lower() in (".csv", ".txt") for p in path.glob("*/*"))
            hint = f"; if these are raw recordings, run `isotherm traces convert {path} --out DIR` first" if raw else ""
            raise TraceError(path, "holds no *.csv" + hint)
        files.extend(found)
    if not files:
        raise TraceError(Path("--trace"), "no trace given")
    return files


def load_traces(paths: Iterable[Path], say: Callable[[str], None] = lambda _: None) -> dict[str, Trace]:
    """All boards of the given files and folders, by device id, in order of appearance.

    say: told about each board that runs under another name than in its file. Raises TraceError.
    """
    names = _Names(say)
    traces: dict[str, Trace] = {}
    for path in trace_files(paths):
        try:
            with path.open(newline="", encoding="utf-8-sig") as stream:
                _Reader(path, stream, names, traces).read()
        except UnicodeDecodeError as error:
            raise TraceError(path, f"is not UTF-8 text ({error.reason} at byte {error.start})") from None
        except OSError as error:
            raise TraceError(path, f"cannot be read: {error.strerror or error}") from None
    return traces


class _Reader:
    """Reads one file into the traces of all boards."""

    def __init__(self, path: Path, stream: TextIO, names: _Names, traces: dict[str, Trace]) -> None:
        self._path = path
        self._names = names
        self._traces = traces
        self._csv = csv.reader(stream, strict=True)
        self._column: dict[str, int] = {}
        self._width = 0

    def read(self) -> None:
        """Read it all, or raise TraceError."""
        try:
            self._header()
            rows = 0
            for cells in self._csv:
                if not any(cell.strip() for cell in cells):
                    continue  # blank lines are fine anywhere
                self._row(cells)
                rows += 1
        except csv.Error as error:
            raise self._error(f"is not well-formed CSV: {error}") from None
        if not rows:
            raise TraceError(self._path, "has a header but no rows")

    def _error(self, text: str, column: str = "") -> TraceError:
        return TraceError(self._path, text, self._csv.line_num, column)

    def _header(self) -> None:
        header: list[str] = []
        for cells in self._csv:
            if any(cell.strip() for cell in cells):
                header = [cell.strip().lower() for cell in cells]
                break
        if not header:
            raise TraceError(self._path, "is empty")
        if tuple(header) in RAW_HEADERS:
            raise self._error(f"is a raw recording; run `isotherm traces convert {self._path} --out DIR` first")
        expected = ", ".join(REQUIRED) + " and optionally " + ", ".join(OPTIONAL)
        for number, name in enumerate(header):
            if name not in REQUIRED + OPTIONAL:
                raise self._error(f"unknown column {name[:60]!r}; a trace has {expected}", name[:60])
            if name in self._column:
                raise self._error("stands twice in the header", name)
            self._column[name] = number
        for name in REQUIRED:
            if name not in self._column:
                raise self._error(f"column {name} is missing; a trace has {expected}", name)
        self._width = len(header)

    def _row(self, cells: list[str]) -> None:
        if len(cells) != self._width:
            raise self._error(f"has {len(cells)} fields where the header has {self._width}")
        name = cells[self._column["board"]].strip()
        if not name:
            raise self._error("names no board", "board")
        device = self._names.device(name)
        trace = self._traces.get(device)
        if trace is None:
            trace = self._traces[device] = Trace(device, name, self._path)
        t_s = self._number(cells, "t_s")
        if abs(t_s) > _TIME_S_MAX:
            raise self._error(f"{t_s:g} s is no time", "t_s")
        if not trace.t_ms:
            trace.start_s = t_s
        t_ms = round((t_s - trace.start_s) * 1000)
        self._check_time(trace, t_ms)
        temp_milli = self._temperature(cells)
        humidity_milli = self._humidity(cells, trace)
        trace.t_ms.append(t_ms)
        trace.temp_milli.append(temp_milli)
        if humidity_milli is not None:
            trace.humidity_milli.append(humidity_milli)
        column = self._column.get("label")
        trace.labels.append(0 if column is None or cells[column].strip().lower() in _LABEL_NONE else 1)

    def _number(self, cells: list[str], column: str) -> float:
        text = cells[self._column[column]].strip()
        if not _NUMBER.fullmatch(text):
            shown = repr(text[:40]) if text else "a blank"
            raise self._error(f"{shown} is not a finite number", column)
        return float(text)

    def _check_time(self, trace: Trace, t_ms: int) -> None:
        if not trace.t_ms:
            return
        step_ms = t_ms - trace.t_ms[-1]
        if step_ms < 0:
            raise self._error(f"time goes backwards by {-step_ms / 1000:g} s for board {trace.name!r}", "t_s")
        if step_ms == 0:
            raise self._error(f"the same time twice for board {trace.name!r}", "t_s")
        if step_ms < STEP_MS_MIN:
            raise self._error(
                f"only {step_ms / 1000:g} s after the row before for board {trace.name!r}; "
                f"sensors need at least {STEP_MS_MIN // 1000} s",
                "t_s",
            )

    def _temperature(self, cells: list[str]) -> int:
        value_c = self._number(cells, "temperature_c")
        low, high = min(DS18B20_TEMP_MILLI[0], DHT22_TEMP_MILLI[0]), max(DS18B20_TEMP_MILLI[1], DHT22_TEMP_MILLI[1])
        if not low <= value_c * 1000 <= high:
            raise self._error(
                f"{value_c:g} °C is outside what a board's sensors measure ({low // 1000} to {high // 1000} °C)",
                "temperature_c",
            )
        return round(value_c * 1000)

    def _humidity(self, cells: list[str], trace: Trace) -> int | None:
        column = self._column.get("humidity_pct")
        blank = column is None or not cells[column].strip()
        if trace.t_ms and blank == bool(trace.humidity_milli):
            raise self._error(
                f"board {trace.name!r} {'lacks' if blank else 'has'} a humidity here and "
                f"{'has' if blank else 'lacks'} one before; give it in every row or in none",
                "humidity_pct",
            )
        if blank:
            return None
        value_pct = self._number(cells, "humidity_pct")
        if not 0 <= value_pct <= 100:
            raise self._error(f"{value_pct:g} % is outside 0 to 100", "humidity_pct")
        return round(value_pct * 1000)
