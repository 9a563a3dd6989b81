"""The receiver's store: one SQLite file, one thread that writes it.

A batch's rows and its id go in with one transaction, several waiting batches in the same one (WAL, synchronous=FULL:
what is answered is on the disk). The identity of a reading is unique; a second copy is counted and ignored, a copy
with other content is an alarm: two boards under one name, or a gateway that changes readings. Between batches it looks
who is silent (`store_watch.py`). Knows nothing of HTTP. Reading is in `store_read.py` and `store_query.py`.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from host_tools.cloud import store_acks, store_analyses, store_models
from host_tools.cloud.answers import Ack, Acked
from host_tools.cloud.arrivals import runs
from host_tools.cloud.keyfile import KeyFile
from host_tools.cloud.store_file import FILE_NAME, lock, open_store
from host_tools.cloud.store_query import StoreQuery
from host_tools.cloud.store_quota import Quota, QuotaSpent, spent, take
from host_tools.cloud.store_tags import Arrival, TagCheck
from host_tools.cloud.store_watch import DEVICE, GATEWAY, SilenceLimits, SilenceWatch
from host_tools.cloud.wire import Batch, Device, Reading
from host_tools.errors import StoreError
from isocore.record import LOST

WAITING_MAX = 64  # batches; a full queue is answered 503, and the gateway comes again
GROUP_MAX = 16  # batches committed together
LOOK_EVERY_S = 10.0  # for who is silent
FRESH_LANES = ("alarms", "live")  # by which a device is heard: what else comes may be of long ago
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
_CONTENT = """
    SELECT kind, channel, value, trend, uptime_ms FROM reading WHERE device = ? AND boot = ? AND seq = ?
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


Outcome = Stored | DigestConflict | QuotaSpent


@dataclass
class _Change:
    """Something else to do in a transaction of its own, after the batches before it."""

    do: Callable[[], Any]
    result: Future[Any]


@dataclass
class _Job:
    batch: Batch
    request_bytes: int
    result: Future[Stored]


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


