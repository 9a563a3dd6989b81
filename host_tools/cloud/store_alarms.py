"""Alarms in the receiver's store, of four kinds, as one list of the same form.

    silence    a device or gateway that is not heard (store_watch.py)
    identity   two contents under one identity, and what boards' tags tell (store_tags.py), until a person acknowledges
               them (store_acks.py)
    limit      a board's own: high, low, rate, from the record that switched it on to the one that switched it off
    fault      a board's own: a sensor, from FAULT to FAULT_CLEARED
    foreseen   a limit that will be crossed, by the latest results of analyses (store_foreseen.py)

Those of boards are made of the rows when they are asked for, so rows that come in any order give the same list. A boot
begins with no alarm, so a later boot ends what an earlier one left on. It knows no HTTP.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from host_tools.cloud import store_acks, store_foreseen
from host_tools.cloud.answers import FAULTS, FORESEEN, IDENTITY, LIMIT, SECTIONS, SILENCE, Alarm, Place
from isocore.record import FAULT, FAULT_CLEARED, HIGH_OFF, HIGH_ON, LOW_OFF, LOW_ON, RATE_OFF, RATE_ON

OFF_OF = {HIGH_ON: HIGH_OFF, LOW_ON: LOW_OFF, RATE_ON: RATE_OFF, FAULT: FAULT_CLEARED}
_REASONS = {HIGH_ON: "high", LOW_ON: "low", RATE_ON: "rate", FAULT: "fault"}
_TIME = "epoch_unix_ms + uptime_ms"


def page(
    db: sqlite3.Connection, only_open: bool, section: int, after: Place, limit: int, now_unix_ms: int
) -> tuple[list[Alarm], tuple[int, Place] | None]:
    """At most `limit`, and where to go on: section and place, None at the end. Latest first within a section."""
    found: list[Alarm] = []
    while section < len(SECTIONS):
        part, place = _part(db, only_open, section, after, limit - len(found), now_unix_ms)
        found += part
        if place is not None:
            return found, (section, place)
        section, after = section + 1, ()
        if len(found) >= limit:
            break
    return found, (section, ()) if section < len(SECTIONS) else None


def _part(
    db: sqlite3.Connection, only_open: bool, section: int, after: Place, limit: int, now_unix_ms: int
) -> tuple[list[Alarm], Place | None]:
    if SECTIONS[section] == FORESEEN:
        ask = store_foreseen.standing if only_open else store_foreseen.history
        return ask(db, now_unix_ms, after, limit)
    if SECTIONS[section] == "board" and only_open:
        return _standing(db, after, limit)
    if SECTIONS[section] == SILENCE:
        found = list(_silences(db, only_open, after, limit))
    elif SECTIONS[section] == IDENTITY:
        found = list(_identities(db, only_open, after, limit))
    else:
        found = list(_history(db, after, limit))
    return found, found[-1].place if len(found) == limit else None


def silent(db: sqlite3.Connection) -> dict[str, int]:
    """How many are silent: "device" and "gateway"."""
    rows = db.execute("SELECT kind, count(*) FROM silence WHERE until_unix_ms IS NULL GROUP BY kind")
    return {"device": 0, "gateway": 0} | dict(rows)


def _silences(db: sqlite3.Connection, only_open: bool, after: Place, limit: int) -> Iterator[Alarm]:
    rows = db.execute(
        "SELECT id, kind, name, since_unix_ms, until_unix_ms FROM silence WHERE id < ? "
        f"{'AND until_unix_ms IS NULL' if only_open else ''} ORDER BY id DESC LIMIT ?",
        (after[0] if after else 1 << 62, limit),
    )
    for number, kind, name, since, until in rows:
        device, gateway = (name, None) if kind == "device" else (None, name)
        over = None if until is None else "heard"
        yield Alarm((number,), SILENCE, "silent", device, gateway, None, None, None, None, since, until, over, 1)


def _identities(db: sqlite3.Connection, only_open: bool, after: Place, limit: int) -> Iterator[Alarm]:
    rows = db.execute(
        "SELECT device, reason, gateway, count, boot, seq, coalesce(again_unix_ms, first_unix_ms), count > acked"
        f" FROM alarm WHERE (device, reason, gateway) > (?, ?, ?) {'AND count > acked' if only_open else ''}"
        " ORDER BY device, reason, gateway LIMIT ?",
        (*(after or ("", "", "")), limit),
    ).fetchall()
    for *place, times, boot, seq, since, stands in rows:
        device, reason, gateway = place
        acks = store_acks.of_alarm(db, device, reason, gateway)
        until, over = (None, None) if stands or not acks else (acks[0].unix_ms, "acknowledged")
        at = tuple(place)
        yield Alarm(at, IDENTITY, reason, device, gateway, None, None, boot, seq, since, until, over, times, acks)


_ON = """
    SELECT r.batch, r.device, r.boot, r.seq, r.kind, r.channel, r.value, r.epoch_unix_ms + r.uptime_ms,
           d.name, g.name
    FROM reading r JOIN device d ON d.id = r.device JOIN batch b ON b.id = r.batch JOIN gateway g ON g.id = b.gateway
