"""An answer as lines: a table for people, JSON and CSV for programs. Times in RFC 3339, UTC. Knows no SQL."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Protocol


class Answer(Protocol):
    """What is printed."""

    @property
    def columns(self) -> list[str]:
        """Names."""

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """Python values."""


def table(answer: Answer) -> Iterable[str]:
    """Columns as wide as they need, numbers to the right, and how many rows there are."""
    cells = [answer.columns, *([_text(value) for value in row] for row in answer.rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(answer.columns))]
    right = [
        bool(answer.rows) and all(row[place] is None or _number(row[place]) for row in answer.rows)
        for place in range(len(answer.columns))
    ]

    def line(row: list[str]) -> str:
        aligned = zip(row, widths, right, strict=True)
        return "  ".join(cell.rjust(width) if to else cell.ljust(width) for cell, width, to in aligned).rstrip()

    yield line(cells[0])
    yield "  ".join("-" * width for width in widths)
    yield from map(line, cells[1:])
    yield f"({len(answer.rows)} row{'' if len(answer.rows) == 1 else 's'})"


def as_json(answer: Answer) -> Iterable[str]:
    """A list with one object a row."""
    rows = [dict(zip(answer.columns, map(_plain, row), strict=True)) for row in answer.rows]
    yield "[" if rows else "[]"
    for place, row in enumerate(rows, 1):
        yield json.dumps(row, ensure_ascii=False) + ("," if place < len(rows) else "")
    if rows:
        yield "]"


def as_csv(answer: Answer) -> Iterable[str]:
    """RFC 4180 with a head; an empty field is null."""
    for row in (answer.columns, *(["" if value is None else _text(value) for value in row] for row in answer.rows)):
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="").writerow(row)
        yield buffer.getvalue()


FORMS: dict[str, Callable[[Answer], Iterable[str]]] = {"table": table, "json": as_json, "csv": as_csv}


def _number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _text(value: Any) -> str:
    plain = _plain(value)
    if plain is None:
        return "null"
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value)
