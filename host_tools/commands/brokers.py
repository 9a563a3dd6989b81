"""What the commands that talk to a fleet's broker share: which broker, and as whom."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from host_tools.errors import InputError

if TYPE_CHECKING:
    from host_tools.rollout import Link


def broker_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--broker and --identity."""
    function = click.option(
        "--identity",
        envvar="ISOTHERM_IDENTITY",
        show_envvar=True,
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder of the operator's certificate, as `isotherm keys admit NAME --role operator` made it.",
    )(function)
    return click.option(
        "--broker",
        envvar="ISOTHERM_BROKER",
        show_envvar=True,
        required=True,
        metavar="HOST[:PORT]",
        help="The MQTT broker the boards talk to; port 8883, or 1883 without --identity.",
    )(function)


def link_to(broker: str, identity: Path | None) -> Link:
    """A connection to be opened: TLS as the operator, or plaintext to this very machine. Raises InputError."""
    from host_tools import membership, rollout

    if identity is not None:
        return rollout.Link(*membership.address(broker), membership.context(identity))
    host, port = rollout.broker_address(broker)
    if not is_loopback(host):
        raise InputError(
            f"--identity: is needed for {host}: the folder of `isotherm keys admit NAME --role operator`; "
            "without TLS only a broker on this machine is spoken to"
        )
    return rollout.Link(host, port)


def is_loopback(host: str) -> bool:
    """Whether an address, or `localhost`, is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
