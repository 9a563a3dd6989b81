"""What the commands that talk to boards share: which port, and what to say while work goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from host_tools import device
from host_tools.errors import InputError

VARIABLE = "ISOTHERM_PORT"


def port_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """--port for one board."""
    return click.option(
        "--port", envvar=VARIABLE, show_envvar=True, help="The board's serial port; default the only one there is."
    )(function)


def only_port(given: str | None) -> str:
    """The port given, or the only one with a USB device. Raises InputError."""
    if given:
        return given
    found = device.ports()
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(
            "--port: no board is plugged in: plug one in with a cable that carries data, or name the port; "
            "without hardware, `isotherm virtual run` prints one"
        )
    raise InputError(f"--port: {len(found)} boards are plugged in: choose one of {', '.join(found)}")


def every_port() -> tuple[str, ...]:
    """All ports with a USB device. Raises InputError when there is none."""
    found = tuple(device.ports())
    if not found:
        raise InputError("--all: no board is plugged in: plug one in with a cable that carries data, or give --port")
    return found


def interactive() -> bool:
    """Whether there is a terminal to ask at."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirmed(question: str, yes: bool) -> None:
    """Ask before what cannot be undone. Raises InputError where nobody can answer, click.Abort at a no."""
    if yes:
        return
    if not interactive():
        raise InputError(f"--yes: is needed where nobody can be asked: {question}")
    click.confirm(question, abort=True, err=True)
