"""`isotherm version`."""

from __future__ import annotations

import platform

import click

from isocore import __version__


@click.command()
def version() -> None:
    """Print the version of Isotherm and of Python.

    \b
    Example:
      isotherm version
    """
    click.echo(f"isotherm {__version__} (Python {platform.python_version()})")
