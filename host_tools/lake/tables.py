"""What stands in the lake's tables: columns, types, order, partitions, and how rows of the log become rows of these.

docs/lake.md says the same for people; a test holds the two together. Types are those that DuckDB, pandas, Polars and
Spark (3.3 or newer, for the delta encoding) all read as they are: signed integers of 16 to 64 bits, strings, booleans,
timestamps in microseconds UTC. Knows no files and no snapshot.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from host_tools.cloud import verdict
from host_tools.cloud.store_log import LogReading, LogWindow, Names
from host_tools.lake.snapshot import SCHEMA_VERSION
from isocore.record import (
    BOOT,
    FAULT,
    FAULT_CLEARED,
    HIGH_OFF,
    HIGH_ON,
    KIND_NAMES,
    LOST,
    LOW_OFF,
    LOW_ON,
    RATE_OFF,
    RATE_ON,
)

READINGS = "readings"
WINDOWS = "windows"
ALARMS = "alarms"
DEVICES = "devices"
TABLES = (READINGS, WINDOWS, ALARMS, DEVICES)
DEVICES_PATH = "devices/devices.parquet"
ALARM_KINDS = (HIGH_ON, HIGH_OFF, LOW_ON, LOW_OFF, RATE_ON, RATE_OFF, FAULT, FAULT_CLEARED, LOST, BOOT)
ROW_GROUP_ROWS = 100_000  # sorted by device, so that statistics of a group rule most of them out
ZSTD_LEVEL = 3
DAY_MS = 86_400_000
OLDEST_UNIX_MS = 1_577_836_800_000  # 2020-01-01: no board of this project is older
AHEAD_MS_MAX = DAY_MS  # a time further ahead of its receipt than this is no time to file it under
_TIME = pa.timestamp("us", tz="UTC")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# Columns whose least and greatest value each group of rows keeps: what questions narrow down by.
_ASKED_FOR = ("device", "channel", "boot", "seq", "time", "received", "length_s", "start", "batch")


def _schema(*columns: tuple[str, Any, bool]) -> Any:
    return pa.schema([pa.field(name, kind, nullable) for name, kind, nullable in columns])


_RECORDS = _schema(
    ("device", pa.string(), False),
    ("channel", pa.int16(), False),
    ("name", pa.string(), True),
    ("unit", pa.string(), True),
    ("boot", pa.int64(), False),
    ("seq", pa.int64(), False),
    ("time", _TIME, True),
    ("received", _TIME, False),
    ("kind", pa.string(), False),
    ("value_milli", pa.int32(), False),
    ("trend", pa.int32(), False),
    ("uptime_ms", pa.int64(), False),
    ("trusted", pa.bool_(), False),
    ("verdict", pa.string(), False),
    ("batch", pa.int64(), False),
)
_WINDOWS = _schema(
    ("device", pa.string(), False),
    ("channel", pa.int16(), False),
    ("name", pa.string(), True),
    ("unit", pa.string(), True),
    ("length_s", pa.int32(), False),
    ("start", _TIME, False),
    ("revision", pa.int64(), False),
    ("least_milli", pa.int32(), True),
    ("mean_milli", pa.int32(), True),
    ("greatest_milli", pa.int32(), True),
    ("last_milli", pa.int32(), True),
    ("reports", pa.int64(), False),
    ("covered_ms", pa.int64(), False),
    ("alarm_ms", pa.int64(), False),
    ("fault_ms", pa.int64(), False),
    ("batch", pa.int64(), False),
)
_DEVICES = _schema(
    ("device", pa.string(), False),
    ("class", pa.string(), True),
    ("channel", pa.int16(), True),
    ("name", pa.string(), True),
    ("unit", pa.string(), True),
)
SCHEMAS = {READINGS: _RECORDS, ALARMS: _RECORDS, WINDOWS: _WINDOWS, DEVICES: _DEVICES}
PARTITIONS = pa.schema([("day", pa.date32()), ("gateway", pa.string())])
ORDER = {
    READINGS: ("device", "channel", "boot", "seq"),
    ALARMS: ("device", "channel", "boot", "seq"),
    WINDOWS: ("device", "channel", "start", "revision"),
}
# Columns that rise, or nearly, in the files' order: differences are packed (Parquet's DELTA_BINARY_PACKED).
_RISING = ("seq", "time", "received", "uptime_ms", "start", "batch")


def partitioned(table: str) -> Any:
    """A table's schema with the two columns that stand in the folders' names."""
    return pa.schema([*SCHEMAS[table], *PARTITIONS])


def day_of(unix_ms: int | None, recv_unix_ms: int) -> int:
    """The partition, in days since 1970: the device's own day; the day of receipt where its time cannot be believed."""
    if unix_ms is None or not OLDEST_UNIX_MS <= unix_ms <= recv_unix_ms + AHEAD_MS_MAX:
        unix_ms = recv_unix_ms
    return unix_ms // DAY_MS


