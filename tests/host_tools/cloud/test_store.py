"""The receiver's store: idempotence, conflicts, counters, and what the reader sees."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_tools.cloud import store as store_module
from host_tools.cloud.store import BusyError, DigestConflict, Store, Stored
from host_tools.cloud.store_read import CloudReader, DeviceCounts
from host_tools.cloud.wire import Batch, Device, Reading
from host_tools.errors import StoreError
from isocore.record import DELTA, FAULT, HIGH_ON, LOST, SAMPLE

NOW_UNIX_MS = 1_800_000_000_000
FRIDGE = Device("fridge-1", "fridge", (("temperature", "degC"), ("humidity", None)))


def reading(seq: int, value: int = 4000, kind: int = DELTA, boot: int = 1, channel: int = 0) -> Reading:
    return Reading(0, boot, seq, kind, channel, value, 0, seq * 1000, 5000, 1)


def batch(number: int, *readings: Reading, gateway: str = "gw-1", device: Device = FRIDGE) -> Batch:
    digest = hashlib.sha256(repr((number, gateway, readings)).encode()).digest()
    return Batch(gateway, number, digest, "live", (device,), list(readings))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path, lambda: NOW_UNIX_MS) as opened:
        yield opened


def sent(store: Store, item: Batch, size: int = 100) -> Stored:
    return store.submit(item, size).result(timeout=20)


def test_a_batch_counts_once(store: Store, tmp_path: Path) -> None:
    first = batch(1, reading(1), reading(2))
    assert sent(store, first) == Stored("stored", 2, 2)
    assert sent(store, first, 50) == Stored("duplicate", 2, 0)
    with CloudReader(tmp_path) as reader:
        assert reader.counts_per_device() == {"fridge-1": DeviceCounts(2, 2, 2, 0)}
        counters = reader.counters()
    assert counters["bytes_uplink"] == 150
    assert (counters["rows_new"], counters["batches_stored"], counters["batches_repeated"]) == (2, 1, 1)


def test_another_body_under_a_known_number_is_a_conflict(store: Store, tmp_path: Path) -> None:
    sent(store, batch(1, reading(1)))
    with pytest.raises(DigestConflict):
        sent(store, batch(1, reading(2)))
    assert sent(store, batch(1, reading(3), gateway="gw-2")).new == 1
    with CloudReader(tmp_path) as reader:
        assert [row.seq for row in reader.readings("fridge-1")] == [1, 3]
        assert reader.bytes_per_gateway() == {"gw-1": 200, "gw-2": 100}


def test_a_reading_counts_once_over_gateways_and_a_clone_shows(store: Store, tmp_path: Path) -> None:
    sent(store, batch(1, reading(1), reading(2)))
    assert sent(store, batch(1, reading(2), reading(3), gateway="gw-2")) == Stored("stored", 2, 1)
    assert sent(store, batch(2, reading(3, value=9), reading(1), gateway="gw-2")) == Stored("stored", 2, 0)
    with CloudReader(tmp_path) as reader:
        counters = reader.counters()
        assert [(row.seq, row.value) for row in reader.readings("fridge-1")] == [(1, 4000), (2, 4000), (3, 4000)]
    assert (counters["rows_new"], counters["rows_duplicate"], counters["rows_conflicting"]) == (3, 2, 1)
    assert counters["rows_received"] == 6


def test_what_the_reader_tells(store: Store, tmp_path: Path) -> None:
    sent(
        store,
        batch(
            1,
            reading(1, kind=SAMPLE),
            reading(2, kind=HIGH_ON),
            reading(3, kind=FAULT, value=1),
            reading(9, kind=LOST, value=6, channel=255),
            reading(1, boot=2, channel=1),
        ),
    )
    sent(store, batch(2, reading(1), device=Device("other", None, None)))
    with CloudReader(tmp_path) as reader:
        assert reader.counts_per_device() == {"fridge-1": DeviceCounts(5, 5, 2, 2), "other": DeviceCounts(1, 1, 1, 0)}
        info = reader.devices()
        assert [(d.name, d.device_class) for d in info] == [("fridge-1", "fridge"), ("other", None)]
        assert info[0].channels == ((0, "temperature", "degC"), (1, "humidity", None))
        (alarm,) = reader.readings("fridge-1", [HIGH_ON])
        assert (alarm.unix_ms, alarm.recv_unix_ms, alarm.trusted) == (5000 + 2000, NOW_UNIX_MS, True)
        assert [row.kind for row in reader.channel_history("fridge-1", 0)] == [SAMPLE, FAULT]
        assert reader.lost_identities("fridge-1") == 6
        assert reader.lost_identities("other") == 0


def test_a_class_once_known_stays_known(store: Store, tmp_path: Path) -> None:
    sent(store, batch(1, reading(1)))
    sent(store, batch(2, reading(2), device=Device("fridge-1", None, None)))
    with CloudReader(tmp_path) as reader:
        assert reader.devices()[0].device_class == "fridge"


def test_a_failing_disk_refuses_and_recovers(store: Store, tmp_path: Path) -> None:
    sent(store, batch(1, reading(1)))
    database = store._db
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")
    large = batch(2, *(reading(seq) for seq in range(2, 20000)))
    with pytest.raises(StoreError, match="full"):
        sent(store, large)
    database.execute("PRAGMA max_page_count = 1000000")
    assert sent(store, large).new == 19998
    with CloudReader(tmp_path) as reader:
        assert reader.counts_per_device()["fridge-1"].rows == 19999


def test_the_queue_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blocker = sqlite3.connect(tmp_path / store_module.FILE_NAME, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")  # the writer waits for this lock, and the queue fills
    futures = []
    with pytest.raises(BusyError):
        for number in range(1, 1000):
            futures.append(store.submit(batch(number, reading(number)), 1))
    blocker.execute("ROLLBACK")
    blocker.close()
    assert sum(future.result(timeout=20).new for future in futures) == len(futures)
    assert len(futures) <= store_module.WAITING_MAX + store_module.GROUP_MAX


def test_one_receiver_a_folder(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="another receiver"):
        Store(tmp_path)


def test_files_that_are_no_store(tmp_path: Path) -> None:
    (tmp_path / store_module.FILE_NAME).write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(tmp_path)
    with pytest.raises(StoreError, match="cannot be read"):
        CloudReader(tmp_path)
    with pytest.raises(StoreError, match="no such store"):
        CloudReader(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        Store(tmp_path / "file")


def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / store_module.FILE_NAME) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreError, match="newer version"):
        Store(tmp_path)
