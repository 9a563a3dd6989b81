"""Frames and metas into tables, inside the writer's transaction: dedupe, watermark, holes, ledger.

The rules (docs/gateway.md, "Watermark and ledger"):
 - A row is stored once by its identity; the second arrival is a duplicate if equal, a conflict if not.
 - A LOST record of value n and seq s accounts for (s - n, s]; what is held already does not count as lost.
 - `covered` moves over what is stored or accounted for, never over a gap; only a board's `floor` closes a gap, and
   then through the ledger.

Everything here is cached reading of the tables: after a rollback `forget` drops the caches, and nothing is wrong.
It knows no thread, no queue, and never commits.
"""

from __future__ import annotations

import sqlite3

from gateway.messages import EVENT_FIRST, EVENT_LAST, LOST, Ack, FrameIn, MetaIn, NoteIn, Record
from gateway.store import catalog, models
from gateway.store.disk import Disk
from gateway.store.held import Held
from gateway.store.tags import TagTable

_EPOCH_STEP_MS = 1000  # an estimate must improve by this much to replace the former one: keeps batches' series long
_SEEN_STEP_MS = 1000
_CACHE_MAX = 20_000
_LEDGER = (
    "received",
    "stored_reports",
    "stored_events",
    "stored_windows",
    "duplicates",
    "conflicts",
    "lost",
    "gap",
    "stored_notices",
)
_RECEIVED, _REPORTS, _EVENTS, _WINDOWS, _DUPLICATES, _CONFLICTS, _LOST, _GAP, _NOTICES = range(9)
SOURCE_RECEIVED, SOURCE_META, SOURCE_TRUSTED = 0, 1, 2

_INSERT = (  # in the order of messages.Row, so that followers get the same tuples
    "INSERT INTO readings (device, boot, seq, kind, channel, value, trend, uptime_ms, epoch_unix_ms, trusted,"
    " recv_unix_ms, id) VALUES (?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING"
)
_SAVE_BOOT = (
    "INSERT INTO boots VALUES (?,?,?,?,?,?,?) ON CONFLICT (device, boot) DO UPDATE SET covered=excluded.covered,"
    " top=excluded.top, epoch_unix_ms=excluded.epoch_unix_ms, epoch_source=excluded.epoch_source,"
    " closed=excluded.closed"
)
_SAVE_LEDGER = (
    f"INSERT INTO ledger (device, {', '.join(_LEDGER)}) VALUES (?,?,?,?,?,?,?,?,?,?)"
    " ON CONFLICT (device) DO UPDATE SET " + ", ".join(f"{name}={name}+excluded.{name}" for name in _LEDGER)
)


class Boot:
    """Watermark of one (device, boot)."""

    __slots__ = ("closed", "covered", "epoch_unix_ms", "source", "top")

    def __init__(self, covered: int, top: int, epoch_unix_ms: int | None, source: int, closed: int) -> None:
        self.covered = covered
        self.top = top
        self.epoch_unix_ms = epoch_unix_ms
        self.source = source
        self.closed = closed


