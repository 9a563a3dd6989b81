"""`isotherm model push` and `rollback`: a signed model to its boards, carefully, and the former one back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from host_tools.commands.brokers import broker_options, link_to
from host_tools.commands.keys import PASSPHRASE_FILE, open_fleet
from host_tools.errors import BrokerError, HostError, InputError, ModelFileError
from host_tools.staging import AWAY, COMMITTED, RANGES, Policy, Staging, amount

if TYPE_CHECKING:
    from host_tools.model_library import Library
    from host_tools.rollout import FleetView, Link

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_DEFAULT = Policy()
_WIDTH = {"*": 0, "class": 1, "device": 2}


class _Amount(click.ParamType):  # type: ignore[type-arg]
    """A number of boards, or a share of them."""

    name = "N|P%"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return amount(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)


_KNOBS: tuple[tuple[str, Any, str], ...] = (
    ("canary", _Amount(), "Boards of the first wave: a number, or a share of all."),
    ("wave", _Amount(), "Boards of each wave after it."),
    ("timeout_s", float, "A board that has not decided after so long is silent."),
    ("soak_s", float, "Wait so long after each wave before the next, and watch."),
    ("failures_max", int, "Halt when more boards revert or refuse."),
    ("silent_max", int, "Halt when more boards stay silent."),
    ("alarms_max", int, "Halt when one board raises more alarms under the new model."),
)


def rollout_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The knobs of a careful rollout, which boards, and the place where it is kept."""
    for name, kind, text in reversed(_KNOBS):
        if name in RANGES:
            lowest, highest = RANGES[name]
            whole = kind is int
            kind = click.IntRange(int(lowest), int(highest)) if whole else click.FloatRange(lowest, highest)
        default = getattr(_DEFAULT, name)
        function = click.option(
            f"--{name.replace('_', '-')}", name, type=kind, default=default, show_default=str(default), help=text
        )(function)
    function = click.option("--json", "as_json", is_flag=True, help="At the end, print where each board stands.")(
        function
    )
    function = click.option(
        "--state",
        "folder",
        type=_FOLDER,
        help="Folder of the rollouts' journals and of all models pushed; default this user's.",
    )(function)
    return click.option(
        "--to",
        "selectors",
        multiple=True,
        help="Only these boards: a name, a glob or class:NAME; may be repeated. Default: all that are meant.",
    )(function)


@click.command()
@click.argument("containers", nargs=-1, type=_FILE, metavar="[CONTAINER]...")
@broker_options
@click.option("--resume", is_flag=True, help="Go on with the rollout that was interrupted; no container is given.")
@click.option("--anew", is_flag=True, help="Begin although an earlier rollout at this broker was interrupted.")
@rollout_options
def push(
    containers: tuple[Path, ...],
    broker: str,
    identity: Path | None,
    resume: bool,
    anew: bool,
    selectors: tuple[str, ...],
    folder: Path | None,
    as_json: bool,
    **knobs: Any,
) -> None:
    """Send signed models to their boards: a canary first, then wave by wave, halting at the first that goes wrong.

    Fails when it halts, and says for each board where it stands. Boards that are away get the model when they return.

    \b
    Examples:
      isotherm model push fridge.model --broker pi.local --identity operator-keys
      isotherm model push fridge.model --to "fridge-*" --canary 10% --broker pi.local --identity operator-keys
      isotherm model push --resume --broker pi.local --identity operator-keys
    """
    if resume == bool(containers):
        raise click.UsageError("give either containers, or --resume")
    place = _state(folder)
    link = link_to(broker, identity)
    if resume:
        _resume(link, broker, place, as_json)
        return
    _refuse_interrupted(place, broker, anew)
    with link:
        from host_tools import rollout

        view = rollout.survey(link)
        assignments = assign(containers, selectors, view, broker)
        _begin(link, broker, place, assignments, view, Policy(**knobs), as_json)


