"""`isotherm fleet`: what there is, how it is, and what it runs, as the gateway sees it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from host_tools.errors import InputError, RetryableError
from host_tools.fleet_view import COLUMNS, INVENTORY, URL, Board, Filter, ago, boards, decoded, fetch, plain, to_csv
from host_tools.selecting import check

if TYPE_CHECKING:
    from rich.table import Table

EXIT_CARE = 3  # with --check: a board that is shown needs care


@click.group()
def fleet() -> None:
    """Show the fleet: who was last seen when, with which firmware, model, health, outbox and alarms.

    \b
    Examples:
      isotherm fleet status
      isotherm fleet status --offline --json
      isotherm fleet watch "fridge-*"
      isotherm fleet export --format csv --out fleet.csv
    """


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Where from, and which boards."""
    for option in (
        click.option("--model-sequence", type=click.IntRange(0), help="Only boards that run this model sequence."),
        click.option("--alarm", is_flag=True, help="Only boards with a standing alarm."),
        click.option("--offline", is_flag=True, help="Only boards that are not at the broker."),
        click.option(
            "--from",
            "path",
            type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
            help="A saved status document instead (`isotherm-gateway status --json`); - is standard input.",
        ),
        click.option(
            "--gateway", "url", default=URL, show_default=True, envvar="ISOTHERM_GATEWAY", help="The gateway's address."
        ),
        click.argument("selectors", nargs=-1, metavar="[NAME|GLOB|class:NAME]..."),
    ):
        function = option(function)
    return function


def _read(url: str, path: Path | None) -> list[Board]:
    if path is None:
        return boards(fetch(url), url)
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    return boards(decoded(data, str(path)), str(path))


def _wanted(selectors: Sequence[str], offline: bool, alarm: bool, sequence: int | None) -> Filter:
    check(selectors, "boards")
    return Filter(selectors, offline, alarm, sequence)


@fleet.command()
@_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--check", "checking", is_flag=True, help=f"Exit with {EXIT_CARE} when a board that is shown needs care.")
def status(
    selectors: tuple[str, ...],
    url: str,
    path: Path | None,
    offline: bool,
    alarm: bool,
    model_sequence: int | None,
    as_json: bool,
    checking: bool,
) -> int:
    """List the boards: last seen, firmware, model, outbox, and what needs care.

    \b
    Examples:
      isotherm fleet status
      isotherm fleet status class:fridge --alarm --check
      isotherm-gateway status --json | isotherm fleet status --from -
    """
    wanted = _wanted(selectors, offline, alarm, model_sequence)
    found = [board for board in _read(url, path) if wanted.takes(board)]
    if as_json:
        click.echo(json.dumps([{**plain(board), "needs_care": board.complaints} for board in found], indent=2))
    else:
        _print(found)
    return EXIT_CARE if checking and any(board.complaints for board in found) else 0


@fleet.command()
@_options
@click.option("--every-s", default=2.0, show_default=True, type=click.FloatRange(0.2, 3600), help="How often to look.")
@click.option("--count", type=click.IntRange(1), help="Stop after so many looks; default never, once off a terminal.")
def watch(
    selectors: tuple[str, ...],
    url: str,
    path: Path | None,
    offline: bool,
    alarm: bool,
    model_sequence: int | None,
    every_s: float,
    count: int | None,
) -> None:
    """Follow the boards in a live table until Ctrl-C. Off a terminal it prints the table once, or --count times.

    \b
    Example:
      isotherm fleet watch "fridge-*" --every-s 5
    """
    wanted = _wanted(selectors, offline, alarm, model_sequence)
    if path is not None:
        raise click.UsageError("--from: a saved document does not change; use `isotherm fleet status --from`")
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    looks = count if count is not None or console.is_terminal else 1
    if not console.is_terminal:
        for number in range(looks or 1):
            if number:
                time.sleep(every_s)
            _print([board for board in _read(url, None) if wanted.takes(board)])
        return
    with Live(console=console, auto_refresh=False, screen=False) as live:
        number = 0
        while looks is None or number < looks:
            if number:
                time.sleep(every_s)
            number += 1
            try:
                live.update(_table([board for board in _read(url, None) if wanted.takes(board)]), refresh=True)
            except RetryableError as error:
                if number == 1:
                    raise
                live.update(str(error), refresh=True)  # it comes back, or the user ends this