class FrameTable:
    """Applies what comes from boards to the tables."""

    def __init__(self, connection: sqlite3.Connection, disk: Disk) -> None:
        self._db = connection
        self._disk = disk
        self._held = Held(connection, disk)
        self._tags = TagTable()
        self._devices: dict[str, int] = {}
        self._seen_unix_ms: dict[int, int] = {}
        self._boots: dict[tuple[int, int], Boot] = {}
        self._next_row = 0
        self.forget()

    def reconnect(self, connection: sqlite3.Connection) -> None:
        """Go on with another connection to the same file; `forget` is due."""
        self._db = connection
        self._held = Held(connection, self._disk)

    def forget(self) -> None:
        """Drop what a rolled-back transaction may have left in memory."""
        self._devices.clear()
        self._seen_unix_ms.clear()
        self._boots.clear()
        self._clear()
        # Rows may leave the store while cursors stay: a row id must never come twice.
        (top,) = self._db.execute(
            "SELECT max(coalesce((SELECT max(id) FROM readings), 0),"
            " coalesce((SELECT max(next_row) FROM cursors), 1) - 1,"
            " coalesce((SELECT max(last_row) FROM backfill), 0), coalesce((SELECT max(last_row) FROM batches), 0))"
        ).fetchone()
        self._next_row = max(top, catalog.sealed_row(self._db)) + 1

    def _clear(self) -> None:
        self._pending: list[tuple[int, ...]] = []
        self.fresh: list[tuple[int, ...]] = []
        self.described = False
        self.models = False
        self._dirty: dict[tuple[int, int], Boot] = {}
        self._ledger: dict[int, list[int]] = {}
        self._seen_dirty: dict[int, int] = {}
        self.acks: dict[tuple[str, int], Ack] = {}
        self.others = 0
        self.events = 0
        self.conflicts = 0

    @property
    def head_row(self) -> int:
        """Last row id given out."""
        return self._next_row - 1

    def finish(self) -> None:
        """Write what was gathered; the caller commits next, and then calls `done`."""
        self._flush()
        if self._dirty:
            self._db.executemany(
                _SAVE_BOOT,
                [
                    (key[0], key[1], b.covered, b.top, b.epoch_unix_ms, b.source, b.closed)
                    for key, b in self._dirty.items()
                ],
            )
        if self._ledger:
            self._db.executemany(_SAVE_LEDGER, [(device, *counts) for device, counts in self._ledger.items()])
        if self._seen_dirty:
            self._db.executemany(
                "UPDATE devices SET last_seen_unix_ms = ?2 WHERE device = ?1", list(self._seen_dirty.items())
            )

    def done(self) -> None:
        """Forget the finished transaction, keep the caches within bounds."""
        self._clear()
        self._held.done()
        if len(self._boots) > _CACHE_MAX:
            self._boots.clear()
        if len(self._devices) > _CACHE_MAX:
            self._devices.clear()
            self._seen_unix_ms.clear()

    # -- boards' input

    def apply_frame(self, frame: FrameIn) -> None:
        """Store a frame's records and move the watermark."""
        device = self._device(frame.device, frame.recv_unix_ms)
        key = (device, frame.boot)
        boot = self._boot(key)
        records = frame.records
        first = records[0][0]
        last = records[-1][0]
        epoch_unix_ms = self._epoch(boot, frame)
        ledger = self._ledger_of(device)
        ledger[_RECEIVED] += len(records)
        before = boot.covered
        first_row = self._next_row
        other: list[Record] = []
        if frame.plain and first > boot.top:
            self._add(key, frame, records, epoch_unix_ms, ledger)
            if first <= boot.covered + 1:
                boot.covered = last
        else:
            other = self._apply_slowly(key, boot, frame, epoch_unix_ms, ledger)
            for seq, kind, _, value, _, _ in records:
                start = max(1, seq - value + 1) if kind == LOST and value > 1 else seq
                if start > boot.covered + 1:
                    break
                boot.covered = max(boot.covered, seq)
        boot.top = max(boot.top, last)
        if boot.covered != before and boot.top > boot.covered:
            self._extend(key, boot)
        self._dirty[key] = boot
        if frame.tag:
            self._tags.keep(self._db, frame, device, first_row, self._next_row, other)
        got = (first, last) if last > boot.covered else None
        self.acks[(frame.device, frame.boot)] = Ack(frame.device, frame.boot, boot.covered, got)

    def apply_meta(self, meta: MetaIn) -> None:
        """Keep a board's description; let its floor close what it no longer holds.

        A meta with a boot and without a floor is a question (docs/adr/0006-boot-numbers.md); the ack answers it.
        """
        device = self._device(meta.device, meta.recv_unix_ms)
        self.described = True
        self._db.execute(
            "UPDATE devices SET meta = ?, class = ?, own = max(own, ?) WHERE device = ?",
            (meta.text, meta.device_class, int(meta.own), device),
        )
        if meta.uptime_ms is not None and meta.boot is not None:
            boot = self._boot((device, meta.boot))
            if boot.source < SOURCE_META:
                boot.epoch_unix_ms = meta.recv_unix_ms - meta.uptime_ms
                boot.source = SOURCE_META
                self._dirty[(device, meta.boot)] = boot
        if meta.floor is None:
            if meta.boot is not None:
                self.acks[(meta.device, 0)] = Ack(meta.device, 0, 0, None, self._top_boot(device))
            return
        self._flush()
        floor_boot, floor_seq = meta.floor
        open_boots = {
            row[0]
            for row in self._db.execute(
                "SELECT boot FROM boots WHERE device = ? AND boot < ? AND closed = 0", (device, floor_boot)
            )
        }
        open_boots.update(b for d, b in self._dirty if d == device and b < floor_boot)
        for number in sorted(open_boots):
            boot = self._boot((device, number))
            self._close(device, number, boot, boot.top)
            boot.closed = 1
        self._close(device, floor_boot, self._boot((device, floor_boot)), floor_seq - 1)

    def apply_note(self, note: NoteIn, now_unix_ms: int) -> None:
        """Keep the last text of a retained topic."""
        device = self._device(note.device, note.recv_unix_ms)
        self.models |= models.note(self._db, device, note, now_unix_ms)

    def top(self, name: str, number: int | None, least: int, recv_unix_ms: int) -> tuple[int, int]:
        """Boot and highest seq of a device that the gateway numbers itself. Without a `number` a new boot begins."""
        device = self._device(name, recv_unix_ms)
        if number is None:
            (highest,) = self._db.execute(
                "SELECT coalesce(max(boot), 0) FROM boots WHERE device = ?", (device,)
            ).fetchone()
            number = max(least, highest + 1)
        return number, self._boot((device, number)).top

    # -- rows

    def _add(
        self, key: tuple[int, int], frame: FrameIn, records: list[Record], epoch_unix_ms: int, ledger: list[int]
    ) -> None:
        device, boot = key
        row = self._next_row
        recv = frame.recv_unix_ms
        trusted = 0 if frame.epoch_unix_ms is None else 1
        pending = self._pending
        reports = events = 0
        for seq, kind, channel, value, uptime_ms, trend in records:
            pending.append(
                (device, boot, seq, kind, channel, value, trend, uptime_ms, epoch_unix_ms, trusted, recv, row)
            )
            row += 1
            if kind < EVENT_FIRST:
                reports += 1
            elif kind <= EVENT_LAST:
                events += 1
        self._next_row = row
        self.others += len(records) - events
        self.events += events
        ledger[_REPORTS] += reports
        notices = 0 if frame.plain else sum(record[1] == LOST for record in records)
        ledger[_EVENTS] += events - notices
        ledger[_NOTICES] += notices
        ledger[_WINDOWS] += len(records) - reports - events

    def _flush(self) -> None:
        if self._pending:
            rows, self._pending = self._pending, []
            self._db.executemany(_INSERT, rows)
            self.fresh += rows

    def _apply_slowly(
        self, key: tuple[int, int], boot: Boot, frame: FrameIn, epoch_unix_ms: int, ledger: list[int]
    ) -> list[Record]:
        """A frame that meets what is stored, or tells of loss: record by record. Returns those stored otherwise."""
        self._flush()
        records = frame.records
        held = self._held.records(key, records[0][0], records[-1][0])
        fresh = []
        other = []
        for record in records:
            known = held.get(record[0])
            if record[0] not in held:
                fresh.append(record)
                continue
            if known != record:
                other.append(record)
            if known is None or known == record or LOST in (known[1], record[1]):
                ledger[_DUPLICATES] += (
                    1  # LOST against the row itself: evicted while in flight; the first to come stays
                )
            else:
                ledger[_CONFLICTS] += 1
                self.conflicts += 1
        self._add(key, frame, fresh, epoch_unix_ms, ledger)
        self._flush()
        late = [r[0] for r in fresh if r[1] != LOST and r[0] <= boot.top]
        if late:
            self._fill_holes(key, late, ledger)
        for record in records:
            if record[1] == LOST:
                first = max(1, record[0] - max(1, record[3]) + 1)
                ledger[_LOST] += self._account(key, first, record[0], "lost")
        return other

    # -- holes

    def _account(self, key: tuple[int, int], first: int, last: int, reason: str) -> int:
        """Put [first, last] among the holes, less what is there already. Returns the identities newly missing."""
        taken = self._db.execute(
            "SELECT first_seq, last_seq FROM holes WHERE device = ? AND boot = ? AND first_seq <= ? AND last_seq >= ?"
            " ORDER BY first_seq",
            (*key, last, first),
        ).fetchall()
        missing = 0
        start = first
        for begin, end in [*taken, (last + 1, last + 1)]:
            if begin > start:
                stop = begin - 1
                missing += stop - start + 1 - self._held.count(key, start, stop)
                self._db.execute("INSERT INTO holes VALUES (?,?,?,?,?)", (*key, start, stop, reason))
            start = max(start, end + 1)
        return missing

    def _fill_holes(self, key: tuple[int, int], seqs: list[int], ledger: list[int]) -> None:
        """Rows that came after all: they are missing no more."""
        holes = self._db.execute(
            "SELECT first_seq, last_seq, reason FROM holes WHERE device = ? AND boot = ? AND first_seq <= ?"
            " AND last_seq >= ?",
            (*key, seqs[-1], seqs[0]),
        ).fetchall()
        for first, last, reason in holes:
            found = sum(first <= seq <= last for seq in seqs)
            ledger[_LOST if reason == "lost" else _GAP] -= found

    def _close(self, device: int, number: int, boot: Boot, upto: int) -> None:
        """The board holds nothing of this boot up to `upto`: count what never came and move on."""
        key = (device, number)
        self._dirty[key] = boot
        if upto <= boot.covered:
            return
        self._ledger_of(device)[_GAP] += self._account(key, boot.covered + 1, upto, "gap")
        boot.covered = upto
        boot.top = max(boot.top, upto)
        if boot.top > upto:
            self._extend(key, boot)

    def _extend(self, key: tuple[int, int], boot: Boot) -> None:
        """Move the watermark over rows that came out of order and now adjoin it."""
        self._flush()
        boot.covered = self._held.covered_from(key, boot.covered)

    # -- cached rows

    def _device(self, name: str, recv_unix_ms: int) -> int:
        device = self._devices.get(name)
        if device is None:
            row = self._db.execute("SELECT device, last_seen_unix_ms FROM devices WHERE name = ?", (name,)).fetchone()
            if row is None:
                cursor = self._db.execute("INSERT INTO devices (name) VALUES (?)", (name,))
                row = (cursor.lastrowid or 0, 0)
                self._ledger_of(int(row[0]))
            device = self._devices[name] = int(row[0])
            self._seen_unix_ms[device] = row[1]
        if recv_unix_ms and abs(recv_unix_ms - self._seen_unix_ms[device]) >= _SEEN_STEP_MS:
            self._seen_unix_ms[device] = recv_unix_ms
            self._seen_dirty[device] = recv_unix_ms
        return device

    def _boot(self, key: tuple[int, int]) -> Boot:
        boot = self._boots.get(key)
        if boot is None:
            row = self._db.execute(
                "SELECT covered, top, epoch_unix_ms, epoch_source, closed FROM boots WHERE device = ? AND boot = ?", key
            ).fetchone()
            boot = self._boots[key] = Boot(*row) if row else Boot(0, 0, None, SOURCE_RECEIVED, 0)
        return boot

    def _top_boot(self, device: int) -> int:
        """The highest boot of which a record is stored or accounted for, 0 if there is none."""
        (top,) = self._db.execute("SELECT max(boot) FROM boots WHERE device = ? AND top > 0", (device,)).fetchone()
        return max([top or 0, *(number for (of, number), boot in self._dirty.items() if of == device and boot.top)])

    def _ledger_of(self, device: int) -> list[int]:
        counts = self._ledger.get(device)
        if counts is None:
            counts = self._ledger[device] = [0] * len(_LEDGER)
        return counts

    def _epoch(self, boot: Boot, frame: FrameIn) -> int:
        """Unix time in ms at uptime 0: the board's own, else the best estimate so far for this boot."""
        if frame.epoch_unix_ms is not None:
            boot.epoch_unix_ms = frame.epoch_unix_ms
            boot.source = SOURCE_TRUSTED
            return frame.epoch_unix_ms
        if boot.source == SOURCE_RECEIVED:
            # A frame is received after its last record: every such difference is an upper bound.
            bound = frame.recv_unix_ms - frame.records[-1][4]
            if boot.epoch_unix_ms is None or bound <= boot.epoch_unix_ms - _EPOCH_STEP_MS:
                boot.epoch_unix_ms = bound
        assert boot.epoch_unix_ms is not None
        return boot.epoch_unix_ms
