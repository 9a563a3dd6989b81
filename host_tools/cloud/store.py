"""The receiver's store: one SQLite file, one thread that writes it.

A batch's rows and its id go in with one transaction, several waiting batches in the same one (WAL, synchronous=FULL:
what is answered is on the disk). The identity of a reading is unique; a second copy is counted and ignored, a copy
with other content is counted as a conflict. Knows nothing of HTTP. Reading is in `store_read.py`.
"""

from __future__ import annotations

import fcntl
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import IO

from host_tools.cloud.arrivals import runs
from host_tools.cloud.keyfile import KeyFile
from host_tools.cloud.store_tags import Arrival, TagCheck
from host_tools.cloud.wire import Batch, Device, Reading
from host_tools.errors import StoreError

FILE_NAME = "cloud.db"
LOCK_NAME = "cloud.lock"
WAITING_MAX = 64  # batches; a full queue is answered 503, and the gateway comes again
GROUP_MAX = 16  # batches committed together
_INSERT = """
    INSERT INTO reading
        (device, boot, seq, kind, channel, value, trend, uptime_ms, epoch_unix_ms, trusted, batch, verdict)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
# The highest revision stays, whatever order they come in; the same again changes nothing.
_WINDOW = """
    INSERT INTO window (device, channel, length_s, start_unix_s, revision, least, mean, greatest, last, reports,
                        covered_ms, alarm_ms, fault_ms, batch)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET revision = excluded.revision, least = excluded.least, mean = excluded.mean,
        greatest = excluded.greatest, last = excluded.last, reports = excluded.reports,
        covered_ms = excluded.covered_ms, alarm_ms = excluded.alarm_ms, fault_ms = excluded.fault_ms,
        batch = excluded.batch
    WHERE excluded.revision > revision
"""
_SAME = """
    SELECT 1 FROM reading WHERE device = ? AND boot = ? AND seq = ? AND kind = ? AND channel = ? AND value = ?
    AND trend = ? AND uptime_ms = ?
