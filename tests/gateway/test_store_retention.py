"""Bounds in bytes and days: what leaves, in which order, and that the ledger knows. Clocks are ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.messages import LANE_ALARMS, LANE_LIVE, Batch
from gateway.store.retention import Keep
from isocore.record import (
    BOOT,
    DELTA,
    FAULT,
    HIGH_ON,
    SAMPLE,
    WINDOW_COUNT,
    WINDOW_MAX,
    WINDOW_MEAN,
    WINDOW_MIN,
)
from tests.gateway.conftest import START_UNIX_MS
from tests.gateway.test_store_segments import SMALL, Kept
from tests.support.board_client import Record, samples

DAY_S = 86_400.0
YEARS_10_S = 10 * 365 * DAY_S


def mixed(first: int, last: int) -> list[Record]:
    """Every class: mostly samples, some reports, a fault, a boot, an alarm and a window's figure a hundred."""
    out = samples(first, last)
    special = {10: DELTA, 20: DELTA, 30: FAULT, 40: BOOT, 50: HIGH_ON, 60: WINDOW_MEAN}
    return [(r[0], special.get(r[0] % 100, r[1]), *r[2:]) for r in out]


def kinds(kept: Kept) -> dict[int, int]:
    tally: dict[int, int] = {}
    for lane in (LANE_LIVE, LANE_ALARMS):
        for row in kept.reader.lane_rows(lane, 1, 1 << 40, 1 << 30):
            tally[row.kind] = tally.get(row.kind, 0) + 1
    return tally


def bounded(kept: Kept, max_bytes: int) -> None:
    """From now on the store may take so much."""
    kept.keeper._keep = kept.keeper._keep._replace(max_bytes=max_bytes)


def squeeze(kept: Kept) -> bool:
    """One action of making room. A bound of one byte is never met, so there is always a next one."""
    bounded(kept, 1)
    while kept.keeper._empty_log():  # room that is no readings goes first
        pass
    return kept.keeper.step()


def sink_of(kept: Kept) -> dict[str, int]:
    return dict(kept.snapshot()["ledger"]["devices"]["a"]["sinks"]["cloud"])


