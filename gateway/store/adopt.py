"""At start: make folder and catalogue agree, whatever a power cut, a lost main file or an old backup left behind.

    half made                                     removed: nothing ever named it
    in the catalogue, file there                  as it should be
    in the catalogue, file gone                   the keeper finds it, books its rows as damaged, raises the alarm
    ours, number below the next, not in there     removed: it left, or was rewritten, and the power went before removal
    ours, the next number                         removed: its rows are still hot
    ours, a later number                          set aside: the main file is older than it
    another main file wrote it                    taken over, when the main file is lost

It looks at names and one small table a stray file, never at rows, unless there is something to take over.
"""

from __future__ import annotations

import logging
import sqlite3

from gateway.errors import StoreUnusable
from gateway.store import catalog, segments
from gateway.store.disk import Disk
from gateway.store.segments import Built, Names

log = logging.getLogger("isotherm.store")


def settle(db: sqlite3.Connection, disk: Disk, names: Names, store: str, stamp_s: int) -> int:
    """Do it. Returns how many segments were taken over. Raises StoreUnusable, OSError."""
    removed = names.half_made(disk)
    known = {segment.file for segment in catalog.segments(db)}
    orphans: list[Built] = []
    for file in names.sound(disk):
        if file in known:
            continue
        try:
            writer, built = segments.described(disk, names, file)
        except StoreUnusable as exc:
            log.error("%s; it was set aside as %s", exc, segments.set_aside(disk, file, stamp_s))
            continue
        if writer != store:
            orphans.append(built)
        elif built.segment.segment <= catalog.next_number(db):
            removed.append(file)
        else:
            log.error("%s is newer than the main file; set aside as %s", file, segments.set_aside(disk, file, stamp_s))
    for name in removed:
        disk.remove(name)
    return _take_over(db, disk, orphans)


def _take_over(db: sqlite3.Connection, disk: Disk, orphans: list[Built]) -> int:
    latest = {b.segment.segment: b for b in sorted(orphans, key=lambda b: b.segment.file)}  # the newest edition of each
    if not latest:
        return 0
    if db.execute("SELECT 1 FROM devices LIMIT 1").fetchone():
        log.error("%d segments of another store lie beside this one; they are left alone", len(latest))
        return 0
    db.execute("BEGIN IMMEDIATE")
    try:
        for built in sorted(latest.values(), key=lambda b: b.segment.last_row):
            _enter(db, disk, built)
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    log.error("the main file is new; %d segments of the former one were taken over", len(latest))
    return len(latest)


def _enter(db: sqlite3.Connection, disk: Disk, built: Built) -> None:
    """A segment of a lost main file: its rows count as received and stored, its devices and watermarks come back."""
    with segments.opened(disk, built.segment.file) as file:
        devices = file.execute("SELECT device, name, class, meta FROM devices").fetchall()
        epochs = file.execute(
            "SELECT device, boot, epoch_unix_ms, max(trusted) FROM readings GROUP BY device, boot"
        ).fetchall()
    db.executemany(
        # The meta of a device that the gateway speaks for says so (gateway/own.py); of a board, nobody takes that word.
        "INSERT OR REPLACE INTO devices (device, name, class, meta, own)"
        " VALUES (?1,?2,?3,?4, coalesce(json_extract(?4, '$.own'), 0))",
        devices,
    )
    catalog.enter(db, built)
    db.executemany("INSERT OR IGNORE INTO ledger (device) VALUES (?)", [(d[0],) for d in devices])
    db.executemany(
        "UPDATE ledger SET received = received + ?2 + ?3 + ?4 + ?5, stored_reports = stored_reports + ?2,"
        " stored_events = stored_events + ?3, stored_windows = stored_windows + ?4,"
        " stored_notices = stored_notices + ?5 WHERE device = ?1",
        built.counts,
    )
    db.executemany(
        "INSERT OR IGNORE INTO boots VALUES (?,?,0,0,?,?,0)",
        [(d, b, e, 2 if trusted else 0) for d, b, e, trusted in epochs],
    )
    db.executemany("INSERT OR IGNORE INTO boots VALUES (?,?,0,0,NULL,0,0)", {(d, b) for d, b, _, _ in built.ranges})
    for device, boot, first, last in built.ranges:
        db.execute(
            "UPDATE boots SET top = max(top, ?4), covered = CASE WHEN covered >= ?3 - 1 THEN max(covered, ?4)"
            " ELSE covered END WHERE device = ?1 AND boot = ?2",
            (device, boot, first, last),
        )
