"""Windows against a count of every tick, and folding as it comes against folding all at once."""

from __future__ import annotations

import json
import random
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from host_tools.virtual.interpreter import find_micropython
from isocore.aggregate import Channel, Window, fold, in_order
from isocore.predict import predict
from isocore.record import (
    BOOT,
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
    WINDOW_MEAN,
)

ROOT = Path(__file__).resolve().parents[2]
TICK_MS = 250
LENGTHS_S = (1, 4, 8)
HOLD_S = 3
EPOCH_MS = 1_800_000_000_000
Item = tuple[int, int, int, int, int, int, int]  # boot, seq, kind, value, trend, uptime_ms, unix_ms
Figures = tuple[Any, ...]
READINGS = (SAMPLE, DELTA)
ALARMS = {HIGH_ON: 1, HIGH_OFF: -1, LOW_ON: 2, LOW_OFF: -2, RATE_ON: 4, RATE_OFF: -4}


def reports(*rows: tuple[int, int], trend: int = 0, boot: int = 1) -> list[Item]:
    """Deltas at (uptime_ms, value)."""
    return [(boot, i + 1, DELTA, value, trend, t, EPOCH_MS + t) for i, (t, value) in enumerate(rows)]


@st.composite
def histories(draw: st.DrawFn) -> list[Item]:
    """Two boots of one channel on a grid of ticks; the second begins after the first has ended."""
    items: list[Item] = []
    epoch_ms = EPOCH_MS
    for boot in (1, 2):
        ticks = sorted(draw(st.lists(st.integers(0, 100), max_size=14)))
        for seq, tick in enumerate(ticks, 1):
            kind = draw(
                st.sampled_from((SAMPLE, DELTA, DELTA, DELTA, FAULT, FAULT_CLEARED, BOOT, WINDOW_MEAN, *ALARMS))
            )
            value = draw(st.integers(-50, 50))
            items.append((boot, seq, kind, value, 0, tick * TICK_MS, epoch_ms + tick * TICK_MS))
        epoch_ms += draw(st.integers(101, 140)) * TICK_MS
    return items


def by_ticks(items: list[Item], upto_ms: int) -> dict[tuple[int, int], Figures]:
    """The naive way: what stands in each tick, then sums over ticks."""
    ordered = [item for item in sorted(items, key=in_order) if item[2] not in (BOOT, WINDOW_MEAN)]
    found: dict[tuple[int, int], Figures] = {}
    for length_s in LENGTHS_S:
        last_end_ms = upto_ms // (length_s * 1000) * (length_s * 1000)
        horizon_ms = max([last_end_ms, *(item[6] for item in ordered)])
        cells: dict[int, list[Any]] = {}
        standing: int | None = None
        alarms, fault, boot, record_ms = 0, 0, 0, 0
        place = 0
        for now_ms in range(EPOCH_MS, horizon_ms + TICK_MS, TICK_MS):
            start_s = now_ms // 1000 // length_s * length_s
            cell = cells.setdefault(start_s, [[], 0, 0, 0, 0, 0, None])  # values, sum, ticks, count, alarm, fault, last
            if (
                now_ms < horizon_ms
                and record_ms <= now_ms < record_ms + HOLD_S * 1000
                and not (place < len(ordered) and ordered[place][6] == now_ms)
            ):
                _tick(cell, standing, alarms, fault)
                continue
            while place < len(ordered) and ordered[place][6] == now_ms:
                number, _, kind, value, _, _, record_ms = ordered[place]
                place += 1
                if number != boot:
                    boot, standing, alarms, fault = number, None, 0, 0
                if kind in READINGS and not fault:
                    standing = value
                    cell[0].append(value)
                    cell[3] += 1
                    cell[6] = value
                elif kind == FAULT:
                    standing, fault = None, value
                elif kind == FAULT_CLEARED:
                    fault = 0
                elif kind in ALARMS:
                    bit = ALARMS[kind]
                    alarms = alarms | bit if bit > 0 else alarms & ~-bit
                    if abs(bit) != 4 and not fault:
                        cell[0].append(value)
            if now_ms < horizon_ms and record_ms <= now_ms < record_ms + HOLD_S * 1000:
                _tick(cell, standing, alarms, fault)
        for start_s, (values, total, ticks, count, alarm, bad, last) in cells.items():
            if values or ticks or alarm or bad:
                mean = total // ticks if ticks else (min(values) + max(values)) // 2 if values else None
                least, greatest = (min(values), max(values)) if values else (None, None)
                times = (ticks * TICK_MS, alarm * TICK_MS, bad * TICK_MS)
                found[length_s, start_s] = (least, mean, greatest, last, count, *times)
    return found


