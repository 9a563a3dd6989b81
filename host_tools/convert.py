"""`isotherm traces convert`: published recordings into traces.

Knows three sets by their headers, whatever their files are called:

    timestamp,value                                    Numenta Anomaly Benchmark; °F or °C by their size; windows.json
    reading,mote_id,indoor,humidity,temperature,label  Suthaharan et al., TelosB motes; `reading` counts steps of 5 s
    date,Temperature,Humidity,Light,CO2,...            UCI Occupancy Detection; rows begin with an unnamed number

Raw data are messy: rows whose time does not rise, or whose value no sensor gives, are dropped, and the summary says
how many. What is written is strict, and `traces.load_traces` reads it back.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from host_tools.errors import TraceError
from host_tools.sensing import DHT22_HUMIDITY_MILLI, DS18B20_TEMP_MILLI
from host_tools.traces import RAW_HEADERS, STEP_MS_MIN, slug

NAB, SUTHAHARAN, OCCUPANCY = RAW_HEADERS
_SET_NAMES = {NAB: "nab", SUTHAHARAN: "suthaharan", OCCUPANCY: "occupancy"}
_MOTE_STEP_S = 5
_WINDOWS_FILE = "windows.json"
# A median between these is a room in °F: in °C it would be 45 °C and more all the time.
_FAHRENHEIT_MEDIAN = (45.0, 140.0)
_FILES_MAX = 1000


@dataclass
class Point:
    """One raw row: seconds on some clock, °C, %RH and label where the set has them."""

    t_s: float
    temp_c: float
    humidity_pct: float | None = None
    label: int | None = None


@dataclass
class Board:
    """One board of a set, and what was dropped from it."""

    name: str
    points: list[Point]
    dropped_time: int = 0
    dropped_value: int = 0
    fahrenheit: bool = False


@dataclass
class Converted:
    """One set: where it was written and what became of its rows."""

    name: str
    path: Path
    boards: list[Board] = field(default_factory=list)

    @property
    def start_s(self) -> float:
        """The recordings' time, in seconds, that is 0 in what is written."""
        return min(board.points[0].t_s for board in self.boards)

    def lines(self) -> Iterator[str]:
        """The summary for people."""
        yield f"{self.path}"
        for board in self.boards:
            notes = []
            if board.fahrenheit:
                notes.append("values look like °F: converted to °C")
            if board.dropped_time:
                notes.append(f"{board.dropped_time} rows dropped: time did not rise")
            if board.dropped_value:
                notes.append(f"{board.dropped_value} rows dropped: no sensor gives such a value")
            yield f"  {board.name}: {len(board.points)} rows" + "".join(f"; {note}" for note in notes)


def convert(sources: Iterable[Path], out: Path) -> list[Converted]:
    """Convert every set found in `sources` (files, or folders searched through) to `out`/<set>.csv."""
    boards: dict[str, list[Board]] = {}
    for path, header in _recognised(list(sources)):
        boards.setdefault(_SET_NAMES[header], []).extend(_read(path, header))
    results = []
    out.mkdir(parents=True, exist_ok=True)
    for name, found in boards.items():
        kept = [board for board in map(_clean, found) if board.points]
        if not kept:
            raise TraceError(out / f"{name}.csv", "not one usable row was found in the raw files")
        result = Converted(name, out / f"{name}.csv", kept)
        _write(result)
        results.append(result)
    return results


def is_raw(path: Path) -> bool:
    """Whether a file is one of the recordings known here."""
    return path.is_file() and _header(path) in RAW_HEADERS


def _recognised(sources: list[Path]) -> list[tuple[Path, tuple[str, ...]]]:
    if not sources:
        raise TraceError(Path("SRC"), "no file or folder given")
    found: list[tuple[Path, tuple[str, ...]]] = []
    for source in sources:
        if not source.exists():
            raise TraceError(source, "does not exist")
        if source.is_dir():
            files = sorted(p for p in source.rglob("*") if p.suffix.lower() in (".csv", ".txt") and p.is_file())
        else:
            files = [source]
        before = len(found)
        for path in files[:_FILES_MAX]:
            header = _header(path)
            if header in RAW_HEADERS:
                found.append((path, header))
            elif not source.is_dir():
                known = " | ".join(",".join(h) for h in RAW_HEADERS)
                raise TraceError(path, f"is none of the recordings known here; their headers are {known}", 1)
        if len(found) == before:
            raise TraceError(source, "holds none of the recordings known here (see `isotherm traces convert --help`)")
    return found


def _open_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows with their line numbers; blank ones left out."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, [cell.strip() for cell in cells]
    except UnicodeDecodeError:
        raise TraceError(path, "is not UTF-8 text") from None
    except csv.Error as error:
        raise TraceError(path, f"is not well-formed CSV: {error}") from None
    except OSError as error:
        raise TraceError(path, f"cannot be read: {error.strerror or error}") from None


