"""Limits that will be crossed, as alarms: "will cross 8 °C in 40 min", from the results of analyses.

One lasts as long as run after run of one analysis foresees the same of a sensor. It is over when a later run does not
(`off`), when the board's own alarm of that limit begins (`limit`), or when it should have happened and no run came
(`passed`). It is made of results and rows when asked for, so whatever order they come in gives the same list; only
`passed` asks a clock. `note` works inside a transaction of who keeps results. It knows no HTTP.
"""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, NamedTuple

from host_tools.cloud.analyses import sensor_of
from host_tools.cloud.answers import FORESEEN, Alarm, Crossing, Place
from isocore.record import HIGH_ON, LOW_ON

RUNS_MAX = 1000  # of one analysis that are looked at for one alarm
LOOKED_AT_MAX = 10_000  # rows for one page
_REASONS = {HIGH_ON: "high", LOW_ON: "low"}
_KEY = "gateway = :gateway AND name = :name AND length_s = :length_s"
_OF = "f.gateway = a.gateway AND f.name = a.name AND f.length_s = a.length_s AND f.start_unix_s = a.start_unix_s"
_ROW = """
    SELECT f.gateway, f.name, f.length_s, f.start_unix_s, f.device, f.channel, f.value_milli, f.slope_milli_h,
           f.limit_milli, f.cross_s, f.earliest_s, f.latest_s, g.name
    FROM foresight f JOIN gateway g ON g.id = f.gateway
"""
# The last run of each analysis.
_LATEST = """
    JOIN (SELECT gateway, name, length_s, max(start_unix_s) AS start_unix_s FROM analysis INDEXED BY analysis_done
          WHERE result IS NOT NULL GROUP BY gateway, name, length_s) a ON
"""
# Runs of one analysis, and what each says of one sensor.
_RUNS = f"""
    SELECT a.start_unix_s, f.value_milli, f.slope_milli_h, f.limit_milli, f.cross_s, f.earliest_s, f.latest_s
    FROM analysis a INDEXED BY analysis_done LEFT JOIN foresight f ON {_OF} AND f.device = :device
        AND f.channel = :channel
    WHERE a.gateway = :gateway AND a.name = :name AND a.length_s = :length_s AND a.result IS NOT NULL
"""
_BEGAN = """
    SELECT epoch_unix_ms + uptime_ms FROM reading INDEXED BY reading_event
    WHERE device = (SELECT id FROM device WHERE name = ?) AND channel = ? AND kind BETWEEN 3 AND 10 AND kind = ?
    AND epoch_unix_ms IS NOT NULL
"""
_FOR_EVER = 1 << 53


class _Seen(NamedTuple):
    """What one run says of one sensor. end: of its window."""

    end_unix_ms: int
    value_milli: int | None
    slope_milli_h: int
    limit_milli: int
    cross_s: int
    earliest_s: int | None
    latest_s: int | None

    @property
    def kind(self) -> int:
        return HIGH_ON if self.slope_milli_h > 0 else LOW_ON

    def past_unix_ms(self, length_s: int) -> int:
        """When it should have happened, and another run should have come."""
        latest_s = self.cross_s if self.latest_s is None else self.latest_s
        return self.end_unix_ms + 1000 * max(latest_s, 2 * length_s)


class _Sensor(NamedTuple):
    """One sensor of one analysis."""

    gateway: int
    name: str
    length_s: int
    device: str
    channel: int


