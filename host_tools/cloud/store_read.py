"""Questions to the receiver's store, read-only: for the query API, the trainer and reports.

May be used while the receiver runs, from another process too. Never writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from host_tools.cloud import verdict
from host_tools.cloud.store_file import open_reading
from isocore.record import BOOT, DELTA, FAULT, FAULT_CLEARED, HIGH_ON, LOST, SAMPLE


class DeviceCounts(NamedTuple):
    """Rows of one device. reports: SAMPLE and DELTA; events: alarm, fault and boot records, not LOST."""

    rows: int
    identities: int
    reports: int
    events: int


class DeviceInfo(NamedTuple):
    """What the gateways said of one device."""

    name: str
    device_class: str | None
    channels: tuple[tuple[int, str, str | None], ...]  # number, name, unit


class StoredReading(NamedTuple):
    """One row as stored. unix_ms is None while no time is known; recv_unix_ms is when its batch was committed."""

    boot: int
    seq: int
    kind: int
    channel: int
    value: int
    trend: int
    uptime_ms: int
    unix_ms: int | None
    trusted: bool
    recv_unix_ms: int
    verdict: str  # of verdict.NAMES: what its board's tag says


class StoredAlarm(NamedTuple):
    """What was found wrong with a device's readings; boot and seq: of the latest; acked: so many of `times` a person
    acknowledged."""

    device: str
    reason: str
    gateway: str
    times: int
    boot: int
    seq: int
    first_unix_ms: int
    last_unix_ms: int
    acked: int


class StoredWindow(NamedTuple):
    """One window as stored: figures in milli-units, None where there was no value."""

    channel: int
    length_s: int
    start_unix_s: int
    revision: int
    least: int | None
    mean: int | None
    greatest: int | None
    last: int | None
    reports: int
    covered_ms: int
    alarm_ms: int
    fault_ms: int


_COLUMNS = """
    r.boot, r.seq, r.kind, r.channel, r.value, r.trend, r.uptime_ms, r.epoch_unix_ms + r.uptime_ms, r.trusted,
    b.recv_unix_ms, r.verdict
