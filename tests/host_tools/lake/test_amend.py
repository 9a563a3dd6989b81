"""Rows that a tag proves or disproves after they went into the lake: the lake follows the store, also through kills."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host_tools.lake import merge as merging
from host_tools.lake.snapshot import load
from host_tools.lake.storage import Storage, open_storage
from host_tools.lake.upkeep import Policy, upkeep
from isocore.record import HIGH_ON
from tests.host_tools.cloud.test_store_tags import EPOCH_UNIX_MS, Way, alter_value, records
from tests.host_tools.lake.test_writer import killed
from tests.support.lake import DAY_MS, by_glob, in_lake, stored, write

LATER_MS = 1_800_000_100_000 + 100 * DAY_MS


@pytest.fixture
def way(tmp_path: Path) -> Iterator[Way]:
    made = Way(tmp_path)
    yield made
    made.close()


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "lake"))


def same(way: Way, storage: Storage) -> bool:
    """Write, then compare with the store, by the snapshot and by pattern."""
    folder = way.folder / "cloud"
    write(folder, storage)
    rows = stored(folder)
    assert by_glob(way.folder / "lake") == sorted((row[0], *row[2:4]) for row in rows)
    return in_lake(storage) == rows


def verdicts(storage: Storage) -> list[str]:
    return [row[10] for row in in_lake(storage)]


def test_rows_that_waited_for_others_of_their_frame(way: Way, storage: Storage) -> None:
    way.board("a", records(1, 9))
    rows = way.rows()
    way.send(rows[6:])
    assert same(way, storage)
    assert verdicts(storage) == ["waiting"] * 3
    way.send(rows[:6])
    assert same(way, storage)
    assert verdicts(storage) == ["verified"] * 9
    snapshot = load(storage)
    assert snapshot is not None
    assert snapshot.written["readings"] == 9, "a row that changed is no new row"


def test_what_is_proven_replaces_what_is_not(way: Way, storage: Storage) -> None:
    way.board("a", [*records(1, 4), (5, HIGH_ON, 0, 9000, 5000, 0)])
    way.board("a", [*records(1, 4), (5, HIGH_ON, 0, 9000, 5000, 0)], gateway="gw-2")
    way.send(evil=alter_value)
    assert same(way, storage)
    before = in_lake(storage)
    way.send(gateway="gw-2")
    assert same(way, storage)
    assert in_lake(storage) != before
    assert [row[6] for row in in_lake(storage)] == [4001, 4002, 4003, 4004, 9000]
    assert [row[10] for row in in_lake(storage, table="alarms")] == ["verified"]


def guess(document: dict[str, Any]) -> None:
    """A gateway that says another time, four days off, and another value, so that the tag fails."""
    alter_value(document)
    for series in document["series"]:
        series[3] = EPOCH_UNIX_MS - 4 * DAY_MS


def test_a_row_moves_to_the_day_that_its_board_proves(way: Way, storage: Storage) -> None:
    way.board("a", records(1, 4))
    way.board("a", records(1, 4), gateway="gw-2")
    way.send(evil=guess)
    assert same(way, storage)
    way.board("b", records(1, 1))
    way.send(way.rows()[-1:])
    way.send(gateway="gw-2")
    assert same(way, storage)
    snapshot = load(storage)
    assert snapshot is not None
    assert {file.day for file in snapshot.of("readings")} == {"2027-01-15"}


def test_an_alarm_changes_though_its_reading_went_by_policy(way: Way, storage: Storage) -> None:
    way.board("a", [(1, HIGH_ON, 0, 9000, 1000, 0), *records(2, 3)])
    rows = way.rows()
    way.send(rows[:1])
    write(way.folder / "cloud", storage)
    way.now_unix_ms += 20 * DAY_MS
    way.board("plain", records(1, 1), tagged=False, epoch_unix_ms=way.now_unix_ms)
    newest = [row for row in way.rows() if row not in rows]
    way.send(newest)
    write(way.folder / "cloud", storage)
    assert upkeep(storage, Policy(raw_days=3), LATER_MS).dropped == 1
    assert [row[10] for row in in_lake(storage, table="alarms")] == ["incomplete"]
    way.now_unix_ms += 1000
    way.send(rows[1:])
    write(way.folder / "cloud", storage)
    held = in_lake(storage)
    assert [(row[0], row[3]) for row in held] == [("a", 2), ("a", 3), ("plain", 1)], "what went does not come back"
    assert [row[10] for row in in_lake(storage, table="alarms")] == [stored(way.folder / "cloud")[0][10]]


def test_a_kill_while_rows_are_amended(way: Way, storage: Storage, tmp_path: Path) -> None:
    way.board("a", records(1, 9))
    rows = way.rows()
    way.send(rows[6:])
    write(way.folder / "cloud", storage)
    way.send(rows[:6])
    way.store.close()
    seen = killed(way.folder / "cloud", tmp_path / "lake", "write")
    assert len(seen) > 15, "a plan, two files and the devices, a snapshot, removals"
    for at in seen:
        assert (at["whole_after"], at["glob_after"], at["strays"], at["hidden"]) == (True, True, 0, 0), at
        assert at["glob_lacks"] == 0, at


def test_a_row_of_before_is_looked_for_in_merged_files(
    way: Way, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "OPEN_FILES_MAX", 3)
    way.board("a", records(1, 9))
    rows = way.rows()
    for part in (rows[6:7], rows[7:8], rows[8:]):
        way.send(part)
        write(way.folder / "cloud", storage)
    assert upkeep(storage, Policy(), LATER_MS).merged == 3
    way.send(rows[:6])
    assert same(way, storage)
    assert verdicts(storage) == ["verified"] * 9
