"""`isotherm add`: from a board on a USB cable to its first reading at the gateway."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from host_tools.commands.belonging import fleet_options, member, tls_of
from host_tools.commands.boards_at_hand import configuration
from host_tools.commands.ports import only_port, port_option


@click.command()
@port_option
@click.option("--board", "name", help="The board's name (`isotherm board list`); default the configuration's.")
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The board's TOML file; without it the terminal is asked.",
)
@click.option("--secrets", help="As for `isotherm provision`.")
@click.option(
    "--image", type=click.Path(path_type=Path, dir_okay=False), help="MicroPython's image, for a chip without it."
)
@click.option(
    "--broker", metavar="HOST:PORT", help="The broker as seen from here; default the configuration's gateway."
)
@click.option("--timeout-s", default=120.0, show_default=True, type=click.FloatRange(1, 86400), help="For the reading.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@fleet_options
@click.pass_context
def add(
    context: click.Context,
    port: str | None,
    name: str | None,
    path: Path | None,
    secrets: str | None,
    image: Path | None,
    broker: str | None,
    timeout_s: float,
    yes: bool,
    keys: Path,
    passphrase_file: Path | None,
    identity: Path | None,
    plaintext: bool,
) -> None:
    """Add a board: MicroPython if it has none, firmware, configuration and keys, and the first reading at the gateway.

    \b
    Examples:
      isotherm add --port /dev/ttyUSB0 --config fridge.toml --keys keys --identity operator-keys
      isotherm add --port virtual-boards/fridge/port --board virtual --plaintext-for-tests
    """
    from host_tools import provision as provisioning
    from host_tools import rollout
    from host_tools.arrival import Arrival, channels_of
    from host_tools.commands.deploy import deploy
    from host_tools.device import Device

    board, config, given = configuration(path, name, secrets)
    port = only_port(port)
    usual_port = 1883 if plaintext else 8883
    where = rollout.broker_address(
        broker or f"{config['gateway']['host']}:{config['gateway'].get('port', usual_port)}", usual_port
    )
    tls = tls_of(identity, plaintext)
    made = member(config, keys, passphrase_file, plaintext, where, tls)
    device = Device(port)
    with rollout.Link(*where, tls):
        pass  # first: a board without a broker is not added
    click.echo(f"1/4 {port}: is MicroPython on it?")
    _ensure_micropython(context, device, board, image, yes)
    click.echo(f"2/4 {port}: the firmware")
    context.invoke(deploy, ports=(port,), firmware=None, no_wait=False, trial_s=180.0)
    click.echo(f"3/4 {port}: the configuration of {config['device']}")
    with contextlib.ExitStack() as listening:
        heard: list[Arrival] = []

        def admit() -> Mapping[str, bytes]:
            """Listen before the board starts, and after the gateways were told: the operator has one session."""
            files = {} if made.admit is None else made.admit()
            link = listening.enter_context(rollout.Link(*where, tls))
            heard.append(Arrival(link, config["device"], channels_of(config)))
            return files

        provisioning.write(device, provisioning.with_secrets(made.config, given), admit)
        click.echo(f"4/4 {config['device']}: its first reading at the gateway")
        reading = heard[0].wait(timeout_s, lambda text: click.echo(f"{config['device']}: {text}"))
    click.echo(f"{config['device']}: {reading}, on the gateway's disk (boot {reading.boot}, number {reading.seq})")


def _ensure_micropython(context: click.Context, device: Any, board: Any, image: Path | None, yes: bool) -> None:
    from host_tools.commands.flash import flash
    from host_tools.device import NoAnswer

    try:
        [(version, platform)] = device.evaluate(
            "import sys\nprint(repr(('.'.join(str(n) for n in sys.implementation[1][:3]), sys.platform)))"
        )
        click.echo(f"{device.port}: MicroPython {version} on {platform}")
    except NoAnswer:
        if not board.image_pattern:
            raise
        click.echo(f"{device.port}: no MicroPython answers: it is flashed first")
        context.invoke(
            flash, name=board.name, port=device.port, image=image, folder=Path("images"), dry_run=False, yes=yes
        )
