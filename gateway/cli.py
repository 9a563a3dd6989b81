"""`isotherm-gateway`: run the daemon, check a configuration, show status and ledger, care for the quarantine.

Exit codes: 0 done, 1 failed or not running, 2 wrong usage or configuration, 3 the ledger does not reconcile. An error
is one sentence on stderr. Heavy imports wait until a command needs them.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from gateway import __version__
from gateway.config import Config, load
from gateway.errors import FatalError, GatewayError

DEFAULT_CONFIG = "/etc/isotherm/gateway.toml"
_STATUS_TIMEOUT_S = 5.0

Command = Callable[..., None]


def _plain_errors(command: Command) -> Command:
    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except GatewayError as exc:
            for line in str(exc).splitlines():
                click.echo(f"isotherm-gateway: {line}", err=True)
            sys.exit(exc.exit_code if isinstance(exc, FatalError) else 1)

    return wrapped


_config_option = click.option(
    "--config",
    "config_path",
    default=DEFAULT_CONFIG,
    show_default=True,
    type=click.Path(path_type=Path),
    help="Configuration file (TOML).",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="isotherm-gateway")
def main() -> None:
    """Keeps every reading safe in SQLite and uploads in batches.

    Example: isotherm-gateway run --config gateway.toml
    """


@main.command()
@_config_option
@_plain_errors
def run(config_path: Path) -> None:
    """Run the daemon until SIGTERM or Ctrl-C; SIGHUP reads the configuration again.

    Example: isotherm-gateway run --config gateway.toml
    """
    config = load(config_path)
    from gateway.journal import handler

    logging.basicConfig(level=config.log.level.upper(), handlers=[handler()])
    from gateway.app import Gateway
    from gateway.notify import Notifier

    gateway = Gateway(config, notifier=Notifier.from_environment())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: gateway.request_stop())
    signal.signal(signal.SIGHUP, lambda _number, _frame: gateway.request_reload())
    gateway.run()


@main.command("check-config")
@_config_option
@_plain_errors
def check_config(config_path: Path) -> None:
    """Check a configuration file, and the tokens and certificates it names; exit code 2 when something is wrong.

    Example: isotherm-gateway check-config --config gateway.toml
    """
    config = load(config_path)
    from gateway.sinks.make import make_tuning
    from gateway.wire import compressor

    for name, sink in config.sinks.items():
        compressor(sink.compression)
        make_tuning(config, name)
    sinks = ", ".join(f"{name} -> {sink.where}" for name, sink in config.sinks.items()) or "none: nothing is uploaded"
    click.echo(f"{config_path}: good. Gateway {config.gateway.id}, store {config.store_path}, sinks: {sinks}")


@main.command()
@_config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@_plain_errors
def status(config_path: Path, as_json: bool) -> None:
    """Show the running daemon; exit code 1 when it does not run.

    Example: isotherm-gateway status --json --config gateway.toml
    """
    config = load(config_path)
    document = _ask_daemon(config)
    if document is None:
        if as_json:
            click.echo(json.dumps({"gateway": config.gateway.id, "running": False}))
        raise FatalError(
            f"the gateway does not run with data_dir {config.data_dir}; `isotherm-gateway ledger` reads its store"
        )
    if as_json:
        click.echo(json.dumps(document, indent=2, sort_keys=True))
    else:
        import time

        from gateway.report import status_page
        from gateway.screen import show

        show(status_page(document, time.time()))


@main.command()
@_config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@_plain_errors
def ledger(config_path: Path, as_json: bool) -> None:
    """Account for every record, from the store itself; works while the daemon is down.

    Beside the kept figures it counts the rows, and exits with 3 when the two differ.

    Example: isotherm-gateway ledger --json --config gateway.toml
    """
    config = load(config_path)
    from gateway.store import Reader

    reader = Reader(config.store_path)
    try:
        document: dict[str, Any] = reader.snapshot()
    finally:
        reader.close()
    if as_json:
        click.echo(json.dumps(document, indent=2, sort_keys=True))
    else:
        from gateway.report import ledger_page
        from gateway.screen import show

        show(ledger_page(document))
    if document["differences"]:
        click.echo(f"isotherm-gateway: the ledger does not reconcile: {document['differences'][0]}", err=True)
        sys.exit(3)


@main.group()
def quarantine() -> None:
    """List, send again or give up batches that a sink refused.

    Works while the daemon runs, through it, and while it does not.
    """


@quarantine.command("list")
@_config_option
@click.option("--sink", help="Only this sink's.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@_plain_errors
def quarantine_list(config_path: Path, sink: str | None, as_json: bool) -> None:
    """Show refused batches and why.

    Example: isotherm-gateway quarantine list --sink cloud --config gateway.toml
    """
    from gateway.quarantine import listed

    entries = listed(load(config_path), sink)
    if as_json:
        click.echo(json.dumps(entries, indent=2, sort_keys=True))
        return
    from gateway.report import quarantine_page
    from gateway.screen import show

    show(quarantine_page(entries))


@quarantine.command("retry")
@_config_option
@click.option("--all", "everything", is_flag=True, help="Every batch of the sink.")
@click.argument("sink")
@click.argument("batches", nargs=-1, type=click.IntRange(1, 1 << 53))
@_plain_errors
def quarantine_retry(config_path: Path, everything: bool, sink: str, batches: tuple[int, ...]) -> None:
    """Send refused batches once more, the very same bytes: after the receiver was put right.

    Example: isotherm-gateway quarantine retry cloud 42 43 --config gateway.toml
    """
    _change_quarantine(config_path, "retry", everything, sink, batches, "taken out of quarantine, to be sent again")


@quarantine.command("drop")
@_config_option
@click.option("--all", "everything", is_flag=True, help="Every batch of the sink.")
@click.argument("sink")
@click.argument("batches", nargs=-1, type=click.IntRange(1, 1 << 53))
@_plain_errors
def quarantine_drop(config_path: Path, everything: bool, sink: str, batches: tuple[int, ...]) -> None:
    """Give refused batches up for this sink; their readings stay in the store and in the ledger, as dropped.

    Example: isotherm-gateway quarantine drop cloud 42 --config gateway.toml
    """
    _change_quarantine(config_path, "drop", everything, sink, batches, "dropped; their readings stay in the store")


def _change_quarantine(
    config_path: Path, operation: str, everything: bool, sink: str, batches: tuple[int, ...], said: str
) -> None:
    from gateway.quarantine import change, listed

    if everything == bool(batches):
        raise click.UsageError("name batches, or give --all")
    config = load(config_path)
    if everything:
        batches = tuple(entry["batch"] for entry in listed(config, sink))
    done = change(config, operation, sink, batches)
    click.echo(f"{done} {'batch' if done == 1 else 'batches'} of sink {sink} {said}")


@main.group()
def alarms() -> None:
    """List, acknowledge or silence alarms of this gateway's rules."""


