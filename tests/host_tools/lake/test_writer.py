"""The receiver's log in the lake: each row once, in its day's and gateway's partition, whatever is killed when."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest

from host_tools.cloud.store_log import StoreLog
from host_tools.lake import tables
from host_tools.lake.errors import LakeError
from host_tools.lake.reader import dataset
from host_tools.lake.snapshot import Snapshot, load
from host_tools.lake.storage import LocalStorage, Storage, open_storage
from host_tools.lake.writer import catch_up, only_writer
from isocore.record import BOOT, FAULT, HIGH_ON, SAMPLE
from tests.support.lake import BARE, DAY_MS, NOON_UNIX_MS, batch, by_glob, fill, in_lake, reading, stored, write

ROOT = Path(__file__).resolve().parents[3]
LATE_UNIX_MS = NOON_UNIX_MS - 3 * DAY_MS


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "lake"))


def _now(storage: Storage) -> Snapshot:
    snapshot = load(storage)
    assert snapshot is not None
    return snapshot


def test_rows_go_to_their_day_and_gateway_in_order(data: Path, storage: Storage, tmp_path: Path) -> None:
    fill(
        data,
        batch(1, reading(3), reading(1, kind=HIGH_ON), reading(2, LATE_UNIX_MS)),
        batch(1, reading(7, channel=1), reading(1), gateway="gw-2"),
        batch(2, reading(1, None, kind=BOOT, boot=2), device=BARE),
    )
    write(data, storage)
    assert in_lake(storage) == stored(data)
    held = {(file.table, file.day, file.gateway): file.rows for file in _now(storage).files}
    assert held == {
        ("readings", "2025-12-29", "gw-1"): 1,
        ("readings", "2026-01-01", "gw-1"): 3,  # the row without a time under the day it came
        ("readings", "2026-01-01", "gw-2"): 1,
        ("alarms", "2026-01-01", "gw-1"): 2,
    }
    file = next(file for file in _now(storage).of("readings") if file.rows == 3)
    found = pq.ParquetFile(tmp_path / "lake" / file.path)
    rows = found.read().to_pylist()
    assert [(row["device"], row["seq"]) for row in rows] == [("bare-1", 1), ("fridge-1", 1), ("fridge-1", 3)]
    assert (rows[0]["time"], rows[0]["name"], rows[1]["name"], rows[1]["unit"]) == (None, None, "temperature", "degC")
    assert found.metadata.row_group(0).column(0).compression == "ZSTD"
    assert found.metadata.metadata[b"isotherm.schema_version"] == b"1"


@pytest.mark.parametrize(
    ("time_ms", "day"),
    [
        (NOON_UNIX_MS, "2026-01-01"),
        (0, "2026-01-01"),  # 1970: a clock that was never set
        (NOON_UNIX_MS + 400 * DAY_MS, "2026-01-01"),  # a clock far ahead
        (NOON_UNIX_MS - 400 * DAY_MS, "2024-11-27"),
    ],
)
def test_a_time_that_cannot_be_is_filed_under_the_day_of_receipt(
    data: Path, storage: Storage, time_ms: int, day: str
) -> None:
    fill(data, batch(1, reading(1, time_ms)))
    write(data, storage)
    assert [file.day for file in _now(storage).files] == [day]
    assert in_lake(storage) == stored(data)


def test_rounds_add_what_is_new_and_late_rows_as_new_files(data: Path, storage: Storage) -> None:
    fill(data, batch(1, reading(1)), batch(2, reading(2)))
    write(data, storage)
    before = _now(storage)
    write(data, storage)
    assert _now(storage) == before, "nothing new: nothing written"
    fill(data, batch(3, reading(3), reading(4, LATE_UNIX_MS)), batch(4, reading(1), reading(5)))
    write(data, storage, rows=1)
    after = _now(storage)
    assert set(before.files) < set(after.files)
    assert (after.number, after.position, after.written["readings"]) == (before.number + 2, 4, 5)
    assert in_lake(storage) == stored(data)


def test_alarms_faults_losses_and_boots_are_a_table_of_their_own(data: Path, storage: Storage) -> None:
    fill(data, batch(1, reading(1, kind=SAMPLE), reading(2, kind=FAULT, value=1), reading(3, kind=HIGH_ON)))
    write(data, storage)
    assert [(row[3], row[4]) for row in in_lake(storage, table="alarms")] == [(2, "fault"), (3, "high_on")]


def test_devices_are_replaced_in_place(data: Path, storage: Storage) -> None:
    fill(data, batch(1, reading(1)))
    write(data, storage)
    fill(data, batch(2, reading(1), device=BARE))
    write(data, storage)
    rows = dataset(storage, _now(storage), tables.DEVICES).to_pylist()
    assert [(row["device"], row["class"], row["name"]) for row in rows] == [
        ("bare-1", None, None),
        ("fridge-1", "fridge", "temperature"),
        ("fridge-1", "fridge", "humidity"),
    ]
    assert storage.list("devices") == [tables.DEVICES_PATH]


def test_the_same_on_another_backend(data: Path) -> None:
    fsspec.filesystem("memory").store.clear()
    try:
        storage = open_storage("memory://lake")
        fill(data, batch(1, reading(1), reading(2, LATE_UNIX_MS)))
        write(data, storage)
        fill(data, batch(2, reading(3)))
        write(data, storage)
        assert in_lake(storage) == stored(data)
        assert storage.list("_lake") == ["_lake/snapshot.json"]
    finally:
        fsspec.filesystem("memory").store.clear()


def test_another_store_is_refused(data: Path, storage: Storage, tmp_path: Path) -> None:
    fill(data, batch(1, reading(1)), batch(2, reading(2)))
    write(data, storage)
    fill(tmp_path / "short", batch(1, reading(1)))
    fill(tmp_path / "other", batch(1, reading(1)), batch(2, reading(3)), batch(3, reading(4)))
    for folder in (tmp_path / "short", tmp_path / "other"):
        with pytest.raises(LakeError, match="written from another store"):
            write(folder, storage)
    assert in_lake(storage) == stored(data)


def test_one_writer_at_a_time(data: Path) -> None:
    fill(data, batch(1, reading(1)))
    with only_writer(data), pytest.raises(LakeError, match="another process is writing"), only_writer(data):
        pass


def test_a_second_writer_from_elsewhere_is_seen_before_anything_counts(data: Path, storage: Storage) -> None:
    """Two copies of one store on two machines, one lake: the lock cannot help, the snapshot's number does."""
    fill(data, batch(1, reading(1)), batch(2, reading(2)))

    class Late:
        """The other writer commits while this one reads."""

        def __init__(self, log: StoreLog) -> None:
            self._log = log

        def __getattr__(self, name: str) -> object:
            if name == "names":
                write(data, storage)
            return getattr(self._log, name)

    with StoreLog(data) as log, pytest.raises(LakeError, match="another writer"):
        catch_up(Late(log), storage)
    assert in_lake(storage) == stored(data)
    write(data, storage)
    assert in_lake(storage) == stored(data)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format":9}', '{"format":1,"schema_version":1,"files":[{}]}'])
