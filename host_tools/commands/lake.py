"""`isotherm cloud lake` and `isotherm cloud query`: write the lake, look after it, ask it.

Knows no Parquet: everything below the options is `host_tools.lake`, imported when a command runs, since the packages it
needs are an extra of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from host_tools.errors import HostError

if TYPE_CHECKING:
    from host_tools.cloud.lake_beside import LakeWriter
    from host_tools.lake.reader import LakeReader
    from host_tools.lake.storage import Storage

_UNITS_S = {"s": 1, "min": 60, "h": 3600, "day": 86400}


def seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """A length of time with its unit, as seconds. Raises click's usage error for what is none, or nothing."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,6})? ?(s|min|h|day)s?", value)
    found = int(match[1] or 1) * _UNITS_S[match[2]] if match else 0
    if not found:
        raise click.BadParameter(f"{value!r} is no length of time such as 30s, 15min, 1h or 1day")
    return float(found)


EXTRA = ("pyarrow", "duckdb", "fsspec")
_LAKE = click.option("--lake", "where", required=True, help="Folder of the lake, or a URL that fsspec knows.")
_DATA = click.Path(path_type=Path, file_okay=False)


class ExtraMissing(HostError):
    """The packages of the extra `cloud` are not installed."""


def check_time(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """The text of a length of time, as it was given."""
    seconds(ctx, param, value)
    return value


def writer_beside(data: Path, where: str, every: str) -> LakeWriter:
    """What `serve --lake` runs. Raises ExtraMissing before anything is served."""
    from host_tools.cloud.lake_beside import LakeWriter, packages_missing

    missing = packages_missing()
    if missing is not None:
        raise _missing(missing)
    return LakeWriter(data, where, every, lambda text: click.echo(text, err=True))


@contextmanager
def _extra() -> Iterator[None]:
    """Say which extra brings a missing package."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in EXTRA:
            raise
        raise _missing(error.name) from error


def _missing(package: str) -> ExtraMissing:
    how = "make setup EXTRA=cloud, or pip install 'isotherm[host,cloud]'"
    return ExtraMissing(f"the lake needs the Python package {package!r}: {how}")


def reader_of(where: str) -> LakeReader:
    """A lake as the trainer reads it. Raises LakeError where there is none, ExtraMissing."""
    with _extra():
        from host_tools.lake.reader import LakeReader

        return LakeReader(_storage(where))


def _storage(where: str) -> Storage:
    from host_tools.lake.storage import open_storage

    return open_storage(where)


@click.group()
def lake() -> None:
    """Write what a receiver stored as Parquet files, and look after them.

    \b
    Examples:
      isotherm cloud lake write --data cloud-data --lake lake --every 15min
      isotherm cloud lake status --lake lake
      isotherm cloud query --lake lake "SELECT device, count(*) FROM readings GROUP BY device"
    """


@lake.command()
@_LAKE
@click.option("--data", required=True, type=_DATA, help="Folder of the receiver's store, which may be running.")
@click.option("--every", callback=seconds, help="Go on, a round each so long, until stopped: 30s, 15min, 1h, 1day.")
@click.option(
    "--keep-raw-days",
    type=click.IntRange(3, 36500),
    help="Drop readings and 1 min windows of days older than this, once their windows are made; default: never.",
)
@click.option(
    "--keep-window-months",
    type=click.IntRange(1, 1200),
    help="Drop 15 min windows older than this; 1 h windows and alarms stay for ever; default: never.",
)
@click.option("--beside", type=click.IntRange(1), help="With --every: end when the process with this number is gone.")
def write(
    where: str,
    data: Path,
    every: float | None,
    keep_raw_days: int | None,
    keep_window_months: int | None,
    beside: int | None,
) -> None:
    """Bring what the store has and the lake lacks into the lake, each row once; then fold, drop and merge.

    \b
    Examples:
      isotherm cloud lake write --data cloud-data --lake lake
      isotherm cloud lake write --data cloud-data --lake lake --every 15min --keep-raw-days 90
    """
    with _extra():
        from host_tools.lake.rounds import one_round, rounds
        from host_tools.lake.upkeep import Policy

        storage = _storage(where)
        policy = Policy(keep_raw_days, keep_window_months)
        if every is None:
            click.echo(one_round(data, storage, policy))
        else:
            rounds(data, storage, policy, every, beside, click.echo, lambda text: click.echo(text, err=True))


@lake.command()
@_LAKE
@click.option("--data", type=_DATA, help="Folder of the receiver's store: also say how far the lake is behind it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(where: str, data: Path | None, as_json: bool) -> None:
    """Say what a lake holds, and up to where.

    \b
    Example:
      isotherm cloud lake status --lake lake --data cloud-data
    """
    with _extra():
        from host_tools.cloud.store_log import StoreLog
        from host_tools.lake.report import describe

        storage = _storage(where)
        told = describe(storage)
        if data is not None:
            with StoreLog(data) as log, log.at_rest():
                told["batches_behind"], told["rows_behind"] = log.behind(told["position"])
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    for name, table in told["tables"].items():
        click.echo(f"{name}: {table['rows']} rows in {table['files']} files, {table['bytes']} bytes{_days(table)}")
    behind = "" if data is None else f", {told['batches_behind']} batches with {told['rows_behind']} rows behind it"
    click.echo(f"up to batch {told['position']} of the store{behind}")


@lake.command()
@_LAKE
@click.argument("table", type=click.Choice(["readings", "windows", "alarms", "devices"]), default="readings")
def files(where: str, table: str) -> None:
    """Print the files that are a table now, one a line: what another engine should be given.

    \b
    Example:
      isotherm cloud lake files --lake lake windows
    """
    with _extra():
        from host_tools.lake.report import places

        for place in places(_storage(where), table):
            click.echo(place)


@click.command()
@_LAKE
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="How to print the answer; json: one object a row, in a list.",
)
@click.argument("sql")
def query(where: str, form: str, sql: str) -> None:
    """Answer one SQL question from the lake: tables readings, windows, alarms, devices. DuckDB's dialect, read-only.

    \b
    Example:
      isotherm cloud query --lake lake "SELECT device, avg(value) FROM readings WHERE unit = 'degC' GROUP BY device"
    """
    with _extra():
        from host_tools.lake.printing import FORMS
        from host_tools.lake.query import ask

        answer = ask(_storage(where), sql)
    for line in FORMS[form](answer):
        click.echo(line)


def _days(table: dict[str, object]) -> str:
    return f", {table['first_day']} to {table['last_day']}" if table["first_day"] else ""
