"""`isotherm model`: train, sign, verify, show, push and status of threshold models."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from host_tools.errors import DeadlineError, HostError, InputError, ModelFileError
from isocore import model as iso_model
from isocore import sign as iso_sign
from isocore.errors import ModelError, SignatureError

if TYPE_CHECKING:
    from host_tools.history import History
    from host_tools.train import Goal, TrainedModel

_FILE = click.Path(path_type=Path, dir_okay=False)
_PATH = click.Path(path_type=Path)
_BROKER = click.option("--broker", required=True, metavar="HOST:PORT", help="The MQTT broker the boards talk to.")
_FILE_BYTES_MAX = 1 << 16


@click.group()
def model() -> None:
    """Train, sign, check and push threshold models.

    \b
    Examples:
      isotherm model train --store cloud-data --fleet home --target class:fridge --sequence 1 --out fridge.json
      isotherm model sign fridge.json --key keys --out fridge.model
      isotherm model push fridge.model --broker 127.0.0.1:1883
    """


@model.command()
@click.option(
    "--store", type=click.Path(path_type=Path, file_okay=False), help="The receiver's data folder to learn from."
)
@click.option("--trace", "trace_paths", multiple=True, type=_PATH, help="A trace to learn from; may be repeated.")
@click.option("--fleet", required=True, help="Fleet the model is for.")
@click.option(
    "--target", "targets", multiple=True, required=True, help='"*", class:NAME or device:NAME; may be repeated.'
)
@click.option(
    "--sequence", required=True, type=click.IntRange(1, iso_model.SEQUENCE_MAX), help="Higher than any before."
)
@click.option("--error-c", type=click.FloatRange(0.001, 100), help="Error bound of temperatures in °C (default 0.5).")
@click.option("--error-pct", type=click.FloatRange(0.001, 100), help="Error bound of humidities in %RH (default 2).")
@click.option(
    "--budget", type=click.FloatRange(0, 1e6, min_open=True), help="Messages a sensor-day, instead of bounds."
)
@click.option(
    "--period-s", type=click.FloatRange(1, 86400), help="The boards' sampling period; guessed when not given."
)
@click.option(
    "--delay-s",
    type=click.IntRange(0, iso_model.FIELDS["delay_s"][1]),
    help="Reports (never alarms) may wait so long to send fewer; as in --current, else 0.",
)
@click.option("--current", type=_FILE, help="The model that runs now (payload or container), to compare with.")
@click.option("--out", required=True, type=_PATH, help="File to write; a folder when there are several targets.")
def train(
    store: Path | None,
    trace_paths: tuple[Path, ...],
    fleet: str,
    targets: tuple[str, ...],
    sequence: int,
    error_c: float | None,
    error_pct: float | None,
    budget: float | None,
    period_s: float | None,
    delay_s: int | None,
    current: Path | None,
    out: Path,
) -> None:
    """Fit models to what was collected, and predict what boards will make of them.

    \b
    Examples:
      isotherm model train --store cloud-data --fleet home --target class:fridge --sequence 2 --out fridge.json
      isotherm model train --trace traces --fleet home --target "*" --budget 10 --sequence 1 --out all.json
    """
    from host_tools.train import train as fit

    histories = _histories(store, trace_paths, period_s)
    running = None if current is None else _parsed(current, _payload(current))
    goals = _goals(error_c, error_pct, budget)
    known = {} if running is None else dict.fromkeys(targets, running)
    trained = fit(histories, fleet, targets, sequence, goals, known, delay_s=delay_s)
    for result in trained:
        path = out if len(targets) == 1 and not out.is_dir() else out / _file_name(result.model.target)
        _write(path, result.payload + b"\n")
        click.echo(f"{path}: {result.model.target}, sequence {sequence}")
        _print_prediction(result)


def _histories(store: Path | None, trace_paths: tuple[Path, ...], period_s: float | None) -> list[History]:
    from host_tools.cloud.store_read import CloudReader
    from host_tools.history import from_store, from_traces
    from host_tools.traces import load_traces

    if (store is None) == (not trace_paths):
        raise InputError("give either --store or --trace to learn from")
    if store is None:
        return from_traces(load_traces(trace_paths, lambda text: click.echo(text, err=True)).values())
    with CloudReader(store) as reader:
        names = [device.name for device in reader.devices()]
        return from_store(reader, None if period_s is None else dict.fromkeys(names, round(period_s * 1000)))


def _goals(error_c: float | None, error_pct: float | None, budget: float | None) -> dict[str, Goal]:
    from host_tools.train import DEFAULT_GOALS, Goal

    goals = dict(DEFAULT_GOALS)
    if budget is not None:
        if error_c is not None or error_pct is not None:
            raise InputError("--budget chooses the error bounds itself; leave --error-c and --error-pct out")
        return {"": Goal(budget_per_day=budget), "humidity": Goal(budget_per_day=budget)}
    if error_c is not None:
        goals[""] = Goal(error_milli=round(error_c * 1000))
    if error_pct is not None:
        goals["humidity"] = Goal(error_milli=round(error_pct * 1000))
    return goals


def _file_name(target: str) -> str:
    return ("all" if target == "*" else target.replace(":", "-")) + ".json"


def _print_prediction(trained: TrainedModel) -> None:
    for channel in trained.channels:
        old, new = channel.before, channel.after
        click.echo(
            f"  {channel.name}, {channel.devices} board(s), {new.days:.1f} days: "
            f"messages a sensor-day {old.messages_per_day:.1f} -> {new.messages_per_day:.1f}, "
            f"alarms {old.alarms} -> {new.alarms}, "
            f"largest error {old.max_error_milli / 1000:g} -> {new.max_error_milli / 1000:g}"
        )
        click.echo(
            f"    predictor {channel.reporting}: {new.messages} reports of {new.samples} samples "
            f"({100 * new.messages / max(1, new.samples):.2f} %); plain send-on-delta with the same bound "
            f"{channel.plain.messages}"
        )


@model.command()
@click.argument("payload", type=_FILE)
@click.option(
    "--key", required=True, type=_PATH, help="The private key: a file, or the folder of `isotherm keys init`."
)
@click.option("--out", required=True, type=_FILE, help="Container to write.")
def sign(payload: Path, key: Path, out: Path) -> None:
    """Check a payload and wrap it, signed, in a container.

    \b
    Example:
      isotherm model sign fridge.json --key keys --out fridge.model
    """
    from host_tools.keys import signing

    checked = _parsed(payload, _read(payload))
    container = signing.load_private(key).sign(iso_model.to_payload(checked))
    _write(out, container)
    click.echo(f"{out}: {checked.target}, sequence {checked.sequence}, {len(container)} bytes")


@model.command()
@click.argument("container", type=_FILE)
@click.option("--key", required=True, type=_PATH, help="The public key: a file, or the folder of `isotherm keys init`.")
def verify(container: Path, key: Path) -> None:
    """Check a container as a board does: signature first, then every field.

    \b
    Example:
      isotherm model verify fridge.model --key keys
    """
    from host_tools.keys import signing

    try:
        payload = iso_sign.open_container(_read(container), iso_sign.KIND_MODEL, [signing.load_public(key)])
    except SignatureError as error:
        raise ModelFileError(f"{container}: {error}") from None
    checked = _parsed(container, payload)
    click.echo(f"{container}: good signature; {checked.target}, sequence {checked.sequence}")


@model.command()
@click.argument("file", type=_FILE)
def show(file: Path) -> None:
    """Print a payload or a container's payload. The signature is not checked; `verify` does that.

    \b
    Example:
      isotherm model show fridge.model
    """
    checked = _parsed(file, _payload(file))
    click.echo(json.dumps(json.loads(iso_model.to_payload(checked)), indent=2, sort_keys=True))


@model.command()
@click.argument("containers", nargs=-1, required=True, type=_FILE, metavar="CONTAINER...")
@_BROKER
@click.option("--to", "devices", multiple=True, help="A device; may be repeated. Default: all known that are meant.")
@click.option("--timeout-s", default=60.0, show_default=True, type=click.FloatRange(0, 86400), help="Wait this long.")
def push(containers: tuple[Path, ...], broker: str, devices: tuple[str, ...], timeout_s: float) -> None:
    """Publish signed models to their boards, and wait for what each makes of it.

    Fails when a board reverts, refuses or stays silent; one that is away takes the model when it returns.

    \b
    Example:
      isotherm model push fridge.model --broker 127.0.0.1:1883 --to fridge-1
    """
    from host_tools import rollout

    host, port = rollout.broker_address(broker)
    assignments = _assign(containers, devices, host, port)
    states = rollout.push(
        host, port, assignments, timeout_s, lambda device, state: click.echo(f"{device}: {state.state} {state.reason}")
    )
    for device in sorted(name for name, state in states.items() if not state.final):
        click.echo(f"{device}: {states[device].state}")
    if any(not state.final for state in states.values()):
        raise DeadlineError(f"not every board decided within {timeout_s:g} s; the model waits for them at the broker")
    if any(state.state != "committed" for state in states.values()):
        raise HostError("not every board runs the model now; those that reverted or refused keep their former one")


def _assign(containers: tuple[Path, ...], devices: tuple[str, ...], host: str, port: int) -> dict[str, bytes]:
    """Which device gets which container. A narrower target wins over a wider one."""
    from host_tools import rollout
    from isocore.topics import is_device_id

    with rollout.Link(host, port) as link:
        view = rollout.survey(link)
    read = {path: (_parsed(path, _payload(path)), _read(path)) for path in containers}
    if plain := [path for path, (_, data) in read.items() if not data.startswith(iso_sign.MAGIC)]:
        raise ModelFileError(f"{plain[0]}: is not signed; run `isotherm model sign` first")
    if bad := [device for device in devices if not is_device_id(device)]:
        raise InputError(f"--to: {bad[0]!r} is no device id")
    width = {"*": 0, "class": 1, "device": 2}
    assignments: dict[str, bytes] = {}
    for found, data in sorted(read.values(), key=lambda item: width[item[0].target.partition(":")[0]]):
        for device in view.matching(found.target):
            if not devices or device in devices:
                assignments[device] = data
    if missing := [device for device in devices if device not in assignments]:
        raise InputError(f"--to: no given model is meant for {missing[0]!r}, or that board has never reported")
    if not assignments:
        raise HostError(f"no board known at {host}:{port} is meant by these models")
    return assignments


@model.command()
@_BROKER
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(broker: str, as_json: bool) -> None:
    """List what each board says of its model.

    \b
    Example:
      isotherm model status --broker 127.0.0.1:1883
    """
    from host_tools import rollout

    host, port = rollout.broker_address(broker)
    with rollout.Link(host, port) as link:
        view = rollout.survey(link)
    rows = {device: view.states.get(device, rollout.BoardState()) for device in sorted({*view.meta, *view.states})}
    if as_json:
        listed = {
            device: {
                "state": state.state,
                "sequence": state.sequence,
                "id": state.id,
                "reason": state.reason,
                "online": view.online.get(device, False),
            }
            for device, state in rows.items()
        }
        click.echo(json.dumps(listed, indent=2, sort_keys=True))
        return
    for device, state in rows.items():
        presence = "online" if view.online.get(device) else "away"
        click.echo(f"{device}: {presence}, {state.state}, sequence {state.sequence} {state.reason}".rstrip())
    if not rows:
        click.echo(f"no board has reported to {host}:{port} yet")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_FILE_BYTES_MAX)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from None


def _payload(path: Path) -> bytes:
    """The payload in a file: all of it, or a container's, unverified."""
    data = _read(path)
    if not data.startswith(iso_sign.MAGIC):
        return data
    if len(data) <= iso_sign.HEADER_BYTES + iso_sign.SIGNATURE_BYTES:
        raise ModelFileError(f"{path}: is cut short")
    return data[iso_sign.HEADER_BYTES : -iso_sign.SIGNATURE_BYTES]


def _parsed(path: Path, payload: bytes) -> iso_model.Model:
    try:
        parsed: iso_model.Model = iso_model.parse(payload)
    except ModelError as error:
        raise ModelFileError(f"{path}: {error}") from None
    return parsed


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
