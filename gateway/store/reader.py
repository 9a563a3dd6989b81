"""Read-only views of the store: rows for batches, the ledger, the state of devices.

Its own connection per reader, so nobody waits for the writer (WAL). It never writes, and it works while the daemon is
down. `ledger` gives kept figures; `count_rows` counts the very rows, so that the one can check the other.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

from gateway.describe import channels_of
from gateway.errors import StoreUnusable
from gateway.messages import (
    EVENT_FIRST,
    EVENT_LAST,
    LANE_ALARMS,
    LANE_BACKFILL,
    LANE_LIVE,
    LOST,
    Batch,
    DeviceInfo,
    Row,
)
from gateway.store import batches, db, sinks

_ROW = (
    "SELECT device, boot, seq, kind, channel, value, trend, uptime_ms, epoch_unix_ms, trusted, recv_unix_ms, id"
    " FROM readings"
)
# The constants stand in the text: a partial index is only used when the query says the same words.
_EVENTS = f"kind BETWEEN {EVENT_FIRST} AND {EVENT_LAST}"
_OTHERS = f"kind NOT BETWEEN {EVENT_FIRST} AND {EVENT_LAST}"

_CLASSES = ("reports", "events", "windows", "notices")
_NO_ROWS = {**dict.fromkeys(_CLASSES, 0), "rows": 0, "identities": 0}


class Reader:
    """One read-only connection, usable from several threads one at a time."""

    def __init__(self, path: Path) -> None:
        self._db = db.open_reader(path)
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _all(self, sql: str, *values: object) -> list[Any]:
        with self._lock:
            try:
                return self._db.execute(sql, values).fetchall()
            except sqlite3.Error as exc:
                raise StoreUnusable(f"cannot read the store: {exc}") from exc

    # -- for the batcher

    def lane_rows(self, lane: str, first_row: int, last_row: int, limit: int) -> list[Row]:
        """Rows of a lane's class in [first_row, last_row], in order of arrival."""
        what = _EVENTS if lane == LANE_ALARMS else _OTHERS
        rows = self._all(f"{_ROW} WHERE id BETWEEN ? AND ? AND {what} ORDER BY id LIMIT ?", first_row, last_row, limit)
        return [Row._make(row) for row in rows]

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
        with self._lock:
            try:
                return batches.pending(self._db, sink)
            except sqlite3.Error as exc:
                raise StoreUnusable(f"cannot read the store: {exc}") from exc

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
        names = [n for _, n, *_ in self._all("PRAGMA table_info(ledger)")][1:]
        sink_names = [n for _, n, *_ in self._all("PRAGMA table_info(ledger_sink)")][2:]
        per_sink: dict[int, dict[str, dict[str, int]]] = {}
        for sink, device, *values in self._all("SELECT * FROM ledger_sink"):
            per_sink.setdefault(device, {})[sink] = dict(zip(sink_names, values, strict=True))
        devices = {}
        totals = dict.fromkeys(names, 0)
        balanced = True
        for name, device, *values in self._all(
            "SELECT d.name, l.* FROM ledger l JOIN devices d USING (device) ORDER BY d.name"
        ):
            entry: dict[str, Any] = dict(zip(names, values, strict=True))
            for key in names:
                totals[key] += entry[key]
            stored = _stored(entry)
            balanced &= entry["received"] == stored + entry["duplicates"] + entry["conflicts"]
            entry["stored"] = stored
            entry["sinks"] = {}
            for sink, done in per_sink.get(device, {}).items():
                gone = sum(done.values())
                balanced &= gone <= stored
                entry["sinks"][sink] = {**done, "pending": stored - gone}
            devices[name] = entry
        totals["stored"] = _stored(totals)
        return {"totals": totals, "balanced": balanced, "devices": devices}

    def count_rows(self) -> dict[str, dict[str, int]]:
        """Counts of the rows themselves, per device: walks the whole table."""
        out = {}
        for name, rows, identities, reports, events, notices, lost, alarms, faults, boots in self._all(
            "SELECT d.name, count(*), count(DISTINCT r.boot * 4294967296 + r.seq), sum(r.kind < ?1),"
            " sum(r.kind BETWEEN ?1 AND ?2 AND r.kind != ?3), sum(r.kind = ?3),"
            " coalesce(sum(CASE WHEN r.kind = ?3 THEN r.value END), 0),"
            " sum(r.kind IN (3, 5, 7)), sum(r.kind = 9), count(DISTINCT r.boot)"
            " FROM readings r JOIN devices d USING (device) GROUP BY d.name ORDER BY d.name",
            EVENT_FIRST,
            EVENT_LAST,
            LOST,
        ):
            out[name] = {
                "rows": rows,
                "identities": identities,
                "reports": reports,
                "events": events,
                "windows": rows - reports - events - notices,
                "notices": notices,
                "lost_records": lost,
                "alarms": alarms,
                "faults": faults,
                "boots": boots,
            }
        return out

    def snapshot(self) -> dict[str, Any]:
        """Ledger, counted rows, backlogs and devices at one moment, and where ledger and rows differ."""
        with self._lock:
            self._db.execute("BEGIN")
        try:
            ledger = self.ledger()
            counted = self.count_rows()
            names = self.sinks()
            return {
                "ledger": ledger,
                "rows": counted,
                "differences": self._differences(ledger["devices"], counted),
                "sinks": {name: {**self.backlog(name), "quarantine": self.quarantined(name)} for name in names},
                "devices": self.devices(),
            }
        finally:
            with self._lock:
                self._db.execute("COMMIT")

    def _differences(self, ledger: dict[str, Any], counted: dict[str, dict[str, int]]) -> list[str]:
        """One sentence per difference between ledger, rows and batches; none when all agree."""
        faults = []
        for name, entry in ledger.items():
            rows = counted.get(name, _NO_ROWS)
            for what in _CLASSES:
                if entry[f"stored_{what}"] != rows[what]:
                    faults.append(f"{name}: ledger says {entry[f'stored_{what}']} {what}, the table holds {rows[what]}")
            if rows["rows"] != rows["identities"]:
                faults.append(f"{name}: {rows['rows']} rows but {rows['identities']} identities")
            stored = entry["stored"]
            if entry["received"] != stored + entry["duplicates"] + entry["conflicts"]:
                faults.append(f"{name}: received {entry['received']} is not stored + duplicates + conflicts")
        for sink, rows_pending in self._all(
            "SELECT sink, sum(rows) FROM batches WHERE state = 'pending' GROUP BY sink"
        ):
            left = sum(e["sinks"].get(sink, {}).get("pending", e["stored"]) for e in ledger.values())
            if rows_pending > left:
                faults.append(f"sink {sink}: {rows_pending} rows in pending batches, the ledger knows {left}")
        return faults

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
            head_row = int(self._all("SELECT coalesce(max(id), 0) FROM readings")[0][0])
        lanes = {
            LANE_ALARMS: int(
                self._all(f"SELECT count(*) FROM readings WHERE id >= ? AND {_EVENTS}", self.cursor(sink, LANE_ALARMS))[
                    0
                ][0]
            ),
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
            what = _EVENTS if lane == LANE_ALARMS else _OTHERS
            oldest = first or (start if waiting[lane] else 0)
            found = (
                self._all(f"SELECT recv_unix_ms FROM readings WHERE id >= ? AND {what} ORDER BY id LIMIT 1", oldest)
                if oldest
                else []
            )
            out[lane] = {
                "rows": waiting[lane] + rows,
                "frozen_bytes": size,
                "oldest_unix_ms": int(found[0][0]) if found else 0,
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


def _stored(entry: dict[str, Any]) -> int:
    """Records stored, of a ledger's entry or total."""
    return sum(int(entry[f"stored_{what}"]) for what in _CLASSES)


def _json(text: str | None) -> Any:
    try:
        return json.loads(text) if text is not None else None
    except ValueError:
        return None