def records(rows: Sequence[LogReading], names: Names) -> Any:
    """Rows of the log as a table of `readings`, with the columns `day` and `gateway`."""
    columns = dict(zip(LogReading._fields, zip(*rows, strict=True), strict=True))
    times_ms = [None if row.epoch_unix_ms is None else row.epoch_unix_ms + row.uptime_ms for row in rows]
    days = [day_of(at_ms, received) for at_ms, received in zip(times_ms, columns["recv_unix_ms"], strict=True)]
    channels = list(zip(columns["device"], columns["channel"], strict=True))
    made = {
        "device": _named(columns["device"], {number: name for number, (name, _) in names.devices.items()}),
        "channel": columns["channel"],
        "name": _named(channels, {key: name for key, (name, _) in names.channels.items()}),
        "unit": _named(channels, {key: unit for key, (_, unit) in names.channels.items()}),
        "boot": columns["boot"],
        "seq": columns["seq"],
        "time": _micros(times_ms),
        "received": _micros(columns["recv_unix_ms"]),
        "kind": _named(columns["kind"], dict(enumerate(KIND_NAMES))),
        "value_milli": columns["value"],
        "trend": columns["trend"],
        "uptime_ms": columns["uptime_ms"],
        "trusted": [bool(flag) for flag in columns["trusted"]],
        "verdict": _named(columns["verdict"], verdict.NAMES),
        "batch": columns["batch"],
        "day": pa.array(days, pa.int32()).cast(pa.date32()),
        "gateway": _named(columns["gateway"], names.gateways),
    }
    return _table(READINGS, made)


def windows(rows: Sequence[LogWindow], names: Names) -> Any:
    """Windows of the log as a table of `windows`, with the columns `day` and `gateway`."""
    columns = dict(zip(LogWindow._fields, zip(*rows, strict=True), strict=True))
    channels = list(zip(columns["device"], columns["channel"], strict=True))
    made = {
        "device": _named(columns["device"], {number: name for number, (name, _) in names.devices.items()}),
        "channel": columns["channel"],
        "name": _named(channels, {key: name for key, (name, _) in names.channels.items()}),
        "unit": _named(channels, {key: unit for key, (_, unit) in names.channels.items()}),
        "length_s": columns["length_s"],
        "start": _micros([start_s * 1000 for start_s in columns["start_unix_s"]]),
        "revision": columns["revision"],
        "least_milli": columns["least"],
        "mean_milli": columns["mean"],
        "greatest_milli": columns["greatest"],
        "last_milli": columns["last"],
        "reports": columns["reports"],
        "covered_ms": columns["covered_ms"],
        "alarm_ms": columns["alarm_ms"],
        "fault_ms": columns["fault_ms"],
        "batch": columns["batch"],
        "day": pa.array([start_s // 86400 for start_s in columns["start_unix_s"]], pa.int32()).cast(pa.date32()),
        "gateway": _named(columns["gateway"], names.gateways),
    }
    return _table(WINDOWS, made)


def devices(names: Names) -> Any:
    """All devices, one row a channel; a device without known channels has one row."""
    told: dict[int, list[tuple[Any, ...]]] = {}
    for (device, channel), named in sorted(names.channels.items()):
        told.setdefault(device, []).append((channel, *named))
    rows: list[tuple[Any, ...]] = []
    for number, (name, label) in sorted(names.devices.items(), key=lambda item: item[1][0]):
        rows += [(name, label, *row) for row in told.get(number, [(None, None, None)])]
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(_DEVICES)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _DEVICES, strict=True)]
    return pa.Table.from_arrays(arrays, schema=_DEVICES)