@click.command()
@broker_options
@click.option(
    "--dir", "keys", required=True, type=_FOLDER, help="Folder of the fleet's keys: the model is signed anew."
)
@click.option("--passphrase-file", envvar=PASSPHRASE_FILE, type=_FILE, help="File whose first line is the passphrase.")
@click.option("--target", help='Whose model: "*", class:NAME or device:NAME; needed when several were pushed to.')
@click.option("--model", "wanted", help="Id of the model to bring back; default the one before the present one.")
@rollout_options
def rollback(
    broker: str,
    identity: Path | None,
    keys: Path,
    passphrase_file: Path | None,
    target: str | None,
    wanted: str | None,
    selectors: tuple[str, ...],
    folder: Path | None,
    as_json: bool,
    **knobs: Any,
) -> None:
    """Bring the former model back: signed anew with a higher sequence, and pushed as carefully as any.

    \b
    Examples:
      isotherm model rollback --broker pi.local --identity operator-keys --dir keys
      isotherm model rollback --target class:fridge --broker pi.local --identity operator-keys --dir keys
    """
    from host_tools import rollout
    from host_tools.model_library import Library
    from isocore import model as iso_model

    place = _state(folder)
    fleet = open_fleet(keys, passphrase_file)
    library = Library(place / "models")
    chosen = _chosen_target(library, fleet.name, target)
    back = wanted or _former(library, fleet.name, chosen)
    model = library.model(back)
    if (model.fleet, model.target) != (fleet.name, chosen):
        raise InputError(
            f"--model: {back} is for {model.target} of fleet {model.fleet}, not for {chosen} of {fleet.name}"
        )
    if model.expires_unix_s and model.expires_unix_s <= time.time():
        raise HostError(f"model {back} has expired: boards would refuse it; train or sign one that has not")
    with link_to(broker, identity) as link:
        view = rollout.survey(link)
        known = max((state.sequence for state in view.states.values()), default=0)
        model.sequence = max(library.sequence_max(fleet.name), known, model.sequence) + 1
        container = fleet.model_key().sign(iso_model.to_payload(model))
        click.echo(f"{chosen}: model {back} again, as sequence {model.sequence}", err=as_json)
        assignments = _to(chosen, container, selectors, view, broker)
        _begin(link, broker, place, assignments, view, Policy(**knobs), as_json, restores=back)


def _chosen_target(library: Library, fleet: str, target: str | None) -> str:
    targets = library.targets(fleet)
    if not targets:
        raise HostError(
            f"{library.folder}: nothing was pushed to fleet {fleet} from here: there is nothing to bring back"
        )
    if target is None and len(targets) > 1:
        raise InputError(f"--target: choose one of {', '.join(targets)}")
    if target is not None and target not in targets:
        raise InputError(f"--target: nothing was pushed to {target!r} from here; known are {', '.join(targets)}")
    return target or targets[0]


def _former(library: Library, fleet: str, target: str) -> str:
    former = library.former(fleet, target)
    if former is None:
        raise HostError(f"{target}: only one model was pushed to it from here, there is none before it")
    return former.id


# ---- what both share


def _state(folder: Path | None) -> Path:
    from host_tools import places

    return folder or places.state_folder()


def _refuse_interrupted(place: Path, broker: str, anew: bool) -> None:
    from host_tools import journal

    found = journal.unfinished(place / "rollouts", broker)
    if found is None:
        return
    if not anew:
        raise InputError(
            f"a rollout at {broker} was interrupted: go on with `isotherm model push --resume`, "
            "or leave it where it stands with --anew"
        )
    from host_tools.staging import Event

    found.note(Event("halt", why="given up for another rollout"))


def _begin(
    link: Link,
    broker: str,
    place: Path,
    assignments: Mapping[str, bytes],
    view: FleetView,
    policy: Policy,
    as_json: bool,
    restores: str = "",
) -> None:
    from host_tools import journal, staging
    from host_tools.model_library import Library, Pushed, payload_of
    from isocore import model as iso_model

    library = Library(place / "models")
    now_unix_s = int(time.time())
    ids = {device: library.keep(container) for device, container in assignments.items()}
    here = {name: str(view.meta.get(name, {}).get("class", "")) for name in ids if view.online.get(name)}
    away = tuple(sorted(set(ids) - set(here)))
    plan = Staging(staging.waves(staging.mixed(here), policy), away, policy)
    book = journal.create(place / "rollouts", journal.Head(broker, now_unix_s, plan, ids))
    for container in dict.fromkeys(assignments.values()):
        model = iso_model.parse(payload_of(container))
        name = library.keep(container)
        library.note(Pushed(model.fleet, model.target, model.sequence, name, now_unix_s, restores))
    _run(link, book, assignments, as_json)


