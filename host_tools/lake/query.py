"""SQL over a lake, by DuckDB in this process: one question, read-only, of the lake and nothing else.

DuckDB gets the tables as Arrow datasets of one snapshot and opens no file itself: its access to files, network and
extensions is off and its configuration locked before it sees the question, and statements that are no question are
refused. Views, beside the columns of the files:

    readings, alarms   value        value_milli / 1000
    windows            the latest revision of each window only; least, mean, greatest, last: milli / 1000
    devices            as it is
    *_files            the tables as they stand in the files: `windows_files` has every revision
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import duckdb

from host_tools.lake import tables
from host_tools.lake.errors import QueryError
from host_tools.lake.reader import at_rest, dataset
from host_tools.lake.snapshot import Snapshot
from host_tools.lake.storage import Storage

THREADS = 2
ROWS_MAX = 1_000_000  # of an answer, which is held whole, lest a merge should cut it short
MEMORY = "1GB"  # an answer that needs more is refused, not swapped
_VIEWS = {
    tables.READINGS: "SELECT *, value_milli / 1000.0 AS value FROM {0}_files",
    tables.ALARMS: "SELECT *, value_milli / 1000.0 AS value FROM {0}_files",
    tables.WINDOWS: """
        SELECT *, least_milli / 1000.0 AS least, mean_milli / 1000.0 AS mean, greatest_milli / 1000.0 AS greatest,
               last_milli / 1000.0 AS last
        FROM {0}_files
        QUALIFY row_number() OVER (PARTITION BY device, channel, length_s, start ORDER BY revision DESC) = 1
    """,
    tables.DEVICES: "SELECT * FROM {0}_files",
}
# In this order: what is locked cannot be opened again. `temp_directory`: nothing is spilled to disk either.
_CLOSED = (
    "SET TimeZone = 'UTC'",
    "SET temp_directory = ''",
    "SET python_enable_replacements = false",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)


class Answer(NamedTuple):
    """columns: names; types: as DuckDB calls them; rows: Python values."""

    columns: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]


def ask(storage: Storage, sql: str) -> Answer:
    """Answer one question. Raises QueryError for SQL that cannot be run, LakeError where there is no lake."""
    return at_rest(storage, lambda snapshot: _ask(storage, snapshot, sql))


def _ask(storage: Storage, snapshot: Snapshot, sql: str) -> Answer:
    with duckdb.connect(config={"threads": THREADS, "memory_limit": MEMORY}) as db:
        for name, view in _VIEWS.items():
            db.register(f"{name}_files", dataset(storage, snapshot, name))
            db.execute(f"CREATE VIEW {name} AS {view.format(name)}")
        for setting in _CLOSED:
            db.execute(setting)
        return _translated(lambda: _answer(db, sql))


def _answer(db: Any, sql: str) -> Answer:
    statements: Sequence[Any] = db.extract_statements(sql)
    if len(statements) != 1:
        raise QueryError("one question at a time: give one SELECT" if statements else "no SQL was given")
    if statements[0].type not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
        raise QueryError(f"{statements[0].type.name} is no question: the lake is read-only, give a SELECT")
    found = db.execute(statements[0])
    columns = [(column[0], str(column[1])) for column in found.description]
    rows = found.fetchmany(ROWS_MAX + 1)
    if len(rows) > ROWS_MAX:
        raise QueryError(
            f"the answer has more than {ROWS_MAX:,} rows: add a LIMIT, or read `isotherm cloud lake files`"
        )
    return Answer([name for name, _ in columns], [kind for _, kind in columns], rows)


def _translated(run: Callable[[], Answer]) -> Answer:
    """DuckDB's errors as ours. A file that vanished below Arrow shows as FileNotFoundError, for `at_rest`."""
    try:
        return run()
    except duckdb.Error as error:
        text = str(error)
        if "No such file or directory" in text or "FileNotFoundError" in text:
            raise FileNotFoundError(text.splitlines()[0]) from error
        raise QueryError(text.rstrip()) from None
