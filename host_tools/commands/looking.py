"""`isotherm model diff` and `plot`: what a new model changes, in words and in a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from host_tools.commands import model_files
from host_tools.errors import InputError

if TYPE_CHECKING:
    from host_tools.history import History, Reader
    from isocore.model import Model

_FILE = click.Path(path_type=Path, dir_okay=False)


def history_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The history to replay."""
    for option in (
        click.option("--period-s", type=click.FloatRange(1, 86400), help="The boards' sampling period, if not known."),
        click.option("--trace", "trace_paths", multiple=True, type=click.Path(path_type=Path), help="A trace file."),
        click.option("--store", type=click.Path(path_type=Path, file_okay=False), help="The receiver's data folder."),
    ):
        function = option(function)
    return function


def histories(
    store: Path | None, trace_paths: tuple[Path, ...], period_s: float | None, lake: str | None = None
) -> list[History]:
    """What a store, traces or a lake hold. Raises InputError unless one of them is given."""
    from host_tools.cloud.store_read import CloudReader
    from host_tools.history import from_traces
    from host_tools.traces import load_traces

    if (store is not None) + bool(trace_paths) + (lake is not None) != 1:
        raise InputError(
            "give either --store or --trace" if lake is None else "give one of --store, --trace and --lake"
        )
    if lake is not None:
        from host_tools.commands.lake import reader_of

        return _stored(reader_of(lake), period_s)
    if store is None:
        return from_traces(load_traces(trace_paths, lambda text: click.echo(text, err=True)).values())
    with CloudReader(store) as reader:
        return _stored(reader, period_s)


def _stored(reader: Reader, period_s: float | None) -> list[History]:
    from host_tools.history import from_store

    names = [device.name for device in reader.devices()]
    return from_store(reader, None if period_s is None else dict.fromkeys(names, round(period_s * 1000)))


def _meant(found: list[History], model: Model) -> list[History]:
    """Those of the devices that the model is for; a trace knows no classes."""
    scope, _, name = model.target.partition(":")
    if scope == "device":
        return [one for one in found if one.device == name]
    if scope == "class":
        return [one for one in found if one.device_class in (None, name)]
    return found


@click.command()
@click.argument("old", type=_FILE)
@click.argument("new", type=_FILE)
@history_options
def diff(old: Path, new: Path, store: Path | None, trace_paths: tuple[Path, ...], period_s: float | None) -> None:
    """Say what a new model changes, channel by channel; with a history, what boards would make of it.

    \b
    Examples:
      isotherm model diff old.model new.model
      isotherm model diff old.model new.json --store cloud-data
    """
    from host_tools import comparing

    before, after = model_files.load(old), model_files.load(new)
    for line in comparing.differences(before, after) or ["nothing changes"]:
        click.echo(line)
    if store is not None or trace_paths:
        found = _meant(histories(store, trace_paths, period_s), after)
        for line in comparing.effect(comparing.compare(found, before, after)) or ["the history has none of its boards"]:
            click.echo(f"predicted: {line}")


@click.command()
@click.argument("new", type=_FILE, metavar="MODEL")
@click.option("--old", type=_FILE, help="The model that runs now, to compare with.")
@history_options
@click.option("--device", "devices", multiple=True, help="Only these boards: a name or a glob; may be repeated.")
@click.option("--out", required=True, type=_FILE, help="File to write: .png, or .html (all in one file).")
def plot(
    new: Path,
    old: Path | None,
    store: Path | None,
    trace_paths: tuple[Path, ...],
    period_s: float | None,
    devices: tuple[str, ...],
    out: Path,
) -> None:
    """Draw a history with the limits, what would be sent, and which alarms would have fired.

    \b
    Examples:
      isotherm model plot new.model --old old.model --store cloud-data --out fridge.html
      isotherm model plot new.json --trace traces/rooms.csv --device "room-*" --out rooms.png
    """
    from host_tools import comparing, picture, selecting

    if out.suffix not in (".png", ".html"):
        raise InputError(f"--out: {out} is neither .png nor .html")
    selecting.check(devices, "--device")
    after = model_files.load(new)
    before = None if old is None else model_files.load(old)
    found = [
        one
        for one in _meant(histories(store, trace_paths, period_s), after)
        if not devices or selecting.matches(devices, one.device, one.device_class)
    ]
    compared = comparing.compare(found, before, after)
    if not compared:
        raise InputError(f"{new}: the history holds no channel of it for {after.target}; are the names right?")
    if len(compared) > picture.PANELS_MAX:
        click.echo(
            f"the first {picture.PANELS_MAX} of {len(compared)} channels are drawn: choose with --device", err=True
        )
    title = f"{after.target}, sequence {after.sequence}" + (f" against {before.sequence}" if before else "")
    lines = comparing.effect(compared)
    changes = [] if before is None else comparing.differences(before, after)
    draw = picture.png if out.suffix == ".png" else picture.html
    model_files.write(out, draw(title, compared[: picture.PANELS_MAX], lines, changes))
    for line in lines:
        click.echo(f"predicted: {line}")
    click.echo(f"{out}: {min(len(compared), picture.PANELS_MAX)} channels drawn")
