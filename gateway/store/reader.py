"""Read-only views of the store: rows for batches, the ledger, the state of devices.

Its own connection per reader, so nobody waits for the writer (WAL). It never writes, and it works while the daemon is
down. `ledger` gives kept figures; `count_rows` counts the very rows, so that the one can check the other.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from gateway.describe import channels_of
from gateway.errors import StoreUnusable
from gateway.messages import (
    EVENT_FIRST,
    EVENT_LAST,
    LANE_ALARMS,
    LANE_BACKFILL,
    LANE_LIVE,
    Batch,
    DeviceInfo,
    ModelState,
    Row,
    Tag,
)
from gateway.store import batches, books, catalog, db, models, sinks, tags
from gateway.store.disk import Disk
from gateway.store.segments import Segment, opened

_ROW = (
    "SELECT device, boot, seq, kind, channel, value, trend, uptime_ms, epoch_unix_ms, trusted, recv_unix_ms, id"
    " FROM readings"
)
# The constants stand in the text: a partial index is only used when the query says the same words.
_EVENTS = f"kind BETWEEN {EVENT_FIRST} AND {EVENT_LAST}"
_OTHERS = f"kind NOT BETWEEN {EVENT_FIRST} AND {EVENT_LAST}"
_ROW_MAX = (1 << 63) - 1
_T = TypeVar("_T")


class Reader:
    """One read-only connection, usable from several threads one at a time."""

    def __init__(self, path: Path) -> None:
        self._db = db.open_reader(path)
        self._disk = Disk(path.parent)
        self._lock = threading.RLock()
        self.cuts = 0  # `catalog.cuts` at the last `lane_rows`

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _all(self, sql: str, *values: object) -> list[Any]:
        return self._ask(lambda connection: connection.execute(sql, values).fetchall())

    def _ask(self, question: Callable[[sqlite3.Connection], list[_T]]) -> list[_T]:
        with self._lock:
            try:
                return question(self._db)
            except sqlite3.Error as exc:
                raise StoreUnusable(f"cannot read the store: {exc}") from exc

    @contextmanager
    def _moment(self) -> Iterator[None]:
        """All that is read inside is of one moment of the main file."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            self._all("BEGIN")
            try:
                yield
            finally:
                self._db.execute("COMMIT")

    def _segments(self, where: str, *values: object) -> list[Segment]:
        return self._ask(lambda connection: catalog.segments(connection, where, *values))

    # -- for the batcher

    def lane_rows(self, lane: str, first_row: int, last_row: int, limit: int) -> list[Row]:
        """Rows of a lane's class in [first_row, last_row], in order of arrival, from segments and the main file."""
        try:
            return self._lane_rows(lane, first_row, last_row, limit)
        except StoreUnusable:  # a segment may have left or been set aside between catalogue and file: look once more
            return self._lane_rows(lane, first_row, last_row, limit)

    def _lane_rows(self, lane: str, first_row: int, last_row: int, limit: int) -> list[Row]:
        events = lane == LANE_ALARMS
        query = f"{_ROW} WHERE id BETWEEN ? AND ? AND {_EVENTS if events else _OTHERS} ORDER BY id LIMIT ?"
        some = "events > 0" if events else "rows > events"
        out: list[Any] = []
        with self._moment():
            self.cuts = catalog.cuts(self._db)
            for segment in self._segments(f"last_row >= ? AND first_row <= ? AND {some}", first_row, last_row):
                with opened(self._disk, segment.file) as file:
                    out += file.execute(query, (first_row, last_row, limit - len(out))).fetchall()
                if len(out) >= limit:
                    break
            else:
                out += self._all(query, first_row, last_row, limit - len(out))
        return [Row._make(row) for row in out]

    def tags(self, rows: Sequence[Row]) -> list[Tag]:
        """The tagged frames that brought some of these rows, by device, boot and first seq."""
        if self.property(tags.PROPERTY) is None:
            return []
        places = sorted(row.row for row in rows)
        try:
            return self._tags(places)
        except StoreUnusable:  # as for `lane_rows`
            return self._tags(places)

    def _tags(self, places: list[int]) -> list[Tag]:
        found: dict[tags.Key, Tag] = {}
        with self._moment():
            for segment in self._segments("last_row >= ? AND first_row <= ?", places[0], places[-1]):
                at = bisect_left(places, segment.first_row)
                if at < len(places) and places[at] <= segment.last_row:
                    with opened(self._disk, segment.file) as file:
                        found.update((tags.key_of(tag), tag) for tag in tags.of_rows(file, places))
            try:
                hot = list(tags.of_rows(self._db, places))
            except sqlite3.Error as exc:
                raise StoreUnusable(f"cannot read the store: {exc}") from exc
            found.update((tags.key_of(tag), tag) for tag in hot)
        return sorted(found.values(), key=lambda tag: (tag.device, tag.boot, tag.first_seq))

    def cursor(self, sink: str, lane: str) -> int:
        """Next row a lane will freeze."""
        rows = self._all("SELECT next_row FROM cursors WHERE sink = ? AND lane = ?", sink, lane)
        return int(rows[0][0]) if rows else 1

    def backfill_range(self, sink: str) -> tuple[int, int] | None:
        """Oldest range left behind, as (next row, last row)."""
        rows = self._all("SELECT next_row, last_row FROM backfill WHERE sink = ? ORDER BY last_row LIMIT 1", sink)
        return (int(rows[0][0]), int(rows[0][1])) if rows else None

    def pending(self, sink: str) -> list[Batch]:
        """Batches frozen before a restart."""
        return self._ask(lambda connection: batches.pending(connection, sink))

    def unfrozen_models(self, sink: str, limit: int) -> list[ModelState]:
        """What a sink has not been told of models, the oldest first."""
        return self._ask(lambda connection: models.states(connection, models.cursor(connection, sink), limit))

    def device_infos(self, devices: set[int]) -> dict[int, DeviceInfo]:
        """Dictionary entries for a batch."""
        out = {}
        for device in sorted(devices):
            rows = self._all("SELECT name, class, meta FROM devices WHERE device = ?", device)
            if rows:
                out[device] = DeviceInfo(device, rows[0][0], rows[0][1], channels_of(_json(rows[0][2])))
        return out

    # -- for people

    def ledger(self) -> dict[str, Any]:
        """The kept figures per device and in all; `balanced` says whether they reconcile for every sink."""
        with self._moment():
            return books.ledger(self._all)

    def count_rows(self) -> dict[str, dict[str, int]]:
        """Counts of the rows themselves, per device: walks all of them."""
        with self._moment():
            return books.count_rows(self._all, self._sources())

    def _sources(self) -> Iterator[books.Query]:
        """Whatever holds rows, each as something that can be asked."""
        yield self._all
        for segment in self._segments("1"):
            with opened(self._disk, segment.file) as file:
                yield lambda query, file=file: file.execute(query).fetchall()

    def snapshot(self) -> dict[str, Any]:
        """Ledger, counted rows, backlogs and devices at one moment, and where ledger and rows differ."""
        with self._moment():
            ledger = books.ledger(self._all)
            counted = books.count_rows(self._all, self._sources())
            return {
                "ledger": ledger,
                "rows": counted,
                "differences": books.differences(self._all, ledger["devices"], counted),
                "sinks": {name: {**self.backlog(name), "quarantine": self.quarantined(name)} for name in self.sinks()},
                "devices": self.devices(),
            }

    def devices(self) -> dict[str, dict[str, Any]]:
        """What is known of each device: class, status, last seen, boot and watermark, model state, health."""
        out: dict[str, dict[str, Any]] = {}
        for device, name, device_class, status, meta, model_state, health, seen in self._all(
            "SELECT device, name, class, status, meta, model_state, health, last_seen_unix_ms FROM devices"
            " ORDER BY name"
        ):
            boots = self._all(
                "SELECT boot, covered, top FROM boots WHERE device = ? ORDER BY boot DESC LIMIT 1", device
            )
            out[name] = {
                "class": device_class,
                "status": status,
                "last_seen_unix_ms": seen or None,
                "boot": boots[0][0] if boots else None,
                "covered_seq": boots[0][1] if boots else None,
                "top_seq": boots[0][2] if boots else None,
                "meta": _json(meta),
                "model_state": _json(model_state),
                "health": _json(health),
            }
        return out

    def known(self) -> dict[str, tuple[bool, Any]]:
        """Every device: whether the gateway speaks for it, and its meta or None."""
        return {name: (bool(own), _json(meta)) for name, own, meta in self._all("SELECT name, own, meta FROM devices")}

    def backlog(self, sink: str, head_row: int | None = None) -> dict[str, Any]:
        """How far a sink is behind: rows per lane by row id (an upper bound), batches pending and quarantined."""
        if head_row is None:
            head_row = max(
                int(self._all("SELECT coalesce(max(id), 0) FROM readings")[0][0]),
                int(self.property("sealed_row") or 0),
            )
        lanes = {
            LANE_ALARMS: self._events_from(self.cursor(sink, LANE_ALARMS)),
            LANE_LIVE: max(0, head_row + 1 - self.cursor(sink, LANE_LIVE)),
        }
        rows = self._all("SELECT coalesce(sum(last_row - next_row + 1), 0) FROM backfill WHERE sink = ?", sink)
        lanes[LANE_BACKFILL] = int(rows[0][0])
        states = {
            state: {"batches": count, "rows": total, "bytes": size}
            for state, count, total, size in self._all(
                "SELECT state, count(*), sum(rows), sum(length(body)) FROM batches WHERE sink = ? GROUP BY state", sink
            )
        }
        none = {"batches": 0, "rows": 0, "bytes": 0}
        return {
            "unfrozen_rows": lanes,
            "pending": states.get("pending", none),
            "quarantined": states.get("quarantined", none),
        }

    def _events_from(self, row: int) -> int:
        """Events at `row` and after: exact but for the segment that `row` lies in, all of whose events count."""
        hot = self._all(f"SELECT count(*) FROM readings WHERE id >= ? AND {_EVENTS}", row)
        sealed = self._all("SELECT coalesce(sum(events), 0) FROM segments WHERE last_row >= ?", row)
        return int(hot[0][0]) + int(sealed[0][0])

    def lanes(self, sink: str) -> dict[str, dict[str, int]]:
        """Per lane: rows the sink has not stored, bytes of them frozen, and when the oldest came (0: there is none)."""
        waiting = self.backlog(sink)["unfrozen_rows"]
        starts = {lane: self.cursor(sink, lane) for lane in (LANE_ALARMS, LANE_LIVE)}
        behind = self.backfill_range(sink)
        starts[LANE_BACKFILL] = behind[0] if behind else 0
        frozen = {
            lane: (int(rows), int(size), int(first))
            for lane, rows, size, first in self._all(
                "SELECT lane, sum(rows), sum(length(body)), min(first_row) FROM batches"
                " WHERE sink = ? AND state = 'pending' GROUP BY lane",
                sink,
            )
        }
        out = {}
        for lane, start in starts.items():
            rows, size, first = frozen.get(lane, (0, 0, 0))
            oldest = first or (start if waiting[lane] else 0)
            found = self.lane_rows(lane, oldest, _ROW_MAX, 1) if oldest else []
            out[lane] = {
                "rows": waiting[lane] + rows,
                "frozen_bytes": size,
                "oldest_unix_ms": found[0].recv_unix_ms if found else 0,
            }
        return out

    def sinks(self) -> list[str]:
        """Every sink the store knows of, configured or not."""
        query = "SELECT sink FROM sinks UNION SELECT sink FROM cursors UNION SELECT sink FROM batches"
        return [str(row[0]) for row in self._all(query)]

    def live_sinks(self) -> list[str]:
        """The configured ones: nothing else may hold rows back."""
        with self._lock:
            return sinks.live(self._db)

    def quarantined(self, sink: str) -> list[dict[str, Any]]:
        """Batches a sink refused, with its reason."""
        return [
            {"batch": b, "lane": lane, "rows": n, "first_row": f, "last_row": last, "reason": reason}
            for b, lane, n, f, last, reason in self._all(
                "SELECT batch, lane, rows, first_row, last_row, reason FROM batches"
                " WHERE sink = ? AND state = 'quarantined' ORDER BY batch",
                sink,
            )
        ]

    def property(self, key: str) -> Any:
        """A single value, or None."""
        rows = self._all("SELECT value FROM properties WHERE key = ?", key)
        return rows[0][0] if rows else None


def _json(text: str | None) -> Any:
    try:
        return json.loads(text) if text is not None else None
    except ValueError:
        return None
