"""Which files are the lake: one snapshot, replaced in one step, and the plan by which a killed writer is tidied up.

    _lake/snapshot.json   the files that count, and how far the receiver's log is in them: read this first
    _lake/plan.json       what the writer was about to add and remove: whatever of it the snapshot does not name goes

A change is: plan, new files, snapshot, old files removed. Until the snapshot is replaced nothing has happened; after it
everything has. A kill between any two steps is made good by the next writer from the plan, before it writes a row.
Rows and the position in the log stand in the same file, so a row is in the lake once, whatever is killed when.

One writer at a time: `number` is looked at again right before the snapshot is replaced.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from host_tools.lake.errors import LakeError, NotThere
from host_tools.lake.storage import Storage

SNAPSHOT = "_lake/snapshot.json"
PLAN = "_lake/plan.json"
FORMAT = 1  # of these two files
SCHEMA_VERSION = 1  # of the tables; docs/lake.md says what may change without raising it


@dataclass(frozen=True)
class DataFile:
    """One Parquet file. batches: the receiver's log from `first_batch` to `last_batch`; length_s: of windows, else 0.

    origin: "log" for what came from the log, "fold" for windows that were made here.
    """

    path: str
    table: str
    day: str
    gateway: str
    rows: int
    bytes: int
    first_batch: int
    last_batch: int
    length_s: int = 0
    origin: str = "log"


@dataclass(frozen=True)
class Snapshot:
    """The lake at one moment. position: the last batch that is in it; digest: of that batch, in hex.

    folded: day -> position up to which its windows were made; retired: readings of days before it went by policy.
    written, dropped: rows by table, ever; dropped by policy only.
    """

    number: int = 0
    position: int = 0
    digest: str = ""
    received_unix_ms: int = 0
    files: tuple[DataFile, ...] = ()
    folded: Mapping[str, int] = field(default_factory=dict)
    retired: str = ""
    written: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)

    def of(self, table: str) -> list[DataFile]:
        """A table's files."""
        return [file for file in self.files if file.table == table]


def load(storage: Storage) -> Snapshot | None:
    """The snapshot, or None where there is no lake yet. Raises LakeError for one that cannot be read."""
    try:
        text = storage.get(SNAPSHOT)
    except NotThere:
        return None
    document = _document(storage, SNAPSHOT, text)
    if document.pop("schema_version", None) != SCHEMA_VERSION:
        raise LakeError(f"{storage.place(SNAPSHOT)}: tables of another version; this program knows {SCHEMA_VERSION}")
    try:
        files = tuple(DataFile(**file) for file in document.pop("files"))
        return Snapshot(files=files, **document)
    except (KeyError, TypeError) as error:
        raise LakeError(f"{storage.place(SNAPSHOT)}: is no snapshot of a lake: {error}") from None


def load_existing(storage: Storage) -> Snapshot:
    """The snapshot. Raises LakeError with a plain sentence where there is no lake yet."""
    snapshot = load(storage)
    if snapshot is None:
        how = f"isotherm cloud lake write --data DATA --lake {storage.name}"
        raise LakeError(f"{storage.name}: there is no lake yet; `{how}` makes one")
    return snapshot


def recover(storage: Storage) -> int:
    """Finish or undo what a killed writer had begun. Returns how many files it removed. Only the writer may call it."""
    try:
        text = storage.get(PLAN)
    except NotThere:
        return 0
    plan = _document(storage, PLAN, text)
    snapshot = load(storage)
    counted = {file.path for file in snapshot.files} if snapshot is not None else set()
    strays = [path for path in plan["paths"] if path not in counted]
    for path in strays:
        storage.remove(path)
    storage.remove(PLAN)
    return len(strays)


def commit(
    storage: Storage, before: Snapshot, after: Snapshot, contents: Mapping[str, bytes], others: Sequence[str] = ()
) -> Snapshot:
    """Make `after` the lake. contents: the new files; files of `before` that `after` lacks are removed.

    others: files outside the snapshot that `contents` replaces in place. Raises LakeError when another writer was
    quicker.
    """
    after = replace(after, number=before.number + 1)
    kept = {file.path for file in after.files}
    gone = [file.path for file in before.files if file.path not in kept]
    _put(storage, PLAN, {"paths": [*(path for path in contents if path not in others), *gone]})
    for path, data in contents.items():
        storage.put(path, data)
    now = load(storage)
    if (0 if now is None else now.number) != before.number:
        raise LakeError(f"{storage.name}: another writer is at work on this lake; let one of the two be the only one")
    _put(storage, SNAPSHOT, {"schema_version": SCHEMA_VERSION, **asdict(after)})
    for path in gone:
        storage.remove(path)
    storage.remove(PLAN)
    return after


def _put(storage: Storage, path: str, document: Mapping[str, Any]) -> None:
    text = json.dumps({"format": FORMAT, **document}, separators=(",", ":"))
    storage.put(path, text.encode())


def _document(storage: Storage, path: str, text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
        raise LakeError(f"{storage.place(path)}: is no file of a lake of format {FORMAT}")
    return document
