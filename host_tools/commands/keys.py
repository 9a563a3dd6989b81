"""`isotherm keys`: the fleet's keys and certificates, and who belongs to it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from host_tools.errors import HostError, InputError, KeyFileError, RetryableError
from host_tools.keys import authority, registry, sealed, signing
from host_tools.keys import fleet as fleets

PASSPHRASE_FILE = "ISOTHERM_PASSPHRASE_FILE"

_PATH = click.Path(path_type=Path)
_FOLDER = click.option(
    "--dir",
    "folder",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the fleet's keys. Keep it off every board and gateway.",
)
_IDENTITY = click.option(
    "--identity", type=_PATH, help="Folder of the operator's certificate, as `admit --role operator` made it."
)
_PASSPHRASE = click.option(
    "--passphrase-file",
    envvar=PASSPHRASE_FILE,
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"File whose first line is the passphrase (or {PASSPHRASE_FILE}); otherwise it is asked for.",
)


def passphrase_for(folder: Path, file: Path | None) -> str | None:
    """The passphrase of a folder's secrets: None when they have none. Asks only where there is a terminal."""
    try:
        with (folder / authority.KEY_NAME).open("rb") as stream:
            needed = sealed.is_sealed(stream.read(1))
    except OSError:
        return None  # whoever opens the folder says what is wrong with it
    if not needed:
        return None
    return _from_file(file) if file is not None else _asked("Passphrase of the fleet's keys")


def open_fleet(folder: Path, file: Path | None) -> fleets.Fleet:
    """The fleet in a folder, with its passphrase."""
    return fleets.Fleet(folder, passphrase_for(folder, file))