def _header(path: Path) -> tuple[str, ...]:
    try:
        for _, cells in _open_rows(path):
            return tuple(cell.lower() for cell in cells)
    except TraceError:
        return ()
    return ()


def _read(path: Path, header: tuple[str, ...]) -> list[Board]:
    rows = _open_rows(path)
    next(rows)
    if header == NAB:
        return _read_nab(path, rows)
    if header == SUTHAHARAN:
        return _read_suthaharan(path, rows)
    return _read_occupancy(path, rows)


def _number(path: Path, line: int, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise TraceError(path, f"{text[:40]!r} is not a number", line, column) from None
    return value


def _unix_s(path: Path, line: int, column: str, text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise TraceError(path, f"{text[:40]!r} is not a date and time", line, column) from None
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


def _cells(path: Path, line: int, cells: list[str], width: int) -> list[str]:
    if len(cells) != width:
        raise TraceError(path, f"has {len(cells)} fields where {width} are expected", line)
    return cells


def _read_nab(path: Path, rows: Iterator[tuple[int, list[str]]]) -> list[Board]:
    windows = _windows(path)
    points = []
    for line, cells in rows:
        when, value = _cells(path, line, cells, 2)
        t_s = _unix_s(path, line, "timestamp", when)
        label = None if windows is None else int(any(start <= t_s <= end for start, end in windows))
        points.append(Point(t_s, _number(path, line, "value", value), None, label))
    if not points:
        return []
    board = Board(slug(path.stem), points)
    median = sorted(point.temp_c for point in points)[len(points) // 2]
    if _FAHRENHEIT_MEDIAN[0] < median < _FAHRENHEIT_MEDIAN[1]:
        board.fahrenheit = True
        for point in points:
            point.temp_c = (point.temp_c - 32) * 5 / 9
    return [board]


def _windows(path: Path) -> list[tuple[float, float]] | None:
    """Labelled windows of this file, from windows.json beside it; None where there is none."""
    beside = path.parent / _WINDOWS_FILE
    if not beside.is_file():
        return None
    try:
        listed = json.loads(beside.read_text(encoding="utf-8"))
        for name, windows in listed.items():
            if Path(name).name == path.name:
                return [(_unix_s(beside, 0, "", start), _unix_s(beside, 0, "", end)) for start, end in windows]
    except (ValueError, TypeError, AttributeError) as error:
        raise TraceError(beside, f"is not a list of windows by file: {error}") from None
    return None


def _read_suthaharan(path: Path, rows: Iterator[tuple[int, list[str]]]) -> list[Board]:
    boards: dict[str, Board] = {}
    for line, cells in rows:
        reading, mote, _, humidity, temperature, label = _cells(path, line, cells, len(SUTHAHARAN))
        name = slug("mote-" + mote)
        board = boards.setdefault(name, Board(name, []))
        board.points.append(
            Point(
                _number(path, line, "reading", reading) * _MOTE_STEP_S,
                _number(path, line, "temperature", temperature),
                _number(path, line, "humidity", humidity),
                int(_number(path, line, "label", label) != 0),
            )
        )
    return list(boards.values())


def _read_occupancy(path: Path, rows: Iterator[tuple[int, list[str]]]) -> list[Board]:
    points = []
    for line, cells in rows:
        # The header names no column for the row number that each row begins with.
        date, temperature, humidity = _cells(path, line, cells, len(OCCUPANCY) + 1)[1:4]
        points.append(
            Point(
                _unix_s(path, line, "date", date),
                _number(path, line, "Temperature", temperature),
                _number(path, line, "Humidity", humidity),
            )
        )
    return [Board(slug("occupancy-" + path.stem), points)]


def _clean(board: Board) -> Board:
    kept: list[Point] = []
    for point in board.points:
        if not (
            _within(point.temp_c, DS18B20_TEMP_MILLI)
            and (point.humidity_pct is None or _within(point.humidity_pct, DHT22_HUMIDITY_MILLI))
        ):
            board.dropped_value += 1
        elif not math.isfinite(point.t_s) or (kept and (point.t_s - kept[-1].t_s) * 1000 < STEP_MS_MIN - 0.5):
            board.dropped_time += 1
        else:
            kept.append(point)
    board.points = kept
    return board


def _within(value: float, bounds_milli: tuple[int, int]) -> bool:
    return bounds_milli[0] <= value * 1000 <= bounds_milli[1]


def _write(result: Converted) -> None:
    """Write one set, whole or not at all."""
    start_s = result.start_s
    partial = result.path.with_suffix(".partial")
    try:
        with partial.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(("t_s", "board", "temperature_c", "humidity_pct", "label"))
            for board in result.boards:
                for point in board.points:
                    humidity = "" if point.humidity_pct is None else f"{point.humidity_pct:.3f}"
                    label = "" if point.label is None else point.label
                    writer.writerow((f"{point.t_s - start_s:.3f}", board.name, f"{point.temp_c:.3f}", humidity, label))
        os.replace(partial, result.path)
    finally:
        partial.unlink(missing_ok=True)
