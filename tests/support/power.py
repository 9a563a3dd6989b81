"""Power cuts under the gateway's own store: every write it makes is recorded, and what may survive a cut is rebuilt.

The store runs unchanged, but its connections go through APSW, whose VFS passes all on to the real file system and
writes down what happened: writes, truncations, syncs, and, through the store's `Disk`, names made, renamed and
removed. A cut at any point of that log leaves, by the rules below, a folder that a real cut might have left; the
stock `sqlite3` opens it.

 - What was synced is there. Of what was written after, any sectors of 512 bytes may be, in any order: torn pages
   included.
 - Names are durable once their folder was synced; after that, the first few changes may be, in their order, as in a
   journalling file system. Shared memory is gone.

SQLite syncs a folder itself when it first syncs a new journal or log (unixSync, UNIXFILE_DIRSYNC) and when it
removes one with `syncDir`; both are in the log. It shows the logic of syncs and names, not the honesty of a card's
controller.
"""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from gateway.store.disk import Disk

SECTOR_BYTES = 512


class Event(NamedTuple):
    """One entry of the log. what: write | truncate | sync | create | rename | remove | folder | mark."""

    what: str
    file: int = 0  # inode
    name: str = ""
    at: int = 0  # offset, or size for truncate
    data: Any = None  # bytes; the new name; whatever a mark says


class Recorder:
    """The log, and which name is which inode now."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._lock = threading.Lock()
        self._inodes: dict[str, int] = {}
        self._next = 1

    def inode(self, name: str) -> int:
        with self._lock:
            if name not in self._inodes:
                self._inodes[name] = self._next
                self.events.append(Event("create", self._next, name))
                self._next += 1
            return self._inodes[name]

    def add(self, event: Event) -> None:
        with self._lock:
            if event.what == "rename":
                self._inodes[event.data] = self._inodes.pop(event.name)
            elif event.what == "remove":
                self._inodes.pop(event.name, None)
            self.events.append(event)

    def mark(self, data: Any) -> None:
        """Something that the outside world has seen at this point."""
        self.add(Event("mark", data=data))


class RecordedDisk(Disk):
    """The store's file system calls, done and written down."""

    def __init__(self, folder: Path, recorder: Recorder) -> None:
        super().__init__(folder)
        self._recorder = recorder

    def sync(self, name: str) -> None:
        super().sync(name)
        self._recorder.add(Event("sync", self._recorder.inode(name)))

    def sync_folder(self) -> None:
        super().sync_folder()
        self._recorder.add(Event("folder"))

    def rename(self, old: str, new: str) -> None:
        super().rename(old, new)
        self._recorder.add(Event("rename", name=old, data=new))

    def remove(self, name: str) -> None:
        if self.exists(name):
            super().remove(name)
            self._recorder.add(Event("remove", name=name))


class _File(apsw.VFSFile):  # type: ignore[misc]
    def __init__(self, vfs: str, name: Any, flags: list[int], recorder: Recorder) -> None:
        super().__init__(vfs, name, flags)
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name)
        self._recorder = recorder
        self._inode = 0 if flags[0] & apsw.SQLITE_OPEN_READONLY else recorder.inode(path.name)
        self._is_log = path.name.endswith(("-wal", "-journal"))
        self._fresh = True

    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        self._recorder.add(Event("write", self._inode, at=offset, data=bytes(data)))

    def xTruncate(self, size: int) -> None:
        super().xTruncate(size)
        self._recorder.add(Event("truncate", self._inode, at=size))

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        self._recorder.add(Event("sync", self._inode))
        if self._is_log and self._fresh:
            self._fresh = False
            self._recorder.add(Event("folder"))


class _Vfs(apsw.VFS):  # type: ignore[misc]
    def __init__(self, name: str, recorder: Recorder) -> None:
        self._recorder = recorder
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> Any:
        if name is None:
            return apsw.VFSFile("", None, flags)
        return _File("", name, flags, self._recorder)

    def xDelete(self, name: str, sync_folder: bool) -> None:
        super().xDelete(name, sync_folder)
        self._recorder.add(Event("remove", name=Path(name).name))
        if sync_folder:
            self._recorder.add(Event("folder"))


class _Cursor:
    def __init__(self, cursor: Any, last_row: int) -> None:
        self._cursor = cursor
        self.lastrowid = last_row

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cursor)

    def fetchone(self) -> Any:
        return next(iter(self._cursor), None)

    def fetchall(self) -> list[Any]:
        return list(self._cursor)


