"""Histories: held reports against what the board sampled, and replay against the filter on both interpreters."""

from __future__ import annotations

import json
import subprocess
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host_tools.cloud.store import Store
from host_tools.cloud.store_read import CloudReader
from host_tools.cloud.wire import Batch, Device, Reading
from host_tools.history import History, Run, from_store, from_traces, replay
from host_tools.rooms import DAY_S, SimulatedBoard
from host_tools.traces import Trace
from host_tools.virtual.interpreter import find_micropython
from isocore.filter import ChannelFilter
from isocore.model import ChannelParams
from isocore.record import DELTA, FAULT, FAULT_CLEARED, FAULT_CRC, SAMPLE

ROOT = Path(__file__).resolve().parents[2]
PERIOD_MS = 60_000


def params(**values: Any) -> Any:
    made = ChannelParams()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def history(run: Run, exact: bool = True) -> History:
    return History("a", None, "temperature", [run], PERIOD_MS, exact, (-55000, 125000))


def run_of(board: SimulatedBoard) -> Run:
    run = Run()
    for row in board.rows():
        run.add(row.t_ms, 0 if row.fault else board.sensing.quantise_temp(row.temp_milli), 1 if row.fault else 0)
    return run


def board_records(run: Run, settings_: Any) -> Iterator[tuple[int, int, int, int]]:
    """What a board sends of these samples: (entry, t_ms, kind, value)."""
    for i, t_ms, kind, value, _ in full_records(run, settings_):
        yield i, t_ms, kind, value


def full_records(run: Run, settings_: Any) -> Iterator[tuple[int, int, int, int, int]]:
    """The same with the trend; t_ms is the record's stamp."""
    channel = ChannelFilter(settings_)
    for i, (t_ms, value, fault) in enumerate(zip(run.t_ms, run.value, run.fault, strict=True)):
        count = channel.fault(fault) if fault else channel.step(t_ms // 1000, t_ms % 1000, value)
        for record in range(count):
            stamp_ms = channel.at_s(record, t_ms // 1000) * 1000 + channel.at_ms(record, t_ms % 1000)
            yield i, stamp_ms, channel.kinds[record], channel.values[record], channel.trend(record)
    for record in range(channel.flush()):
        stamp_ms = channel.at_s(record, 0) * 1000 + channel.at_ms(record, 0)
        yield len(run.t_ms), stamp_ms, channel.kinds[record], channel.values[record], channel.trend(record)


def test_replay_counts_what_the_filter_sends() -> None:
    run = run_of(SimulatedBoard("fridge-1", "fridge", 5, DAY_S, door_left_open_at_s=DAY_S / 2))
    old = params(error_milli=300, high_on_milli=9000, high_off_milli=8000, heartbeat_s=3600)
    sent = list(board_records(run, old))
    predicted = replay(history(run), old)
    assert predicted.messages == sum(kind in (SAMPLE, DELTA) for *_, kind, _ in sent) > 100
    assert predicted.alarms == 1
    assert predicted.faults == sum(kind == FAULT for *_, kind, _ in sent)
    assert predicted.samples == sum(not fault for fault in run.fault)
    assert 0 < predicted.max_error_milli <= 300
    assert predicted.days == pytest.approx(1)
    assert predicted.messages_per_day == pytest.approx(predicted.messages)


@pytest.mark.micropython
def test_a_board_sends_what_replay_predicts(tmp_path: Path) -> None:
    run = run_of(SimulatedBoard("fridge-1", "fridge", 6, DAY_S / 2, door_left_open_at_s=DAY_S / 4))
    (tmp_path / "run.json").write_text(json.dumps([list(run.t_ms), list(run.value), list(run.fault)]))
    script = tmp_path / "board.py"
    script.write_text(
        "import sys, json\n"
        "sys.path.append(sys.argv[1])\n"
        "from isocore.filter import ChannelFilter\n"
        "from isocore.model import ChannelParams\n"
        "p = ChannelParams()\n"
        "p.error_milli, p.high_on_milli, p.high_off_milli = 250, 9000, 8000\n"
        "f = ChannelFilter(p)\n"
        "counts = [0] * 17\n"
        "for t, v, c in zip(*json.load(open(sys.argv[2]))):\n"
        "    for i in range(f.fault(c) if c else f.step(t // 1000, t % 1000, v)):\n"
        "        counts[f.kinds[i]] += 1\n"
        "print(json.dumps(counts))\n"
    )
    command = [*find_micropython().command, str(script), str(ROOT / "firmware"), str(tmp_path / "run.json")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    counts = json.loads(result.stdout)
    predicted = replay(history(run), params(error_milli=250, high_on_milli=9000, high_off_milli=8000))
    assert (counts[SAMPLE] + counts[DELTA], counts[3], counts[FAULT]) == (
        predicted.messages,
        predicted.alarms,
        predicted.faults,
    )


def store_of(folder: Path, records: Sequence[tuple[int, ...]], boot: int = 1) -> None:
    """Write (t_ms, kind, value) or (t_ms, kind, value, trend) of one channel into a receiver's store."""
    readings = [
        Reading(0, boot, seq, kind, 0, value, trend[0] if trend else 0, t_ms, None, 0)
        for seq, (t_ms, kind, value, *trend) in enumerate(records, 1)
    ]
    device = Device("a", "fridge", (("temperature", "degC"),))
    with Store(folder) as store:
        store.submit(Batch("gw", boot, bytes([boot]) * 32, "live", (device,), readings), 1).result(timeout=20)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-600, 600), st.sampled_from([0] * 9 + [1])), min_size=3, max_size=120),
    st.integers(0, 800),
    st.booleans(),
)
def test_held_reports_are_the_samples_within_the_bound(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]], error_milli: int, known: bool
) -> None:
    run, value = Run(), 4000
    for number, (step, fault) in enumerate(steps):
        value += step
        run.add(number * PERIOD_MS, 0 if fault else value, fault)
    records = [(t_ms, kind, sent) for _, t_ms, kind, sent in board_records(run, params(error_milli=error_milli))]
    folder = tmp_path_factory.mktemp("store")
    store_of(folder, records)
    with CloudReader(folder) as reader:
        found = from_store(reader, {"a": PERIOD_MS})
    truth = {t_ms: v for t_ms, v, fault in zip(run.t_ms, run.value, run.fault, strict=True) if not fault}
    (held,) = found
    last_ms = max(t_ms for t_ms, kind, _ in records)
    samples = {
        t: v for t, v, fault in zip(held.runs[0].t_ms, held.runs[0].value, held.runs[0].fault, strict=True) if not fault
    }
    assert all(abs(samples[t_ms] - v) <= error_milli for t_ms, v in truth.items() if t_ms <= last_ms)
    assert set(samples) == {t_ms for t_ms in truth if t_ms <= last_ms}
    # Under the bound they were sent with, the held samples make the very reports they come from.
    again = [(t_ms, kind) for _, t_ms, kind, _ in board_records(held.runs[0], params(error_milli=error_milli))]
    assert again == [(t_ms, kind) for t_ms, kind, _ in records]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-300, 300), st.sampled_from([0] * 19 + [1])), min_size=3, max_size=120),
    st.sampled_from((50, 400)),
    st.sampled_from((0, 600)),
    st.sampled_from((-30, 0, 40)),
    st.sampled_from((0, 300)),
    st.sampled_from((0, 1)),
    st.sampled_from((0, 100)),
)
def test_reports_with_trend_lead_and_delay_are_the_samples_within_the_bound(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[int, int]],
    error_milli: int,
    trend_s: int,
    lead_pct: int,
    delay_s: int,
    lead_after: int,
    fit_pct: int,
) -> None:
    run, value = Run(), 4000
    for number, (step, fault) in enumerate(steps):
        value += step
        run.add(number * PERIOD_MS, 0 if fault else value, fault)
    way = params(
        error_milli=error_milli,
        predictor=2,
        trend_s=trend_s,
        lead_pct=lead_pct,
        delay_s=delay_s,
        lead_after=lead_after,
        fit_pct=fit_pct,
    )
    records = [(t_ms, kind, sent, trend) for _, t_ms, kind, sent, trend in full_records(run, way)]
    folder = tmp_path_factory.mktemp("store")
    store_of(folder, records)
    with CloudReader(folder) as reader:
        (held,) = from_store(reader, {"a": PERIOD_MS})
    last_ms = max(t_ms for t_ms, *_ in records)
    found = held.runs[0]
    samples = {t: v for t, v, fault in zip(found.t_ms, found.value, found.fault, strict=True) if not fault}
    truth = {t: v for t, v, fault in zip(run.t_ms, run.value, run.fault, strict=True) if not fault and t <= last_ms}
    assert set(samples) == set(truth)
    assert all(abs(samples[t_ms] - v) <= error_milli for t_ms, v in truth.items())
    assert replay(history(run), way).max_error_milli <= error_milli
    assert replay(history(run), way).messages == sum(kind in (SAMPLE, DELTA) for _, kind, *_ in records)