def _tick(cell: list[Any], standing: int | None, alarms: int, fault: int) -> None:
    if standing is not None:
        cell[0].append(standing)
        cell[1] += standing
        cell[2] += 1
        cell[6] = standing
    cell[4] += bool(alarms)
    cell[5] += bool(fault)


def figures(windows: dict[tuple[int, int], Window]) -> dict[tuple[int, int], Figures]:
    return {key: window.figures() for key, window in windows.items()}


@settings(max_examples=200)
@given(histories(), st.integers(0, 300))
def test_a_fold_is_what_a_count_of_every_tick_says(items: list[Item], ticks: int) -> None:
    upto_ms = EPOCH_MS + ticks * TICK_MS
    assert figures(fold(items, LENGTHS_S, HOLD_S, upto_ms)) == by_ticks(items, upto_ms)


@given(histories(), st.randoms(use_true_random=False))
def test_order_of_arrival_and_repeats_change_nothing(items: list[Item], rng: random.Random) -> None:
    shuffled = [*items, *rng.sample(items, len(items) // 2)]
    rng.shuffle(shuffled)
    assert figures(fold(shuffled, LENGTHS_S, HOLD_S)) == figures(fold(items, LENGTHS_S, HOLD_S))


class Follower:
    """What a host does: feeds as records arrive, closes now and then, and goes back when one is refused."""

    def __init__(self) -> None:
        self.kept: dict[tuple[int, int], Window] = {}
        self.held: list[Item] = []
        self.channel = Channel(LENGTHS_S, HOLD_S, lambda length_s, start_s: self.kept.get((length_s, start_s)))

    def arrive(self, item: Item) -> None:
        if any(item[:2] == other[:2] for other in self.held):
            return  # the store drops duplicates
        self.held.append(item)
        if not self.channel.feed(*item):
            self._go_back(item)
        self._keep()

    def close(self, unix_ms: int) -> None:
        self.channel.close(unix_ms)
        self._keep()

    def _keep(self) -> None:
        self.kept.update(self.channel.windows)
        self.channel.windows.clear()

    def _go_back(self, item: Item) -> None:
        key = (item[0], item[5], item[1])
        longest = LENGTHS_S[-1]
        known = [w for (length_s, _), w in self.kept.items() if length_s == longest and w.opening[0][:3] < key]
        known = [w for w in known if w.start_s * 1000 <= item[6]]
        start = max(known, key=lambda w: w.start_s, default=None)
        floor_s = start.start_s if start else 0
        for kept in [kept for kept in self.kept if kept[1] >= floor_s]:
            del self.kept[kept]
        fresh = Channel(LENGTHS_S, HOLD_S, lambda length_s, start_s: self.kept.get((length_s, start_s)))
        if start is not None:
            fresh.go_back(start.opening, floor_s)
        self.channel = fresh
        for record in sorted(self.held, key=in_order):
            fresh.take(*record)


@settings(max_examples=200)
@given(histories(), st.randoms(use_true_random=False), st.data())
def test_folded_as_it_comes_late_or_not_it_is_the_same(
    items: list[Item], rng: random.Random, data: st.DataObject
) -> None:
    arrival = sorted(items, key=lambda item: item[6])
    for _ in range(data.draw(st.integers(0, 6))):  # some come late, by a little or by much
        if arrival:
            arrival.insert(rng.randrange(len(arrival) + 1), arrival.pop(rng.randrange(len(arrival))))
    follower = Follower()
    now_ms = EPOCH_MS
    for item in arrival:
        now_ms = max(now_ms, item[6] + rng.randrange(0, 12) * TICK_MS)
        follower.arrive(item)
        if rng.random() < 0.5:
            follower.close(now_ms)
    now_ms += 20_000
    follower.close(now_ms)
    assert figures(follower.kept) == figures(fold(items, LENGTHS_S, HOLD_S, now_ms))


def test_a_mean_is_by_time_and_not_by_reports() -> None:
    windows = fold(reports((0, 1000), (50_000, 2000), (55_000, 4000)), (60,), 3600, EPOCH_MS + 60_000)
    (window,) = windows.values()
    assert window.figures() == (1000, (50 * 1000 + 5 * 2000 + 5 * 4000) // 60, 4000, 4000, 3, 60_000, 0, 0)


def test_a_value_carried_in_counts_and_is_no_report() -> None:
    windows = fold(reports((0, 1000)), (60,), 3600, EPOCH_MS + 180_000)
    assert [w.figures() for w in windows.values()] == [
        (1000, 1000, 1000, 1000, 1, 60_000, 0, 0),
        (1000, 1000, 1000, 1000, 0, 60_000, 0, 0),
        (1000, 1000, 1000, 1000, 0, 60_000, 0, 0),
    ]


def test_a_mean_is_rounded_down_below_zero_too() -> None:
    windows = fold(reports((0, -1), (500, 0)), (1,), 3600, EPOCH_MS + 1000)
    assert [w.mean for w in windows.values()] == [-1]


def test_a_fault_is_set_apart() -> None:
    items = [
        (1, 1, SAMPLE, 20_000, 0, 0, EPOCH_MS),
        (1, 2, FAULT, 2, 0, 10_000, EPOCH_MS + 10_000),
        (1, 3, DELTA, 85_000, 0, 12_000, EPOCH_MS + 12_000),  # must not be there; if it is, it is not trusted
        (1, 4, FAULT_CLEARED, 2, 0, 40_000, EPOCH_MS + 40_000),
        (1, 5, SAMPLE, 21_000, 0, 40_000, EPOCH_MS + 40_000),
    ]
    (window,) = fold(items, (60,), 3600, EPOCH_MS + 60_000).values()
    assert window.figures() == (20_000, (10 * 20_000 + 20 * 21_000) // 30, 21_000, 21_000, 2, 30_000, 0, 30_000)


def test_a_new_boot_carries_nothing_over() -> None:
    items = [*reports((0, 1000)), (2, 1, HIGH_ON, 9000, 0, 0, EPOCH_MS + 30_000)]
    (window,) = fold(items, (60,), 3600, EPOCH_MS + 60_000).values()
    assert window.figures() == (1000, 1000, 9000, 1000, 1, 30_000, 30_000, 0)


@pytest.mark.parametrize("trend", [120, -120, 7, 32767])
def test_a_trend_moves_the_value_as_receivers_reconstruct_it(trend: int) -> None:
    span_s = 3600
    (window,) = fold(reports((0, 5000), trend=trend), (span_s,), 7200, EPOCH_MS + span_s * 1000).values()
    path = [predict(5000, trend, s) for s in range(span_s + 1)]
    assert (window.least, window.greatest, window.last) == (min(path), max(path), path[-1])
    trapezium = Fraction(sum(path) * 2 - path[0] - path[-1], 2 * span_s)
    assert abs(window.mean - trapezium) <= 2 + abs(trend) // 60


def test_a_clock_put_back_starts_anew_there() -> None:
    channel = Channel((60,), 3600)
    ahead_ms = 10 * 365 * 86_400_000
    assert channel.feed(1, 1, SAMPLE, 1000, 0, 0, EPOCH_MS + ahead_ms)
    assert channel.feed(1, 2, DELTA, 2000, 0, 5000, EPOCH_MS + 5000)
    channel.close(EPOCH_MS + 60_000)
    assert channel.windows[60, EPOCH_MS // 1000].figures() == (2000, 2000, 2000, 2000, 1, 55_000, 0, 0)
    assert len(channel.windows) == 2, "ten years in between are not filled"


@pytest.mark.micropython
def test_the_same_windows_on_the_boards_interpreter(tmp_path: Path) -> None:
    cases: list[dict[str, Any]] = []

    @settings(max_examples=60, derandomize=True, database=None, phases=[Phase.generate], deadline=None)
    @given(histories(), st.integers(-3000, 3000))
    def draw(items: list[Item], trend: int) -> None:
        moved = [(*item[:4], trend, *item[5:]) for item in items]
        upto = EPOCH_MS + 60_000
        windows = figures(fold(moved, LENGTHS_S, HOLD_S, upto))
        found = sorted([list(key), list(value)] for key, value in windows.items())
        cases.append({"items": moved, "lengths_s": LENGTHS_S, "hold_s": HOLD_S, "upto": upto, "windows": found})

    draw()
    file = tmp_path / "cases.jsonl"
    file.write_text("".join(json.dumps(case) + "\n" for case in cases), encoding="utf-8")
    interpreter = find_micropython(root=ROOT)
    script = str(Path(__file__).with_name("aggregate_replay.py"))
    command = [*interpreter.command, *interpreter.heap_option(4 << 20), script, str(ROOT / "firmware"), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.strip() == f"windows={sum(len(case['windows']) for case in cases)}", done.stdout[-2000:]
