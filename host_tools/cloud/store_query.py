"""Questions that people and dashboards ask of the receiver's store: latest values, spans of time, gateways, windows.

On a connection of its own that only reads, so no question holds the writer up (WAL), and none runs longer than its
deadline. A span is found by an index of device, channel and time; rows whose time nobody knows are in none. Order by
identity, for who copies everything, is `CloudReader.page`. Alarms are in `store_alarms.py`.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from host_tools.cloud import store_acks, store_alarms, store_analyses, store_models, verdict
from host_tools.cloud.answers import Alarm, DeviceState, GatewayInfo, Latest, Place, Point, TooLong
from host_tools.cloud.resample import GATEWAY, Figures, Record
from host_tools.cloud.store_analyses import Result
from host_tools.cloud.store_models import DeviceModel
from host_tools.cloud.store_quota import DAY_MS
from host_tools.cloud.store_read import CloudReader, DeviceInfo

SECONDS_MAX = 5.0  # of one question
LATEST_ROWS_MAX = 20_000  # of a device, looked through by identity; a channel silent for longer is found by time
EVENTS_MAX = 1000  # of a boot before a span: an alarm that began there still stands in it
_STEPS = 20_000  # instructions of SQLite's machine between two looks at the clock
_TIME = "epoch_unix_ms + uptime_ms"


class StoreQuery(CloudReader):
    """`CloudReader` of one state, with bounded time and what a query API needs. Raises TooLong past the deadline."""

    def __init__(self, folder: Path, seconds_max: float = SECONDS_MAX) -> None:
        super().__init__(folder)
        deadline_s = time.monotonic() + seconds_max
        self._db.set_progress_handler(lambda: time.monotonic() > deadline_s, _STEPS)

    def __enter__(self) -> StoreQuery:
        self._db.execute("BEGIN")  # all that is read from here on is of one state; it holds up no writer (WAL)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close()
        if isinstance(error, sqlite3.OperationalError) and "interrupted" in str(error):
            raise TooLong("the question takes too long; ask for less: one device, a shorter span, a smaller limit")

    def gateways(self, now_unix_ms: int, after: str, limit: int) -> list[GatewayInfo]:
        """At most `limit`, by name, after a name."""
        query = """
            SELECT g.name, g.posts, g.bytes_uplink, g.heard_unix_ms, coalesce(b.rows, 0), coalesce(b.bytes, 0),
                   s.since_unix_ms
            FROM gateway g LEFT JOIN brought b ON b.gateway = g.id AND b.unix_day = ?
            LEFT JOIN silence s ON s.kind = 'gateway' AND s.name = g.name AND s.until_unix_ms IS NULL
            WHERE g.name > ? ORDER BY g.name LIMIT ?
        """
        return [GatewayInfo._make(row) for row in self._db.execute(query, (now_unix_ms // DAY_MS, after, limit))]

    def analyses(
        self,
        gateway: str | None,
        name: str | None,
        only_foreseen: bool,
        after: tuple[int, str, str, int] | None,
        limit: int,
    ) -> list[Result]:
        """Results of analyses of windows, the latest window first."""
        return store_analyses.latest(self._db, gateway, name, only_foreseen, limit, after)

    def models(self, device: str | None, state: str | None, after: str, limit: int) -> list[DeviceModel]:
        """At most `limit`: the last state of each device's model, by its name, after a name."""
        return store_models.current(self._db, device, state, after, limit)

    def model_changes(
        self, device: str | None, state: str | None, after: tuple[str, int, str] | None, limit: int
    ) -> list[DeviceModel]:
        """At most `limit` states that models were in, by device, the latest first, after device, began and gateway."""
        return store_models.history(self._db, device, state, after, limit)

    def models_by_state(self) -> dict[str, int]:
        """How many devices are in each state."""
        return store_models.by_state(self._db)

    def device_states(self, after: str, limit: int, only: str | None = None) -> list[DeviceState]:
        """At most `limit`, by name, after a name; or the one of that name."""
        query = """
            SELECT d.id, d.name, d.class, d.heard_unix_ms, s.since_unix_ms FROM device d
            LEFT JOIN silence s ON s.kind = 'device' AND s.name = d.name AND s.until_unix_ms IS NULL
            WHERE d.name > ?1 AND (?3 IS NULL OR d.name = ?3) ORDER BY d.name LIMIT ?2
        """
        found = []
        for number, name, device_class, heard, silent in self._db.execute(query, (after, limit, only)).fetchall():
            info = DeviceInfo(name, device_class, self.channels(number))
            found.append(DeviceState(number, info, heard, silent))
        return found

    def channels(self, device: int) -> tuple[tuple[int, str, str | None], ...]:
        """Number, name and unit of each channel that a gateway told of."""
        query = "SELECT number, name, unit FROM channel WHERE device = ? ORDER BY number"
        return tuple(self._db.execute(query, (device,)))

    def latest(self, device: int, channels: set[int]) -> list[Latest]:
        """The last report of each of these channels that has one."""
        columns = f"channel, boot, seq, value, trend, {_TIME}, trusted, verdict"
        query = f"SELECT {columns}, kind FROM reading WHERE device = ? ORDER BY boot DESC, seq DESC LIMIT ?"
        found: dict[int, Latest] = {}
        for *row, kind in self._db.execute(query, (device, LATEST_ROWS_MAX)):
            if kind <= 2 and row[0] not in found:
                found[row[0]] = _latest(row)
                if channels <= found.keys():
                    break
        older = f"""
            SELECT {columns} FROM reading WHERE device = ? AND channel = ? AND epoch_unix_ms IS NOT NULL AND kind <= 2
            ORDER BY {_TIME} DESC LIMIT 1
        """
        for channel in channels - found.keys():
            for row in self._db.execute(older, (device, channel)):
                found[channel] = _latest(row)
        return [found[channel] for channel in sorted(found)]

    def points(
        self, device: int, channel: int, span_unix_ms: tuple[int, int], after: tuple[int, int, int], limit: int
    ) -> list[Point]:
        """At most `limit` reports within [from, to), by time, after (unix_ms, boot, seq)."""
        query = f"""
            SELECT {_TIME}, boot, seq, kind, value, trend, trusted, verdict FROM reading
            WHERE device = ? AND channel = ? AND epoch_unix_ms IS NOT NULL AND {_TIME} >= ? AND {_TIME} < ?
            AND ({_TIME}, boot, seq) > (?, ?, ?) AND kind <= 2 ORDER BY {_TIME}, boot, seq LIMIT ?
        """
        start_ms = max(span_unix_ms[0], after[0])
        rows = self._db.execute(query, (device, channel, start_ms, span_unix_ms[1], *after, limit))
        return [
            Point(unix_ms, boot, seq, kind, value, trend, bool(trusted), verdict.NAMES[judged])
            for unix_ms, boot, seq, kind, value, trend, trusted, judged in rows
        ]

    def records(self, device: int, channel: int, span_unix_ms: tuple[int, int], limit: int) -> list[Record]:
        """At most `limit` records within [from, to), by time, as windows are folded from."""
        query = f"""
            SELECT boot, seq, kind, value, trend, uptime_ms, {_TIME} FROM reading
            WHERE device = ? AND channel = ? AND epoch_unix_ms IS NOT NULL AND {_TIME} >= ? AND {_TIME} < ?
            ORDER BY {_TIME}, boot, seq LIMIT ?
        """
        return list(self._db.execute(query, (device, channel, *span_unix_ms, limit)))

    def events_before(self, device: int, channel: int, boot: int, seq: int) -> list[Record]:
        """Alarms and faults of this boot before a record: what of them stands, stands at that record."""
        query = f"""
            SELECT boot, seq, kind, value, trend, uptime_ms, {_TIME} FROM reading INDEXED BY reading_event
            WHERE device = ? AND channel = ? AND boot = ? AND seq < ? AND kind BETWEEN 3 AND 10
            AND epoch_unix_ms IS NOT NULL ORDER BY boot DESC, seq DESC LIMIT ?
        """
        return list(self._db.execute(query, (device, channel, boot, seq, EVENTS_MAX)))

    def alarm_page(
        self, only_open: bool, section: int, after: Place, limit: int, now_unix_ms: int
    ) -> tuple[list[Alarm], tuple[int, Place] | None]:
        """Alarms, and where to go on: see `store_alarms.page`."""
        return store_alarms.page(self._db, only_open, section, after, limit, now_unix_ms)

    def standing(self, device: int, channel: int) -> list[Alarm]:
        """What a board's channel has on."""
        return list(store_alarms.standing_of(self._db, device, channel))

    def silent(self) -> dict[str, int]:
        """How many are silent: "device" and "gateway"."""
        return store_alarms.silent(self._db)

    def identity_alarms(self) -> dict[str, int]:
        """How many identity alarms stand, by reason."""
        return store_acks.standing(self._db)

    def first_unix_ms(self, device: int, channel: int) -> int | None:
        """When anything of a channel is first known: of a row or of a gateway's window."""
        row = f"SELECT min({_TIME}) FROM reading WHERE device = ? AND channel = ? AND epoch_unix_ms IS NOT NULL"
        window = "SELECT min(start_unix_s) * 1000 FROM window WHERE device = ? AND channel = ?"
        found = [self._db.execute(query, (device, channel)).fetchone()[0] for query in (row, window)]
        return min((unix_ms for unix_ms in found if unix_ms is not None), default=None)

    def longest_s(self, device: int, channel: int, divisor_of_s: int) -> int | None:
        """The longest length of gateways' windows of this channel that divides a length."""
        query = "SELECT DISTINCT length_s FROM window WHERE device = ? AND channel = ? AND ? % length_s = 0"
        found = self._db.execute(query, (device, channel, divisor_of_s)).fetchall()
        return max((length for (length,) in found), default=None)

    def figures(self, device: int, channel: int, length_s: int, span_unix_s: tuple[int, int]) -> list[Figures]:
        """Gateways' windows that begin within [from, to), in order."""
        query = """
            SELECT start_unix_s, least, mean, greatest, last, reports, covered_ms, alarm_ms, fault_ms FROM window
            WHERE device = ? AND channel = ? AND length_s = ? AND start_unix_s >= ? AND start_unix_s < ?
            ORDER BY start_unix_s
        """
        rows = self._db.execute(query, (device, channel, length_s, *span_unix_s))
        return [Figures._make((*row, GATEWAY)) for row in rows]


def _latest(row: list[int] | tuple[int, ...]) -> Latest:
    *head, trusted, judged = row
    return Latest._make((*head, bool(trusted), verdict.NAMES[judged]))
