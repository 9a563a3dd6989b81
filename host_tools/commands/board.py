"""`isotherm board`: what boards there are, what one is like, and a file for one more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from host_tools import boards
from host_tools.commands.battery import battery
from host_tools.places import boards_folder

_DIR = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of board files; default the project's own.",
)


@click.group()
def board() -> None:
    """List, show and make board files.

    \b
    Examples:
      isotherm board list
      isotherm board show pico_w
      isotherm board new greenhouse --from esp32_devkitc
    """


board.add_command(battery)


@board.command("list")
@_DIR
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_boards(folder: Path | None, as_json: bool) -> None:
    """List the boards, one a line.

    \b
    Example:
      isotherm board list
    """
    found = boards.load_all(folder)
    if as_json:
        click.echo(json.dumps({name: {"title": one.title, "chip": one.chip} for name, one in found.items()}, indent=2))
        return
    width = max(map(len, found), default=0)
    for name, one in found.items():
        click.echo(f"{name:{width}}  {one.chip:8}  {one.title}")


@board.command()
@click.argument("name")
@_DIR
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name: str, folder: Path | None, as_json: bool) -> None:
    """Show a board: chip, image, pins, power notes, sources.

    \b
    Example:
      isotherm board show esp32_devkitc
    """
    one = boards.load(name, folder)
    if as_json:
        click.echo(json.dumps(_plain(one), indent=2))
        return
    for label, text in _lines(one):
        click.echo(f"{label + ':' if label else '':11}{text}")


@board.command()
@click.argument("name")
@click.option("--from", "base", required=True, metavar="BOARD", help="The board to start from.")
@click.option("--title", default="", help="What people call it; default NAME.")
@_DIR
def new(name: str, base: str, title: str, folder: Path | None) -> None:
    """Make a board file out of another one, to be corrected by hand.

    \b
    Example:
      isotherm board new greenhouse --from esp32_devkitc --title "Greenhouse, south"
    """
    folder = folder or boards_folder()
    path = boards.new(name, boards.load(base, folder), folder, title)
    click.echo(f"{path}: made; correct pins, flash and sources, then `isotherm board show {name}` checks it")


def _lines(one: boards.Board) -> list[tuple[str, str]]:
    numbers = ", ".join
    lines = [("board", f"{one.name}, {one.title}"), ("file", str(one.path)), ("chip", one.chip)]
    lines.append(("flash", f"{one.flash_bytes} bytes, of which {one.filesystem_bytes} hold files"))
    if one.image_pattern:
        where = "on its UF2 drive" if one.image_offset is None else f"at {one.image_offset:#x}"
        lines.append(("image", f"{one.image_pattern} {where}, from {one.image_page}"))
    lines.append(("python", f"MicroPython {one.micropython_version}, {one.micropython_oldest} at least"))
    lines += [("pins" if not n else "", f"{role} on {pin}") for n, (role, pin) in enumerate(one.pins.items())]
    lines += [(name, numbers(f"{line} on {pin}" for line, pin in bus.items())) for name, bus in one.buses.items()]
    if one.led is not None:
        lines.append(("led", f"{one.led.pin}, {one.led.kind}, lit at {one.led.active}"))
    lines.append(("usable", numbers(map(str, sorted(one.usable)))))
    if one.input_only:
        lines.append(("input only", numbers(map(str, sorted(one.input_only)))))
    for number, (reason, pins) in enumerate(one.reserved.items()):
        lines.append(("" if number else "not usable", f"{numbers(map(str, sorted(pins)))}: {reason.replace('_', ' ')}"))
    lines += [("" if number else "power", note) for number, note in enumerate(one.power_notes)]
    lines += [("" if number else "sources", source) for number, source in enumerate(one.sources)]
    return lines


def _plain(one: boards.Board) -> dict[str, Any]:
    return {
        "name": one.name,
        "title": one.title,
        "chip": one.chip,
        "flash_bytes": one.flash_bytes,
        "filesystem_bytes": one.filesystem_bytes,
        "image_offset": one.image_offset,
        "micropython": {"image": one.image_pattern, "version": one.micropython_version},
        "usable": sorted(one.usable),
        "input_only": sorted(one.input_only),
        "reserved": {reason: sorted(pins) for reason, pins in one.reserved.items()},
        "pins": dict(one.pins),
        "buses": {name: dict(bus) for name, bus in one.buses.items()},
        "led": None if one.led is None else {"pin": one.led.pin, "active": one.led.active, "kind": one.led.kind},
    }
