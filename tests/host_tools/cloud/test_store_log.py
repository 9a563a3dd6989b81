"""The store read as a log: every row once, under the batch that brought it, from any batch on."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_tools.cloud.arrivals import GAP_MAX, runs
from host_tools.cloud.store import FILE_NAME, Store
from host_tools.cloud.store_log import LogReading, StoreLog
from host_tools.cloud.windows import Window
from host_tools.cloud.wire import Batch, Device, Reading
from host_tools.errors import StoreError

SCHEMA = Path(__file__).parents[3] / "host_tools" / "cloud" / "schema"
FRIDGE = Device("fridge-1", "fridge", (("temperature", "degC"),))


def reading(seq: int, boot: int = 1, device: int = 0) -> Reading:
    return Reading(device, boot, seq, 2, 0, seq, 0, seq * 1000, 5000, 1)


def batch(number: int, *seqs: int, gateway: str = "gw-1", windows: tuple[Window, ...] = ()) -> Batch:
    rows = [reading(seq) for seq in seqs]
    return Batch(gateway, number, repr((number, gateway)).encode().ljust(32), "live", (FRIDGE,), rows, windows)


def read(log: StoreLog, after: int, rows_max: int = 10**6) -> tuple[int, list[LogReading]]:
    with log.at_rest():
        span = log.span(after, rows_max)
        if span is None:
            return after, []
        return span.upto, [row for block in log.readings(span) for row in block]


def test_each_row_is_read_once_under_its_own_batch(tmp_path: Path) -> None:
    with Store(tmp_path, lambda: 7) as store, StoreLog(tmp_path) as log:
        assert read(log, 0) == (0, [])
        for item in (batch(1, 1, 2, 9), batch(1, 2, 3, gateway="gw-2"), batch(2, 1, 2), batch(3, 5, 2000)):
            store.submit(item, 1).result(timeout=20)
        upto, rows = read(log, 0)
        assert [(row.batch, row.gateway, row.seq) for row in rows] == [
            *[(1, 1, 1), (1, 1, 2), (1, 1, 9)],
            (2, 2, 3),
            *[(4, 1, 5), (4, 1, 2000)],
        ]
        assert upto == 4
        assert log.behind(1) == (3, 3)
        # In steps of at least one batch it is the same rows.
        after, stepwise = 0, []
        while True:
            upto, more = read(log, after, rows_max=1)
            if upto == after:
                break
            after, stepwise = upto, stepwise + more
        assert stepwise == rows


def test_a_window_is_read_under_the_batch_of_its_latest_revision(tmp_path: Path) -> None:
    def window(revision: int) -> Window:
        return Window(0, 0, 60, 120, revision, 1, 2, 3, 2, 1, 60000, 0, 0)

    with Store(tmp_path, lambda: 7) as store, StoreLog(tmp_path) as log:
        for number, revision in ((1, 1), (2, 5), (3, 4)):
            store.submit(batch(number, windows=(window(revision),)), 1).result(timeout=20)
        for after, wanted in ((0, [(5, 2)]), (1, [(5, 2)]), (2, [])):
            span = log.span(after, 10)
            assert span is not None
            assert [(w.revision, w.batch) for block in log.windows(span) for w in block] == wanted


def test_windows_count_as_rows_of_a_step(tmp_path: Path) -> None:
    """A gateway that sends windows only must not make one step of a year."""
    made = [Window(0, 0, 60, 60 * n, 1, 1, 2, 3, 2, 1, 60000, 0, 0) for n in range(6)]
    with Store(tmp_path, lambda: 7) as store, StoreLog(tmp_path) as log:
        for number in range(3):
            store.submit(batch(number + 1, windows=tuple(made[2 * number : 2 * number + 2])), 1).result(timeout=20)
        steps = []
        after = 0
        while (span := log.span(after, 4)) is not None:
            steps.append((span.after, span.upto))
            after = span.upto
    assert steps == [(0, 2), (2, 3)]


def test_a_store_of_before_is_brought_up_to_date(tmp_path: Path) -> None:
    steps = [path.read_text(encoding="utf-8") for path in sorted(SCHEMA.glob("*.sql"))]
    before = steps[: next(number for number, step in enumerate(steps) if "CREATE TABLE arrival" in step)]
    db = sqlite3.connect(tmp_path / FILE_NAME)
    for step in before:
        db.executescript(step)
    db.executescript(
        f"PRAGMA user_version = {len(before)}; INSERT INTO gateway (name) VALUES ('gw-1');"
        "INSERT INTO device (name) VALUES ('fridge-1');"
        "INSERT INTO batch VALUES (1, 1, 1, x'00', 'live', 3, 3, 7), (2, 1, 2, x'01', 'live', 2, 2, 8);"
    )
    row = "INSERT INTO reading VALUES (1, 1, ?, 2, 0, 5, 0, 1000, 5000, 1, ?, 0)"
    db.executemany(row, [(1, 1), (2, 1), (900, 1), (3, 2), (4, 2)])
    db.commit()
    db.close()
    with pytest.raises(StoreError, match=r"older receiver.*cloud serve"):
        StoreLog(tmp_path)
    with Store(tmp_path, lambda: 7), StoreLog(tmp_path) as log:
        assert [(row.batch, row.seq) for row in read(log, 0)[1]] == [(1, 1), (1, 2), (1, 900), (2, 3), (2, 4)]


def test_no_store_and_no_database_are_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such store"):
        StoreLog(tmp_path)
    (tmp_path / FILE_NAME).write_bytes(b"not SQLite at all, and long enough to be looked at" * 10)
    with pytest.raises(StoreError, match="cannot be read as a store"):
        StoreLog(tmp_path)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 2), st.integers(1, 5 * GAP_MAX))))
def test_runs_cover_each_row_once_and_nothing_far_off(rows: list[tuple[int, int, int]]) -> None:
    found = list(runs([10, 11], [reading(seq, boot, device) for device, boot, seq in rows]))
    covered = [(d - 10, boot, seq) for d, boot, first, last in found for seq in range(first, last + 1)]
    assert len(covered) == len(set(covered))
    assert set(rows) <= set(covered)
    ends = {(d - 10, boot, end) for d, boot, first, last in found for end in (first, last)}
    assert ends <= set(rows)
