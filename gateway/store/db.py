"""Opening the database file: lock, pragmas, migrations, integrity check, setting a damaged file aside.

It knows no table's meaning. Cost does not grow with the rows stored: the integrity check stops at its time budget and
only after a suspicion runs to the end.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from gateway.errors import StoreBusy, StoreDamaged, StoreUnusable

log = logging.getLogger("isotherm.store")

SCHEMA_DIR = Path(__file__).parent.parent / "schema"
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PROGRESS_STEPS = 20_000  # virtual machine steps between two looks at the clock
_REASONS = {
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_IOERR: "io",
    sqlite3.SQLITE_READONLY: "readonly",
    sqlite3.SQLITE_BUSY: "busy",
    sqlite3.SQLITE_LOCKED: "busy",
    sqlite3.SQLITE_CANTOPEN: "open",
}


def translate(exc: sqlite3.Error) -> StoreBusy | StoreDamaged | None:
    """The gateway's error for SQLite's: retry later, damaged file, or None for a mistake of ours."""
    code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
    if code in _CORRUPT:
        return StoreDamaged(f"database is damaged: {exc}")
    reason = _REASONS.get(code)
    return StoreBusy(reason, f"database cannot be written: {exc}") if reason else None


def uri(path: Path, mode: str, immutable: bool = False) -> str:
    """SQLite's name of a file, for `connect` and ATTACH. `mode`: ro | rw | rwc."""
    return f"file:{quote(str(path))}?mode={mode}" + ("&immutable=1" if immutable else "")


def connect(path: Path, mode: str, immutable: bool = False) -> sqlite3.Connection:
    """Every connection of the gateway is made here, so that a test can make all of them otherwise."""
    return sqlite3.connect(
        uri(path, mode, immutable), uri=True, isolation_level=None, check_same_thread=False, timeout=5
    )


class FileLock:
    """One gateway a database: an advisory lock that the kernel drops with the process, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def acquire(self) -> None:
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            self.release()
            if exc.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
                raise StoreUnusable(f"another gateway already uses {self._path.parent}: stop it first") from exc
            raise StoreUnusable(
                f"cannot write {self._path}: {exc.strerror}; check gateway.data_dir and its owner"
            ) from exc

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_writer(path: Path, check_ms: int, wall_s: Callable[[], float]) -> tuple[sqlite3.Connection, Path | None]:
    """Open, check and migrate. Returns the connection and where a damaged predecessor was set aside, or None."""
    suspect = suspect_mark(path)
    aside: Path | None = None
    try:
        connection = _open_checked(path, 0 if suspect.exists() else check_ms)
    except StoreDamaged as exc:
        aside = set_aside(path, int(wall_s()))
        log.error("store is damaged and was set aside as %s; a new one is started: %s", aside.name, exc)
        connection = _open_checked(path, check_ms)
    suspect.unlink(missing_ok=True)
    if aside is not None:
        with connection:
            connection.execute("INSERT OR REPLACE INTO properties VALUES ('set_aside', ?)", (aside.name,))
    return connection, aside


def open_reader(path: Path) -> sqlite3.Connection:
    """A read-only connection; it may outlive or precede the daemon."""
    if not path.exists():
        raise StoreUnusable(f"no store at {path}: the gateway has not run yet with this data_dir")
    connection: sqlite3.Connection | None = None
    try:
        connection = connect(path, "ro")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != len(_steps()):
            connection.close()
            raise StoreUnusable(f"{path} has schema {version}, this gateway's is {len(_steps())}: start it once")
    except sqlite3.Error as exc:
        if connection is not None:
            connection.close()
        raise StoreUnusable(f"cannot read {path}: {exc}") from exc
    return connection


def suspect_mark(path: Path) -> Path:
    """The file that tells the next start to check the whole database, whatever it takes."""
    return path.with_name(path.name + ".suspect")


def set_aside(path: Path, stamp_s: int) -> Path:
    """Rename the database and its journals, keeping every byte for a later look."""
    target = path.with_name(f"{path.name}.damaged-{stamp_s}")
    number = 0
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.damaged-{stamp_s}-{number}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(target.with_name(target.name + suffix))
    fd = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    return target


def _open_checked(path: Path, check_ms: int) -> sqlite3.Connection:
    connection: sqlite3.Connection | None = None
    try:
        connection = connect(path, "rwc")
        _configure(connection)
        if not quick_check(connection, check_ms):
            raise StoreDamaged("integrity check found errors")
        _migrate(connection, path)
    except sqlite3.Error as exc:
        if connection is not None:
            connection.close()
        known = translate(exc)
        if isinstance(known, StoreDamaged):
            raise known from exc
        raise StoreUnusable(f"cannot open {path}: {exc}") from exc
    except (StoreDamaged, StoreUnusable):
        if connection is not None:
            connection.close()
        raise
    return connection


def _configure(connection: sqlite3.Connection) -> None:
    # FULL: with NORMAL a power cut lost committed rows in 464 of 500 cuts, with FULL in none (design section 7).
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 4000")
    connection.execute("PRAGMA journal_size_limit = 33554432")
    connection.execute("PRAGMA cache_size = -8000")
    connection.execute("PRAGMA temp_store = MEMORY")


def reopen(path: Path) -> sqlite3.Connection:
    """Another connection to a file that was opened, checked and migrated before. Raises sqlite3.Error."""
    connection = connect(path, "rw")
    try:
        _configure(connection)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def identity(connection: sqlite3.Connection) -> str:
    """The store's own name, made with it: tells its segments from another's."""
    row = connection.execute("SELECT value FROM properties WHERE key = 'store'").fetchone()
    if row is None:
        row = (secrets.token_hex(8),)
        connection.execute("INSERT INTO properties VALUES ('store', ?)", row)
    return str(row[0])


def quick_check(connection: sqlite3.Connection, budget_ms: int) -> bool:
    """PRAGMA quick_check within a time budget (0: none). False only if an error was found."""
    deadline_s = time.monotonic() + budget_ms / 1000
    if budget_ms:
        connection.set_progress_handler(lambda: int(time.monotonic() > deadline_s), _PROGRESS_STEPS)
    try:
        return [row[0] for row in connection.execute("PRAGMA quick_check(1)")] == ["ok"]
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return True
        raise
    finally:
        connection.set_progress_handler(None, 0)


def _steps() -> list[Path]:
    return sorted(SCHEMA_DIR.glob("[0-9][0-9][0-9][0-9]_*.sql"))


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    steps = _steps()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(steps):
        raise StoreUnusable(f"{path} has schema {version}, this gateway knows {len(steps)}: install the newer gateway")
    for number, step in enumerate(steps[version:], version + 1):
        script = step.read_text(encoding="utf-8")
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