@alarms.command("list")
@_config_option
@click.option("--history", default=0, type=click.IntRange(0, 2000), help="So many that are cleared as well.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@_plain_errors
def alarms_list(config_path: Path, history: int, as_json: bool) -> None:
    """Show alarms that stand, from the store itself; works while the daemon is down.

    Example: isotherm-gateway alarms list --history 20 --config gateway.toml
    """
    import time

    from gateway.alarms import described
    from gateway.store import AlarmReader

    reader = AlarmReader(load(config_path).store_path)
    try:
        entries = [described(alarm) for alarm in (*reader.standing(), *reader.history(history))]
    finally:
        reader.close()
    if as_json:
        click.echo(json.dumps(entries, indent=2, sort_keys=True))
        return
    from gateway.report import alarms_page
    from gateway.screen import show

    show(alarms_page(entries, time.time()))


@alarms.command("ack")
@_config_option
@click.option("--all", "everything", is_flag=True, help="Every alarm that stands.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.argument("numbers", metavar="[ALARM]...", nargs=-1, type=click.IntRange(1, 1 << 53))
@_plain_errors
def alarms_ack(config_path: Path, everything: bool, as_json: bool, numbers: tuple[int, ...]) -> None:
    """Acknowledge alarms: they stand until they clear, and are quiet.

    Example: isotherm-gateway alarms ack 7 --config gateway.toml
    """
    if everything == bool(numbers):
        raise click.UsageError("name alarms, or give --all")
    config = load(config_path)
    requests: list[dict[str, Any]] = [{"do": "ack", "alarm": number} for number in (numbers or (None,))]
    done = sum(_ask_alarms(config, request) for request in requests)
    click.echo(json.dumps({"acknowledged": done}) if as_json else f"{done} acknowledged")


@alarms.command("silence")
@_config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@_plain_errors
def alarms_silence(config_path: Path, as_json: bool) -> None:
    """Stop the buzzers until the next new alarm; nothing is acknowledged.

    Example: isotherm-gateway alarms silence --config gateway.toml
    """
    done = _ask_alarms(load(config_path), {"do": "silence"})
    click.echo(json.dumps({"silenced": done}) if as_json else f"{done} silenced until the next new alarm")


def _ask_alarms(config: Config, request: dict[str, Any]) -> int:
    from gateway.control import ask

    reply = ask(config.control_path, request)
    if reply is None:
        raise FatalError(f"the gateway does not run with data_dir {config.data_dir}: start it first")
    return int(reply["done"])


def _ask_daemon(config: Config) -> dict[str, Any] | None:
    """The daemon's /status, or None when nobody answers."""
    import http.client

    try:
        address = config.address_path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    connection = http.client.HTTPConnection(address, timeout=_STATUS_TIMEOUT_S)
    try:
        connection.request("GET", "/status")
        document = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return document if isinstance(document, dict) else None


if __name__ == "__main__":
    main()
