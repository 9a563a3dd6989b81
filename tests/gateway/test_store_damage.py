"""Damaged and missing segments, a full disk, a read-only one, and I/O errors: nothing hidden, nothing acknowledged."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from gateway.messages import LANE_ALARMS, LANE_LIVE
from gateway.store import Keep, Reader, db
from gateway.store.disk import Disk
from isocore.record import HIGH_ON
from tests.gateway.conftest import Harness, frame_in
from tests.gateway.test_store_segments import SMALL, Kept
from tests.support.board_client import samples, wait_for


def break_file(path: Path, at: int = 5000) -> None:
    """One byte, somewhere in the rows."""
    with path.open("r+b") as file:
        file.seek(at)
        old = file.read(1)
        file.seek(at)
        file.write(bytes([old[0] ^ 0xFF]))


def filled(path: Path, sent: int = 0) -> Kept:
    kept = Kept(path)
    records = samples(1, 300)
    records[19] = (20, HIGH_ON, 0, 9000, 20_000, 0)
    kept.put("a", records)
    kept.put("b", samples(1, 50))
    kept.tidy()
    if sent:
        kept.send(limit=sent)
    return kept


@pytest.mark.parametrize("sent", [0, 40, 130])
def test_one_flipped_bit_is_found_booked_set_aside_and_told(tmp_path: Path, sent: int) -> None:
    kept = filled(tmp_path / "store.db", sent)
    first = kept.path.with_name("store.db.seg-000001-0")
    second = kept.path.with_name("store.db.seg-000002-0")
    victim, rows = (second, 100) if sent > 100 else (first, 100)
    break_file(victim)
    for _ in range(4):
        kept.harness.clock_s += SMALL.check_every_s
        kept.tidy()
    assert not victim.exists()
    (aside,) = kept.harness.states[-1].damaged
    assert kept.path.with_name(aside).exists()
    assert kept.harness.metrics.value("store_segments_damaged_total") == 1
    totals = kept.totals()
    assert totals["left"]["damaged"] == rows
    sinks = kept.snapshot()["ledger"]["devices"]["a"]["sinks"]["cloud"]
    # Of 130 the first segment held 99 and an alarm, which travels by a lane of its own; so 31 are of the second.
    lost_for_sink = {0: 100, 40: 60, 130: 69}[sent]
    assert sum(sinks[f"dropped_{c}"] for c in ("reports", "events", "windows", "notices")) == lost_for_sink
    kept.send()
    kept.send(LANE_ALARMS)
    for device in kept.snapshot()["ledger"]["devices"].values():
        assert sum(s["pending"] for s in device["sinks"].values()) == 0, "what is left went up, and all adds up"
    kept.put("a", samples(1, 300))
    assert kept.totals()["stored"] == 350, "its identities stay known"
    again = kept.reopen()
    again.tidy()
    assert again.harness.states[-1].damaged == (aside,), "and it is told again after a restart"
    again.close()


def test_a_read_that_fails_has_the_segment_checked_at_once(tmp_path: Path) -> None:
    kept = filled(tmp_path / "store.db")
    path = kept.path.with_name("store.db.seg-000002-0")
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(Exception, match="seg-000002"):
        kept.reader.lane_rows(LANE_LIVE, 1, 1 << 40, 1000)
    assert kept.tidy() >= 1
    assert kept.totals()["left"] == {"damaged": 100}
    assert len(kept.reader.lane_rows(LANE_LIVE, 1, 1 << 40, 1000)) == 249
    assert [n for n in kept.files() if n.endswith(".suspect")] == []
    kept.close()


def test_a_missing_segment_is_no_different(tmp_path: Path) -> None:
    kept = filled(tmp_path / "store.db")
    kept.path.with_name("store.db.seg-000003-0").unlink()
    again = kept.reopen()
    for _ in range(4):
        again.harness.clock_s += SMALL.check_every_s
        again.tidy()
    assert again.totals()["left"] == {"damaged": 100}
    again.close()


class NoRoom(Disk):
    """A disk with as little room as it is told."""

    room: int | None = None

    def free_bytes(self) -> int:
        return super().free_bytes() if self.room is None else self.room

    def allocate(self, name: str, size: int) -> None:
        if self.room is not None and self.room < size:
            raise OSError(28, "No space left on device")
        super().allocate(name, size)


def test_a_full_disk_takes_state_before_readings(tmp_path: Path) -> None:
    """SQLite itself is out of pages; the reserve gives them back, and what it gives is not for readings."""
    keep = SMALL._replace(reserve_bytes=1 << 16, segment_rows=10_000)
    kept = Kept(tmp_path / "store.db", keep)
    disk = NoRoom(tmp_path)
    kept.store._reserve._disk = disk
    reserve = tmp_path / "store.db.reserve"
    kept.put("a", samples(1, 200))
    assert reserve.stat().st_size == 1 << 16
    connection = kept.store._db
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    disk.room = 0
    before = len(kept.harness.acks())
    assert kept.store.put(frame_in("a", 1, samples(201, 1200)), 1000, False, 1.0)
    wait_for(lambda: kept.store.failing == "full" and not reserve.exists(), what="the reserve given up")
    assert kept.store.advance("cloud", LANE_LIVE, 5), "a change of state is committed"
    assert kept.reader.cursor("cloud", LANE_LIVE) == 5
    connection.execute("PRAGMA max_page_count = 1073741823")  # pages again, but no room for the reserve yet
    kept.store.advance("cloud", LANE_LIVE, 6)
    assert len(kept.harness.acks()) == before, "readings wait for the reserve"
    disk.room = None
    wait_for(lambda: len(kept.harness.acks()) > before, what="the readings")
    assert reserve.stat().st_size == 1 << 16
    assert kept.store.failing is None
    assert kept.totals()["stored"] == 1200
    kept.close()


def test_the_state_of_a_full_disk_is_told_and_taken_back(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "store.db")
    kept.put("a", samples(1, 50))
    kept.store._db.execute("PRAGMA max_page_count = 1")
    assert kept.store.put(frame_in("a", 1, samples(51, 2000)), 1950, False, 1.0)
    wait_for(lambda: kept.store.failing == "full", what="the failure")
    kept.keeper.step()
    assert kept.harness.states[-1].failing == "full"
    kept.store._db.execute("PRAGMA max_page_count = 1073741823")
    wait_for(lambda: kept.store.failing is None, what="recovery")
    kept.keeper.step()
    assert kept.harness.states[-1].failing is None
    kept.close()


def failing_connection(harness: Harness, code: int, text: str) -> list[int]:
    """The writer's connection fails at every BEGIN with a SQLite error until it is made anew. Counts its failures."""
    failures: list[int] = []
    good = harness.store._db

    class Failing:
        in_transaction = False

        def execute(self, sql: str, *rest: object) -> object:
            if sql.startswith("BEGIN"):
                failures.append(1)
                error = sqlite3.OperationalError(text)
                error.sqlite_errorcode = code
                raise error
            return good.execute(sql, *rest)

        def close(self) -> None:
            good.close()

    harness.store._db = Failing()  # type: ignore[assignment]
    return failures


