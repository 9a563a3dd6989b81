"""`isotherm keys`: make and show the key that signs models."""

from __future__ import annotations

from pathlib import Path

import click

from host_tools import keys as model_keys

_FOLDER = click.option(
    "--dir",
    "folder",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the key pair. Keep it off every board and gateway.",
)


@click.group()
def keys() -> None:
    """Make and show the key that signs models.

    \b
    Examples:
      isotherm keys init --dir keys
      isotherm keys show --dir keys
    """


@keys.command()
@_FOLDER
def init(folder: Path) -> None:
    """Make a P-256 key pair: the private key with mode 0600, the public one beside it.

    \b
    Example:
      isotherm keys init --dir keys
    """
    key = model_keys.init(folder)
    click.echo(f"{folder / model_keys.PRIVATE_NAME}: private, keep it safe; who has it rules every board")
    click.echo(f"{folder / model_keys.PUBLIC_NAME}: public, key id {model_keys.key_id_hex(key.public_key)}")


@keys.command()
@_FOLDER
def show(folder: Path) -> None:
    """Print the public key and its id, never the private one.

    \b
    Example:
      isotherm keys show --dir keys
    """
    public_key = model_keys.load_public(folder)
    click.echo(f"key id  {model_keys.key_id_hex(public_key)}")
    click.echo(f"x || y  {public_key.hex()}")
