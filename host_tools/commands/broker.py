"""`isotherm broker`: mosquitto's configuration out of the fleet's registry, and news for a broker that runs."""

from __future__ import annotations

from pathlib import Path

import click

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)
_KEYS = click.option(
    "--keys",
    envvar="ISOTHERM_KEYS",
    type=_FOLDER,
    default=Path("keys"),
    show_default=True,
    help="Folder of the fleet's keys, or ISOTHERM_KEYS.",
)
_PASSPHRASE = click.option(
    "--passphrase-file",
    envvar="ISOTHERM_PASSPHRASE_FILE",
    type=_FILE,
    help="File whose first line is the passphrase of the fleet's keys; otherwise it is asked for.",
)


@click.group()
def broker() -> None:
    """Make mosquitto's configuration for the fleet, and tell a broker that runs who belongs to it.

    \b
    Examples:
      isotherm broker install --dir broker --host pi.local
      isotherm broker tell --broker pi.local --identity operator-keys
    """


@broker.command()
@click.option("--dir", "folder", required=True, type=_FOLDER, help="Folder to make it in; afterwards DIR/current.")
@click.option("--host", "hosts", multiple=True, required=True, help="Name or address, as boards call it; repeat it.")
@click.option("--name", default="broker", show_default=True, help="The broker's name in the registry.")
@click.option("--listen", default="0.0.0.0", show_default=True, help="Address to listen on.")
@click.option("--port", default=8883, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
@click.option(
    "--connections", default=1000, show_default=True, type=click.IntRange(2, 100_000), help="At most so many."
)
@click.option(
    "--state", type=_FOLDER, help="Folder for mosquitto's own state, such as /var/lib/mosquitto; without it, none."
)
@click.option("--user", help="Whom mosquitto becomes when root starts it; default mosquitto's own.")
@click.option("--pid-file", type=_FILE, help="Where mosquitto writes its process id, for the gateway to find it.")
@click.option("--mosquitto", "program", type=_FILE, help="The mosquitto to try it with; default the installed one.")
@_KEYS
@_PASSPHRASE
def install(
    folder: Path,
    hosts: tuple[str, ...],
    name: str,
    listen: str,
    port: int,
    connections: int,
    state: Path | None,
    user: str | None,
    pid_file: Path | None,
    program: Path | None,
    keys: Path,
    passphrase_file: Path | None,
) -> None:
    """Make the broker's configuration: its new certificate, who may use it, one TLS listener; tried before it counts.

    Run it where mosquitto of the same kind is installed, best on the Pi itself with the fleet's folder on a stick; or
    copy DIR there. The broker's key is made anew each time, and its former certificate withdrawn.

    \b
    Example:
      isotherm broker install --dir /etc/mosquitto/isotherm --host pi.local --host 192.0.2.7 --keys /media/stick/keys
    """
    from host_tools import admission
    from host_tools import broker as configurations
    from host_tools.commands.keys import open_fleet
    from host_tools.demo.processes import broker_program

    fleet = open_fleet(keys, passphrase_file)
    mosquitto = str(program or broker_program())
    identity = fleet.admit(name, "broker", hosts).identity
    files = admission.broker_files(
        fleet,
        identity.certificate_pem,
        identity.key_pem,
        host=listen,
        port=port,
        connections_max=connections,
        persistence_folder=state,
        user=user,
        pid_file=pid_file,
    )
    conf = configurations.install(folder, fleet.registry.number, files, mosquitto)
    click.echo(f"{conf}: list {fleet.registry.number}, tried with {mosquitto}; `mosquitto -c {conf}` runs it")
    root_key = fleet.root_key.hex()
    click.echo(f'for gateway.toml:\n[broker_access]\nfolder = "{folder.absolute() / configurations.ACCESS}"')
    click.echo(f'fleet = "{fleet.name}"\nroot_key = "{root_key}"')
    if pid_file is not None:
        click.echo(f'pid_file = "{pid_file}"')


@broker.command()
@click.option("--broker", "address", metavar="HOST[:PORT]", help="The broker, 8883 by default.")
@click.option("--cloud", help="HTTPS address of a running receiver with --root-key-file: it is told as well.")
@click.option("--identity", required=True, envvar="ISOTHERM_IDENTITY", type=_FOLDER, help="The operator's folder.")
@click.option("--timeout-s", default=10.0, show_default=True, type=click.FloatRange(1, 600), help="How long to wait.")
@_KEYS
@_PASSPHRASE
def tell(
    address: str | None,
    cloud: str | None,
    identity: Path,
    timeout_s: float,
    keys: Path,
    passphrase_file: Path | None,
) -> None:
    """Send the fleet's gateways, its receiver, or both who belongs to it now, and wait until it is in force.

    \b
    Example:
      isotherm broker tell --broker pi.local --identity operator-keys
    """
    from host_tools import cloud_members, membership
    from host_tools.commands.keys import open_fleet
    from host_tools.errors import HostError

    if address is None and cloud is None:
        raise click.UsageError("--broker, --cloud or both: who is to be told")
    fleet = open_fleet(keys, passphrase_file)
    if cloud is not None:
        number = cloud_members.Telling(cloud, identity, fleet.access_document(), timeout_s).wait()
        click.echo(f"{cloud}: list {number} is in force")
    if address is None:
        return
    gateways = [node.name for node in fleet.registry.active("gateway")]
    if not gateways:
        raise HostError(f"{keys}: the fleet has no gateway that could tell its broker: isotherm keys admit")
    where = membership.address(address)
    membership.send_access(where, membership.context(identity), gateways, fleet.access_document(), timeout_s)
    click.echo(f"list {fleet.registry.number} is in force at {', '.join(gateways)}")
