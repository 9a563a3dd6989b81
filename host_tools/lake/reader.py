"""The lake as Python reads it: a table's files of one snapshot as an Arrow dataset, and the trainer's view of channels.

A reader takes the snapshot and opens what it names. When a merge removed a file meanwhile, opening fails, and the
reader starts anew from the newer snapshot: it sees each row once, whatever the writer does. `LakeReader` answers the
questions that `host_tools.history.from_store` asks of a receiver's store, so that a history can come from either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from host_tools.cloud.store_read import DeviceInfo, StoredReading
from host_tools.lake import tables
from host_tools.lake.errors import LakeError, NotThere
from host_tools.lake.snapshot import Snapshot, load_existing
from host_tools.lake.storage import Storage
from isocore.record import DELTA, FAULT, FAULT_CLEARED, KIND_NAMES, SAMPLE

TRIES_MAX = 5  # snapshots that may go stale under one question
_KINDS = [KIND_NAMES[kind] for kind in (SAMPLE, DELTA, FAULT, FAULT_CLEARED)]
_NUMBERS = {name: number for number, name in enumerate(KIND_NAMES)}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
Answer = TypeVar("Answer")


def at_rest(storage: Storage, ask: Callable[[Snapshot], Answer]) -> Answer:
    """What `ask` makes of a snapshot none of whose files vanished meanwhile. `ask` may be called several times."""
    snapshot = load_existing(storage)
    for _ in range(TRIES_MAX):
        try:
            return ask(snapshot)
        except (FileNotFoundError, NotThere) as error:
            newer = load_existing(storage)
            if newer.number == snapshot.number:
                raise LakeError(f"{storage.name}: a file of the lake is missing: {error}") from error
            snapshot = newer
    raise LakeError(f"{storage.name}: was changed {TRIES_MAX} times while it was read; try again")


def dataset(storage: Storage, snapshot: Snapshot, table: str) -> Any:
    """A table as an Arrow dataset, with the columns `day` and `gateway`; an empty table where it has no file."""
    if table == tables.DEVICES:
        data = storage.get(tables.DEVICES_PATH)
        return pq.read_table(pa.BufferReader(data))
    schema = tables.partitioned(table)
    paths = [storage.inside(file.path) for file in snapshot.of(table)]
    if not paths:
        return schema.empty_table()
    partitioning = ds.partitioning(tables.PARTITIONS, flavor="hive")
    return ds.dataset(
        paths, schema=schema, format="parquet", filesystem=storage.filesystem(), partitioning=partitioning
    )


class LakeReader:
    """A lake as the trainer reads it: the same questions as `CloudReader`'s, answered from Parquet."""

    def __init__(self, storage: Storage) -> None:
        """Raises LakeError where there is no lake."""
        self._storage = storage
        load_existing(storage)

    def devices(self) -> list[DeviceInfo]:
        """All devices by name, with their channels."""
        table = at_rest(self._storage, lambda snapshot: dataset(self._storage, snapshot, tables.DEVICES))
        found: dict[str, tuple[str | None, list[tuple[int, str, str | None]]]] = {}
        for row in table.to_pylist():
            _, channels = found.setdefault(row["device"], (row["class"], []))
            if row["channel"] is not None:
                channels.append((row["channel"], row["name"], row["unit"]))
        return [DeviceInfo(name, label, tuple(channels)) for name, (label, channels) in found.items()]

    def channel_history(self, device: str, channel: int) -> Iterator[StoredReading]:
        """A channel's reports, and where faults began and ended, in order of (boot, seq)."""
        wanted = (pc.field("device") == device) & (pc.field("channel") == channel) & pc.field("kind").isin(_KINDS)

        def ask(snapshot: Snapshot) -> Any:
            found = dataset(self._storage, snapshot, tables.READINGS)
            return (found.filter(wanted) if isinstance(found, pa.Table) else found.to_table(filter=wanted)).sort_by(
                [("boot", "ascending"), ("seq", "ascending")]
            )

        for batch in at_rest(self._storage, ask).to_batches():
            yield from map(_stored, batch.to_pylist())


def _stored(row: dict[str, Any]) -> StoredReading:
    return StoredReading(
        boot=row["boot"],
        seq=row["seq"],
        kind=_NUMBERS[row["kind"]],
        channel=row["channel"],
        value=row["value_milli"],
        trend=row["trend"],
        uptime_ms=row["uptime_ms"],
        unix_ms=None if row["time"] is None else (row["time"] - _EPOCH) // _MS,
        trusted=row["trusted"],
        recv_unix_ms=(row["received"] - _EPOCH) // _MS,
        verdict=row["verdict"],
    )