def alarms_of(table: Any) -> Any:
    """Those rows of `readings` that are alarms, faults, losses or boots."""
    return table.filter(pc.is_in(table["kind"], pa.array([KIND_NAMES[kind] for kind in ALARM_KINDS])))


def parts(name: str, table: Any) -> Iterator[tuple[str, str, int, Any]]:
    """(day, gateway, length_s, rows in the files' order without the partition's columns) of each file to write."""
    keys = ["day", "gateway", *(["length_s"] if name == WINDOWS else [])]
    table = table.sort_by([(key, "ascending") for key in [*keys, *ORDER[name]]])
    counts = table.group_by(keys, use_threads=False).aggregate([([], "count_all")]).to_pylist()
    start = 0
    for group in counts:
        rows = table.slice(start, group["count_all"]).select(SCHEMAS[name].names)
        start += group["count_all"]
        yield group["day"].isoformat(), group["gateway"], group.get("length_s", 0), rows


def latest(rows: Any) -> Any:
    """Of rows of `windows` the highest revision of each window."""
    keys = ["device", "channel", "length_s", "start"]
    rows = rows.sort_by([*((key, "ascending") for key in keys), ("revision", "ascending")])
    last = rows.append_column("place", pa.array(range(rows.num_rows), pa.int64()))
    places = last.group_by(keys, use_threads=False).aggregate([("place", "max")])["place_max"]
    return rows.take(places)


def at(unix_ms: int) -> datetime:
    """A time of the tables."""
    return _EPOCH + timedelta(milliseconds=unix_ms)


def unix_ms(day: str) -> int:
    """When a day began."""
    return (date.fromisoformat(day) - _EPOCH.date()).days * DAY_MS


def pack(name: str, table: Any) -> bytes:
    """A table as a Parquet file: zstd, rising columns as differences, names and kinds by dictionary."""
    schema = SCHEMAS[name]
    packed = {column: "DELTA_BINARY_PACKED" for column in _RISING if column in schema.names}
    buffer = io.BytesIO()
    with pq.ParquetWriter(
        buffer,
        schema,
        compression="zstd",
        compression_level=ZSTD_LEVEL,
        use_dictionary=[column for column in schema.names if column not in packed],
        column_encoding=packed,
        write_statistics=[column for column in _ASKED_FOR if column in schema.names],
        store_schema=False,  # Parquet's own types say it all; Arrow's copy of them is 1.3 kB in each file
    ) as file:
        file.write_table(table.cast(schema), row_group_size=ROW_GROUP_ROWS)
        file.add_key_value_metadata({"isotherm.schema_version": str(SCHEMA_VERSION)})
    return buffer.getvalue()


def concat(tables: Iterable[Any]) -> Any:
    """One below the other."""
    return pa.concat_tables(list(tables))


def _table(name: str, made: dict[str, Any]) -> Any:
    schema = partitioned(name)
    arrays = [made[field.name] for field in schema]
    plain = [
        array.cast(field.type) if isinstance(array, pa.Array) else pa.array(array, field.type)
        for array, field in zip(arrays, schema, strict=True)
    ]
    return pa.Table.from_arrays(plain, schema=schema)


def _named(keys: Iterable[Any], names: Mapping[Any, str | None]) -> Any:
    """Strings for keys, built from few distinct ones; null where there is no name."""
    distinct: dict[str, int] = {}
    place: dict[Any, int | None] = {}
    for key, name in names.items():
        place[key] = None if name is None else distinct.setdefault(name, len(distinct))
    indices = pa.array([place.get(key) for key in keys], pa.int32())
    return pa.DictionaryArray.from_arrays(indices, pa.array(list(distinct), pa.string())).cast(pa.string())


def _micros(times_ms: Iterable[int | None]) -> Any:
    return pa.array([None if ms is None else ms * 1000 for ms in times_ms], pa.int64()).cast(_TIME)
