"""`isotherm traces`: convert recordings, and look at a trace."""

from __future__ import annotations

from pathlib import Path

import click

from host_tools.convert import convert as convert_sets
from host_tools.traces import load_traces

_SOURCES = click.Path(path_type=Path)


@click.group()
def traces() -> None:
    """Convert temperature recordings into traces that boards replay, and check traces.

    \b
    Examples:
      isotherm traces convert recordings --out traces
      isotherm traces show traces/nab.csv
    """


@traces.command()
@click.argument("sources", metavar="SRC...", nargs=-1, required=True, type=_SOURCES)
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to write to.")
def convert(sources: tuple[Path, ...], out: Path) -> None:
    """Convert raw recordings (files, or folders that hold them) to OUT/<set>.csv.

    Known by their headers: files of the Numenta Anomaly Benchmark (timestamp,value; °F becomes °C, labels from
    windows.json beside them), Suthaharan's motes (reading,mote_id,...) and UCI Occupancy Detection
    (date,Temperature,...). Rows whose time does not rise are dropped, and counted.

    \b
    Example:
      isotherm traces convert recordings/nab recordings/occupancy --out traces
    """
    for result in convert_sets(sources, out):
        for line in result.lines():
            click.echo(line)


@traces.command()
@click.argument("paths", metavar="TRACE...", nargs=-1, required=True, type=_SOURCES)
def show(paths: tuple[Path, ...]) -> None:
    """Check traces (files or folders) and list their boards.

    \b
    Example:
      isotherm traces show traces
    """
    for trace in load_traces(paths, lambda text: click.echo(text, err=True)).values():
        low, high = min(trace.temp_milli) / 1000, max(trace.temp_milli) / 1000
        sensors = trace.sensing.temperature + (" with humidity" if trace.sensing.humidity else "")
        click.echo(
            f"{trace.board}: {len(trace)} rows over {trace.duration_ms / 3600000:.1f} h, "
            f"{low:.1f} to {high:.1f} °C, {sensors}, {sum(trace.labels)} labelled"
        )
