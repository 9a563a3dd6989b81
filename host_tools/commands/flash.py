"""`isotherm flash`: MicroPython onto a bare chip."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from host_tools.commands.ports import confirmed, only_port, port_option


@click.command()
@click.option("--board", "name", required=True, help="The board's name (`isotherm board list`).")
@port_option
@click.option(
    "--image",
    type=click.Path(path_type=Path, dir_okay=False),
    help="MicroPython's image; default the newest that fits the board in the folder of --images.",
)
@click.option(
    "--images",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("images"),
    show_default=True,
    help="Folder of downloaded images.",
)
@click.option("--dry-run", is_flag=True, help="Print each step, and do none.")
@click.option("--yes", is_flag=True, help="Do not ask: all that is on the board goes.")
def flash(name: str, port: str | None, image: Path | None, folder: Path, dry_run: bool, yes: bool) -> None:
    """Put MicroPython on a board: checks the chip, erases, writes, verifies.

    \b
    Examples:
      isotherm flash --board esp32_devkitc --port /dev/ttyUSB0 --image ESP32_GENERIC-20250911-v1.26.1.bin
      isotherm flash --board pico_w --port /media/me/RPI-RP2 --image RPI_PICO_W-20250911-v1.26.1.uf2
      isotherm flash --board esp32_devkitc --port /dev/ttyUSB0 --dry-run
    """
    from host_tools import boards, images, places
    from host_tools import flash as flashing
    from host_tools.errors import InputError
    from host_tools.esptool import Esptool

    board = boards.load(name)
    if not board.image_pattern:
        raise InputError(f"--board: {board.title} needs no image: `isotherm virtual run --bare` starts one")
    port = only_port(port)
    image = image or images.find(board, folder)
    tool = Esptool(port, heard=_passed_on)
    if board.esptool_chip:
        flashing.check_esp_image(board, tool, image)
        steps = flashing.esp_steps(board, tool, image)
        recover = "hold its BOOT button, press reset, let go, and run the same command again"
    else:
        images.check_uf2(board, image)
        steps = flashing.uf2_steps(board, port, image)
        recover = "hold BOOTSEL while plugging it in, and run the same command again"
    if dry_run:
        for number, step in enumerate(steps, 1):
            click.echo(f"{number}/{len(steps)} {step.text}")
        return
    click.echo(f"{image}: {images.check_hash(board, image, places.state_folder())}")
    confirmed(f"{port}: everything on the board is erased. Go on?", yes)
    flashing.carry_out(port, steps, click.echo, recover)
    click.echo(f"{port}: MicroPython is on it; next: isotherm deploy --port {port}")


def _passed_on(text: str) -> None:
    """esptool's own words and progress, as they come."""
    sys.stdout.write(text)
    sys.stdout.flush()