@pytest.mark.parametrize(
    ("code", "reason"), [(sqlite3.SQLITE_IOERR | (13 << 8), "io"), (sqlite3.SQLITE_READONLY, "readonly")]
)
def test_a_broken_connection_is_made_anew(tmp_path: Path, code: int, reason: str) -> None:
    harness = Harness(tmp_path / "store.db").start()
    harness.put(frame_in("a", 1, samples(1, 10)))
    failures = failing_connection(harness, code, "disk I/O error")
    assert harness.store.put(frame_in("a", 1, samples(11, 20)), 10, False, 1.0)
    wait_for(lambda: harness.acks()[-1][2] == 20, what="the commit after reopening")
    assert len(failures) >= 3
    assert harness.metrics.value("store_errors_total", reason=reason) >= 3
    harness.stop()
    reader = Reader(tmp_path / "store.db")
    assert reader.snapshot()["differences"] == []
    reader.close()


def test_a_vacuum_that_fails_does_not_repeat_the_commit_before_it(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "store.db")
    kept.put("a", samples(1, 10))
    assert not kept.store._ask(lambda c: c.execute("VACUUM INTO '/nowhere/at/all'"), alone=True).wait(5)
    assert kept.store.put(frame_in("a", 1, samples(11, 20)), 10, False, 1.0)
    kept.harness.settle()
    assert kept.totals()["received"] == 20
    kept.close()


tmpfs = pytest.mark.skipif(os.geteuid() != 0, reason="NOT RUN: only root can mount a small file system")


@tmpfs
def test_a_file_system_that_is_full(tmp_path: Path) -> None:
    """The real thing: 3 MiB of tmpfs, filled to the last block by somebody else, then freed again."""
    import subprocess

    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("NOT RUN: mounting is not allowed here")
    try:
        keep = Keep(segment_rows=2000, reserve_bytes=1 << 18)
        harness = Harness(folder / "store.db", keep=keep).start()
        harness.put(frame_in("a", 1, samples(1, 1000)))
        filler = folder / "filler"
        with filler.open("wb") as file:
            file.write(b"x" * max(0, shutil.disk_usage(folder).free - 8192))
        sent = 1000
        while harness.store.failing is None and sent < 60_000:
            assert harness.store.put(frame_in("a", 1, samples(sent + 1, sent + 500)), 500, False, 1.0)
            sent += 500
            harness.store.advance("none", "live", 1) if harness.store.failing is None and sent % 5000 == 0 else None
        wait_for(lambda: harness.store.failing == "full", what="a full disk")
        reader = Reader(folder / "store.db")
        acked = harness.acks()[-1][2]
        held = sum(entry["rows"] for entry in reader.count_rows().values())
        assert held == acked, "acknowledged is what is stored"
        filler.unlink()
        wait_for(lambda: harness.acks()[-1][2] == sent or harness.store.failing is None, what="recovery by itself")
        harness.settle()
        reader.close()
        harness.stop()
        reader = Reader(folder / "store.db")
        assert reader.snapshot()["differences"] == []
        reader.close()
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_disk_too_full_to_open_the_store_takes_the_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Harness(tmp_path / "store.db", keep=Keep(reserve_bytes=1 << 16)).start().stop()
    reserve = tmp_path / "store.db.reserve"
    assert reserve.exists()
    real = db.connect

    def connect(path: Path, mode: str, immutable: bool = False) -> sqlite3.Connection:
        if reserve.exists():
            raise sqlite3.OperationalError("database or disk is full")
        return real(path, mode, immutable)

    monkeypatch.setattr(db, "connect", connect)
    monkeypatch.setattr(Disk, "free_bytes", lambda self: 0)
    harness = Harness(tmp_path / "store.db", keep=Keep(reserve_bytes=1 << 16)).start()
    assert not reserve.exists()
    harness.stop()
