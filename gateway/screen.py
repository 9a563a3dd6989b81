"""A page of lines, tables and notes on a screen: with rich on a terminal where it is installed, plain elsewhere.

NO_COLOR (no-color.org) takes the colours and leaves the rest. Text from outside is made printable: nothing that a
device calls itself moves a cursor. It knows nothing of what a page says.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import click


class Marked(NamedTuple):
    """Text with what it means: good, poor or bad."""

    text: str
    mood: str


Cell = str | Marked
_STYLES = {"good": "green", "poor": "yellow", "bad": "bold red"}
_LABEL_WIDTH = 10


def good(text: str) -> Marked:
    return Marked(text, "good")


def poor(text: str) -> Marked:
    return Marked(text, "poor")


def bad(text: str) -> Marked:
    return Marked(text, "bad")


class Page:
    """What is to be shown, in its order."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, Any]] = []

    def line(self, label: str, *cells: Cell) -> None:
        """One line under a label; "" goes on under the former one."""
        self.parts.append(("line", (label, cells)))

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """A head that begins with `>` has its column aligned to the right."""
        self.parts.append(("table", (heads, rows)))

    def notes(self, title: str, texts: Sequence[str]) -> None:
        """A list under a title; nothing when it is empty."""
        if texts:
            self.parts.append(("notes", (title, texts)))


def show(page: Page, environ: Mapping[str, str] | None = None) -> None:
    """On standard output, as fits it."""
    environ = os.environ if environ is None else environ
    if sys.stdout.isatty() and environ.get("TERM") != "dumb":
        try:
            from rich.console import Console
        except ImportError:
            pass  # plain text says the same
        else:
            _show_rich(page, Console(no_color=True if environ.get("NO_COLOR") else None, highlight=False))
            return
    click.echo("\n".join(plain(page)))


def plain(page: Page) -> Iterable[str]:
    """Lines without any control character."""
    width = _label_width(page)
    before = ""
    for kind, part in page.parts:
        if before and (kind != before or kind == "table"):
            yield ""
        before = kind
        if kind == "line":
            label, cells = part
            yield f"{label:<{width}}{''.join(map(_text, cells))}".rstrip()
        elif kind == "table":
            heads, rows = part
            yield from _plain_table(heads, rows)
        else:
            title, texts = part
            yield f"{title}:"
            yield from (f"  {printable(text)}" for text in texts)


def _plain_table(heads: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Iterable[str]:
    lines = [[head.removeprefix(">") for head in heads], *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    for line in lines:
        yield "  ".join(
            cell.rjust(width) if head.startswith(">") else cell.ljust(width)
            for cell, width, head in zip(line, widths, heads, strict=True)
        ).rstrip()


def _show_rich(page: Page, console: Any) -> None:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    def styled(cell: Cell) -> Text:
        return Text(_text(cell), style=_STYLES[cell.mood] if isinstance(cell, Marked) else "")

    width = _label_width(page)
    before = ""
    for kind, part in page.parts:
        if before and (kind != before or kind == "table"):
            console.print()
        before = kind
        if kind == "line":
            label, cells = part
            grid = Table.grid()
            grid.add_column(width=width, no_wrap=True)
            grid.add_column(overflow="fold")
            grid.add_row(Text(label, style="bold"), Text.assemble(*map(styled, cells)))
            console.print(grid if width else Text.assemble(*map(styled, cells)))
        elif kind == "table":
            heads, rows = part
            table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
            for head in heads:
                right = head.startswith(">")
                table.add_column(head.removeprefix(">"), justify="right" if right else "left", overflow="fold")
            for row in rows:
                table.add_row(*map(styled, row))
            console.print(table)
        else:
            title, texts = part
            console.print(Text(f"{title}:", style="bold yellow"))
            for text in texts:
                console.print(Padding(Text(printable(text)), (0, 0, 0, 2)))


def _label_width(page: Page) -> int:
    labelled = any(kind == "line" and part[0] for kind, part in page.parts)
    return _LABEL_WIDTH if labelled else 0


def _text(cell: Cell) -> str:
    return printable(cell.text if isinstance(cell, Marked) else cell)


def printable(text: str) -> str:
    """Without control characters and what turns the direction of writing."""
    return "".join(c if c.isprintable() else "?" for c in text)