class Connection:
    """What the store uses of `sqlite3.Connection`, over APSW."""

    def __init__(self, uri: str, mode: str, vfs: str) -> None:
        flags = {"ro": apsw.SQLITE_OPEN_READONLY, "rw": apsw.SQLITE_OPEN_READWRITE}.get(
            mode, apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        )
        self._db = self._do(lambda: apsw.Connection(uri, flags=flags | apsw.SQLITE_OPEN_URI, vfs=vfs))
        self._db.set_busy_timeout(5000)

    @staticmethod
    def _do(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except apsw.Error as exc:
            error = sqlite3.OperationalError(str(exc))
            error.sqlite_errorcode = getattr(exc, "extendedresult", apsw.SQLITE_ERROR)
            raise error from exc

    def execute(self, sql: str, values: Sequence[Any] = ()) -> _Cursor:
        cursor = self._do(lambda: self._db.execute(sql, values))
        return _Cursor(cursor, self._db.last_insert_rowid())

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        self._do(lambda: self._db.executemany(sql, rows))

    def executescript(self, sql: str) -> None:
        self._do(lambda: self._db.execute(sql))

    def set_progress_handler(self, handler: Callable[[], int] | None, steps: int) -> None:
        self._db.set_progress_handler(handler, steps or 1)

    @property
    def in_transaction(self) -> bool:
        return not self._db.get_autocommit()

    def close(self) -> None:
        self._do(self._db.close)


class Recording:
    """Has the store's connections recorded while it is in effect."""

    def __init__(self, patch: Callable[[str, Any], None]) -> None:
        self.recorder = Recorder()
        self._name = f"recorded-{id(self)}"
        self._vfs = _Vfs(self._name, self.recorder)
        patch("gateway.store.db.connect", self._connect)
        patch("gateway.store.writer.Disk", lambda folder: RecordedDisk(folder, self.recorder))

    def _connect(self, path: Path, mode: str, immutable: bool = False) -> Any:
        from gateway.store.db import uri

        return Connection(uri(path, mode, immutable), mode, self._name)

    def end(self) -> None:
        self._vfs.unregister()


class _Inode:
    def __init__(self) -> None:
        self.durable = bytearray()
        self.since: list[Event] = []

    def survivor(self, rng: random.Random) -> bytes:
        """The durable bytes and any of the sectors written since."""
        out = bytearray(self.durable)
        share = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        for event in self.since:
            if event.what == "truncate":
                if rng.random() < share:
                    _resize(out, event.at)
                continue
            for start in range(0, len(event.data), SECTOR_BYTES):
                if rng.random() < share:
                    _put(out, event.at + start, event.data[start : start + SECTOR_BYTES])
        return bytes(out)

    def sync(self) -> None:
        for event in self.since:
            if event.what == "truncate":
                _resize(self.durable, event.at)
            else:
                _put(self.durable, event.at, event.data)
        self.since.clear()


def _resize(data: bytearray, size: int) -> None:
    del data[size:]
    data.extend(b"\0" * (size - len(data)))


def _put(data: bytearray, at: int, part: bytes) -> None:
    if len(data) < at:
        _resize(data, at)
    data[at : at + len(part)] = part


class Platter:
    """Plays a log forward and says what a cut would leave."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = events
        self._at = 0
        self._inodes: dict[int, _Inode] = {}
        self._names: dict[str, int] = {}
        self._pending: list[Event] = []
        self.marks: list[Any] = []

    def play(self, upto: int) -> None:
        """Go on to the log's entry `upto`, exclusive."""
        while self._at < upto:
            event = self._events[self._at]
            self._at += 1
            if event.what in ("write", "truncate"):
                self._inodes[event.file].since.append(event)
            elif event.what == "sync":
                self._inodes[event.file].sync()
            elif event.what == "folder":
                for change in self._pending:
                    _rename(self._names, change)
                self._pending.clear()
            elif event.what == "mark":
                self.marks.append(event.data)
            else:
                if event.what == "create":
                    self._inodes[event.file] = _Inode()
                self._pending.append(event)

    def cut(self, folder: Path, rng: random.Random) -> None:
        """Leave in `folder` what may be left."""
        names = dict(self._names)
        for change in self._pending[: rng.randint(0, len(self._pending))]:
            _rename(names, change)
        folder.mkdir(parents=True)
        for name, inode in names.items():
            if not name.endswith("-shm"):
                (folder / name).write_bytes(self._inodes[inode].survivor(rng))


def _rename(names: dict[str, int], change: Event) -> None:
    if change.what == "create":
        names[change.name] = change.file
    elif change.what == "rename":
        inode = names.pop(change.name, None)
        if inode is not None:
            names[change.data] = inode
    else:
        names.pop(change.name, None)