@fleet.command()
@_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inventory(
    selectors: tuple[str, ...],
    url: str,
    path: Path | None,
    offline: bool,
    alarm: bool,
    model_sequence: int | None,
    as_json: bool,
) -> None:
    """List what there is: board, firmware, class, channels, model; and how many of each firmware and model.

    \b
    Example:
      isotherm fleet inventory --json
    """
    wanted = _wanted(selectors, offline, alarm, model_sequence)
    found = [board for board in _read(url, path) if wanted.takes(board)]
    if as_json:
        click.echo(json.dumps([plain(board, INVENTORY) for board in found], indent=2))
        return
    for board in found:
        click.echo(
            f"{board.device:32} {board.board or '?'}, {board.device_class or 'no class'}, "
            f"firmware {board.firmware or '?'}, model {board.model_sequence or 0}: {board.channels or 'no channels'}"
        )
    for what, name in (("firmware", "firmware"), ("model_sequence", "model"), ("board", "board")):
        counts: dict[str, int] = {}
        for board in found:
            value = getattr(board, what)
            counts["?" if value is None else str(value)] = counts.get("?" if value is None else str(value), 0) + 1
        click.echo(f"{name}: " + (", ".join(f"{count} of {key}" for key, count in sorted(counts.items())) or "none"))


@fleet.command()
@_options
@click.option("--format", "form", type=click.Choice(["csv", "json"]), default="csv", show_default=True, help="Form.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write; default standard output.")
def export(
    selectors: tuple[str, ...],
    url: str,
    path: Path | None,
    offline: bool,
    alarm: bool,
    model_sequence: int | None,
    form: str,
    out: Path | None,
) -> None:
    """Write all that is known of the boards as CSV or JSON; columns and their order are stable.

    \b
    Example:
      isotherm fleet export --format csv --out fleet.csv
    """
    from host_tools.commands import model_files

    wanted = _wanted(selectors, offline, alarm, model_sequence)
    found = [board for board in _read(url, path) if wanted.takes(board)]
    text = to_csv(found) if form == "csv" else json.dumps([plain(board, COLUMNS) for board in found], indent=2) + "\n"
    if out is None:
        click.echo(text, nl=False)
        return
    model_files.write(out, text.encode("utf-8"))
    click.echo(f"{out}: {len(found)} boards")


def _print(found: Sequence[Board]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal:
        console.print(_table(found))
        return
    for board in found:
        click.echo("  ".join(str(cell) for cell in _cells(board, time.time()) if cell))
    click.echo(_summary(found))


def _cells(board: Board, now_unix_s: float) -> tuple[str, ...]:
    model = f"model {board.model_sequence or 0} {board.model_state or ''}".rstrip()
    outbox = "" if board.outbox is None else f"outbox {board.outbox}"
    return (
        board.device,
        board.device_class or "",
        "online" if board.online else "offline",
        ago(board.last_seen_unix_ms, now_unix_s),
        f"firmware {board.firmware or '?'}",
        model,
        outbox,
        ", ".join(board.complaints),
    )


def _table(found: Sequence[Board]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(caption=_summary(found), caption_justify="left")
    for name in ("board", "class", "status", "last seen", "firmware", "model", "outbox", "needs care"):
        table.add_column(name, overflow="fold")
    for board in found:
        cells = [escape(cell.removeprefix(f"{name} ")) for cell, name in _headed(board)]
        table.add_row(*cells, style="red" if board.alarms else "yellow" if board.complaints else None)
    return table


def _headed(board: Board) -> list[tuple[str, str]]:
    names = ("board", "class", "status", "last seen", "firmware", "model", "outbox", "needs care")
    return list(zip(_cells(board, time.time()), names, strict=True))


def _summary(found: Sequence[Board]) -> str:
    return (
        f"{len(found)} boards, {sum(not board.online for board in found)} offline, "
        f"{sum(bool(board.alarms) for board in found)} with alarms"
    )
