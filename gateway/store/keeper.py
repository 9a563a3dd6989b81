"""Beside the writer: seals hot rows into segments, lets segments leave, checks them bit by bit, keeps room.

One thread, one step at a time; each step builds or reads files on its own and then asks the writer for one short
transaction. Bound: one segment being built. It measures age by the store's own clock, which runs with the monotonic one
and takes from the wall clock only a plausible time of being switched off: a clock set wrong by years ages nothing.
It knows no rows' meaning beyond `retention`, and neither broker nor cloud.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence

from gateway.errors import StoreBusy, StoreDamaged, StoreUnusable
from gateway.messages import StoreState
from gateway.metrics import Metrics
from gateway.store import catalog, damage, retention, segments, sinks
from gateway.store.disk import Disk
from gateway.store.retention import Keep
from gateway.store.segments import Names, Segment

log = logging.getLogger("isotherm.store")

_TICK_S = 5.0
_LIFE_STEP_S = 600  # how often the store's clock is written down
_OFF_MAX_S = 31 * 86_400  # longer, or negative: the wall clock is not believed, and the time off does not count
_PAGES_FREE = 4096  # 16 MiB of free pages in the main file, and more than half of it: worth giving back

Change = Callable[[sqlite3.Connection], object]


class Keeper:
    """`step` does what is due and says whether it did anything; the thread calls it, and so may a test."""

    def __init__(
        self,
        disk: Disk,
        names: Names,
        keep: Keep,
        metrics: Metrics,
        ask: Callable[[Change, bool], object],
        on_state: Callable[[StoreState], None],
        clock_s: Callable[[], float],
        wall_s: Callable[[], float],
    ) -> None:
        self._disk = disk
        self._names = names
        self._keep = keep
        self._metrics = metrics
        self._ask = ask
        self._on_state = on_state
        self._clock_s = clock_s
        self._wall_s = wall_s
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._born_s = 0.0
        self._checked_s = clock_s()
        self._next_check = 0
        self._sealed_row = 0
        self._stuck: str | None = None
        self._told: StoreState | None = None
        self.failing: str | None = None  # set by the writer
        self.state = StoreState(None, None, (), 0, keep.max_bytes)
        metrics.gauge("store_bytes_max", "Bytes the store may take; 0: no bound.", lambda: keep.max_bytes)
        metrics.gauge("store_segments", "Segment files.", lambda: len(names.sound(disk)))

    # -- life

    def open(self, connection: sqlite3.Connection, main: sqlite3.Connection) -> None:
        """Take up the store's clock. `main`: a reader of the keeper's own; `connection`: the writer's."""
        self._db = main
        self._store = str(connection.execute("SELECT value FROM properties WHERE key = 'store'").fetchone()[0])
        kept = dict(connection.execute("SELECT key, value FROM properties WHERE key IN ('lived_s', 'lived_unix_s')"))
        off_s = self._wall_s() - float(kept.get("lived_unix_s", self._wall_s()))
        lived_s = float(kept.get("lived_s", 0)) + (off_s if 0 <= off_s <= _OFF_MAX_S else 0)
        self._born_s = self._clock_s() - lived_s
        self._written_s = self.lived_s
        damaged = connection.execute("SELECT value FROM properties WHERE key = 'damaged'").fetchone()
        self.state = self.state._replace(damaged=tuple(damaged[0].split()) if damaged else ())

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="store-keeper", daemon=True)
        self._thread.start()

    def begin_stop(self) -> None:
        """No further step after the present one."""
        self._stop.set()
        self._wake.set()

    def stop(self, timeout_s: float) -> None:
        """Wait for its end. The writer must have closed its pipe, or go on working: a step may wait for it."""
        self.begin_stop()
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return
        self._db.close()

    def wake(self) -> None:
        """Something changed that it should look at soon."""
        self._wake.set()

    def committed(self, head_row: int) -> None:
        """In the writer's thread, after each commit: wakes it when there may be a segment's worth of rows."""
        if head_row - self._sealed_row >= self._keep.segment_rows:
            self._sealed_row = head_row  # once
            self._wake.set()

    @property
    def lived_s(self) -> float:
        """The store's own clock."""
        return self._clock_s() - self._born_s

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                while not self._stop.is_set() and self.step():
                    pass
            except StoreDamaged as exc:
                log.error("%s", exc)  # the writer meets the same and stops the daemon
                self._stop.wait(_TICK_S)
            self._wake.wait(_TICK_S)
            self._wake.clear()

    def tidy(self) -> int:
        """Steps until nothing is due."""
        steps = 0
        while self.step():
            steps += 1
        return steps

    def step(self) -> bool:
        """One thing that is due. A disk that fails is met again at the next step; nothing is half done."""
        with self._lock:
            return self._step()

    def _step(self) -> bool:
        try:
            done = self._seal() or self._make_room() or self._check() or self._shrink()
            self._note_life()
        except (StoreBusy, StoreUnusable, OSError, sqlite3.Error) as exc:
            self._metrics.add("store_keeper_errors_total", 1)
            if self._stuck != str(exc):
                log.error("the store's keeper cannot work and tries again: %s", exc)
            self._stuck = str(exc)
            return False
        if self._stuck and done:
            self._stuck = None
        self._tell()
        return done

    # -- sealing

    def _seal(self) -> bool:
        first, last = self._db.execute("SELECT min(id), max(id) FROM readings").fetchone()
        if first is None:
            return False
        full = last - first + 1 >= self._keep.segment_rows
        if not full and self.lived_s - self._last_sealed_s() < self._keep.segment_age_s:
            return False
        if full:
            last = first + self._keep.segment_rows - 1
        number = catalog.next_number(self._db)
        built = segments.seal(self._disk, self._names, self._store, number, (first, last), int(self.lived_s))
        done = self._change(lambda c: catalog.add(c, built))
        if done:
            self._metrics.add("store_sealed_total", 1)
        return done

    def _last_sealed_s(self) -> float:
        return float(self._db.execute("SELECT coalesce(max(lived_s), 0) FROM segments").fetchone()[0])

    # -- leaving

    def used_bytes(self) -> int:
        """What the store takes up on the disk."""
        main = sum(self._disk.size(self._names.main + suffix) for suffix in ("", "-wal", "-shm"))
        (sealed,) = self._db.execute("SELECT coalesce(sum(bytes), 0) FROM segments").fetchone()
        return main + int(sealed) + self._disk.size(f"{self._names.main}.reserve")

    def _make_room(self) -> bool:
        keep, used = self._keep, self.used_bytes()
        over = bool(keep.max_bytes) and used > (keep.high_bytes if self.state.making_room is None else keep.low_bytes)
        tight = over or self.failing == "full" or self._disk.free_bytes() < 2 * keep.reserve_bytes
        all_segments = catalog.segments(self._db)
        for segment in all_segments:
            age_s = self.lived_s - segment.lived_s
            if keep.max_age_s and age_s > keep.max_age_s:
                return self._leave(segment, "days")
            if (tight or age_s >= keep.uploaded_age_s) and self._is_uploaded(segment, unanswered=tight):
                return self._leave(segment, "uploaded")
        if over and self._empty_log():
            return True
        doing = self._cut(all_segments) if over else None
        if doing != self.state.making_room:
            log.warning(
                "the store is %s: %s", "over its bound" if doing else "within its bound", doing or "all is kept"
            )
        self.state = self.state._replace(making_room=doing, bytes=used)
        return doing is not None and doing != "nothing left"

    def _empty_log(self) -> bool:
        """Before readings leave for want of room: write-ahead log and free pages are room as well."""
        before, worth = self.used_bytes(), self._keep.max_bytes // 20
        (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
        (page,) = self._db.execute("PRAGMA page_size").fetchone()
        if free * page > worth:
            self._change(lambda c: c.execute("VACUUM"), alone=True)
        if self._disk.size(self._names.main + "-wal") > worth:
            self._change(lambda c: c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone(), alone=True)
        return self.used_bytes() < before

    def _is_uploaded(self, segment: Segment, unanswered: bool) -> bool:
        """All sinks have it; where there is none nothing is ever uploaded. `unanswered`: a frozen batch will do."""
        live = sinks.live(self._db)
        if not live or not (unanswered or catalog.answered(self._db, live, segment)):
            return False
        return all(self._has(sink, segment) for sink in live)

    def _has(self, sink: str, segment: Segment) -> bool:
        if catalog.unfrozen_others(self._db, sink, segment.first_row, segment.last_row):
            return False
        events = catalog.unfrozen_events(self._db, sink, segment.last_row) if segment.events else None
        if events is None:
            return True
        with segments.opened(self._disk, segment.file) as file:
            return not catalog.counter(file)(events)

    def _cut(self, found: Sequence[Segment]) -> str:
        """Thin all of it, oldest first, before anything is dropped; drop a class from all before the next class."""
        for stage in range(retention.THINNED, retention.NOTHING + 1):
            for segment in found:
                if segment.stage >= stage or (stage == retention.THINNED and self._is_half_sent(segment)):
                    continue
                if stage == retention.NOTHING:
                    self._leave(segment, "bytes")
                else:
                    self._edit(segment, stage)
                return "thinning" if stage == retention.THINNED else "dropping"
        return "nothing left"

    def _is_half_sent(self, segment: Segment) -> bool:
        """A sink has some of it: a window's figures must not stand beside rows that they were made of."""
        return any(
            catalog.half_frozen(self._db, sink, segment.first_row, segment.last_row) for sink in sinks.known(self._db)
        )

    def _edit(self, segment: Segment, stage: int) -> bool:
        window_s = self._keep.thin_window_s
        built = segments.rewrite(
            self._disk, self._names, self._store, segment, stage, lambda c: retention.cut(c, stage, window_s)
        )
        why = "thinned" if stage == retention.THINNED else "bytes"

        def change(connection: sqlite3.Connection) -> bool:
            if not catalog.stands(connection, segment):
                return False
            known = sinks.known(connection)
            if stage == retention.THINNED and any(
                catalog.half_frozen(connection, sink, segment.first_row, segment.last_row) for sink in known
            ):
                return False  # a sink took some meanwhile
            of = retention.REPORTS if stage == retention.THINNED else retention.TAKES[stage]
            with segments.opened(self._disk, segment.file) as file:
                missing = catalog.unsent(connection, known, segment, catalog.counter(file), of)
            catalog.replace(connection, built, why, missing)
            return True

        done = self._change(change)
        self._remove(segment.file if done else built.segment.file)
        return done

    def _leave(self, segment: Segment, why: str) -> bool:
        def change(connection: sqlite3.Connection) -> bool:
            if not catalog.stands(connection, segment):
                return False
            known = sinks.known(connection)
            with segments.opened(self._disk, segment.file) as file:
                missing = catalog.unsent(connection, known, segment, catalog.counter(file))
            if why == "uploaded" and any(missing[sink] for sink in sinks.live(connection)):
                return False
            catalog.leave(connection, segment, why, missing)
            return True

        done = self._change(change)
        if done:
            self._remove(segment.file)
            self._metrics.add("store_segments_left_total", 1, why=why)
        return done

    def _remove(self, file: str) -> None:
        """After the commit; a power cut before it leaves a file that the next start removes."""
        self._disk.remove(file)
        self._disk.sync_folder()

    # -- checking

    def _check(self) -> bool:
        """The marked ones at once, of the rest one every `check_every_s`, newest first, round and round."""
        marked = self._names.suspects(self._disk)
        for file in marked:
            found = catalog.segments(self._db, "file = ?", file)
            if not found or self._passes(found[0]):
                segments.clear_mark(self._disk, file)
        if self._clock_s() - self._checked_s < self._keep.check_every_s:
            return bool(marked)
        self._checked_s = self._clock_s()
        found = catalog.segments(self._db, "last_row < ? OR ? = 0", self._next_check, self._next_check)[-1:]
        self._next_check = found[0].first_row if found else 0
        if found:
            self._passes(found[0])
        return bool(marked)

    def _passes(self, segment: Segment) -> bool:
        if segments.is_whole(self._disk, segment):
            self._metrics.add("store_segments_checked_total", 1)
            return True
        if not self._change(lambda c: damage.book(c, self._disk, sinks.known(c), segment)):
            return False
        name = segments.set_aside(self._disk, segment.file, int(self._wall_s()))
        self._metrics.add("store_segments_damaged_total", 1)
        log.critical(
            "segment %s is damaged; its %d rows are lost here, set aside as %s", segment.file, segment.rows, name
        )
        self.state = self.state._replace(damaged=(*self.state.damaged, name))
        value = " ".join(self.state.damaged)
        self._change(lambda c: c.execute("INSERT OR REPLACE INTO properties VALUES ('damaged', ?)", (value,)))
        return True

    # -- the rest

    def _shrink(self) -> bool:
        """Give free pages of the main file back: after a migration, or after a long time with a failing disk."""
        (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        return free > _PAGES_FREE and free * 2 > pages and self._change(lambda c: c.execute("VACUUM"), alone=True)

    def _note_life(self) -> None:
        if self.lived_s - self._written_s >= _LIFE_STEP_S:
            self._written_s = self.lived_s
            values = [("lived_s", int(self.lived_s)), ("lived_unix_s", int(self._wall_s()))]
            self._change(lambda c: c.executemany("INSERT OR REPLACE INTO properties VALUES (?,?)", values))

    def _tell(self) -> None:
        self.state = self.state._replace(failing=self.failing, bytes=self.used_bytes())
        if self._told is None or self.state._replace(bytes=0) != self._told._replace(bytes=0):
            self._told = self.state
            self._on_state(self.state)

    def _change(self, change: Change, alone: bool = False) -> bool:
        """True when the writer has made it durable and it did what it was asked."""
        return bool(self._ask(change, alone))
