"""Segment files: building one from rows, opening one to read, telling a good one from a bad one.

A segment is written under a temporary name, synced, renamed, and the folder synced; only then may the main file name
it. After that nothing writes to it. This file knows the format and no policy, and never touches the main file's tables.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from gateway.errors import StoreUnusable
from gateway.messages import EVENT_FIRST, EVENT_LAST, LOST
from gateway.store import db, tags
from gateway.store.disk import Disk

_SCHEMA = Path(__file__).parent.parent / "schema" / "segment.sql"
_TMP = ".tmp"
_SUSPECT = ".suspect"
_DAMAGED = ".damaged-"
# After the rows: an index built at once is smaller and several times cheaper than one kept while inserting.
_INDEXES = (
    "CREATE UNIQUE INDEX readings_identity ON readings (device, boot, seq)",
    f"CREATE INDEX readings_events ON readings (id) WHERE kind BETWEEN {EVENT_FIRST} AND {EVENT_LAST}",
)
# Rows of one device and boot whose seqs have no gap.
_RANGES = (
    "INSERT INTO ranges SELECT device, boot, min(seq), max(seq) FROM (SELECT device, boot, seq,"
    " seq - row_number() OVER (PARTITION BY device, boot ORDER BY seq) AS run FROM readings) GROUP BY device, boot, run"
)
# Reports, events, windows, notices: the ledger's four classes, to follow a SELECT and precede a FROM.
CLASS_COUNTS = (
    f"sum(kind < {EVENT_FIRST}), sum(kind BETWEEN {EVENT_FIRST} AND {EVENT_LAST} AND kind != {LOST}),"
    f" sum(kind > {EVENT_LAST}), sum(kind = {LOST})"
)

DeviceCounts = tuple[int, int, int, int, int]  # device, reports, events, windows, notices


class Segment(NamedTuple):
    """What the main file keeps of a segment."""

    segment: int
    file: str
    first_row: int
    last_row: int
    rows: int
    events: int
    bytes: int
    digest: str
    lived_s: int
    stage: int


class Built(NamedTuple):
    """A segment that is durable and that no catalogue names yet."""

    segment: Segment
    counts: list[DeviceCounts]
    ranges: list[tuple[int, int, int, int]]  # device, boot, first seq, last seq


class Names:
    """File names of one store's segments: `isotherm.db.seg-000012-0`, number and edition."""

    def __init__(self, main: str) -> None:
        self.main = main
        self.prefix = f"{main}.seg-"

    def of(self, number: int, edition: int = 0) -> str:
        return f"{self.prefix}{number:06d}-{edition}"

    def next_edition(self, file: str) -> str:
        head, _, edition = file.rpartition("-")
        return f"{head}-{int(edition) + 1}"

    def sound(self, disk: Disk) -> list[str]:
        """Segments in the folder: neither half made, nor marks, nor set aside."""
        return [n for n in disk.names(self.prefix) if n[len(self.prefix) :].replace("-", "", 1).isdigit()]

    def half_made(self, disk: Disk) -> list[str]:
        return [n for n in disk.names(self.prefix) if _TMP in n]

    def suspects(self, disk: Disk) -> list[str]:
        """Segments that a reader has marked."""
        return [n.removesuffix(_SUSPECT) for n in disk.names(self.prefix) if n.endswith(_SUSPECT)]


def seal(disk: Disk, names: Names, store: str, number: int, rows: tuple[int, int], lived_s: int) -> Built:
    """Copy the main file's rows first..last into a new segment. Raises StoreUnusable, StoreBusy, OSError."""
    first_row, last_row = rows

    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO readings SELECT * FROM source.readings WHERE id BETWEEN ? AND ?", rows)
        connection.execute(_RANGES)
        connection.execute("INSERT INTO tags SELECT * FROM source.tags WHERE last_row >= ? AND first_row <= ?", rows)

    segment = Segment(number, names.of(number), first_row, last_row, 0, 0, 0, "", lived_s, 0)
    return _build(disk, segment, store, disk.path(names.main), fill)


def rewrite(
    disk: Disk, names: Names, store: str, old: Segment, stage: int, edit: Callable[[sqlite3.Connection], None]
) -> Built:
    """A new edition of a segment: `edit` changes its rows, `source` is the old one. Raises StoreUnusable, OSError."""

    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO ranges SELECT * FROM source.ranges")
        connection.execute("INSERT INTO readings SELECT * FROM source.readings")
        edit(connection)
        tags.carry_over(connection)

    segment = old._replace(file=names.next_edition(old.file), stage=stage)
    return _build(disk, segment, store, disk.path(old.file), fill)


