"""A lake's Parquet files: how one is named and made of rows, and its rows again. Knows no log and no policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from host_tools.lake import tables
from host_tools.lake.snapshot import DataFile, Snapshot
from host_tools.lake.storage import Storage


def new_file(
    snapshot: Snapshot,
    table: str,
    part: tuple[str, str, int, Any],
    batches: tuple[int, int],
    origin: str = "log",
    mark: str = "",
) -> tuple[DataFile, bytes]:
    """A file of the commit after `snapshot`, and its content.

    part: of `tables.parts`; mark: tells files of one commit, partition and origin apart. No other commit uses its name.
    """
    day, gateway, length_s, rows = part
    data = tables.pack(table, rows)
    marks = [f"{length_s}s" if length_s else "", origin if origin != "log" else "", mark]
    name = "-".join([f"{batches[0]:010}-{batches[1]:010}", *filter(None, marks), str(snapshot.number + 1)])
    path = f"{table}/day={day}/gateway={gateway}/{name}.parquet"
    return DataFile(path, table, day, gateway, rows.num_rows, len(data), *batches, length_s, origin), data


def read(storage: Storage, table: str, files: Sequence[DataFile]) -> Any:
    """The rows of some files, with the columns `day` and `gateway`."""
    found = []
    for file in files:
        rows = pq.read_table(pa.BufferReader(storage.get(file.path)), partitioning=None)
        day = pa.array([file.day], pa.string()).cast(pa.date32())[0]
        rows = rows.append_column("day", pa.repeat(day, rows.num_rows))
        rows = rows.append_column("gateway", pa.repeat(pa.scalar(file.gateway), rows.num_rows))
        found.append(rows.cast(tables.partitioned(table)))
    return tables.concat(found) if found else tables.partitioned(table).empty_table()
