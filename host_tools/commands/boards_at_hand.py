"""Commands for a board at the cable: provision, wipe, doctor, console, logs."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from host_tools.commands.belonging import fleet_options, member, tls_of
from host_tools.commands.ports import confirmed, interactive, only_port, port_option

_FOREVER_S = 10 * 365 * 86400.0


@click.command()
@port_option
@click.option("--board", "name", help="The board's name (`isotherm board list`); default the configuration's.")
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The board's TOML file; without it the terminal is asked.",
)
@click.option(
    "--secrets",
    help="TOML file of mode 0600 with wifi.password and gateway.password, - for standard input; else the environment "
    "(ISOTHERM_WIFI_PASSWORD, ISOTHERM_GATEWAY_PASSWORD), else what the board has.",
)
@click.option("--check", is_flag=True, help="Only check file and pins; touch no board.")
@click.option("--broker", metavar="HOST:PORT", help="The fleet's broker: its gateways are told of the board at once.")
@fleet_options
def provision(
    port: str | None,
    name: str | None,
    path: Path | None,
    secrets: str | None,
    check: bool,
    broker: str | None,
    keys: Path,
    passphrase_file: Path | None,
    identity: Path | None,
    plaintext: bool,
) -> None:
    """Configure a board (Wi-Fi, gateway, sensors, pins, channel names) and take it into the fleet: its key pair and
    certificate, the authority's certificate and the root key go over the cable and stay on no host.

    A board that is known gets its next generation, and its former certificate is withdrawn.

    \b
    Examples:
      isotherm provision --port /dev/ttyUSB0 --config fridge.toml --broker pi.local --identity operator-keys
      isotherm provision --config fridge.toml --check
    """
    from host_tools import provision as provisioning
    from host_tools.device import Device

    board, config, given = configuration(path, name, secrets)
    if check:
        click.echo(f"{path or 'the configuration'}: pins are right for {board.title}")
        return
    from host_tools import membership

    where = None if broker is None else membership.address(broker)
    tls = None if where is None else tls_of(identity, plaintext)
    made = member(config, keys, passphrase_file, plaintext, where, tls)
    port = only_port(port)
    provisioning.write(Device(port), provisioning.with_secrets(made.config, given), made.admit)
    click.echo(f"{port}: {config['device']} is configured and starts")
    if not made.told:
        click.echo("the broker does not know it yet: isotherm broker tell, or isotherm broker install")


def configuration(
    path: Path | None, name: str | None, secrets: str | None
) -> tuple[Any, dict[str, Any], dict[str, str]]:
    """(board, configuration, passwords) out of a file or answers; pins are checked. Raises InputError."""
    from host_tools import boards
    from host_tools import provision as provisioning
    from host_tools.errors import InputError

    if path is None and not interactive():
        raise InputError("--config: is needed where nobody can be asked")
    config = provisioning.read(path) if path is not None else {}
    name = name or config.get("board")
    if path is None and not name:
        name = click.prompt("Board", default="esp32_devkitc", err=True)
    if not isinstance(name, str):
        raise InputError("--board: is needed, here or as board = in the configuration")
    board = boards.load(name)
    from_file = Path(secrets) if secrets and secrets != "-" else None
    given = provisioning.read_secrets(from_file, sys.stdin.read() if secrets == "-" else None)
    if path is None:
        config, given = _asked(board, given)
    return board, provisioning.checked(config, board), given


def _asked(board: Any, secrets: dict[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """A configuration out of answers; passwords are not shown."""

    def ask(text: str, default: Any = None, **more: Any) -> Any:
        return click.prompt(text, default=default, err=True, **more)

    device = ask("Name of the board (a-z, 0-9, -)", f"{board.name.replace('_', '-')}-1")
    ssid = ask("Wi-Fi network (empty: none needed)", "")
    if ssid and "wifi.password" not in secrets:
        secrets = {**secrets, "wifi.password": ask("Its password", "", hide_input=True, show_default=False)}
    host = ask("Gateway's address or name")
    port = ask("Its MQTT port", 8883, type=int)
    kind = ask("Sensor", "ds18b20", type=click.Choice(["dht22", "ds18b20", "chip"]))
    channels = {"temperature": ask("Name of its temperature channel", "temperature")}
    if kind == "dht22":
        channels["humidity"] = ask("Name of its humidity channel", "humidity")
    sensor: dict[str, Any] = {"type": kind, "channels": channels}
    if kind != "chip":
        sensor["pin"] = ask("Its GPIO", board.pins.get(kind), type=int)
    period_s = ask("Seconds between readings", 60, type=int)
    config: dict[str, Any] = {
        "device": device,
        "gateway": {"host": host, "port": port},
        "sampling": {"period_ms": period_s * 1000},
        "sensors": [sensor],
    }
    if ssid:
        config["wifi"] = {"ssid": ssid}
    return config, secrets


@click.command()
@port_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def wipe(port: str | None, yes: bool) -> None:
    """Erase a board's configuration, keys, models and readings. Firmware and boot numbers stay.

    \b
    Example:
      isotherm wipe --port /dev/ttyUSB0
    """
    from host_tools import provision as provisioning
    from host_tools.device import Device

    port = only_port(port)
    confirmed(f"{port}: configuration, keys and readings that were not delivered are erased. Go on?", yes)
    gone = provisioning.wipe(Device(port))
    click.echo(f"{port}: erased {', '.join(gone) or 'nothing: there was nothing'}")


@click.command()
@port_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--forget", is_flag=True, help="Tell the last error now and not again.")
def doctor(port: str | None, as_json: bool, forget: bool) -> int:
    """Look at a board and say what is wrong with it. Fails when something is; restarts the board.

    \b
    Example:
      isotherm doctor --port /dev/ttyUSB0
    """
    from host_tools import doctor as doctoring
    from host_tools.device import Device

    report = doctoring.examine(Device(only_port(port)), forget=forget)
    plain = report.plain()
    if as_json:
        click.echo(json.dumps(plain, indent=2))
        return int(bool(report.problems))
    facts = report.facts
    slot = "the root" if facts.slot is None else f"slot {facts.slot[0]}"
    click.echo(f"{report.port}: {plain['device'] or 'no name yet'} on {plain['board'] or facts.platform}")
    click.echo(f"  MicroPython {plain['micropython']}, firmware in {slot}")
    click.echo(f"  heap {plain['heap_free_bytes']} bytes free at the prompt")
    click.echo(f"  flash {facts.free_bytes // 1024} of {facts.total_bytes // 1024} KiB free; in its root: ", nl=False)
    click.echo(", ".join(sorted(plain["files"])))
    click.echo(f"  Wi-Fi {plain['wifi'] or 'none'}, gateway {plain['gateway'] or 'none'}")
    for problem in report.problems:
        click.echo(f"! {problem}")
    for line in report.crash.splitlines():
        click.echo(f"    {line}")
    if not report.problems:
        click.echo("nothing is wrong with it")
    return int(bool(report.problems))


@click.command()
@port_option
def console(port: str | None) -> int:
    """Open a board's prompt: mpremote's own console. Ctrl-] ends it.

    \b
    Example:
      isotherm console --port /dev/ttyUSB0
    """
    from host_tools.device import Device
    from host_tools.errors import InputError

    if not sys.stdin.isatty():
        raise InputError("isotherm console needs a terminal: use `isotherm logs`, or `mpremote exec`")
    return Device(only_port(port)).console()


@click.command()
@port_option
@click.option("--seconds", type=click.FloatRange(0.1, 86400), help="Stop after so long; default never.")
def logs(port: str | None, seconds: float | None) -> None:
    """Follow what a board prints, without disturbing it, until Ctrl-C.

    \b
    Example:
      isotherm logs --port /dev/ttyUSB0
    """
    from host_tools.device import Device

    device = Device(only_port(port))
    device.check_port()
    for line in device.listen(time.monotonic() + (seconds or _FOREVER_S)):
        click.echo(line)
