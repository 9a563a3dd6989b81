"""What commands share that act for a fleet: whose keys, as whom at the broker, or the named exception for tests."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from host_tools.commands.brokers import is_loopback
from host_tools.errors import HostError, InputError

_F = TypeVar("_F", bound=Callable[..., Any])
_FOLDER = click.Path(path_type=Path, file_okay=False)
_KEYS_DEFAULT = Path("keys")
_TELL_S = 30.0


def identity_option(command: _F) -> _F:
    """--identity: as whom we speak to the broker."""
    return click.option(
        "--identity",
        envvar="ISOTHERM_IDENTITY",
        type=_FOLDER,
        help="Folder of the operator's certificate (`isotherm keys admit --role operator`), or ISOTHERM_IDENTITY.",
    )(command)


def fleet_options(command: _F) -> _F:
    """--keys, --passphrase-file, --identity and --plaintext-for-tests."""
    for option in (
        click.option(
            "--plaintext-for-tests",
            "plaintext",
            is_flag=True,
            help="No keys, no TLS: only for a gateway on a loopback address.",
        ),
        identity_option,
        click.option(
            "--passphrase-file",
            envvar="ISOTHERM_PASSPHRASE_FILE",
            type=click.Path(path_type=Path, dir_okay=False),
            help="File whose first line is the passphrase of the fleet's keys; otherwise it is asked for.",
        ),
        click.option(
            "--keys",
            "keys",
            envvar="ISOTHERM_KEYS",
            type=_FOLDER,
            default=_KEYS_DEFAULT,
            show_default=True,
            help="Folder of the fleet's keys (`isotherm keys init`), or ISOTHERM_KEYS.",
        ),
    ):
        command = option(command)
    return command


def tls_of(identity: Path | None, plaintext: bool) -> ssl.SSLContext | None:
    """TLS as the operator, None in the plaintext profile. Raises InputError when nobody said as whom."""
    if plaintext:
        return None
    if identity is None:
        raise InputError("--identity: is needed: the folder of `isotherm keys admit NAME --role operator`")
    from host_tools import membership

    return membership.context(identity)


@dataclass(frozen=True)
class Member:
    """A board that is to be taken in. config: what it gets; `admit` gives its files, once."""

    config: dict[str, Any]
    admit: Callable[[], Mapping[str, bytes]] | None
    told: bool


def member(
    config: Mapping[str, Any],
    keys: Path,
    passphrase_file: Path | None,
    plaintext: bool,
    where: tuple[str, int] | None,
    tls: ssl.SSLContext | None,
) -> Member:
    """A board's configuration as a member of the fleet, whose keys are opened here.

    where: a broker whose gateways are told before the board has its keys, None: nobody is told. Raises InputError for a
    plaintext gateway that is not this machine, KeyFileError when there is no fleet.
    """
    name = config["device"]
    if plaintext:
        host = str(config["gateway"]["host"])
        if not is_loopback(host):
            raise InputError(f"--plaintext-for-tests: gateway.host is {host}, which is not this machine")
        click.echo(f"WARNING: {name}: no TLS and no keys: for tests on this machine only", err=True)
        return Member(dict(config), None, True)
    from host_tools import admission, membership
    from host_tools.commands.keys import open_fleet
    from host_tools.errors import KeyFileError

    try:
        fleet = open_fleet(keys, passphrase_file)
    except KeyFileError as error:
        raise KeyFileError(f"--keys: {error}; --plaintext-for-tests does without, on this machine") from None

    def admit() -> Mapping[str, bytes]:
        given = fleet.admit(name, "board", tagged=admission.tags(config))
        if where is not None and tls is not None:
            gateways = [node.name for node in fleet.registry.active("gateway")]
            if not gateways:
                raise HostError("the fleet has no gateway that could tell its broker: isotherm keys admit")
            membership.send_access(where, tls, gateways, fleet.access_document(), _TELL_S)
        return admission.board_files(given)

    return Member(admission.board_config(config, fleet), admit, where is not None)