"""


class BusyError(Exception):
    """Too many batches wait; retryable."""


class DigestConflict(Exception):
    """The gateway has sent another body under this batch number before."""


@dataclass(frozen=True)
class Stored:
    """What became of a batch. status: "stored" or "duplicate"; new: rows that were not there before."""

    status: str
    rows: int
    new: int


@dataclass
class _Job:
    batch: Batch
    request_bytes: int
    result: Future[Stored]


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


class Store:
    """The writer. One per data folder, held by a lock. Use as a context manager, or call `close`."""

    def __init__(self, folder: Path, unix_ms: Callable[[], int] = _unix_ms, keys: KeyFile | None = None) -> None:
        """keys: what boards' tags are checked with; None: tags are not looked at."""
        self.path = folder / FILE_NAME
        self._unix_ms = unix_ms
        self._keys = keys
        self._lock = _lock(folder)
        try:
            self._db = _open(self.path)
        except (sqlite3.Error, OSError) as error:
            self._lock.close()
            raise StoreError(f"{self.path}: cannot be opened as a store: {error}") from error
        self._tags = TagCheck(self._db, self._count)
        self._jobs: queue.Queue[_Job | None] = queue.Queue(WAITING_MAX)
        self._thread = threading.Thread(target=self._run, name="cloud-store")
        self._thread.start()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def submit(self, batch: Batch, request_bytes: int) -> Future[Stored]:
        """Queue a batch. The future ends after the commit, with DigestConflict or StoreError when it failed."""
        job = _Job(batch, request_bytes, Future())
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise BusyError(f"{WAITING_MAX} batches wait to be stored") from None
        return job.result

    def close(self) -> None:
        """Commit what waits, and stop."""
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join()
        self._db.close()
        self._lock.close()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            group: list[_Job] = []
            job = self._jobs.get()
            while True:
                if job is None:
                    stopping = True
                    break
                group.append(job)
                if len(group) == GROUP_MAX:
                    break
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            if group:
                self._commit(group)

    def _commit(self, group: list[_Job]) -> None:
        """One transaction; the futures end after it. A failing disk fails the whole group, which is sent again."""
        outcomes: list[Stored | DigestConflict] = []
        try:
            self._db.execute("BEGIN IMMEDIATE")
            outcomes.extend(self._apply(job) for job in group)
            self._db.execute("COMMIT")
        except Exception as error:
            # Nobody's batch is dropped: whoever waits for one gets the error, and sends it again.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
                self._tags.forget()
            passed_on = StoreError(f"{self.path}: {error}") if isinstance(error, sqlite3.Error) else error
            for job in group:
                job.result.set_exception(passed_on)
            return
        for job, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, Stored):
                job.result.set_result(outcome)
            else:
                job.result.set_exception(outcome)

    def _apply(self, job: _Job) -> Stored | DigestConflict:
        batch = job.batch
        gateway = self._gateway(batch.gateway, job.request_bytes)
        known = self._db.execute(
            "SELECT digest, row_count FROM batch WHERE gateway = ? AND number = ?", (gateway, batch.number)
        ).fetchone()
        if known is not None:
            if known[0] != batch.digest:
                self._count(batches_conflicting=1)
                return DigestConflict(f"batch {batch.number} of {batch.gateway} came with another digest before")
            self._count(batches_repeated=1)
            return Stored("duplicate", known[1], 0)
        count = len(batch.readings)
        cursor = self._db.execute(
            "INSERT INTO batch (gateway, number, digest, lane, row_count, new_count, recv_unix_ms) "
            "VALUES (?, ?, ?, ?, ?, 0, ?)",
            (gateway, batch.number, batch.digest, batch.lane, count, self._unix_ms()),
        )
        batch_id = cursor.lastrowid or 0
        devices = [self._device(device) for device in batch.devices]
        keys = self._keys.current() if self._keys is not None else None
        verdicts = self._tags.first_verdicts(keys, batch)
        rows = [
            (devices[reading.device], *reading[1:], batch_id, verdicts[reading.device]) for reading in batch.readings
        ]
        before = self._db.total_changes
        self._db.executemany(_INSERT, rows)
        new = self._db.total_changes - before
        if new:
            arrivals = [(batch_id, *run) for run in runs(devices, batch.readings)]
            self._db.executemany("INSERT INTO arrival VALUES (?, ?, ?, ?, ?)", arrivals)
        if batch.windows:
            before = self._db.total_changes
            self._db.executemany(_WINDOW, [(devices[window.device], *window[1:], batch_id) for window in batch.windows])
            self._count(windows_received=len(batch.windows), windows_taken=self._db.total_changes - before)
        self._db.execute("UPDATE batch SET new_count = ? WHERE id = ?", (new, batch_id))
        conflicting = self._conflicts(devices, batch.readings) if new < count else []
        conflicts = len(conflicting)
        if keys is not None:
            for reading in conflicting:
                if batch.devices[reading.device].id in keys.boards:
                    self._tags.contest(gateway, devices[reading.device], reading)
            arrival = Arrival(gateway, batch_id, devices, self._unix_ms())
            self._tags.apply(keys, arrival, batch)
            self._tags.expire(arrival.unix_ms)
        self._count(
            batches_stored=1,
            rows_received=count,
            rows_new=new,
            rows_duplicate=count - new - conflicts,
            rows_conflicting=conflicts,
        )
        return Stored("stored", count, new)

    def _conflicts(self, devices: list[int], readings: Sequence[Reading]) -> list[Reading]:
        """Rows whose identity is stored with other content. Only asked when some row was not new."""
        return [
            reading
            for reading in readings
            if self._db.execute(_SAME, (devices[reading.device], *reading[1:8])).fetchone() is None
        ]

    def _gateway(self, name: str, request_bytes: int) -> int:
        row = self._db.execute(
            "INSERT INTO gateway (name, posts, bytes_uplink) VALUES (?, 1, ?) ON CONFLICT (name) DO UPDATE SET "
            "posts = posts + 1, bytes_uplink = bytes_uplink + excluded.bytes_uplink RETURNING id",
            (name, request_bytes),
        ).fetchone()
        return int(row[0])

    def _device(self, device: Device) -> int:
        row = self._db.execute(
            "INSERT INTO device (name, class) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET "
            "class = coalesce(excluded.class, class) RETURNING id",
            (device.id, device.device_class),
        ).fetchone()
        number = int(row[0])
        if device.channels is not None:
            self._db.executemany(
                "INSERT INTO channel (device, number, name, unit) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (device, number) DO UPDATE SET name = excluded.name, unit = excluded.unit",
                [(number, i, name, unit) for i, (name, unit) in enumerate(device.channels)],
            )
        return number

    def _count(self, **amounts: int) -> None:
        self._db.executemany(
            "INSERT INTO counter (name, value) VALUES (?, ?) "
            "ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            list(amounts.items()),
        )


def _lock(folder: Path) -> IO[str]:
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)  # readings are nobody else's
        handle = (folder / LOCK_NAME).open("w")
    except OSError as error:
        text = f"{folder}: cannot be written: {error.strerror or error}; give another folder with --data"
        raise StoreError(text) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        text = f"{folder}: another receiver is using this folder; stop it, or give another with --data"
        raise StoreError(text) from None
    return handle


def _open(path: Path) -> sqlite3.Connection:
    # Autocommit mode: transactions are begun and ended by name. Used by one thread at a time.
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        _prepare(db)
    except sqlite3.Error:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection) -> None:
    """Set the durability that kills and power cuts ask for, and bring the schema up to date."""
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA cache_size = -16000")  # KiB
    steps = sorted(
        (entry for entry in resources.files("host_tools.cloud.schema").iterdir() if entry.name.endswith(".sql")),
        key=lambda entry: entry.name,
    )
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > len(steps):
        raise sqlite3.DatabaseError(f"it was written by a newer version (schema {version}, known is {len(steps)})")
    for number, step in enumerate(steps[version:], start=version + 1):
        script = step.read_text(encoding="utf-8")
        db.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")