class Store:
    """The writer. One per data folder, held by a lock. Use as a context manager, or call `close`."""

    def __init__(
        self,
        folder: Path,
        unix_ms: Callable[[], int] = _unix_ms,
        keys: KeyFile | None = None,
        *,
        quota: Quota | None = None,
        silence: SilenceLimits | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """keys: what boards' tags are checked with; None: tags are not looked at. clock_s: for silence only."""
        self.path = folder / FILE_NAME
        self._unix_ms = unix_ms
        self._keys = keys
        self._quota = quota or Quota()
        self._clock_s = clock_s
        self._lock = lock(folder)
        try:
            self._db = open_store(self.path)
        except (sqlite3.Error, OSError) as error:
            self._lock.close()
            raise StoreError(f"{self.path}: cannot be opened as a store: {error}") from error
        self._tags = TagCheck(self._db, self._count)
        self._watch = SilenceWatch(self._db, silence or SilenceLimits(), clock_s)
        self._looked_s = clock_s()
        self._trouble: str | None = None
        self._jobs: queue.Queue[_Job | _Change | None] = queue.Queue(WAITING_MAX)
        self._thread = threading.Thread(target=self._run, name="cloud-store")
        self._thread.start()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def waiting(self) -> int:
        """Batches that wait to be stored."""
        return self._jobs.qsize()

    @property
    def trouble(self) -> str | None:
        """Why the last commit failed; None when it did not."""
        return self._trouble

    def question(self) -> StoreQuery:
        """Answers one question, on a connection of its own. A context manager."""
        return StoreQuery(self.path.parent)

    def submit(self, batch: Batch, request_bytes: int) -> Future[Stored]:
        """Queue a batch. The future ends after the commit, or with DigestConflict, QuotaSpent or StoreError."""
        job = _Job(batch, request_bytes, Future())
        self._queue(job)
        return job.result

    def _queue(self, job: _Job | _Change) -> None:
        job.result.set_running_or_notify_cancel()  # whoever gives up waiting cannot cancel it any more
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise BusyError(f"{WAITING_MAX} batches wait to be stored") from None

    def close(self) -> None:
        """Commit what waits, and stop."""
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join()
        self._db.close()
        self._lock.close()

    def look(self) -> Future[None]:
        """Look who is silent now, after what waits already; the store does so by itself every LOOK_EVERY_S."""
        return self._ask(self._look)

    def acknowledge(self, ack: Ack) -> Future[list[Acked]]:
        """Note that a person looked at identity alarms. An empty list: there is no such alarm."""
        return self._ask(lambda: store_acks.acknowledge(self._db, ack, self._unix_ms()))

    def _ask(self, do: Callable[[], Any]) -> Future[Any]:
        change = _Change(do, Future())
        self._queue(change)
        return change.result

    def _run(self) -> None:
        stopping = False
        while not stopping:
            group: list[_Job] = []
            asked: _Change | None = None
            try:
                job = self._jobs.get(timeout=LOOK_EVERY_S)
                while True:
                    if job is None:
                        stopping = True
                        break
                    if isinstance(job, _Change):
                        asked = job
                        break
                    group.append(job)
                    if len(group) == GROUP_MAX:
                        break
                    job = self._jobs.get_nowait()
            except queue.Empty:
                pass
            if group:
                self._commit(group)
            if asked is not None:
                self._change(asked)
            if self._clock_s() - self._looked_s >= LOOK_EVERY_S:
                self._change(_Change(self._look, Future()))  # should it fail, the next is in LOOK_EVERY_S

    def _look(self) -> None:
        self._looked_s = self._clock_s()
        self._watch.look(self._unix_ms())

    def _change(self, asked: _Change) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            result = asked.do()
            self._db.execute("COMMIT")
        except Exception as error:  # whoever asked is told
            self._roll_back()
            asked.result.set_exception(
                StoreError(f"{self.path}: {error}") if isinstance(error, sqlite3.Error) else error
            )
        else:
            asked.result.set_result(result)

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._tags.forget()
        self._watch.forget()

    def _commit(self, group: list[_Job]) -> None:
        """One transaction; the futures end after it. A failing disk fails the whole group, which is sent again."""
        outcomes: list[Outcome] = []
        try:
            self._db.execute("BEGIN IMMEDIATE")
            outcomes.extend(self._apply(job) for job in group)
            self._db.execute("COMMIT")
        except Exception as error:
            # Nobody's batch is dropped: whoever waits for one gets the error, and sends it again.
            self._roll_back()
            passed_on = StoreError(f"{self.path}: {error}") if isinstance(error, sqlite3.Error) else error
            self._trouble = str(passed_on)
            for job in group:
                job.result.set_exception(passed_on)
            return
        self._trouble = None
        for job, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, Stored):
                job.result.set_result(outcome)
            else:
                job.result.set_exception(outcome)

    def _apply(self, job: _Job) -> Outcome:
        batch = job.batch
        now_unix_ms = self._unix_ms()
        gateway = self._gateway(batch.gateway, job.request_bytes, now_unix_ms)
        self._watch.heard(GATEWAY, (batch.gateway,), now_unix_ms)
        known = self._db.execute(
            "SELECT digest, row_count FROM batch WHERE gateway = ? AND number = ?", (gateway, batch.number)
        ).fetchone()
        if known is not None:
            if known[0] != batch.digest:
                self._count(batches_conflicting=1)
                return DigestConflict(f"batch {batch.number} of {batch.gateway} came with another digest before")
            self._count(batches_repeated=1)
            return Stored("duplicate", known[1], 0)
        refused = spent(self._db, self._quota, gateway, batch.lane, now_unix_ms)
        if refused is not None:
            self._count(batches_over_quota=1)
            return refused
        return self._insert(batch, gateway, job.request_bytes, now_unix_ms)

    def _insert(self, batch: Batch, gateway: int, request_bytes: int, now_unix_ms: int) -> Stored:
        count = len(batch.readings)
        take(self._db, gateway, count + len(batch.windows), request_bytes, now_unix_ms)
        cursor = self._db.execute(
            "INSERT INTO batch (gateway, number, digest, lane, row_count, new_count, recv_unix_ms) "
            "VALUES (?, ?, ?, ?, ?, 0, ?)",
            (gateway, batch.number, batch.digest, batch.lane, count, now_unix_ms),
        )
        batch_id = cursor.lastrowid or 0
        fresh = {row.device for row in batch.readings} if batch.lane in FRESH_LANES else set()
        devices = [self._device(device, now_unix_ms, n in fresh) for n, device in enumerate(batch.devices)]
        self._watch.heard(DEVICE, (batch.devices[place].id for place in fresh), now_unix_ms)
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
        if batch.analyses:
            self._count(**store_analyses.take(self._db, gateway, batch_id, batch.analyses))
        if batch.models:
            self._count(**store_models.take(self._db, gateway, batch_id, devices, batch.models, now_unix_ms))
        self._db.execute("UPDATE batch SET new_count = ? WHERE id = ?", (new, batch_id))
        conflicting = self._conflicts(devices, batch.readings) if new < count else []
        conflicts = len(conflicting)
        tagged = keys.boards if keys is not None else {}
        for reading, cloned in conflicting:
            self._tags.contest(gateway, devices[reading.device], reading)
            if cloned and batch.devices[reading.device].id not in tagged:  # a tag will say what it is
                self._tags.conflict(gateway, devices[reading.device], reading, now_unix_ms)
        if keys is not None:
            arrival = Arrival(gateway, batch_id, devices, now_unix_ms)
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

    def _conflicts(self, devices: list[int], readings: Sequence[Reading]) -> list[tuple[Reading, bool]]:
        """Rows whose identity is stored with other content; True: no board makes both. Only asked when a row is known.

        A record that was evicted on its board while it was under way may come as itself and as LOST.
        """
        found = []
        for reading in readings:
            identity = (devices[reading.device], reading.boot, reading.seq)
            stored = self._db.execute(_CONTENT, identity).fetchone()
            if stored != reading[3:8]:
                found.append((reading, LOST not in (stored[0], reading.kind)))
        return found

    def _gateway(self, name: str, request_bytes: int, now_unix_ms: int) -> int:
        row = self._db.execute(
            "INSERT INTO gateway (name, posts, bytes_uplink, heard_unix_ms) VALUES (?, 1, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET posts = posts + 1, bytes_uplink = bytes_uplink + excluded.bytes_uplink, "
            "heard_unix_ms = excluded.heard_unix_ms RETURNING id",
            (name, request_bytes, now_unix_ms),
        ).fetchone()
        return int(row[0])

    def _device(self, device: Device, now_unix_ms: int, fresh: bool) -> int:
        row = self._db.execute(
            "INSERT INTO device (name, class, heard_unix_ms) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
            "class = coalesce(excluded.class, class), heard_unix_ms = coalesce(excluded.heard_unix_ms, heard_unix_ms) "
            "RETURNING id",
            (device.id, device.device_class, now_unix_ms if fresh else None),
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
