"""A store of an earlier version opens under this one, with its ledger put right."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from gateway.store import Reader
from gateway.store.db import SCHEMA_DIR
from isocore.record import BOOT, HIGH_ON, LOST, SAMPLE
from tests.gateway.conftest import Harness, frame_in
from tests.gateway.test_store_segments import SMALL, Kept
from tests.support.board_client import samples

STEPS = sorted(SCHEMA_DIR.glob("[0-9]*.sql"))


def make_store(path: Path, version: int) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    for step in STEPS[:version]:
        connection.executescript(step.read_text(encoding="utf-8"))
    connection.execute(f"PRAGMA user_version = {version}")
    return connection


def test_steps_are_numbered_without_gaps() -> None:
    assert [int(step.name[:4]) for step in STEPS] == list(range(1, len(STEPS) + 1))


def test_from_the_first_schema(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with make_store(path, 1) as old:
        for device, name in ((1, "a"), (2, "b")):
            old.execute("INSERT INTO devices (device, name) VALUES (?,?)", (device, name))
            old.execute(
                "INSERT INTO ledger (device, received, stored_reports, stored_events) VALUES (?,?,?,?)",
                (device, 4 if device == 1 else 1, 1 if device == 1 else 0, 3 if device == 1 else 1),
            )
        old.execute("INSERT INTO boots VALUES (1, 1, 9, 9, 0, 0, 0)")
        records = [(1, 1, SAMPLE), (1, 2, HIGH_ON), (1, 3, BOOT), (1, 9, LOST), (2, 1, HIGH_ON)]
        for row, (device, seq, kind) in enumerate(records, 1):
            value = 6 if kind == LOST else 0
            old.execute("INSERT INTO readings VALUES (?,?,1,?,?,0,?,0,0,0,0,0)", (row, device, seq, kind, value))
        old.execute("INSERT INTO ledger_sink (sink, device, uploaded_reports) VALUES ('cloud', 1, 1)")
    old.close()
    harness = Harness(path).start()
    harness.put(frame_in("a", 1, samples(10, 12)))
    reader = Reader(path)
    snapshot = reader.snapshot()
    entry = snapshot["ledger"]["devices"]["a"]
    assert snapshot["differences"] == []
    assert (entry["stored_reports"], entry["stored_events"], entry["stored_notices"], entry["stored"]) == (4, 2, 1, 7)
    assert snapshot["ledger"]["devices"]["b"]["stored_events"] == 1
    assert entry["sinks"]["cloud"] == {
        **dict.fromkeys(entry["sinks"]["cloud"], 0),
        "uploaded_reports": 1,
        "pending": 6,
    }
    reader.close()
    harness.stop()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(STEPS),)
    connection.close()


def test_a_backlog_of_the_schema_before_segments(tmp_path: Path) -> None:
    """A store as the version before left it, frozen batch, half-sent lane and all, moves without losing a row."""
    path = tmp_path / "store.db"
    before_segments = next(i for i, step in enumerate(STEPS) if "segments" in step.name)
    with make_store(path, before_segments) as old:
        old.execute("INSERT INTO devices (device, name) VALUES (1, 'a')")
        old.execute("INSERT INTO ledger (device, received, stored_reports) VALUES (1, 1000, 1000)")
        old.execute("INSERT INTO boots VALUES (1, 1, 1000, 1000, 0, 0, 0)")
        old.execute("INSERT INTO sinks VALUES ('cloud', 0, NULL)")
        old.execute("INSERT INTO cursors VALUES ('cloud', 'live', 451)")
        old.execute(
            "INSERT INTO batches VALUES ('cloud', 9, 'live', 401, 450, 50, '[[1,50,0,0,0]]', 'gzip', '', x'00',"
            " 'pending', NULL, 0)"
        )
        old.execute("INSERT INTO ledger_sink (sink, device, uploaded_reports) VALUES ('cloud', 1, 400)")
        old.executemany(
            "INSERT INTO readings VALUES (?,1,1,?,?,?,?,?,?,0,0,0)",
            [(seq, seq, kind, channel, value, trend, up) for seq, kind, channel, value, up, trend in samples(1, 1000)],
        )
    old.close()
    kept = Kept(path, SMALL._replace(uploaded_age_s=1e9))
    assert kept.tidy() == 10
    assert kept.totals()["present"] == 1000
    kept.put("a", samples(1, 1100))
    totals = kept.totals()
    assert (totals["stored"], totals["duplicates"], totals["conflicts"]) == (1100, 1000, 0)
    assert [batch.batch for batch in kept.reader.pending("cloud")] == [9]
    assert kept.store.uploaded("cloud", 9)
    assert kept.send() == 650
    assert kept.snapshot()["ledger"]["devices"]["a"]["sinks"]["cloud"]["pending"] == 0
    assert kept.keeper._shrink() is False, "too little to be worth a rewrite"
    kept.close()
