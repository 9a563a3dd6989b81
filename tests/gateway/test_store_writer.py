"""The writer against a full disk, damaged files, a second gateway, and its own end."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from gateway.errors import StoreUnusable
from gateway.messages import Committed, NoteIn, OwnIn, Receipt
from gateway.store import Reader, db
from isocore.record import SAMPLE
from tests.gateway.conftest import START_UNIX_MS, Harness, frame_in
from tests.support.board_client import samples, wait_for


def stored_rows(path: Path) -> int:
    reader = Reader(path)
    try:
        return sum(entry["rows"] for entry in reader.count_rows().values())
    finally:
        reader.close()


def test_what_is_acknowledged_is_already_committed(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "store.db").start()
    seen: list[tuple[int, int]] = []

    def look(news: Committed) -> None:
        """Another connection, at the moment when the ack may leave."""
        seen.extend((ack.seq, stored_rows(harness.path)) for ack in news.acks)

    harness.on_commit = look
    for first in range(1, 50, 10):
        harness.put(frame_in("a", 1, samples(first, first + 9)))
    wait_for(lambda: len(seen) == 5, what="five looks")
    harness.stop()
    assert all(acked == held for acked, held in seen), seen


def test_disk_full_acknowledges_nothing_and_recovers_by_itself(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "store.db").start()
    harness.put(frame_in("a", 1, samples(1, 10)))
    reader = Reader(harness.path)
    pages = reader._all("PRAGMA page_count")[0][0]
    limit = harness.store._ask(lambda c: c.execute(f"PRAGMA max_page_count = {pages}").fetchone())
    assert limit.wait(5)
    before = len(harness.acks())
    for first in range(11, 2011, 100):
        assert harness.store.put(frame_in("a", 1, samples(first, first + 99)), 100, False, 1.0)
    wait_for(lambda: harness.metrics.value("store_errors_total", reason="full") >= 2, what="two failed commits")
    assert harness.store.failing == "full"
    acked = max((ack[2] for ack in harness.acks()[before:]), default=10)
    assert stored_rows(harness.path) == acked, "acknowledged exactly what is on the disk"
    harness.store._db.execute("PRAGMA max_page_count = 1073741823")  # room again; the writer is between two attempts
    wait_for(lambda: harness.acks() and harness.acks()[-1][2] == 2010, what="recovery")
    assert harness.store.failing is None
    assert stored_rows(harness.path) == 2010
    assert reader.snapshot()["differences"] == []
    reader.close()
    harness.stop()


def test_stop_on_a_full_disk_ends_and_keeps_the_file_sound(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "store.db").start()
    harness.put(frame_in("a", 1, samples(1, 10)))
    assert harness.store._ask(lambda c: c.execute("PRAGMA max_page_count = 1").fetchone()).wait(5)
    for first in range(11, 3011, 1000):
        harness.store.put(frame_in("a", 1, samples(first, first + 999)), 1000, False, 1.0)
    wait_for(lambda: harness.store.failing, what="the failure")
    waiting = threading.Thread(target=harness.store.reserve_batches, args=(1,))
    waiting.start()
    assert harness.store.stop(0.2) is False
    waiting.join(5)
    assert not waiting.is_alive(), "whoever waits for the writer is told"
    again = Harness(tmp_path / "store.db").start()
    again.put(frame_in("a", 1, samples(11, 20)))
    assert stored_rows(again.path) >= 20
    again.stop()


def test_stop_commits_what_is_queued(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "store.db", commit_ms=1000)
    harness.store.open()
    for first in range(1, 1000, 10):
        assert harness.store.put(frame_in("a", 1, samples(first, first + 9)), 10, False, 1.0)
    harness.store.start()
    assert harness.stop()
    assert harness.acks()[-1] == ("a", 1, 1000, None)
    assert not harness.store.put(frame_in("a", 1, samples(1, 1)), 1, False, 1.0)


def test_a_full_queue_refuses_after_its_wait(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "store.db", queue_rows=100)
    harness.store.open()
    assert harness.store.put(frame_in("a", 1, samples(1, 100)), 100, False, 0.0)
    assert not harness.store.put(frame_in("a", 1, samples(101, 101)), 1, False, 0.0)
    harness.store.start()
    assert harness.store.put(frame_in("a", 1, samples(101, 101)), 1, False, 5.0)
    harness.stop()


def test_an_item_that_cannot_be_stored_is_dropped_alone(harness: Harness) -> None:
    harness.store.put(NoteIn("a", "no-such-column", "x", START_UNIX_MS), 1, False, 1.0)
    harness.put(frame_in("a", 1, samples(1, 10)))
    for frame in (frame_in("b", 1 << 70, samples(1, 10)), frame_in("c", 1, samples(1, 5))):
        assert harness.store.put(frame, len(frame.records), False, 1.0)
    harness.settle()
    assert harness.metrics.value("store_poisoned_total") == 2
    assert ("c", 1, 5, None) in harness.acks()


def test_a_listener_that_fails_neither_ends_the_writer_nor_undoes_the_commit(harness: Harness) -> None:
    done: list[int] = []

    def fail(news: Committed) -> None:
        raise ValueError("a bug of a listener")

    harness.on_commit = fail
    assert harness.store.put(frame_in("a", 1, samples(1, 10)), 10, False, 1.0)
    assert harness.store._ask(lambda connection: done.append(1)).wait(5)
    wait_for(lambda: harness.metrics.value("store_listener_errors_total") >= 1, what="the failure, counted")
    harness.on_commit = lambda news: None
    harness.put(frame_in("a", 1, samples(11, 20)))
    assert harness.acks()[-1][2] == 20
    assert done == [1], "what was committed is not done again"
    assert stored_rows(harness.path) == 20
    assert harness.metrics.value("store_poisoned_total") == 0
    assert str(harness.store.listener_error) == "a bug of a listener"


def test_what_is_rolled_back_is_not_told_as_stored(harness: Harness) -> None:
    """A row id told as stored, but given out anew later, would be passed over by those who read behind the writer."""
    harness.put(frame_in("a", 1, samples(1, 10)))
    receipt = Receipt(1, 7, b"digest", False)
    made = ((SAMPLE, 0, 5, 0, 0), (SAMPLE, 0, 1 << 70, 0, 0))
    unfit = OwnIn("gw-1", made, None, START_UNIX_MS, False, 1, receipt)
    assert harness.store.put(unfit, 2, False, 1.0)
    harness.settle()
    told = [news for news in harness.news if news.receipts]
    assert told[-1].receipts == (receipt,) and told[-1].head_row == 10
    harness.put(frame_in("a", 1, samples(11, 12)))
    assert harness.news[-1].head_row == 12


def test_a_damaged_file_is_set_aside_and_named(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"this was a database once" * 1000)
    harness = Harness(path).start()
    assert harness.store.set_aside is not None
    assert harness.store.set_aside.read_bytes().startswith(b"this was")
    harness.put(frame_in("a", 1, samples(1, 3)))
    reader = Reader(path)
    assert reader.property("set_aside") == harness.store.set_aside.name
    reader.close()
    harness.stop()


def test_damage_inside_is_found_at_start(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    harness = Harness(path).start()
    for first in range(1, 20_000, 1000):
        harness.put(frame_in("a", 1, samples(first, first + 999)))
    harness.stop()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2 // 4096 * 4096)
        file.write(b"\xff" * 40_960)
    again = Harness(path).start()
    assert again.store.set_aside is not None
    again.stop()


def test_damage_met_at_work_stops_the_store_and_marks_the_file(harness: Harness) -> None:
    def corrupt(_connection: sqlite3.Connection) -> None:
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error

    assert not harness.store._ask(corrupt).wait(5)
    wait_for(lambda: harness.fatal, what="the news of damage")
    assert db.suspect_mark(harness.path).exists()
    assert not harness.store.put(frame_in("a", 1, samples(1, 1)), 1, False, 1.0)


def test_the_mark_is_gone_after_a_full_check(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    Harness(path).start().stop()
    db.suspect_mark(path).touch()
    harness = Harness(path).start()
    assert harness.store.set_aside is None
    assert not db.suspect_mark(path).exists()
    harness.stop()


def test_the_check_keeps_to_its_budget(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "store.db").start()
    for first in range(1, 40_000, 1000):
        harness.put(frame_in("a", 1, samples(first, first + 999)))
    harness.stop()
    connection = sqlite3.connect(tmp_path / "store.db")
    assert db.quick_check(connection, 1)
    assert db.quick_check(connection, 60_000)
    connection.close()


def test_one_gateway_a_store(harness: Harness) -> None:
    second = Harness(harness.path)
    with pytest.raises(StoreUnusable, match="another gateway"):
        second.store.open()


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    Harness(path).start().stop()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    harness = Harness(path)
    with pytest.raises(StoreUnusable, match="schema 99"):
        harness.store.open()
    assert list(tmp_path.glob("*.damaged*")) == []


def test_a_missing_store_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="has not run yet"):
        Reader(tmp_path / "none.db")


def test_power_safety_is_switched_on(harness: Harness) -> None:
    seen: list[object] = []
    ticket = harness.store._ask(
        lambda c: seen.extend(c.execute(f"PRAGMA {p}").fetchone()[0] for p in ("journal_mode", "synchronous"))
    )
    assert ticket.wait(5)
    assert seen == ["wal", 2]