def test_reports_are_thinned_to_windows_that_say_what_was_there(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "store.db", SMALL._replace(thin_window_s=50))
    kept.put("a", samples(1, 100))
    kept.tidy()
    expected = [[r[3] for r in samples(1, 100) if r[4] // 50_000 == window] for window in (0, 1)]
    assert squeeze(kept)
    rows = sorted(kept.reader.lane_rows(LANE_LIVE, 1, 1 << 40, 1000))
    # Three windows: seconds 1 to 49, 50 to 99, and second 100 alone, which stays as it was.
    assert [r.kind for r in rows] == [WINDOW_MIN, WINDOW_MEAN, WINDOW_MAX, WINDOW_COUNT] * 2 + [SAMPLE]
    for number, values in enumerate(expected):
        low, mean, high, count = (r.value for r in rows[number * 4 : number * 4 + 4])
        assert (low, high, count) == (min(values), max(values), len(values))
        assert abs(mean - sum(values) / len(values)) <= 0.5
    assert {r.uptime_ms for r in rows[:4]} == {49_000}
    assert [r.seq for r in rows] == [46, 47, 48, 49, 96, 97, 98, 99, 100]
    snapshot = kept.snapshot()
    entry = snapshot["ledger"]["devices"]["a"]
    assert (entry["stored"], entry["made_windows"], entry["present"]) == (100, 8, 9)
    assert entry["left"] == {"thinned": {"reports": 99, "events": 0, "windows": 0, "notices": 0}}
    assert kept.send() == 9, "what the sink is still to get it gets as windows"
    sink = sink_of(kept)
    assert (sink["uploaded_reports"], sink["uploaded_windows"], sink["thinned_reports"], sink["pending"]) == (
        1,
        8,
        99,
        0,
    )
    kept.put("a", samples(1, 100))
    assert kept.totals()["stored"] == 100, "what was thinned does not come twice"
    kept.close()


def test_classes_leave_in_order_and_alarms_last(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "store.db", SMALL._replace(thin_window_s=1))
    kept.put("a", mixed(1, 300))
    kept.tidy()
    assert kinds(kept) == {SAMPLE: 282, DELTA: 6, FAULT: 3, BOOT: 3, HIGH_ON: 3, WINDOW_MEAN: 3}
    order = []
    while squeeze(kept):
        left = kinds(kept)
        if not order or left != order[-1]:
            order.append(left)
        kept.snapshot()
    steps = [sorted(step) for step in order]
    assert steps[0] == sorted((SAMPLE, DELTA, FAULT, BOOT, HIGH_ON, WINDOW_MEAN))
    for earlier, later in ((SAMPLE, DELTA), (DELTA, WINDOW_MEAN), (WINDOW_MEAN, FAULT), (FAULT, HIGH_ON)):
        gone = [earlier not in step for step in steps]
        untouched = [step.get(later) == order[0][later] for step in order]
        assert all(g or u for g, u in zip(gone, untouched, strict=True)), f"{later} left before {earlier} was gone"
    assert order[-1] == {}
    entry = kept.snapshot()["ledger"]["devices"]["a"]
    assert entry["left"]["bytes"] == {"reports": 288, "events": 9, "windows": 3, "notices": 0}
    sink = sink_of(kept)
    assert (sink["dropped_reports"], sink["dropped_events"], sink["dropped_windows"], sink["pending"]) == (288, 9, 3, 0)
    assert kept.files() == []
    kept.close()


def test_uploaded_leaves_before_anything_is_thinned(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "store.db", SMALL._replace(uploaded_age_s=30 * DAY_S))
    kept.put("a", samples(1, 400))
    kept.tidy()
    kept.send(limit=150)
    assert len(kept.files()) == 4, "uploaded readings stay for their time"
    assert squeeze(kept)
    assert kept.totals()["left"] == {"uploaded": 100}
    assert squeeze(kept)
    assert kept.totals()["left"]["thinned"] > 0
    kept.close()


def test_a_segment_that_a_sink_has_in_part_is_dropped_and_never_thinned(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "store.db")
    kept.put("a", samples(1, 100))
    kept.tidy()
    kept.send(limit=40)
    while squeeze(kept):
        assert "thinned" not in kept.totals()["left"]
    sink = sink_of(kept)
    assert (sink["uploaded_reports"], sink["dropped_reports"], sink["pending"]) == (40, 60, 0)
    kept.close()


def test_the_bound_is_kept_with_a_margin_and_the_state_is_told(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "store.db", SMALL._replace(segment_rows=1000))
    kept.put("a", samples(1, 5000))
    kept.tidy()
    bounded(kept, 1)
    kept.keeper._empty_log()
    used = kept.keeper.used_bytes()
    bounded(kept, used - 20_000)
    assert kept.keeper.step()
    assert kept.harness.states[-1].making_room == "thinning"
    kept.tidy()
    assert kept.harness.states[-1].making_room is None
    assert kept.keeper.used_bytes() <= kept.keeper._keep.high_bytes
    assert kept.totals()["left"].keys() == {"thinned"}
    before = kept.totals()
    assert kept.tidy() == 0, "below the bound nothing more leaves"
    assert kept.totals() == before
    kept.close()


def test_days_by_the_stores_own_clock(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "store.db", SMALL._replace(max_age_s=10 * DAY_S))
    kept.put("a", mixed(1, 200))
    kept.tidy()
    for _ in range(9):
        kept.harness.clock_s += DAY_S
        kept.tidy()
    assert kept.totals()["left"] == {}
    kept.harness.clock_s += 1.1 * DAY_S
    kept.tidy()
    assert kept.totals()["left"] == {"days": 200}
    assert sink_of(kept)["pending"] == 0
    kept.close()


@pytest.mark.parametrize("while_off", [False, True], ids=["running", "off"])
@pytest.mark.parametrize("jump_s", [YEARS_10_S, -YEARS_10_S], ids=["forward", "back"])
def test_a_clock_wrong_by_ten_years_lets_nothing_leave(tmp_path: Path, jump_s: float, while_off: bool) -> None:
    keep = SMALL._replace(max_age_s=10 * DAY_S)
    kept = Kept(tmp_path / "store.db", keep)
    kept.put("a", samples(1, 200))
    kept.tidy()
    kept.harness.clock_s += 3600
    kept.tidy()
    if not while_off:
        kept.harness.now_s += jump_s
        kept.harness.clock_s += 3600
        kept.tidy()
    kept.close()
    again = Kept(tmp_path / "store.db", keep, now_s=START_UNIX_MS / 1000 + jump_s)
    again.tidy()
    assert again.totals()["left"] == {}
    assert again.totals()["present"] == 200
    again.close()


def test_days_spent_switched_off_count(tmp_path: Path) -> None:
    keep = SMALL._replace(max_age_s=10 * DAY_S)
    kept = Kept(tmp_path / "store.db", keep)
    kept.put("a", samples(1, 200))
    kept.tidy()
    kept.harness.clock_s += 3600
    kept.tidy()
    kept.close()
    again = Kept(tmp_path / "store.db", keep, now_s=START_UNIX_MS / 1000 + 11 * DAY_S)
    again.tidy()
    assert again.totals()["left"] == {"days": 200}
    again.close()


def test_a_batch_read_before_its_rows_left_is_not_frozen(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "store.db")
    kept.put("a", samples(1, 100))
    kept.tidy()
    rows = kept.reader.lane_rows(LANE_LIVE, 1, 1 << 40, 50)
    cuts = kept.reader.cuts
    assert squeeze(kept)
    batch = Batch("cloud", 7, LANE_LIVE, rows[0].row, rows[-1].row, len(rows), (), "gzip", "", b"x")
    assert not kept.store.freeze(batch, rows[-1].row + 1, cuts)
    assert kept.reader.cursor("cloud", LANE_LIVE) == 1
    kept.send()
    assert sink_of(kept)["pending"] == 0
    kept.close()


def test_a_store_without_a_sink_keeps_all_until_its_bound(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "store.db", SMALL._replace(uploaded_age_s=0.0), sinks=())
    kept.put("a", samples(1, 200))
    kept.harness.clock_s += 100 * DAY_S
    kept.tidy()
    assert kept.totals()["present"] == 200
    kept.close()


def test_defaults_have_a_bound() -> None:
    assert Keep().low_bytes < Keep().high_bytes < Keep().max_bytes
