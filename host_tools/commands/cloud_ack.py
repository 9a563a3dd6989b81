"""`isotherm cloud ack`: tell a running receiver that a person looked at an identity alarm."""

from __future__ import annotations

import getpass
from pathlib import Path

import click


@click.command()
@click.argument("device")
@click.option(
    "--reason", required=True, help="The alarm's reason, as /v1/alarms has it: conflict, cloned, altered, ..."
)
@click.option("--why", required=True, help="What was found, for whoever reads it later.")
@click.option("--who", help="Who says so; default: who is logged in.")
@click.option("--gateway", help="Only the alarm that this gateway brought; default: whichever did.")
@click.option("--times", type=click.IntRange(1), help="Only so many of its `times`; default: all there are by now.")
@click.option("--url", required=True, help="The receiver's --admin-port: http://127.0.0.1:PORT.")
@click.option(
    "--token-file", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="File with its --admin-token."
)
def ack(
    device: str,
    reason: str,
    why: str,
    who: str | None,
    gateway: str | None,
    times: int | None,
    url: str,
    token_file: Path | None,
) -> None:
    """Say that an identity alarm of DEVICE was looked at: it stands no more until there is a new one.

    \b
    Example:
      isotherm cloud ack fridge-1 --reason conflict --why "two boards had one name, one was renamed" \\
        --url http://127.0.0.1:8441
    """
    from host_tools.cloud_http import acknowledge

    if who is None:
        try:
            who = getpass.getuser()
        except (OSError, KeyError):  # since 3.13 the first, before it the second: this user has no name
            raise click.UsageError("--who is needed: nobody is logged in by a name") from None
    token = None
    if token_file is not None:
        from host_tools.cloud.server import read_token

        token = read_token(token_file)
    asked = {"device": device, "reason": reason, "gateway": gateway, "times": times, "who": who, "why": why}
    for one in acknowledge(url, token, {name: value for name, value in asked.items() if value is not None}):
        before = "" if one["new"] else ", as before"
        click.echo(f"acknowledged {one['device']}: {one['reason']}, by {one['gateway']}, {one['times']} times{before}")