"""


def _history(db: sqlite3.Connection, after: Place, limit: int) -> Iterator[Alarm]:
    rows = db.execute(
        _ON + "WHERE r.kind BETWEEN 3 AND 10 AND r.kind IN (3, 5, 7, 9) "
        "AND (r.batch, r.device, r.boot, r.seq) < (?, ?, ?, ?) "
        "ORDER BY r.batch DESC, r.device DESC, r.boot DESC, r.seq DESC LIMIT ?",
        (*(after or (1 << 62, 0, 0, 0)), limit),
    )
    for row in rows.fetchall():
        yield _board_alarm(db, row[:4], row)


def _standing(db: sqlite3.Connection, after: Place, limit: int) -> tuple[list[Alarm], Place | None]:
    """By device and channel: the last of each pair of kinds, where it is an ON of the device's last boot.

    A channel's stand on one page together, so a page may have a few more than `limit`.
    """
    found: list[Alarm] = []
    first, channel_after = (int(after[0]), int(after[1])) if after else (0, -1)
    devices = db.execute("SELECT id FROM device WHERE id >= ? ORDER BY id", (first,)).fetchall()
    for (device,) in devices:
        channel: int | None = channel_after if device == first else -1
        while (channel := _next_channel(db, device, channel)) is not None:
            found += standing_of(db, device, channel)
            if len(found) >= limit:
                return found, (device, channel)
    return found, None


def _next_channel(db: sqlite3.Connection, device: int, after: int | None) -> int | None:
    (channel,) = db.execute(
        "SELECT min(channel) FROM reading INDEXED BY reading_event "
        "WHERE device = ? AND channel > ? AND kind BETWEEN 3 AND 10",
        (device, after),
    ).fetchone()
    return None if channel is None else int(channel)


def standing_of(db: sqlite3.Connection, device: int, channel: int) -> Iterator[Alarm]:
    """What a board's channel has on: at most one of each reason."""
    for on, off in OFF_OF.items():
        row = db.execute(
            "SELECT boot, seq, kind FROM reading INDEXED BY reading_event WHERE device = ? AND channel = ? "
            "AND kind BETWEEN 3 AND 10 AND kind IN (?, ?) ORDER BY boot DESC, seq DESC LIMIT 1",
            (device, channel, on, off),
        ).fetchone()
        if row is None or row[2] != on:
            continue
        boot, seq, _ = row
        whole = db.execute(_ON + "WHERE r.device = ? AND r.boot = ? AND r.seq = ?", (device, boot, seq))
        alarm = _board_alarm(db, (device, channel), whole.fetchone())
        if alarm.ended_by is None:
            yield alarm


def _board_alarm(db: sqlite3.Connection, place: Place, row: tuple[int, ...]) -> Alarm:
    _, device, boot, seq, kind, channel, value, since, name, gateway = row
    until, ended_by = _end(db, device, channel, boot, seq, kind)
    of = FAULTS if kind == FAULT else LIMIT
    reason = _REASONS[kind]
    return Alarm(place, of, reason, str(name), str(gateway), channel, value, boot, seq, since, until, ended_by, 1)


def _end(
    db: sqlite3.Connection, device: int, channel: int, boot: int, seq: int, kind: int
) -> tuple[int | None, str | None]:
    """When an alarm ended, where that is known, and by what."""
    following = db.execute(
        f"SELECT kind, {_TIME} FROM reading INDEXED BY reading_event WHERE device = ? AND channel = ? AND boot = ? "
        "AND seq > ? AND kind BETWEEN 3 AND 10 AND kind IN (?, ?) ORDER BY boot, seq LIMIT 1",
        (device, channel, boot, seq, kind, OFF_OF[kind]),
    ).fetchone()
    if following is not None:
        return following[1], "again" if following[0] == kind else "off"
    later = db.execute(
        f"SELECT {_TIME} FROM reading WHERE device = ? AND boot > ? ORDER BY boot, seq LIMIT 1", (device, boot)
    ).fetchone()
    return (None, None) if later is None else (later[0], "boot")
