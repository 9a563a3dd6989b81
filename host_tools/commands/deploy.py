"""`isotherm deploy`: the firmware onto one or several boards."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from click.core import ParameterSource

from host_tools.commands.ports import VARIABLE, every_port, only_port


@click.command()
@click.pass_context
@click.option(
    "--port",
    "ports",
    multiple=True,
    envvar=VARIABLE,
    help="A board's serial port; may be repeated. Default the only one.",
)
@click.option("--all", "every", is_flag=True, help="Every board that is plugged in, as on a USB hub.")
@click.option(
    "--firmware",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of the firmware; default the project's own.",
)
@click.option("--no-wait", is_flag=True, help="Do not wait until the new firmware has proved itself.")
@click.option(
    "--trial-s", type=click.FloatRange(1, 3600), default=180.0, show_default=True, help="How long it may take for that."
)
def deploy(
    context: click.Context, ports: tuple[str, ...], every: bool, firmware: Path | None, no_wait: bool, trial_s: float
) -> None:
    """Put the firmware on boards: only what changed, checked on the board, taken back when it does not run.

    \b
    Examples:
      isotherm deploy --port /dev/ttyUSB0
      isotherm deploy --port /dev/ttyUSB0 --port /dev/ttyUSB1
      isotherm deploy --all
    """
    from host_tools import bundle, places
    from host_tools import deploy as deploying
    from host_tools.device import Device
    from host_tools.errors import HostError

    if every and context.get_parameter_source("ports") is ParameterSource.COMMANDLINE:
        raise click.UsageError("give either --all, or --port")
    chosen = every_port() if every else tuple(dict.fromkeys(ports)) or (only_port(None),)
    made = bundle.build(firmware or places.firmware_folder(), [places.libraries_folder()])
    click.echo(f"firmware {made.firmware}: {len(made.files)} files, {made.size_bytes} bytes, bytecode {made.bytecode}")
    mutex = threading.Lock()

    def say(port: str, text: str) -> None:
        with mutex:
            click.echo(f"{port}: {text}")

    def one(port: str) -> HostError | None:
        try:
            result = deploying.deploy(
                Device(port), made, lambda text: say(port, text), wait=not no_wait, trial_s=trial_s
            )
        except HostError as error:
            return error
        say(port, str(result))
        return None

    with ThreadPoolExecutor(max_workers=len(chosen)) as pool:
        errors = [error for error in pool.map(one, chosen) if error is not None]
    if len(errors) == 1 and len(chosen) == 1:
        raise errors[0]
    for error in errors:
        click.echo(f"isotherm: {error}", err=True)
    if errors:
        raise HostError(f"{len(errors)} of {len(chosen)} boards did not take the firmware")