def test_a_snapshot_that_is_none_is_said_and_left_alone(data: Path, storage: Storage, text: str) -> None:
    fill(data, batch(1, reading(1)))
    storage.put("_lake/snapshot.json", text.encode())
    with pytest.raises(LakeError, match=r"snapshot\.json"):
        write(data, storage)
    assert storage.get("_lake/snapshot.json") == text.encode()


def killed(data: Path, lake: Path, work: str) -> list[dict[str, int]]:
    """One line for each step at which the writer was killed."""
    path = os.pathsep.join((str(ROOT), str(ROOT / "firmware")))
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.lake", str(data), str(lake), work],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "ARROW_IO_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_kill_at_any_step_loses_and_doubles_nothing(data: Path, tmp_path: Path) -> None:
    fill(
        data,
        batch(1, *map(reading, range(1, 41)), reading(41, kind=HIGH_ON)),
        batch(2, *(reading(seq, LATE_UNIX_MS) for seq in range(42, 62)), gateway="gw-2"),
    )
    seen = killed(data, tmp_path / "lake", "write")
    assert len(seen) > 30, "two commits, each of a plan, files, a snapshot and removals"
    for at in seen:
        assert (at["snapshot_is_whole"], at["whole_after"], at["glob_after"]) == (True, True, True), at
        assert (at["glob_doubles"], at["glob_lacks"], at["strays"], at["hidden"]) == (0, 0, 0, 0), at
        assert at["alarms_after"] == 1, at


class Full(LocalStorage):
    """A disk that is full from some file on."""

    left = 0

    def put(self, path: str, data: bytes) -> None:
        self.left -= 1
        if self.left < 0:
            with self._said(path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().put(path, data)


@pytest.mark.parametrize("files", range(5))
def test_a_full_disk_is_said_and_made_good(data: Path, storage: Storage, tmp_path: Path, files: int) -> None:
    fill(data, batch(1, reading(1), reading(2, LATE_UNIX_MS)))
    full = Full(storage.filesystem(), str(tmp_path / "lake"))
    full.left = files  # the plan, two files of readings, the devices; then the snapshot
    with pytest.raises(LakeError, match="No space left on device"):
        write(data, full)
    assert load(storage) is None
    write(data, storage)
    assert in_lake(storage) == stored(data)
    assert len(storage.list("readings")) == 2


def test_a_bare_glob_sees_what_the_snapshot_says(data: Path, storage: Storage, tmp_path: Path) -> None:
    fill(data, batch(1, reading(1), reading(2)))
    write(data, storage)
    assert by_glob(tmp_path / "lake") == [("fridge-1", 1, 1), ("fridge-1", 1, 2)]
