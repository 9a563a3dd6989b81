"""The receiver's one file: its name, the lock that keeps it to one writer, its durability and its schema.

It knows no table.
"""

from __future__ import annotations

import fcntl
import sqlite3
from importlib import resources
from pathlib import Path
from typing import IO

from host_tools.errors import StoreError

FILE_NAME = "cloud.db"
LOCK_NAME = "cloud.lock"


def lock(folder: Path) -> IO[str]:
    """Take the folder for one writer, making it. Raises StoreError."""
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)  # readings are nobody else's
        handle = (folder / LOCK_NAME).open("w")
    except OSError as error:
        text = f"{folder}: cannot be written: {error.strerror or error}; give another folder with --data"
        raise StoreError(text) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        text = f"{folder}: another receiver is using this folder; stop it, or give another with --data"
        raise StoreError(text) from None
    return handle


def open_store(path: Path) -> sqlite3.Connection:
    """A connection that writes, with the schema of today. Raises sqlite3.Error."""
    # Autocommit mode: transactions are begun and ended by name. Used by one thread at a time.
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        _prepare(db)
    except sqlite3.Error:
        db.close()
        raise
    return db


def open_reading(folder: Path, probe: str) -> sqlite3.Connection:
    """A connection that only reads. Raises StoreError where there is no store, or `probe` cannot be asked of it."""
    path = folder / FILE_NAME
    if not path.is_file():
        raise StoreError(f"{path}: there is no such store; `isotherm cloud serve --data {folder}` makes one")
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10, isolation_level=None)
    except sqlite3.Error as error:
        raise StoreError(f"{path}: cannot be read as a store: {error}") from error
    try:
        db.execute(probe).fetchone()
    except sqlite3.Error as error:
        db.close()
        raise StoreError(f"{path}: cannot be read as a store: {error}") from error
    return db


def _prepare(db: sqlite3.Connection) -> None:
    """Set the durability that kills and power cuts ask for, and bring the schema up to date."""
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA cache_size = -16000")  # KiB
    steps = sorted(
        (entry for entry in resources.files("host_tools.cloud.schema").iterdir() if entry.name.endswith(".sql")),
        key=lambda entry: entry.name,
    )
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > len(steps):
        raise sqlite3.DatabaseError(f"it was written by a newer version (schema {version}, known is {len(steps)})")
    for number, step in enumerate(steps[version:], start=version + 1):
        script = step.read_text(encoding="utf-8")
        db.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")