def test_stuck_does_not_end_the_hold_and_boots_stand_apart(tmp_path: Path) -> None:
    store_of(tmp_path, [(0, SAMPLE, 10), (60000, FAULT, 5), (150000, FAULT_CLEARED, 5), (180000, DELTA, 500)])
    store_of(tmp_path, [(0, SAMPLE, 7), (60000, FAULT, FAULT_CRC), (240000, FAULT_CLEARED, 1), (240000, SAMPLE, 8)], 2)
    with CloudReader(tmp_path) as reader:
        (found,) = from_store(reader, {"a": PERIOD_MS})
    first, second = found.runs
    assert list(zip(first.t_ms, first.value, strict=True)) == [(0, 10), (60000, 10), (120000, 10), (180000, 500)]
    assert list(zip(second.t_ms, second.fault, strict=True)) == [(0, 0), (60000, 1), (240000, 0)]
    assert (found.samples, found.device_class, found.exact) == (6, "fridge", False)


def test_the_period_is_guessed_from_the_reports(tmp_path: Path) -> None:
    store_of(tmp_path, [(0, SAMPLE, 0), (60010, DELTA, 500), (360020, DELTA, 0), (420030, DELTA, 500)])
    with CloudReader(tmp_path) as reader:
        (found,) = from_store(reader)
    assert found.period_ms == 60010


def test_traces_are_what_the_sensor_reads() -> None:
    trace = Trace("a", "a", Path("a.csv"))
    trace.t_ms, trace.temp_milli = array("q", [0, 60000, 120000]), array("i", [21549, 21551, 21700])
    trace.humidity_milli = array("i", [40049, 40051, 40000])
    temperature, humidity = from_traces([trace])
    assert list(temperature.runs[0].value) == [21500, 21600, 21700]
    assert list(humidity.runs[0].value) == [40000, 40100, 40000]
    assert (temperature.period_ms, temperature.valid_milli, humidity.valid_milli) == (
        60000,
        (-40000, 80000),
        (0, 100000),
    )
