"""Merging, folding and dropping: the same rows after as before, windows equal to a gateway's, and nothing too early."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from host_tools.cloud.wire import Batch
from host_tools.lake import merge as merging
from host_tools.lake import tables
from host_tools.lake.files import read
from host_tools.lake.query import ask
from host_tools.lake.snapshot import Snapshot, load
from host_tools.lake.storage import Storage, open_storage
from host_tools.lake.upkeep import Policy, upkeep
from isocore.aggregate import fold
from isocore.record import (
    DELTA,
    FAULT,
    FAULT_CLEARED,
    HIGH_OFF,
    HIGH_ON,
    LOW_OFF,
    LOW_ON,
    RATE_OFF,
    RATE_ON,
    SAMPLE,
)
from tests.host_tools.lake.test_query import window
from tests.host_tools.lake.test_writer import killed
from tests.support.lake import DAY_MS, NOON_UNIX_MS, batch, by_glob, fill, in_lake, reading, stored, write

FIRST_DAY_MS = NOON_UNIX_MS // DAY_MS * DAY_MS
GATEWAY_HOLD_S = 7500
GATEWAY_LENGTHS_S = (60, 900, 3600)
FAR_MS = NOON_UNIX_MS + 1000 * DAY_MS


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


def _files(storage: Storage, table: str = "readings") -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    for file in _now(storage).of(table):
        counts[file.day, file.gateway] = counts.get((file.day, file.gateway), 0) + 1
    return counts


# --- merging --------------------------------------------------------------------------------------------------------


def test_a_day_that_is_over_becomes_one_file_a_gateway(data: Path, storage: Storage, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        fill(
            data,
            batch(number, reading(number), reading(100 + number, NOON_UNIX_MS - 2 * DAY_MS)),
            batch(number, reading(200 + number), gateway="gw-2"),
        )
        write(data, storage)
    upkeep(storage, Policy(), FAR_MS)
    old, new = "2025-12-30", "2026-01-01"
    assert _files(storage) == {(old, "gw-1"): 1, (new, "gw-1"): 3, (new, "gw-2"): 3}, "today still fills"
    assert in_lake(storage) == stored(data)
    assert by_glob(tmp_path / "lake") == sorted((row[0], *row[2:4]) for row in stored(data))
    assert upkeep(storage, Policy(), FAR_MS) == (0, 0, 0), "and then there is nothing to do"
    for number in range(4, 12):
        fill(data, batch(number, reading(number)))
        write(data, storage)
    upkeep(storage, Policy(), FAR_MS)
    assert _files(storage)[new, "gw-1"] == 1, "many small files are merged while the day fills, too"
    assert _now(storage).written["readings"] == len(stored(data))


def test_large_files_are_not_copied_for_ever(data: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "MERGED_ROWS_MAX", 10)
    old_ms = NOON_UNIX_MS - 2 * DAY_MS
    for number, rows in enumerate((6, 4, 4, 4), 1):
        fill(data, batch(number, *(reading(number * 10 + n, old_ms) for n in range(rows))))
        write(data, storage)
    fill(data, batch(9, reading(1)))
    write(data, storage)
    upkeep(storage, Policy(), FAR_MS)
    assert sorted(file.rows for file in _now(storage).of("readings")) == [1, 4, 6, 8]
    assert in_lake(storage) == stored(data)


def test_revisions_that_others_beat_go_with_a_merge(data: Path, storage: Storage) -> None:
    old_s = (NOON_UNIX_MS - 2 * DAY_MS) // 1000
    for revision in (1, 2, 3):
        fill(data, batch(revision, windows=(window(revision, 4000 + revision, old_s),)))
        write(data, storage)
    fill(data, batch(9, reading(1)))
    write(data, storage)
    assert ask(storage, "SELECT count(*) FROM windows_files").rows == [(3,)]
    upkeep(storage, Policy(), FAR_MS)
    assert ask(storage, "SELECT revision, mean_milli FROM windows_files").rows == [(3, 4003)]


def test_a_kill_amid_upkeep_loses_and_doubles_nothing(data: Path, storage: Storage, tmp_path: Path) -> None:
    for number in (1, 2):
        fill(
            data,
            batch(number, *(reading(number * 50 + n, NOON_UNIX_MS - 2 * DAY_MS) for n in range(20))),
        )
        write(data, storage)
    fill(data, batch(3, reading(1)))
    write(data, storage)
    seen = killed(data, tmp_path / "lake", "upkeep")
    assert len(seen) > 20, "a fold and a merge, each of a plan, files, snapshot, removals"
    for at in seen:
        assert (at["snapshot_is_whole"], at["whole_after"], at["glob_after"]) == (True, True, True), at
        assert (at["glob_lacks"], at["strays"], at["hidden"]) == (0, 0, 0), at
        assert (at["folded"], at["files_after"]) == (1, 2), at
    assert any(at["glob_doubles"] for at in seen), "what docs/lake.md says of patterns amid a merge"


# --- folding --------------------------------------------------------------------------------------------------------


def _life(days: int, seed: int) -> list[Batch]:
    """A channel's days: reports, trends, alarms that stand for days, faults, a reboot, silence, two gateways."""
    random.seed(seed)
    rows = []
    at_ms, value, boot, started_ms = FIRST_DAY_MS, 4000, 1, FIRST_DAY_MS
    seq = 0
    while at_ms < FIRST_DAY_MS + days * DAY_MS:
        at_ms += random.choice((60_000, 333_333, 900_000, 4_000_000, 20_000_000))
        if random.random() < 0.01:
            boot, seq, started_ms = boot + 1, 0, at_ms - 5000
        seq += 1
        kind = random.choices(
            (SAMPLE, DELTA, HIGH_ON, HIGH_OFF, LOW_ON, LOW_OFF, RATE_ON, RATE_OFF, FAULT, FAULT_CLEARED),
            (9, 30, 2, 1, 1, 1, 1, 1, 1, 3),
        )[0]
        value += random.randint(-900, 900)
        told = 2 if kind in (FAULT, FAULT_CLEARED) else value
        trend = random.randint(-30, 30) if kind in (SAMPLE, DELTA) else 0
        plain = reading(seq, started_ms, kind=kind, value=told, boot=boot, trend=trend, uptime_ms=at_ms - started_ms)
        rows.append(plain)
    half = len(rows) // 2
    sent = [batch(n, *rows[n * 20 : n * 20 + 20]) for n in range(half // 20 + 1)]
    rest = rows[(half // 20 + 1) * 20 :]
    return [*sent, *(batch(n, *rest[n * 20 : n * 20 + 20], gateway="gw-2") for n in range(len(rest) // 20 + 1))]


def _end_ms(item: Batch) -> int:
    return max(((row.epoch_unix_ms or 0) + row.uptime_ms for row in item.readings), default=0)


def _gateways(sent: list[Batch], days: int) -> dict[tuple[int, int], tuple[int | None, ...]]:
    """The windows that a gateway makes of the same records, in one go."""
    records = [
        (row.boot, row.seq, row.kind, row.value, row.trend, row.uptime_ms, (row.epoch_unix_ms or 0) + row.uptime_ms)
        for item in sent
        for row in item.readings
    ]
    end_ms = FIRST_DAY_MS + days * DAY_MS
    made = fold(records, GATEWAY_LENGTHS_S, GATEWAY_HOLD_S, end_ms)
    return {key: found.figures() for key, found in made.items() if key[0] >= 900 and key[1] * 1000 < end_ms}


def _made(storage: Storage) -> dict[tuple[int, int], tuple[int | None, ...]]:
    figures = "least_milli, mean_milli, greatest_milli, last_milli, reports, covered_ms, alarm_ms, fault_ms"
    sql = f"SELECT length_s, epoch(start)::bigint, revision, {figures} FROM windows WHERE revision = 0"
    return {row[:2]: row[3:] for row in ask(storage, sql).rows}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_windows_made_here_equal_a_gateways(data: Path, storage: Storage, seed: int) -> None:
    sent = _life(6, seed)
    early = [item for number, item in enumerate(sent) if number % 5 and _end_ms(item) < FIRST_DAY_MS + 3 * DAY_MS]
    late = [item for item in sent if item not in early]
    fill(data, *early, now_unix_ms=FIRST_DAY_MS + 3 * DAY_MS)
    write(data, storage)
    upkeep(storage, Policy(), FAR_MS)  # some days are folded, of what had come by then
    assert 1 <= len(_now(storage).folded) < 4
    assert late[0].readings[0].uptime_ms < early[-1].readings[0].uptime_ms
    fill(data, *late, now_unix_ms=FIRST_DAY_MS + 8 * DAY_MS)
    write(data, storage)
    upkeep(storage, Policy(), FAR_MS)
    wanted = _gateways(sent, 6)
    assert len(wanted) > 200
    made = {key: figures for key, figures in _made(storage).items() if key[1] * 1000 < FIRST_DAY_MS + 6 * DAY_MS}
    assert made == wanted
    assert upkeep(storage, Policy(), FAR_MS).folded == 0


def test_a_gateways_window_is_not_made_again(data: Path, storage: Storage) -> None:
    old_ms = NOON_UNIX_MS - 2 * DAY_MS
    fill(data, batch(1, reading(1, old_ms), windows=(window(7, 1234, old_ms // 1000),)), batch(2, reading(2)))
    write(data, storage)
    upkeep(storage, Policy(), FAR_MS)
    sql = "SELECT length_s, revision, mean_milli FROM windows WHERE epoch_ms(start) = {} ORDER BY ALL"
    assert ask(storage, sql.format(old_ms)).rows == [(900, 7, 1234), (3600, 0, 4001)]


# --- dropping -------------------------------------------------------------------------------------------------------


def test_nothing_is_dropped_without_a_policy(data: Path, storage: Storage) -> None:
    fill(data, batch(1, reading(1, NOON_UNIX_MS - 900 * DAY_MS)), batch(2, reading(2)))
    write(data, storage)
    assert upkeep(storage, Policy(), FAR_MS).dropped == 0
    assert in_lake(storage) == stored(data)


def test_old_readings_go_when_their_windows_are_made(data: Path, storage: Storage) -> None:
    days = (20, 10, 9, 2)
    rows = [reading(seq, NOON_UNIX_MS - day * DAY_MS, kind=HIGH_ON) for seq, day in enumerate(days, 1)]
    minute = replace_length(window(1, 4000, (NOON_UNIX_MS - 10 * DAY_MS) // 1000), 60)
    fill(data, batch(1, *rows, windows=(minute,)), batch(2, reading(9)))
    write(data, storage)
    done = upkeep(storage, Policy(raw_days=9), FAR_MS)
    assert done.dropped == 3, "two readings and the minute; day 9 is the last that is kept"
    assert [row[3] for row in in_lake(storage)] == [3, 4, 9]
    assert [row[3] for row in in_lake(storage, table="alarms")] == [1, 2, 3, 4], "alarms stay"
    hours = "SELECT count(DISTINCT day) FROM windows WHERE length_s = 3600"
    assert ask(storage, hours).rows == [(4,)]
    assert (_now(storage).retired, dict(_now(storage).dropped)) == ("2025-12-23", {"readings": 2, "windows": 1})
    # What comes for a day that went goes as well, is counted, and leaves that day's windows as they are.
    before = ask(storage, "FROM windows ORDER BY ALL").rows
    fill(data, batch(3, reading(10, NOON_UNIX_MS - 20 * DAY_MS)))
    write(data, storage)
    assert upkeep(storage, Policy(raw_days=9), FAR_MS) == (0, 0, 1)
    assert ask(storage, "FROM windows ORDER BY ALL").rows == before


def test_quarters_go_after_months_and_hours_stay(data: Path, storage: Storage) -> None:
    fill(data, batch(1, reading(1, NOON_UNIX_MS - 63 * DAY_MS)), batch(2, reading(2)))
    write(data, storage)
    upkeep(storage, Policy(raw_days=30, window_months=2), FAR_MS)
    assert ask(storage, "SELECT DISTINCT length_s FROM windows WHERE day < DATE '2025-12-01'").rows == [(3600,)]


def test_the_longest_windows_that_there_are_stay(data: Path, storage: Storage) -> None:
    """A gateway that sends minutes only: no policy may leave its days without any figure."""
    old_s = (NOON_UNIX_MS - 63 * DAY_MS) // 1000
    fill(data, batch(1, windows=(replace_length(window(1, 4000, old_s), 60),)), batch(2, reading(2)))
    write(data, storage)
    assert upkeep(storage, Policy(raw_days=3, window_months=1), FAR_MS).dropped == 0


@pytest.mark.parametrize("clock_ms", [0, NOON_UNIX_MS, FAR_MS])
def test_a_wrong_clock_makes_no_row_old(data: Path, storage: Storage, clock_ms: int) -> None:
    fill(data, batch(1, *(reading(seq, NOON_UNIX_MS - day * DAY_MS) for seq, day in enumerate((0, 1, 2, 3), 1))))
    write(data, storage)
    assert upkeep(storage, Policy(raw_days=4), clock_ms).dropped == 0
    assert in_lake(storage) == stored(data)


def test_files_are_read_back_with_their_partition(data: Path, storage: Storage) -> None:
    fill(data, batch(1, reading(1)))
    write(data, storage)
    rows = read(storage, tables.READINGS, _now(storage).of(tables.READINGS)).to_pylist()
    assert (rows[0]["day"].isoformat(), rows[0]["gateway"]) == ("2026-01-01", "gw-1")


def replace_length(plain: object, length_s: int) -> object:
    return plain._replace(length_s=length_s)  # type: ignore[attr-defined]
