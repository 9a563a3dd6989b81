"""`isotherm model`: train, sign, verify, show, push and status of threshold models."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from host_tools.commands import model_files
from host_tools.commands.brokers import broker_options, link_to
from host_tools.commands.keys import PASSPHRASE_FILE, passphrase_for
from host_tools.commands.looking import diff, histories, plot
from host_tools.commands.push import push, rollback
from host_tools.commands.scoring import score
from host_tools.errors import InputError, ModelFileError
from isocore import model as iso_model
from isocore import sign as iso_sign
from isocore.errors import SignatureError

if TYPE_CHECKING:
    from host_tools.history import History
    from host_tools.train import Goal, TrainedModel
    from isocore.model import Model

_FILE = click.Path(path_type=Path, dir_okay=False)
_PATH = click.Path(path_type=Path)


@click.group()
def model() -> None:
    """Train, sign, check and push threshold models.

    \b
    Examples:
      isotherm model train --store cloud-data --fleet home --target class:fridge --sequence 1 --out fridge.json
      isotherm model sign fridge.json --key keys --out fridge.model
      isotherm model push fridge.model --broker pi.local --identity operator-keys
    """


model.add_command(push)
model.add_command(rollback)
model.add_command(diff)
model.add_command(plot)
model.add_command(score)


@model.command()
@click.option(
    "--store", type=click.Path(path_type=Path, file_okay=False), help="The receiver's data folder to learn from."
)
@click.option("--trace", "trace_paths", multiple=True, type=_PATH, help="A trace to learn from; may be repeated.")
@click.option("--lake", help="A lake to learn from, as `isotherm cloud lake` names it.")
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
@click.option(
    "--silence-s",
    type=click.IntRange(0, 345_600),
    help="Tell a silent board from a quiet room in this time, by heartbeats (default 7500 or more); 0: none.",
)
@click.option(
    "--debounce-s",
    type=click.IntRange(1, 86_400),
    help="Limit alarms begin after so long past a limit; fitted if not given.",
)
@click.option("--current", type=_FILE, help="The model that runs now (payload or container), to compare with.")
@click.option("--every", type=click.Choice(["hour", "day", "week"]), help="Train again and again; --out is a folder.")
@click.option("--rounds", type=click.IntRange(1), help="With --every: stop after so many; default never.")
@click.option("--out", required=True, type=_PATH, help="File to write; a folder when there are several targets.")
def train(
    store: Path | None,
    trace_paths: tuple[Path, ...],
    lake: str | None,
    fleet: str,
    targets: tuple[str, ...],
    sequence: int,
    error_c: float | None,
    error_pct: float | None,
    budget: float | None,
    period_s: float | None,
    delay_s: int | None,
    silence_s: int | None,
    debounce_s: int | None,
    current: Path | None,
    every: str | None,
    rounds: int | None,
    out: Path,
) -> None:
    """Fit models to what was collected, and predict what boards will make of them.

    \b
    Examples:
      isotherm model train --store cloud-data --fleet home --target class:fridge --sequence 2 --out fridge.json
      isotherm model train --trace traces --fleet home --target "*" --budget 10 --sequence 1 --out all.json
      isotherm model train --store cloud-data --fleet home --target "*" --sequence 1 --every day --out proposals
    """
    from host_tools import training_report
    from host_tools.fitting import debounced
    from host_tools.heartbeat import Silence
    from host_tools.proposals import file_name
    from host_tools.train import train_one

    running = None if current is None else model_files.load(current)
    goals = _goals(error_c, error_pct, budget)
    rules, silence = debounced(debounce_s), Silence(silence_s)

    def fit(target: str, number: int, before: Model | None, found: list[History]) -> TrainedModel:
        return train_one(found, fleet, target, number, goals, before, rules, delay_s, silence)

    if every is not None:

        def fit_anew(target: str, number: int, before: Model | None) -> TrainedModel:
            return fit(target, number, before, histories(store, trace_paths, period_s, lake))

        _train_again(out, targets, sequence, running, fit_anew, every, rounds)
        return
    if rounds is not None:
        raise InputError("--rounds goes with --every")
    found = histories(store, trace_paths, period_s, lake)
    for result in [fit(target, sequence, running, found) for target in targets]:
        path = out if len(targets) == 1 and not out.is_dir() else out / f"{file_name(result.model.target)}.json"
        model_files.write(path, result.payload + b"\n")
        click.echo(f"{path}: {result.model.target}, sequence {sequence}")
        for line in training_report.lines(result):
            click.echo(line)


def _train_again(
    out: Path,
    targets: tuple[str, ...],
    sequence: int,
    running: Model | None,
    fit: Callable[[str, int, Model | None], TrainedModel],
    every: str,
    rounds: int | None,
) -> None:
    """Propose now and each time `every` has passed, until stopped."""
    from host_tools import training_report
    from host_tools.proposals import EVERY_S, Proposals, propose

    if out.exists() and not out.is_dir():
        raise InputError(f"--out: {out} is a file; with --every it is the folder of proposals")
    done = 0
    while True:
        propose(Proposals(out), targets, sequence, running, fit, training_report.lines, click.echo)
        done += 1
        if done == rounds:
            return
        time.sleep(EVERY_S[every])


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


@model.command()
@click.argument("payload", type=_FILE)
@click.option(
    "--key", required=True, type=_PATH, help="The private key: a file, or the folder of `isotherm keys init`."
)
@click.option("--out", required=True, type=_FILE, help="Container to write.")
@click.option(
    "--passphrase-file", envvar=PASSPHRASE_FILE, type=_FILE, help="File whose first line is the key's passphrase."
)
def sign(payload: Path, key: Path, out: Path, passphrase_file: Path | None) -> None:
    """Check a payload and wrap it, signed, in a container.

    \b
    Example:
      isotherm model sign fridge.json --key keys --out fridge.model
    """
    from host_tools.keys import signing

    checked = model_files.parsed(payload, model_files.read(payload))
    passphrase = passphrase_for(key if key.is_dir() else key.parent, passphrase_file)
    container = signing.load_private(key, passphrase).sign(iso_model.to_payload(checked))
    model_files.write(out, container)
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
        payload = iso_sign.open_container(model_files.read(container), iso_sign.KIND_MODEL, [signing.load_public(key)])
    except SignatureError as error:
        raise ModelFileError(f"{container}: {error}") from None
    checked = model_files.parsed(container, payload)
    click.echo(f"{container}: good signature; {checked.target}, sequence {checked.sequence}")


@model.command()
@click.argument("file", type=_FILE)
def show(file: Path) -> None:
    """Print a payload or a container's payload. The signature is not checked; `verify` does that.

    \b
    Example:
      isotherm model show fridge.model
    """
    checked = model_files.load(file)
    click.echo(json.dumps(json.loads(iso_model.to_payload(checked)), indent=2, sort_keys=True))


@model.command()
@broker_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(broker: str, identity: Path | None, as_json: bool) -> None:
    """List what each board says of its model.

    \b
    Example:
      isotherm model status --broker pi.local --identity operator-keys
    """
    from host_tools import rollout

    with link_to(broker, identity) as link:
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
        click.echo(f"no board has reported to {broker} yet")
