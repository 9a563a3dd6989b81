"""What a lake holds, from its snapshot alone: for people, for programs, and as names of files for other engines."""

from __future__ import annotations

from typing import Any

from host_tools.lake import tables
from host_tools.lake.snapshot import SCHEMA_VERSION, load_existing
from host_tools.lake.storage import Storage


def describe(storage: Storage) -> dict[str, Any]:
    """Position, and files, rows, bytes and days of each table. rows_written and rows_dropped: since the lake began."""
    snapshot = load_existing(storage)
    told: dict[str, Any] = {}
    for name in (tables.READINGS, tables.WINDOWS, tables.ALARMS):
        files = snapshot.of(name)
        days = [file.day for file in files]
        told[name] = {
            "files": len(files),
            "rows": sum(file.rows for file in files),
            "bytes": sum(file.bytes for file in files),
            "first_day": min(days, default=None),
            "last_day": max(days, default=None),
            "rows_written": snapshot.written.get(name, 0),
            "rows_dropped": snapshot.dropped.get(name, 0),
        }
    return {"schema_version": SCHEMA_VERSION, "position": snapshot.position, "tables": told}


def places(storage: Storage, table: str) -> list[str]:
    """What other programs call a table's files."""
    snapshot = load_existing(storage)
    if table == tables.DEVICES:
        return [storage.place(tables.DEVICES_PATH)]
    return [storage.place(file.path) for file in snapshot.of(table)]