def _build(disk: Disk, segment: Segment, store: str, source: Path, fill: Callable[[sqlite3.Connection], None]) -> Built:
    tmp = segment.file + _TMP
    for name in (tmp, segment.file):  # a former attempt's: nothing names it, or this would be another edition
        disk.remove(name)
    try:
        connection = db.connect(disk.path(tmp), "rwc")
        try:
            built = _fill(connection, segment, store, source, fill)
        finally:
            connection.close()
    except sqlite3.Error as exc:
        disk.remove(tmp)
        raise db.translate(exc) or StoreUnusable(f"cannot write {segment.file}: {exc}") from exc
    except OSError:
        disk.remove(tmp)
        raise
    disk.sync(tmp)
    disk.rename(tmp, segment.file)
    disk.sync_folder()
    whole = built.segment._replace(bytes=disk.size(segment.file), digest=disk.digest(segment.file))
    return built._replace(segment=whole)


def _fill(
    connection: sqlite3.Connection,
    segment: Segment,
    store: str,
    source: Path,
    fill: Callable[[sqlite3.Connection], None],
) -> Built:
    connection.execute("PRAGMA journal_mode = OFF")  # nobody sees the file before it is whole and synced
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("ATTACH ? AS source", (db.uri(source, "ro"),))
    connection.executescript(_SCHEMA.read_text(encoding="utf-8"))
    connection.execute("BEGIN")
    fill(connection)
    for statement in _INDEXES:
        connection.execute(statement)
    connection.execute("INSERT INTO devices SELECT d.device, d.name, d.class, d.meta FROM source.devices d"
                       " WHERE device IN (SELECT device FROM ranges)")  # fmt: skip
    connection.execute(
        "INSERT INTO segment VALUES (?,?,?,?,?,?)",
        (store, segment.segment, segment.first_row, segment.last_row, segment.lived_s, segment.stage),
    )
    connection.execute("COMMIT")
    connection.execute("DETACH source")
    if segment.stage:
        connection.execute("VACUUM")
    return _described(connection, segment)


def _described(connection: sqlite3.Connection, segment: Segment) -> Built:
    counts = [
        tuple(row)
        for row in connection.execute(f"SELECT device, {CLASS_COUNTS} FROM readings GROUP BY device ORDER BY device")
    ]
    ranges = [tuple(row) for row in connection.execute("SELECT device, boot, first_seq, last_seq FROM ranges")]
    rows = sum(sum(entry[1:]) for entry in counts)
    events = sum(entry[2] + entry[4] for entry in counts)
    return Built(segment._replace(rows=rows, events=events), counts, ranges)


@contextmanager
def opened(disk: Disk, file: str) -> Iterator[sqlite3.Connection]:
    """A segment to read. Leaves a mark for the keeper and raises StoreUnusable when it cannot be read."""
    try:
        # Nothing ever changes it: no lock and no journal are needed, and none is made beside it.
        connection = db.connect(disk.path(file), "ro", immutable=True)
        try:
            yield connection
        finally:
            connection.close()
    except sqlite3.Error as exc:
        suspect(disk, file)
        raise StoreUnusable(f"cannot read the segment {file}: {exc}") from exc


def suspect(disk: Disk, file: str) -> None:
    """Leave a mark for the keeper. Where none can be made, its round finds the segment later."""
    with suppress(OSError):
        disk.touch(file + _SUSPECT)


def described(disk: Disk, names: Names, file: str) -> tuple[str, Built]:
    """What a segment file says of itself, and the id of the store that wrote it. Raises StoreUnusable."""
    with opened(disk, file) as connection:
        store, number, first_row, last_row, lived_s, stage = connection.execute("SELECT * FROM segment").fetchone()
        size = disk.size(file)
        segment = Segment(number, file, first_row, last_row, 0, 0, size, disk.digest(file), lived_s, stage)
        return store, _described(connection, segment)


def is_whole(disk: Disk, segment: Segment) -> bool:
    """Bit for bit what was written. Raises OSError other than for a missing file."""
    try:
        return disk.digest(segment.file) == segment.digest
    except FileNotFoundError:
        return False


def clear_mark(disk: Disk, file: str) -> None:
    """The keeper has looked at it."""
    disk.remove(file + _SUSPECT)


def set_aside(disk: Disk, file: str, stamp_s: int) -> str:
    """Rename a damaged segment, keeping every byte for a later look. Returns its new name."""
    target = f"{file}{_DAMAGED}{stamp_s}"
    if disk.exists(file):
        disk.rename(file, target)
        disk.sync_folder()
    clear_mark(disk, file)
    return target
