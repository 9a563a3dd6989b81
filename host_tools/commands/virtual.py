"""`isotherm virtual`: a board without hardware, on a serial port that mpremote and every terminal program can open."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def virtual() -> None:
    """Run virtual boards.

    \b
    Examples:
      isotherm virtual run
      isotherm virtual run --name fridge --config fridge.json
    """


@virtual.command()
@click.option("--name", help="Name of the board; default that of the configuration, else virtual-1.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The board's config.json; without it a new board is not provisioned.",
)
@click.option(
    "--rows", type=click.Path(path_type=Path, dir_okay=False), help="What its sensors see; default a constant room."
)
@click.option("--speed", type=float, default=1.0, show_default=True, help="Board seconds in a real one.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the board, which keeps its flash; default virtual-boards/NAME.",
)
@click.option(
    "--board",
    "kind",
    default="virtual",
    show_default=True,
    help="What it poses as: a board file's name, such as pico_w.",
)
@click.option("--bare", is_flag=True, help="A new board has MicroPython and nothing else, as after `isotherm flash`.")
def run(
    name: str | None,
    config: Path | None,
    rows: Path | None,
    speed: float,
    folder: Path | None,
    kind: str,
    bare: bool,
) -> int:
    """Run one virtual board until Ctrl-C; print its serial port, and what it prints.

    \b
    Example:
      isotherm virtual run --name fridge
      mpremote connect virtual-boards/fridge/port fs ls     (in another terminal)
    """
    from host_tools.virtual.foreground import run_board

    return run_board(name, config, rows, speed, folder, click.echo, bare=bare, kind=kind)
