"""The books must balance when they do, and must not when anything is missing, doubled, altered or late."""

from __future__ import annotations

from dataclasses import replace

import pytest

from host_tools.demo.reconcile import (
    INTEGER_FIELDS,
    BoardBooks,
    CloudRow,
    Emitted,
    Outcome,
    Sample,
    StoreCount,
    alarm_latencies_ms,
    max_error_milli,
    percentiles,
    reconcile,
    share_out,
)
from isocore.record import DELTA, FAULT, HIGH_OFF, HIGH_ON, SAMPLE

BOUND_MILLI = 100


def books() -> BoardBooks:
    """A board that took five samples, sent two reports and three events, all of which arrived 7 ms later."""
    samples = [Sample(1, 0, t * 1000, v) for t, v in enumerate((20000, 20040, 20200, 20210, 20150))]
    emitted = [
        Emitted(1, 1, SAMPLE, 0, 0, 20000, 1_000_000),
        Emitted(1, 2, DELTA, 0, 2000, 20200, 3_000_000),
        Emitted(1, 3, HIGH_ON, 0, 2000, 20200, 3_000_000),
        Emitted(1, 4, HIGH_OFF, 0, 4000, 20150, 5_000_000),
        Emitted(1, 5, FAULT, 0, 5000, 1, 6_000_000),
    ]
    cloud = [
        CloudRow(e.boot, e.seq, e.kind, e.channel, e.uptime_ms, e.value_milli, e.unix_us // 1000 + 7) for e in emitted
    ]
    counters = {"sampled": 5, "sent": 2, "suppressed": 3, "acked": 2, "events_sent": 3, "models_applied": 1}
    store = StoreCount(reports=2, events=3, uploaded_reports=2)
    return BoardBooks(counters, samples, emitted, store, cloud, frozenset({0}), 100, 400)


def failed(outcome: Outcome) -> set[str]:
    return {check.name for check in outcome.checks if not check.ok}


def test_balanced_books_reconcile() -> None:
    outcome = reconcile({"b": books()}, [], BOUND_MILLI)
    assert outcome.ok and outcome.report["reconciled"] is True
    assert outcome.report["max_error_mc"] == 50
    assert outcome.report["alarm_latency_ms"] == {"p50": 7.0, "p99": 7.0}
    assert (outcome.report["alarms"], outcome.report["faults"]) == (1, 1)


def test_totals_are_the_sum_of_the_boards_and_integers() -> None:
    report = reconcile({"a": books(), "b": books()}, [], BOUND_MILLI).report
    for name in INTEGER_FIELDS:
        assert type(report[name]) is int
        assert report[name] == sum(row[name] for row in report["per_board"].values())


def test_missing_report_is_lost() -> None:
    b = books()
    b.cloud = [row for row in b.cloud if row.seq != 2]
    outcome = reconcile({"b": b}, [], BOUND_MILLI)
    assert outcome.report["lost"] == 1
    assert {"lost", "stored = cloud rows"} <= failed(outcome)


def test_missing_event_is_lost() -> None:
    b = books()
    b.cloud = [row for row in b.cloud if row.seq != 4]
    outcome = reconcile({"b": b}, [], BOUND_MILLI)
    assert outcome.report["lost"] == 1
    assert "events stored = events at the cloud" in failed(outcome)


def test_row_twice_is_a_duplicate() -> None:
    b = books()
    b.cloud = [*b.cloud, b.cloud[0]]
    outcome = reconcile({"b": b}, [], BOUND_MILLI)
    assert outcome.report["duplicates"] == 1
    assert "duplicates" in failed(outcome)


def test_altered_value_is_found() -> None:
    b = books()
    b.cloud = [replace(row, value_milli=row.value_milli + 1) if row.seq == 1 else row for row in b.cloud]
    assert "b: altered on the way" in failed(reconcile({"b": b}, [], BOUND_MILLI))


def test_firmware_counter_that_lies_is_found() -> None:
    b = books()
    b.counters = {**b.counters, "sampled": 6, "suppressed": 4}
    assert failed(reconcile({"b": b}, [], BOUND_MILLI)) == {"b: sampled, firmware against tap"}


def test_error_past_the_bound_fails() -> None:
    b = books()
    b.samples = [*b.samples, Sample(1, 0, 4500, 20501)]
    b.counters = {**b.counters, "sampled": 6, "suppressed": 4}
    outcome = reconcile({"b": b}, [], BOUND_MILLI)
    assert outcome.report["max_error_mc"] == 301
    assert failed(outcome) == {"error past the bound (m°C)"}


def test_evicted_records_are_not_lost() -> None:
    b = books()
    b.cloud = [row for row in b.cloud if row.seq != 2]
    b.counters = {**b.counters, "evicted": 1, "acked": 1}
    b.store = StoreCount(reports=1, events=3, uploaded_reports=1)
    b.samples = b.samples[:2]
    b.counters = {**b.counters, "sampled": 2, "suppressed": 0}
    assert reconcile({"b": b}, [], BOUND_MILLI).ok


def test_alarm_made_during_an_outage_stands_apart() -> None:
    b = books()
    usual, every = alarm_latencies_ms(b.emitted, b.cloud, [(2900, 3100)])
    assert (len(usual), len(every)) == (1, 2)


@pytest.mark.parametrize(
    ("values", "p50", "p99"), [([], None, None), ([5.0], 5.0, 5.0), ([float(n) for n in range(1, 201)], 100.0, 198.0)]
)
def test_percentiles_are_nearest_rank(values: list[float], p50: float | None, p99: float | None) -> None:
    assert percentiles(values) == {"p50": p50, "p99": p99}


def test_share_out_is_exact() -> None:
    assert share_out(10, {"a": 1, "b": 1, "c": 1}) == {"a": 4, "b": 3, "c": 3}
    assert share_out(7, {"a": 0, "b": 0}) == {"a": 0, "b": 0}


def test_the_cloud_carries_reports_on_by_their_trend_in_order_of_time() -> None:
    samples = [Sample(1, 0, 60_000 * i, v) for i, v in enumerate((20_000, 20_060, 20_118, 20_500))]
    late = CloudRow(1, 9, DELTA, 0, 180_000, 20_490, 0)
    rows = [late, CloudRow(1, 1, SAMPLE, 0, 0, 20_000, 0, 60)]
    assert max_error_milli(samples, rows, frozenset({0})) == 10
    assert max_error_milli(samples, [replace(row, trend_milli_min=0) for row in rows], frozenset({0})) == 118
