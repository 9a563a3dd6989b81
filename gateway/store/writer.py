"""The single writer: one thread that groups what arrives into transactions and tells of each commit.

Bounds: the pipe in front of it (config `store.queue_rows`), `commit_rows` a transaction, `commit_ms` of waiting. An
error of the disk keeps the group and tries again with back-off, for ever; nothing is acknowledged meanwhile. While the
disk is full, changes of state go before readings, with the room of the reserve. An item that cannot be applied for a
reason of its own is dropped alone, logged and counted as `poisoned`.
It knows neither broker nor cloud: who wants to hear of commits gives a callback.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

from gateway.errors import FatalError, StoreBusy, StoreDamaged, StoreUnusable
from gateway.messages import (
    Committed,
    FrameIn,
    Fresh,
    MetaIn,
    NoteIn,
    OwnIn,
    StoreState,
)
from gateway.metrics import Metrics
from gateway.pipe import Pipe
from gateway.store import adopt, db
from gateway.store.changes import Changes
from gateway.store.disk import Disk
from gateway.store.frames import FrameTable
from gateway.store.keeper import Keeper
from gateway.store.own import OwnTable
from gateway.store.reserve import Reserve
from gateway.store.retention import Keep
from gateway.store.segments import Names
from gateway.store.ticket import Ticket

log = logging.getLogger("isotherm.store")

_RETRY_MIN_S = 0.1
_RETRY_MAX_S = 5.0
_CALL_ROWS = 1
_IDLE_S = 1.0
_REOPEN_AFTER = 3  # failures in a row that are no lack of room: the connection itself may be what is broken
_KEEPER_STOP_S = 5.0


Item = FrameIn | OwnIn | MetaIn | NoteIn | Ticket


class Store(Changes):
    """Owner of the database file. `open`, then `start`; `put` from any thread; `stop` drains.

    turns: rises at least every few seconds while the writer works, an idle disk or a failing one included; it stands
    still only when the writer is stuck.
    """

    def __init__(
        self,
        path: Path,
        metrics: Metrics,
        *,
        queue_rows: int,
        commit_rows: int,
        commit_ms: int,
        check_ms: int,
        on_commit: Callable[[Committed], None],
        on_fatal: Callable[[StoreDamaged], None],
        keep: Keep | None = None,
        on_state: Callable[[StoreState], None] = lambda state: None,
        clock_s: Callable[[], float] = time.monotonic,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.set_aside: Path | None = None
        self._metrics = metrics
        self._pipe: Pipe[Item] = Pipe(queue_rows)
        self._commit_rows = commit_rows
        self._linger_s = commit_ms / 1000
        self._check_ms = check_ms
        self._on_commit = on_commit
        self._on_fatal = on_fatal
        self._wall_s = wall_s
        self._lock = db.FileLock(path.with_name(path.name + ".lock"))
        keep = keep or Keep()
        self._disk = Disk(path.parent)
        self._names = Names(path.name)
        self._reserve = Reserve(self._disk, path.name + ".reserve", keep.reserve_bytes)
        self._keeper = Keeper(self._disk, self._names, keep, metrics, self._ask_for_keeper, on_state, clock_s, wall_s)
        self._stale = False
        self._head_told = 0
        self._thread: threading.Thread | None = None
        self._abandon = threading.Event()
        self._db: sqlite3.Connection
        self._table: FrameTable
        self._own: OwnTable
        self.failing: str | None = None
        self.listener_error: Exception | None = None  # the latest: a fault of the program, to be looked into
        self.turns = 0
        metrics.gauge("store_queue_rows", "Rows waiting for the writer.", lambda: self._pipe.rows)
        metrics.gauge("store_failing", "1 while commits fail.", lambda: 1 if self.failing else 0)

    # -- life

    def open(self) -> None:
        """Lock, check and migrate the file, and make its folder agree with it. Raises StoreUnusable."""
        self._lock.acquire()
        try:
            self._db, self.set_aside = self._open_with_room()
            try:
                self._prepare()
            except (OSError, sqlite3.Error) as exc:
                self._db.close()
                raise StoreUnusable(f"cannot open {self.path}: {exc}") from exc
        except FatalError:
            self._lock.release()
            raise
        if self.set_aside is not None:
            self._metrics.add("store_set_aside_total", 1)

    def _open_with_room(self) -> tuple[sqlite3.Connection, Path | None]:
        """On a full disk SQLite cannot even make its shared memory: the reserve is for this too."""
        try:
            return db.open_writer(self.path, self._check_ms, self._wall_s)
        except StoreUnusable:
            if not self._reserve.is_needed:
                raise
            self._reserve.release()
            return db.open_writer(self.path, self._check_ms, self._wall_s)

    def _prepare(self) -> None:
        store = db.identity(self._db)
        taken = adopt.settle(self._db, self._disk, self._names, store, int(self._wall_s()))
        if taken:
            self._metrics.add("store_segments_taken_over_total", taken)
        if not self._reserve.restore():
            log.warning("%s: no room for the reserve; readings wait until there is", self.path)
        self._table = FrameTable(self._db, self._disk)
        self._head_told = self._table.head_row
        self._own = OwnTable(self._db, self._table)
        self._keeper.open(self._db, db.open_reader(self.path))

    def start(self) -> None:
        """Start the writer's thread."""
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()
        self._keeper.start()

    def stop(self, timeout_s: float) -> bool:
        """Commit what is queued, then close. False when it could not within the time: boards still hold the rest."""
        self._pipe.close()
        drained = True
        self._keeper.begin_stop()
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                self._abandon.set()
                self._thread.join(1.0)
                drained = False
        self._keeper.stop(_KEEPER_STOP_S)
        if self._thread is None or not self._thread.is_alive():
            self._db.close()
            self._lock.release()
        return drained

    def tidy(self) -> int:
        """Do at once, in the caller's thread, all that the keeper would do next. Returns how many steps that took."""
        return self._keeper.tidy()

    @property
    def alive(self) -> bool:
        """False when the writer's thread ended, which it never should before `stop`."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def head_row(self) -> int:
        """Last row id given out; call before `start` only."""
        return self._table.head_row

    # -- what others ask

    @property
    def waiting_rows(self) -> int:
        """Rows that wait for the writer."""
        return self._pipe.rows

    def put(self, item: FrameIn | OwnIn | MetaIn | NoteIn, rows: int, urgent: bool, timeout_s: float) -> bool:
        """Queue something received. False when the queue stayed full for `timeout_s`."""
        return self._pipe.put(item, rows, urgent, timeout_s)

    def _apply_own(self, own: OwnIn) -> None:
        self._own.apply(own)

    def _head_row(self) -> int:
        return self._table.head_row

    def _ask_for_keeper(self, change: Callable[[sqlite3.Connection], object], alone: bool) -> bool:
        return self._ask(change, alone).done

    def _ask(self, change: Callable[[sqlite3.Connection], object], alone: bool = False, urgent: bool = True) -> Ticket:
        ticket = Ticket(change, alone)
        # Never bound by the queue: at most a few per sink exist, and blocking them could block the way to emptying it.
        if not self._pipe.put(ticket, _CALL_ROWS, urgent=urgent, force=True):
            ticket.settle(False)
        return ticket

    # -- the thread

    def _run(self) -> None:
        group: list[Item] = []
        try:
            while not self._pipe.finished and not self._abandon.is_set():
                self.turns += 1
                group = self._pipe.take(self._commit_rows, _IDLE_S, self._linger_s)
                if group:
                    self._metrics.observe("store_queue_seconds", self._pipe.waited_s)
                    self._commit_patiently(group)
        except StoreDamaged as exc:
            db.suspect_mark(self.path).touch()
            log.critical("%s; the next start checks it and sets it aside if need be", exc)
            self._on_fatal(exc)
        finally:
            self._pipe.close()
            rest = [*group, *self._pipe.take(1 << 62, 0, 0)]
            for item in rest:
                if isinstance(item, Ticket) and not item.settled:
                    item.settle(False)

    def _commit_patiently(self, group: list[Item]) -> None:
        delay_s = _RETRY_MIN_S
        failures = 0
        while True:
            try:
                if self.failing == "full" and not self._reserve.restore():
                    raise StoreBusy("full", "the disk is full")
                self._commit(group)
            except StoreBusy as exc:
                failures += 1
                self._note_failure(exc)
                if exc.reason == "full":
                    self._commit_state(group)
                elif failures % _REOPEN_AFTER == 0:
                    self._reopen()
                self.turns += 1
                if self._abandon.wait(delay_s):
                    return
                delay_s = min(delay_s * 2, _RETRY_MAX_S)
            else:
                if self.failing:
                    log.warning("store works again")
                    self.failing = self._keeper.failing = None
                    self._keeper.wake()
                return

    def _note_failure(self, exc: StoreBusy) -> None:
        self._metrics.add("store_errors_total", 1, reason=exc.reason)
        if self.failing != exc.reason:
            log.error("%s; nothing is acknowledged until it works again", exc)
            self.failing = self._keeper.failing = exc.reason
            self._keeper.wake()

    def _commit_state(self, group: list[Item]) -> None:
        """The disk is full: with the reserve's room, what others asked for goes first, since it may make room."""
        try:
            self._reserve.release()
            group += self._pipe.pick(lambda item: isinstance(item, Ticket))
            for item in group:
                if isinstance(item, Ticket) and not item.settled:
                    self._commit([item])
        except (StoreBusy, OSError) as exc:
            log.debug("not even state can be written: %s", exc)

    def _reopen(self) -> None:
        """A connection that met an I/O error or a read-only disk may go on failing after the disk works again."""
        try:
            fresh = db.reopen(self.path)
        except sqlite3.Error as exc:
            log.debug("cannot open the store anew: %s", exc)
            return
        self._db.close()
        self._db = fresh
        self._table.reconnect(fresh)
        self._own.reconnect(fresh)

    def _commit(self, group: list[Item]) -> None:
        try:
            self._transact(group)
        except sqlite3.Error as exc:
            self._roll_back()
            known = db.translate(exc)
            if known is not None:
                raise known from exc
            self._one_by_one(group, exc)
        except (ValueError, OverflowError, TypeError, StoreUnusable) as exc:
            self._roll_back()
            self._one_by_one(group, exc)

    def _one_by_one(self, group: list[Item], why: Exception) -> None:
        """Something in the group cannot be applied: find it, drop it, keep the rest."""
        if len(group) == 1:
            self._metrics.add("store_poisoned_total", 1)
            log.error("dropped one %s that cannot be stored: %r", type(group[0]).__name__, why)
            if isinstance(group[0], Ticket):
                group[0].settle(False)
            elif isinstance(group[0], OwnIn) and group[0].receipt is not None:
                # Sent again it would not be storable either: the broker may let go of it.
                self._tell(Committed([], self._head_told, 0, 0, (group[0].receipt,)))
            return
        for item in group:
            self._commit([item])

    def _transact(self, group: list[Item]) -> None:
        connection = self._db
        table = self._table
        started_s = time.perf_counter()
        if self._stale:
            table.forget()
            self._own.forget()
            self._stale = False
        connection.execute("BEGIN IMMEDIATE")
        first_row = table.head_row + 1
        tickets = []
        for item in group:
            if isinstance(item, FrameIn):
                table.apply_frame(item)
            elif isinstance(item, OwnIn):
                self._own.apply(item)
            elif isinstance(item, Ticket):
                if not item.settled and not item.alone:  # after a group that was taken apart, some may be done
                    item.result = item.change(connection)
                    tickets.append(item)
            elif isinstance(item, MetaIn):
                table.apply_meta(item)
            else:
                table.apply_note(item, int(self._wall_s() * 1000))
        table.finish()
        self._own.finish()
        connection.execute("COMMIT")
        took_s = time.perf_counter() - started_s
        receipts = tuple(self._own.receipts)
        fresh = Fresh(first_row, table.fresh)
        news = Committed(
            list(table.acks.values()),
            table.head_row,
            table.others,
            table.events,
            receipts,
            fresh,
            described=table.described,
            models=table.models,
        )
        conflicts = table.conflicts
        redelivered = self._own.redelivered
        table.done()
        self._own.done()
        for ticket in tickets:
            ticket.settle(True)
        self._metrics.observe("store_commit_seconds", took_s)
        if conflicts:
            self._metrics.add("store_conflicts_total", conflicts)
        if redelivered:
            self._metrics.add("store_redelivered_total", redelivered)
        if news.acks or news.others or news.events:
            self._metrics.add("store_rows_total", news.others + news.events)
        self._head_told = news.head_row
        self._tell(news)
        self._keeper.committed(news.head_row)
        for item in group:
            if isinstance(item, Ticket) and item.alone and not item.settled:
                self._do_alone(item)

    def _tell(self, news: Committed) -> None:
        """What is committed stands: who fails on hearing of it neither ends the writer nor has it done again."""
        try:
            self._on_commit(news)
        except Exception as exc:
            self.listener_error = exc
            self._metrics.add("store_listener_errors_total", 1)
            log.exception("a listener failed on rows up to %d, which are stored", news.head_row)

    def _do_alone(self, ticket: Ticket) -> None:
        try:
            ticket.result = ticket.change(self._db)
            ticket.settle(True)
        except sqlite3.Error as exc:  # the group before it is committed: nothing may be tried again with it
            log.warning("not done now: %s", exc)
            ticket.settle(False)

    def _roll_back(self) -> None:
        self._table.done()
        self._stale = True
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as exc:
            log.debug("no rollback: %s", exc)