def _resume(link: Link, broker: str, place: Path, as_json: bool) -> None:
    from host_tools import journal
    from host_tools.model_library import Library

    book = journal.unfinished(place / "rollouts", broker)
    if book is None:
        raise InputError(f"--resume: no rollout at {broker} was interrupted")
    library = Library(place / "models")
    containers = {name: library.get(name) for name in set(book.head.ids.values())}
    with link:
        _run(link, book, {device: containers[name] for device, name in book.head.ids.items()}, as_json)


def _run(link: Link, book: Any, containers: Mapping[str, bytes], as_json: bool) -> None:
    from host_tools.staged import Rollout

    def say(text: str) -> None:
        click.echo(text, err=as_json)

    try:
        staging = Rollout(book, containers, say).run(link)
    except BrokerError as error:
        raise BrokerError(f"{error}; go on with `isotherm model push --resume`") from None
    _print_standing(staging, as_json)
    if staging.halted:
        raise HostError(f"halted: {staging.halted}; boards not sent to keep their former model")
    if any(state not in (COMMITTED, AWAY) for state, _ in staging.standing.values()):
        raise HostError(
            "done, but not every board runs the model: those that reverted or refused keep their former one"
        )


def _print_standing(staging: Staging, as_json: bool) -> None:
    standing = staging.standing
    if as_json:
        boards = {name: {"state": state, "reason": why} for name, (state, why) in sorted(standing.items())}
        click.echo(json.dumps({"halted": staging.halted, "boards": boards}, indent=2))
        return
    for name, (state, why) in sorted(standing.items()):
        click.echo(f"  {name:32} {state} {why}".rstrip())
    counts: dict[str, int] = {}
    for state, _ in standing.values():
        counts[state] = counts.get(state, 0) + 1
    click.echo(", ".join(f"{number} {state}" for state, number in sorted(counts.items())))


def assign(paths: Sequence[Path], selectors: Sequence[str], view: FleetView, broker: str) -> dict[str, bytes]:
    """Which device gets which container. A narrower target wins over a wider one. Raises HostError, InputError."""
    from host_tools.commands import model_files

    found = [(model_files.load(path), model_files.read(path)) for path in paths]
    for path, (_, data) in zip(paths, found, strict=True):
        if not model_files.is_container(data):
            raise ModelFileError(f"{path}: is not signed; run `isotherm model sign` first")
    assignments: dict[str, bytes] = {}
    for model, data in sorted(found, key=lambda item: _WIDTH[item[0].target.partition(":")[0]]):
        assignments.update(_meant(model.target, data, view))
    return _selected(assignments, selectors, view, broker)


def _to(target: str, container: bytes, selectors: Sequence[str], view: FleetView, broker: str) -> dict[str, bytes]:
    return _selected(_meant(target, container, view), selectors, view, broker)


def _meant(target: str, container: bytes, view: FleetView) -> dict[str, bytes]:
    return dict.fromkeys(view.matching(target), container)


def _selected(
    assignments: Mapping[str, bytes], selectors: Sequence[str], view: FleetView, broker: str
) -> dict[str, bytes]:
    from host_tools import selecting

    selecting.check(selectors, "--to")
    kinds = {device: str(view.meta.get(device, {}).get("class", "")) for device in assignments}
    if missing := selecting.unmatched(selectors, list(kinds.items())):
        raise InputError(f"--to: no given model is meant for {missing[0]!r}, or that board has never reported")
    chosen = {
        device: data
        for device, data in assignments.items()
        if not selectors or selecting.matches(selectors, device, kinds[device])
    }
    if not chosen:
        raise HostError(f"no board known at {broker} is meant by these models")
    return chosen