def note(db: sqlite3.Connection, key: tuple[int, str, int, int], result: bytes | None) -> None:
    """What the result of a run foresees, instead of what one before did. key: gateway, name, length, start."""
    db.execute(f"DELETE FROM foresight WHERE {_KEY} AND start_unix_s = :start_s", _named(key))
    if result is None:
        return
    rows = []
    for text, value, _, _, slope, limit, cross, earliest, latest in json.loads(result)[3]:
        sensor = sensor_of(text)
        if sensor is not None and limit is not None and cross is not None and slope is not None:
            rows.append((*key, *sensor, value, slope, limit, cross, earliest, latest))
    db.executemany("INSERT OR REPLACE INTO foresight VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)


def _named(key: tuple[int, str, int, int]) -> dict[str, Any]:
    return dict(zip(("gateway", "name", "length_s", "start_s"), key, strict=True))


def standing(db: sqlite3.Connection, now_unix_ms: int, after: Place, limit: int) -> tuple[list[Alarm], Place | None]:
    """By gateway, analysis and sensor: what the last run of each analysis foresees, unless it is over."""
    found: list[Alarm] = []
    looked = _Look(db, now_unix_ms)
    place = after or ("", "", 0, "", -1)
    order = "g.name, f.name, f.length_s, f.device, f.channel"
    query = f"{_ROW}{_LATEST}{_OF} WHERE ({order}) > (?, ?, ?, ?, ?) ORDER BY {order} LIMIT ?"
    rows = db.execute(query, (*place, LOOKED_AT_MAX)).fetchall()
    for row in rows:
        sensor, seen = _parts(row)
        place = (row[12], sensor.name, sensor.length_s, sensor.device, sensor.channel)
        if looked.end(sensor, seen, None) != (None, None):
            continue
        first, times = looked.back(sensor, row[3], seen.kind)
        found.append(looked.alarm(place, row[12], sensor, first, seen, times, None))
        if len(found) >= limit:
            return found, place
    return found, place if len(rows) == LOOKED_AT_MAX else None


def history(db: sqlite3.Connection, now_unix_ms: int, after: Place, limit: int) -> tuple[list[Alarm], Place | None]:
    """All of them, the latest beginning first."""
    found: list[Alarm] = []
    looked = _Look(db, now_unix_ms)
    start_s, *rest = after or (_FOR_EVER, "", "", 0, "", -1)
    order = "-f.start_unix_s, g.name, f.name, f.length_s, f.device, f.channel"
    query = (
        f"{_ROW} WHERE f.start_unix_s <= ? AND ({order}) > (?, ?, ?, ?, ?, ?)"
        " ORDER BY f.start_unix_s DESC, g.name, f.name, f.length_s, f.device, f.channel LIMIT ?"
    )
    rows = db.execute(query, (start_s, -start_s, *rest, LOOKED_AT_MAX)).fetchall()
    for row in rows:
        sensor, seen = _parts(row)
        place = (row[3], row[12], sensor.name, sensor.length_s, sensor.device, sensor.channel)
        if looked.back(sensor, row[3], seen.kind, only_before=True)[1] > 1:
            continue  # it goes on from an earlier run, and is told of with that
        course, without = looked.on(sensor, row[3], seen)
        found.append(looked.alarm(place, row[12], sensor, seen, course[-1], len(course), without))
        if len(found) >= limit:
            return found, place
    return found, place if len(rows) == LOOKED_AT_MAX else None


def _parts(row: tuple[Any, ...]) -> tuple[_Sensor, _Seen]:
    gateway, name, length_s, start_s, device, channel, *figures, _ = row
    return _Sensor(gateway, name, length_s, device, channel), _Seen(_end_unix_ms(start_s, length_s), *figures)


def _end_unix_ms(start_s: int, length_s: int) -> int:
    return (start_s + length_s) * 1000


class _Look:
    """At the runs around one, for one page."""

    def __init__(self, db: sqlite3.Connection, now_unix_ms: int) -> None:
        self._db = db
        self._now_unix_ms = now_unix_ms
        self._ons: dict[tuple[str, int, int], list[int]] = {}

    def back(self, sensor: _Sensor, start_s: int, kind: int, *, only_before: bool = False) -> tuple[_Seen, int]:
        """From a run that foresees it back to the first that did: that one, and how many there are.

        only_before: look at one run before it, no further.
        """
        before = self._runs(sensor, "a.start_unix_s <= :start_s ORDER BY a.start_unix_s DESC", start_s)
        _, first = next(before)
        assert first is not None
        times = 1
        for _, seen in before:
            if seen is None or seen.kind != kind or self._began(sensor, kind, seen.end_unix_ms, first.end_unix_ms):
                break
            first, times = seen, times + 1
            if only_before:
                break
        return first, times

    def on(self, sensor: _Sensor, start_s: int, first: _Seen) -> tuple[list[_Seen], int | None]:
        """From the first run that foresees it on: all that do, and the end of the first after them that does not."""
        course = [first]
        for end_unix_ms, seen in self._runs(sensor, "a.start_unix_s > :start_s ORDER BY a.start_unix_s", start_s):
            if seen is None or seen.kind != first.kind:
                return course, end_unix_ms
            if self._began(sensor, first.kind, course[-1].end_unix_ms, end_unix_ms):
                break
            course.append(seen)
        return course, None

    def end(self, sensor: _Sensor, last: _Seen, without_unix_ms: int | None) -> tuple[int | None, str | None]:
        """When and by what it is over. last: the last run that foresees it; without: end of the one that does not."""
        began = self._began(sensor, last.kind, last.end_unix_ms, without_unix_ms or _FOR_EVER)
        if began is not None:
            return began, "limit"
        if without_unix_ms is not None:
            return without_unix_ms, "off"
        past = last.past_unix_ms(sensor.length_s)
        return (past, "passed") if past < self._now_unix_ms else (None, None)

    def alarm(
        self,
        place: Place,
        gateway: str,
        sensor: _Sensor,
        first: _Seen,
        last: _Seen,
        times: int,
        without_unix_ms: int | None,
    ) -> Alarm:
        """first, last: of the runs that foresee it; times: how many there are."""
        earliest_s = last.cross_s if last.earliest_s is None else last.earliest_s
        crossing = Crossing(
            sensor.name,
            last.limit_milli,
            last.end_unix_ms + 1000 * last.cross_s,
            last.end_unix_ms + 1000 * earliest_s,
            None if last.latest_s is None else last.end_unix_ms + 1000 * last.latest_s,
        )
        about = (FORESEEN, _REASONS[last.kind], sensor.device, gateway, sensor.channel, last.value_milli, None, None)
        until, ended_by = self.end(sensor, last, without_unix_ms)
        return Alarm._make((place, *about, first.end_unix_ms, until, ended_by, times, (), crossing))

    def _runs(self, sensor: _Sensor, where: str, start_s: int) -> Iterator[tuple[int, _Seen | None]]:
        """End of each run's window, and what it foresees of the sensor."""
        rows = self._db.execute(f"{_RUNS} AND {where} LIMIT {RUNS_MAX}", sensor._asdict() | {"start_s": start_s})
        for run_s, *figures in rows:
            end_unix_ms = _end_unix_ms(run_s, sensor.length_s)
            yield end_unix_ms, None if figures[2] is None else _Seen(end_unix_ms, *figures)

    def _began(self, sensor: _Sensor, kind: int, after_unix_ms: int, to_unix_ms: int) -> int | None:
        """When the board's own alarm of that limit began, the first time within (after, to]."""
        key = (sensor.device, sensor.channel, kind)
        if key not in self._ons:
            self._ons[key] = sorted(at_unix_ms for (at_unix_ms,) in self._db.execute(_BEGAN, key))
        ons = self._ons[key]
        at = bisect_right(ons, after_unix_ms)
        return ons[at] if at < len(ons) and ons[at] <= to_unix_ms else None