"""


class CloudReader:
    """Read-only view of a receiver's data folder. Use as a context manager. One thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._db = open_reading(folder, "SELECT count(*) FROM gateway")

    def __enter__(self) -> CloudReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def counters(self) -> dict[str, int]:
        """Running totals: batches_*, rows_*, and bytes_uplink and posts over all gateways."""
        totals = {str(name): int(value) for name, value in self._db.execute("SELECT name, value FROM counter")}
        query = "SELECT coalesce(sum(posts), 0), coalesce(sum(bytes_uplink), 0) FROM gateway"
        posts, uplink = self._db.execute(query).fetchone()
        return totals | {"posts": int(posts), "bytes_uplink": int(uplink)}

    def bytes_per_gateway(self) -> dict[str, int]:
        """bytes_uplink by gateway."""
        rows = self._db.execute("SELECT name, bytes_uplink FROM gateway ORDER BY name")
        return {str(name): int(size) for name, size in rows}

    def devices(self) -> list[DeviceInfo]:
        """All devices, by name."""
        found = []
        rows = self._db.execute("SELECT id, name, class FROM device ORDER BY name").fetchall()
        for number, name, device_class in rows:
            channels = self._db.execute(
                "SELECT number, name, unit FROM channel WHERE device = ? ORDER BY number", (number,)
            ).fetchall()
            found.append(DeviceInfo(name, device_class, tuple(channels)))
        return found

    def counts_per_device(self) -> dict[str, DeviceCounts]:
        """Rows counted from the rows themselves, not from the running totals."""
        query = """
            SELECT d.name, count(*), count(DISTINCT r.boot << 32 | r.seq),
                   sum(r.kind IN (?, ?)), sum(r.kind BETWEEN ? AND ? AND r.kind != ?)
            FROM reading r JOIN device d ON d.id = r.device GROUP BY d.id ORDER BY d.name
        """
        rows = self._db.execute(query, (SAMPLE, DELTA, HIGH_ON, BOOT, LOST))
        return {name: DeviceCounts(count, distinct, reports, events) for name, count, distinct, reports, events in rows}

    def readings(self, device: str, kinds: Sequence[int] = ()) -> Iterator[StoredReading]:
        """All rows of a device in order of (boot, seq), or those of the given kinds."""
        marks = ",".join("?" * len(kinds))
        query = (
            f"SELECT {_COLUMNS} FROM reading r JOIN batch b ON b.id = r.batch WHERE r.device = (SELECT id FROM device "
            f"WHERE name = ?) {f'AND r.kind IN ({marks})' if kinds else ''} ORDER BY r.boot, r.seq"
        )
        return map(_stored, self._db.execute(query, (device, *kinds)))

    def channel_history(self, device: str, channel: int) -> Iterator[StoredReading]:
        """What the trainer needs of one channel: its reports, and where faults began and ended, in order."""
        query = (
            f"SELECT {_COLUMNS} FROM reading r JOIN batch b ON b.id = r.batch WHERE r.device = (SELECT id FROM device "
            "WHERE name = ?) AND r.channel = ? AND r.kind IN (?, ?, ?, ?) ORDER BY r.boot, r.seq"
        )
        return map(_stored, self._db.execute(query, (device, channel, SAMPLE, DELTA, FAULT, FAULT_CLEARED)))

    def page(
        self,
        device: str,
        channel: int | None,
        from_unix_ms: int | None,
        to_unix_ms: int | None,
        after: tuple[int, int],
        limit: int,
    ) -> list[StoredReading]:
        """At most `limit` rows after identity `after`, within [from, to) by device time."""
        query = f"""
            SELECT {_COLUMNS} FROM reading r JOIN batch b ON b.id = r.batch
            WHERE r.device = (SELECT id FROM device WHERE name = ?1) AND (r.boot, r.seq) > (?2, ?3)
            AND (?4 IS NULL OR r.channel = ?4)
            AND (?5 IS NULL OR r.epoch_unix_ms + r.uptime_ms >= ?5)
            AND (?6 IS NULL OR r.epoch_unix_ms + r.uptime_ms < ?6)
            ORDER BY r.boot, r.seq LIMIT ?7
        """
        values = (device, *after, channel, from_unix_ms, to_unix_ms, limit)
        return [_stored(row) for row in self._db.execute(query, values)]

    def windows(
        self,
        device: str,
        channel: int | None,
        length_s: int | None,
        from_unix_s: int,
        to_unix_s: int,
        limit: int,
        after: tuple[int, int, int] = (-1, -1, -1),
    ) -> list[StoredWindow]:
        """At most `limit` windows that begin within [from, to), by start, channel and length, after such three."""
        query = """
            SELECT channel, length_s, start_unix_s, revision, least, mean, greatest, last, reports, covered_ms,
                   alarm_ms, fault_ms
            FROM window WHERE device = (SELECT id FROM device WHERE name = ?1) AND (?2 IS NULL OR channel = ?2)
            AND (?3 IS NULL OR length_s = ?3) AND start_unix_s >= ?4 AND start_unix_s < ?5
            AND (start_unix_s, channel, length_s) > (?7, ?8, ?9)
            ORDER BY start_unix_s, channel, length_s LIMIT ?6
        """
        values = (device, channel, length_s, from_unix_s, to_unix_s, limit, *after)
        return [StoredWindow._make(row) for row in self._db.execute(query, values)]

    def alarms(self) -> list[StoredAlarm]:
        """What was found wrong by boards' tags, latest first; at most 10,000."""
        query = """
            SELECT device, reason, gateway, count, boot, seq, first_unix_ms, last_unix_ms, acked FROM alarm
            ORDER BY last_unix_ms DESC, device, reason LIMIT 10000
        """
        return [StoredAlarm._make(row) for row in self._db.execute(query)]

    def frames_waiting(self) -> int:
        """Tagged frames of which some row has not come."""
        return int(self._db.execute("SELECT count(*) FROM frame").fetchone()[0])

    def lost_identities(self, device: str) -> int:
        """Identities that LOST records account for."""
        query = """
            SELECT coalesce(sum(value), 0) FROM reading
            WHERE device = (SELECT id FROM device WHERE name = ?) AND kind = ?
        """
        return int(self._db.execute(query, (device, LOST)).fetchone()[0])


def _stored(row: tuple[int, int, int, int, int, int, int, int | None, int, int, int]) -> StoredReading:
    *head, trusted, recv_unix_ms, judged = row
    return StoredReading._make((*head, bool(trusted), recv_unix_ms, verdict.NAMES[judged]))