def _from_file(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            text = stream.readline(1024).decode("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{path}: passphrase cannot be read: {error}") from None
    if mode & 0o077:
        raise KeyFileError(f"{path}: passphrase may be read by others (mode {mode & 0o777:o}); run `chmod 600 {path}`")
    if not text:
        raise KeyFileError(f"{path}: its first line is empty; it must be the passphrase")
    return text


def _asked(prompt: str, *, twice: bool = False) -> str:
    if not sys.stdin.isatty():
        raise InputError(f"a passphrase is needed and there is no terminal to ask: give {PASSPHRASE_FILE}")
    answer: str = click.prompt(prompt, hide_input=True, confirmation_prompt=twice, err=True)
    return answer


@click.group()
def keys() -> None:
    """Make, show, replace and withdraw the fleet's keys and certificates.

    \b
    Examples:
      isotherm keys init --dir keys --fleet home
      isotherm keys admit gateway-1 --role gateway --out gateway-keys --dir keys
      isotherm keys revoke fridge-1 --dir keys --broker pi.local
    """


@keys.command()
@_FOLDER
@click.option("--fleet", default="home", show_default=True, help="Name of the fleet, [a-z0-9-]{1,32}.")
@click.option("--no-passphrase", is_flag=True, help="Keep the secrets in plain files: for tests and demonstrations.")
@_PASSPHRASE
def init(folder: Path, fleet: str, no_passphrase: bool, passphrase_file: Path | None) -> None:
    """Make a fleet: certificate authority, root, model key, master of the readings' keys, an empty registry.

    \b
    Example:
      isotherm keys init --dir keys --fleet home
    """
    if no_passphrase and passphrase_file is not None:
        raise click.UsageError("--no-passphrase and --passphrase-file exclude each other")
    passphrase = None
    if passphrase_file is not None:
        passphrase = _from_file(passphrase_file)
    elif not no_passphrase:
        passphrase = _asked("New passphrase for the fleet's keys", twice=True)
    fleets.create(folder, fleet, passphrase)
    click.echo(f"{folder}: keys of the fleet {fleet}; who has them rules every board")
    if passphrase is None:
        click.echo("They are in plain files: anyone who can read this folder can use them.", err=True)
    _show(folder, as_json=False)
    click.echo("next: `isotherm keys backup`, and `isotherm keys admit` for the broker and the gateway")


@keys.command()
@_FOLDER
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(folder: Path, as_json: bool) -> None:
    """Print what is public: fleet, key ids and digests. Needs no passphrase.

    \b
    Example:
      isotherm keys show --dir keys
    """
    _show(folder, as_json)


def _show(folder: Path, as_json: bool) -> None:
    found = registry.load(folder)
    model_key = signing.load_public(folder)
    root_key = signing.load_public(folder / f"{signing.ROOT_ROLE}.pub")
    facts: dict[str, Any] = {
        "fleet": found.fleet,
        "authority_sha256": authority.digest(authority.load_certificate(folder / authority.CERTIFICATE_NAME)),
        "root_key_id": signing.key_id_hex(root_key),
        "root_key": root_key.hex(),
        "model_key_id": signing.key_id_hex(model_key),
        "model_key": model_key.hex(),
        "key_list": found.key_list,
        "number": found.number,
    }
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        click.echo(f"{name:17} {value}")


@keys.command("list")
@_FOLDER
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_nodes(folder: Path, as_json: bool) -> None:
    """List the nodes of the fleet. Needs no passphrase.

    \b
    Example:
      isotherm keys list --dir keys
    """
    nodes = registry.load(folder).nodes
    if as_json:
        click.echo(json.dumps({name: registry.plain(node) for name, node in sorted(nodes.items())}, indent=2))
        return
    for name, node in sorted(nodes.items()):
        hosts = f" {', '.join(node.hosts)}" if node.hosts else ""
        tagged = ", readings tagged" if node.tagged else ""
        click.echo(f"{name:32} {node.role:9} generation {node.generation}, {node.state}{tagged}{hosts}")


@keys.command()
@click.argument("name")
@click.option("--role", required=True, type=click.Choice(authority.ROLES), help="What the node is.")
@click.option("--host", "hosts", multiple=True, help="Name or address of a server, as its clients call it; repeat it.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to write to.")
@_FOLDER
@_PASSPHRASE
def admit(name: str, role: str, hosts: tuple[str, ...], out: Path, folder: Path, passphrase_file: Path | None) -> None:
    """Take a node in: ca.pem, cert.pem and key.pem (0600) into a folder. A name that is known gets its next generation.

    Boards are taken in by `isotherm provision`, which writes their keys over USB and keeps none.

    \b
    Examples:
      isotherm keys admit broker --role broker --host pi.local --host 192.0.2.7 --out broker-keys --dir keys
      isotherm keys admit gateway-1 --role gateway --out gateway-keys --dir keys
    """
    write_identity(out, open_fleet(folder, passphrase_file).admit(name, role, hosts))
    click.echo(f"{out}: ca.pem, cert.pem and key.pem of {name}; the key is nowhere else")


def write_identity(out: Path, bundle: fleets.Bundle) -> None:
    """ca.pem, cert.pem and key.pem of a node into a folder. Replaces what a former generation left there."""
    sealed.write_file(out / "key.pem", bundle.identity.key_pem, 0o600, replace=True)
    sealed.write_file(out / "cert.pem", bundle.identity.certificate_pem, 0o644, replace=True)
    sealed.write_file(out / "ca.pem", bundle.ca_pem, 0o644, replace=True)


@keys.command()
@click.option("--compromised", is_flag=True, help="Boards stop to believe the former key at once.")
@click.option("--broker", help="HOST or HOST:PORT: send the new list to every board.")
@_IDENTITY
@_FOLDER
@_PASSPHRASE
def rotate(
    compromised: bool, broker: str | None, identity: Path | None, folder: Path, passphrase_file: Path | None
) -> None:
    """Make a new model key and the list that has boards believe it, signed by the root.

    \b
    Example:
      isotherm keys rotate --dir keys --broker pi.local --identity operator-keys
    """
    tls = None if broker is None else _context(identity)
    fleet = open_fleet(folder, passphrase_file)
    key_id, container = fleet.rotate(compromised=compromised)
    click.echo(f"new model key {key_id}, list {fleet.registry.key_list}: {folder / fleets.KEY_LIST_NAME}")
    boards = [node.name for node in fleet.registry.active("board")]
    if broker is None or tls is None:
        click.echo(f"not sent: give --broker to send it to {len(boards)} boards")
        return
    from host_tools import membership

    membership.send_key_list(membership.address(broker), tls, boards, container)
    click.echo(f"sent to {len(boards)} boards; those that are away get it when they return")


@keys.command()
@click.argument("name")
@click.option("--broker", help="HOST or HOST:PORT of the broker: withdraw it there too, and cut its connection.")
@_IDENTITY
@click.option("--timeout-s", default=10.0, show_default=True, type=click.FloatRange(1, 600), help="How long to wait.")
@click.option(
    "--cloud-keys",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The receiver's --reading-keys-file: written anew, so that it refuses the board's tags.",
)
@click.option(
    "--cloud", help="HTTPS address of a running receiver with --root-key-file: it refuses the node from then on."
)
@_FOLDER
@_PASSPHRASE
def revoke(
    name: str,
    broker: str | None,
    identity: Path | None,
    timeout_s: float,
    cloud_keys: Path | None,
    cloud: str | None,
    folder: Path,
    passphrase_file: Path | None,
) -> None:
    """Withdraw a node: out of the access list, into the revocation list, its live connection cut.

    Without --broker and --cloud it is withdrawn in the registry only. Exit code 1: somebody has not confirmed, and is
    named; what could be done is done, and the same command may be run again.

    \b
    Example:
      isotherm keys revoke fridge-1 --dir keys --broker pi.local --cloud https://cloud.example:8440 \\
        --identity operator-keys
    """
    operator = None if broker is None and cloud is None else _operator(identity)
    fleet = open_fleet(folder, passphrase_file)
    known = fleet.registry.nodes.get(name)
    again = broker is not None or cloud_keys is not None or cloud is not None  # to tell those who were away before
    if not again or known is None or known.state != registry.REVOKED:
        fleet.revoke(name)
        click.echo(f"{name}: withdrawn in {folder / registry.FILE_NAME}")
    if cloud_keys is not None:
        sealed.write_file(cloud_keys, fleet.cloud_keys(), 0o600, replace=True)
        click.echo(f"{cloud_keys}: the receiver refuses its tags from the next batch on")
    if operator is None:
        click.echo("the broker was not told: run it again with --broker")
        return
    from host_tools import cloud_members, membership

    receiver = None
    if cloud is not None:
        receiver = cloud_members.Telling(cloud, operator, fleet.access_document(), timeout_s)
    failed = []
    try:
        if broker is None:
            click.echo("the broker was not told: run it again with --broker")
        else:
            done = membership.withdraw(membership.address(broker), operator, fleet, name, timeout_s)
            if done.gateways:
                click.echo(
                    f"{name}: list {done.number} is in force at {', '.join(done.gateways)}; its connection is cut"
                )
            if done.missing:
                failed.append(membership.not_in_force(done.missing))
    except HostError as error:
        failed.append(str(error))
    if receiver is not None:
        try:
            click.echo(f"{cloud}: list {receiver.wait()} is in force; it refuses {name} from now on")
        except HostError as error:
            failed.append(str(error))
    if failed:
        raise RetryableError("; ".join(failed))


def _operator(identity: Path | None) -> Path:
    """The operator's folder. Raises UsageError when it was not given."""
    if identity is None:
        raise click.UsageError(
            "--broker and --cloud need --identity: the folder of `isotherm keys admit NAME --role operator`"
        )
    return identity


def _context(identity: Path | None) -> Any:
    from host_tools import membership

    return membership.context(_operator(identity))


@keys.command()
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="File to write.")
@_FOLDER
@_PASSPHRASE
def backup(out: Path, folder: Path, passphrase_file: Path | None) -> None:
    """Write all of the folder into one sealed file. `isotherm keys restore` brings it back.

    \b
    Example:
      isotherm keys backup --dir keys --out fleet-home.backup
    """
    passphrase = passphrase_for(folder, passphrase_file) or _new_passphrase(passphrase_file)
    count = fleets.backup(folder, out, passphrase)
    click.echo(f"{out}: {count} files, sealed; keep it where the fleet's host is not")


@keys.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_FOLDER
@_PASSPHRASE
def restore(file: Path, folder: Path, passphrase_file: Path | None) -> None:
    """Bring a backup back into an empty folder.

    \b
    Example:
      isotherm keys restore fleet-home.backup --dir keys
    """
    passphrase = _from_file(passphrase_file) if passphrase_file is not None else _asked("Passphrase of the backup")
    count = fleets.restore(file, folder, passphrase)
    click.echo(f"{folder}: {count} files")


def _new_passphrase(file: Path | None) -> str:
    return _from_file(file) if file is not None else _asked("Passphrase for the backup", twice=True)


@keys.command("cloud")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="File to write, mode 0600.")
@_FOLDER
@_PASSPHRASE
def cloud_master(out: Path, folder: Path, passphrase_file: Path | None) -> None:
    """Write what the receiver needs to check boards' tags: the master key, and who is in force with which generation.

    \b
    Example:
      isotherm keys cloud --dir keys --out cloud-data/reading-keys.json
    """
    fleet = open_fleet(folder, passphrase_file)
    sealed.write_file(out, fleet.cloud_keys(), 0o600, replace=True)
    click.echo(f"{out}: for the receiver, and for nobody else")
