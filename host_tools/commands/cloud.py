"""`isotherm cloud`: run the reference receiver, and look into its store."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import click

from host_tools.commands.cloud_ack import ack
from host_tools.commands.lake import check_time, lake, query, writer_beside

_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.group()
def cloud() -> None:
    """Run the reference receiver, look into its store.

    \b
    Examples:
      isotherm cloud serve --data cloud-data --port 8440
      isotherm cloud status --data cloud-data
    """


cloud.add_command(ack)
cloud.add_command(lake)
cloud.add_command(query)


@cloud.command()
@click.option("--data", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder of the store.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8440, show_default=True, type=click.IntRange(0, 65535), help="Port; 0: a free one.")
@click.option("--port-file", type=click.Path(path_type=Path, dir_okay=False), help="File to write the port to.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the token that gateways must show; without it everyone may write.",
)
@click.option("--gateway-tokens-file", type=_FILE, help="File with lines of GATEWAY TOKEN: each its own.")
@click.option(
    "--rate", default=200.0, show_default=True, type=click.FloatRange(0.1), help="Batches a second of one gateway."
)
@click.option("--rows-a-day", default=0, type=click.IntRange(0), help="Rows of one gateway in a UTC day; 0: no bound.")
@click.option("--bytes-a-day", default=0, type=click.IntRange(0), help="Bytes of its stored batches; 0: no bound.")
@click.option(
    "--device-silence-s",
    default=86_400,
    show_default=True,
    type=click.IntRange(0),
    help="Alarm when a device was heard and then is silent for so long; 0: never.",
)
@click.option(
    "--gateway-silence-s", default=21_600, show_default=True, type=click.IntRange(0), help="The same of a gateway."
)
@click.option("--not-missed", multiple=True, help="Device or gateway that is never missed; may be given again.")
@click.option(
    "--admin-port",
    type=click.IntRange(0, 65535),
    help="Port for questions and metrics, apart from gateways; 0: a free one.",
)
@click.option("--admin-host", default="127.0.0.1", show_default=True, help="Loopback address of that port.")
@click.option("--admin-port-file", type=click.Path(path_type=Path, dir_okay=False), help="File to write that port to.")
@click.option("--admin-token-file", type=_FILE, help="File with the token for questions.")
@click.option(
    "--reading-keys-file",
    type=_FILE,
    help="File of `isotherm keys cloud`: boards' tags are checked. Read again when it changes.",
)
@click.option("--cert-file", type=_FILE, help="PEM file with the server's certificate: TLS.")
@click.option("--key-file", type=_FILE, help="PEM file with its private key.")
@click.option("--client-ca-file", type=_FILE, help="PEM file of the authority whose certificates gateways must show.")
@click.option(
    "--root-key-file", type=_FILE, help="The fleet's root-key.pub: `isotherm keys revoke --cloud` is heard, and obeyed."
)
@click.option("--fleet", default="home", show_default=True, help="Name of that fleet.")
@click.option("--mqtt", help="Broker to take batches from as well: mqtts://HOST[:PORT], mqtt:// on a loopback address.")
@click.option("--mqtt-topic", default="isotherm", show_default=True, help="Gateways publish to TOPIC/GATEWAY/batches.")
@click.option("--mqtt-login-file", type=_FILE, help="File with USER:PASSWORD for the broker.")
@click.option("--mqtt-ca-file", type=_FILE, help="PEM file of authorities that the broker's certificate is of.")
@click.option("--lake", "where", help="Folder or URL of a lake to write beside, in a process of its own.")
@click.option("--lake-every", default="15min", show_default=True, callback=check_time, help="How often.")
def serve(
    data: Path,
    host: str,
    port: int,
    port_file: Path | None,
    token_file: Path | None,
    gateway_tokens_file: Path | None,
    rate: float,
    rows_a_day: int,
    bytes_a_day: int,
    device_silence_s: int,
    gateway_silence_s: int,
    not_missed: tuple[str, ...],
    admin_port: int | None,
    admin_host: str,
    admin_port_file: Path | None,
    admin_token_file: Path | None,
    reading_keys_file: Path | None,
    cert_file: Path | None,
    key_file: Path | None,
    client_ca_file: Path | None,
    root_key_file: Path | None,
    fleet: str,
    mqtt: str | None,
    mqtt_topic: str,
    mqtt_login_file: Path | None,
    mqtt_ca_file: Path | None,
    where: str | None,
    lake_every: str,
) -> int:
    """Receive batches over HTTP until Ctrl-C. A batch is answered when it is on the disk.

    \b
    Example:
      isotherm cloud serve --data cloud-data --port 8440
    """
    from host_tools.cloud.gates import Gates, read_gateway_tokens
    from host_tools.cloud.server import Admin, Tls, read_login, read_token
    from host_tools.cloud.server import serve as run

    if bool(cert_file) != bool(key_file) or (client_ca_file and not cert_file):
        raise click.UsageError("--cert-file and --key-file go together, and --client-ca-file needs both")
    tls = None if cert_file is None or key_file is None else Tls(cert_file, key_file, client_ca_file)
    source = None
    if mqtt is not None:
        from host_tools.cloud.subscriber import Source

        source = Source(mqtt, mqtt_topic, read_login(mqtt_login_file) if mqtt_login_file else None, mqtt_ca_file)
    if admin_port is None and (admin_port_file or admin_token_file):
        raise click.UsageError("--admin-port-file and --admin-token-file need --admin-port")
    if token_file is not None and gateway_tokens_file is not None:
        raise click.UsageError("--token-file or --gateway-tokens-file, not both")
    members = None
    if root_key_file is not None:
        from host_tools.cloud.members import Members
        from host_tools.keys.signing import load_public

        members = Members(data, fleet, load_public(root_key_file))
    gates = Gates(
        None if token_file is None else read_token(token_file),
        None if gateway_tokens_file is None else read_gateway_tokens(gateway_tokens_file),
        certificates=client_ca_file is not None,
        members=members,
        rate_per_s=rate,
    )
    admin = None
    if admin_port is not None:
        guard = Gates(None if admin_token_file is None else read_token(admin_token_file))
        admin = Admin(admin_host, admin_port, admin_port_file, guard)

    writer = None if where is None else writer_beside(data, where, lake_every)

    def ready(url: str) -> None:
        click.echo(f"receiving at {url}, storing in {data}")
        if writer is not None:
            writer.start()

    keys = None
    if reading_keys_file is not None:
        from host_tools.cloud.keyfile import KeyFile

        keys = KeyFile(reading_keys_file, members)
    from host_tools.cloud.store_quota import Quota
    from host_tools.cloud.store_watch import SilenceLimits

    quota = Quota(rows_a_day, bytes_a_day)
    silence = SilenceLimits(device_silence_s, gateway_silence_s, frozenset(not_missed))
    try:
        stopped_by = run(data, host, port, port_file, gates, ready, tls, source, keys, admin, quota, silence)
    finally:
        if writer is not None:
            writer.stop()
    return 130 if stopped_by == signal.SIGINT else 0


@cloud.command()
@click.option("--data", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder of the store.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(data: Path, as_json: bool) -> None:
    """Count what a store holds, also while the receiver runs.

    \b
    Example:
      isotherm cloud status --data cloud-data --json
    """
    from host_tools.cloud.store_read import CloudReader

    with CloudReader(data) as reader:
        counters = reader.counters()
        counts = reader.counts_per_device()
        alarms = reader.alarms()
    if as_json:
        devices = {name: count._asdict() for name, count in counts.items()}
        told = {"counters": counters, "devices": devices, "alarms": [alarm._asdict() for alarm in alarms]}
        click.echo(json.dumps(told, indent=2, sort_keys=True))
        return
    for name, count in counts.items():
        click.echo(f"{name}: {count.rows} rows, {count.reports} reports, {count.events} events")
    for alarm in alarms:
        stands = alarm.times > alarm.acked
        click.echo(
            f"{'ALARM' if stands else 'acknowledged'} {alarm.device}: {alarm.reason}, by {alarm.gateway}, "
            f"{alarm.times} times, last boot {alarm.boot} seq {alarm.seq}"
        )
    click.echo(", ".join(f"{name} {value}" for name, value in sorted(counters.items())))
