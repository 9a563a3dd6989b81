"""The books of a run: three independent counts of every record, held against one another.

Pure: it is handed what the boards logged, what the gateway's store holds and what the receiver's store holds, and
returns the report and the list of checks. It never derives one side's count from another's. It opens no file and
knows no process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from host_tools.reconstruct import Reconstruction, Report
from isocore.record import FAULT, HIGH_ON, LOST, LOW_ON, RATE_ON, is_alarm, is_event, is_report

Identity = tuple[int, int]
"""(boot, seq) of one record of one board."""

INTEGER_FIELDS = (
    "sampled",
    "sent",
    "suppressed",
    "acked",
    "stored",
    "uploaded",
    "cloud_rows",
    "lost",
    "duplicates",
    "alarms",
    "faults",
    "evicted",
    "bytes_uplink",
    "bytes_if_all_sent",
    "models_applied",
    "events_sent",
    "events_stored",
    "events_cloud",
    "tagged",
    "verified",
)


@dataclass(frozen=True)
class Sample:
    """One reading as the board took it. value: m degC or m%RH."""

    boot: int
    channel: int
    uptime_ms: int
    value_milli: int


@dataclass(frozen=True)
class Emitted:
    """One record as the board put it into its outbox; `unix_us` is the host's clock at that moment."""

    boot: int
    seq: int
    kind: int
    channel: int
    uptime_ms: int
    value_milli: int
    unix_us: int


@dataclass(frozen=True)
class CloudRow:
    """One row of the receiver's store; `received_unix_ms` is when its batch was durable there."""

    boot: int
    seq: int
    kind: int
    channel: int
    uptime_ms: int
    value_milli: int
    received_unix_ms: int
    trend_milli_min: int = 0
    verified: bool = False  # the board's tag on its frame matches what the receiver stored


@dataclass
class StoreCount:
    """What the gateway's SQLite file holds for one board, counted from its rows."""

    reports: int = 0
    events: int = 0
    uploaded_reports: int = 0
    duplicates: int = 0


@dataclass
class BoardBooks:
    """Everything known of one board after a run.

    counters: the firmware's own; samples and emitted: the tap's log, kept below the firmware; store: the gateway's
    file; cloud: the receiver's rows; outages: (from, to) in host unix ms when an upload could not work.
    """

    counters: Mapping[str, int]
    samples: Sequence[Sample]
    emitted: Sequence[Emitted]
    store: StoreCount
    cloud: Sequence[CloudRow]
    temperature_channels: frozenset[int] = frozenset()
    bytes_uplink: int = 0
    bytes_if_all_sent: int = 0
    tags: bool = False  # the board tags its frames


@dataclass(frozen=True)
class Check:
    """One identity that must hold, with both sides as counted."""

    name: str
    left: int
    right: int

    @property
    def ok(self) -> bool:
        return self.left == self.right


@dataclass
class Outcome:
    """The report as it goes to JSON, and the checks behind the exit code."""

    report: dict[str, Any]
    checks: list[Check] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)


def reconcile(boards: Mapping[str, BoardBooks], outages: Iterable[tuple[int, int]], error_bound_milli: int) -> Outcome:
    """Build the report of a run and check every identity, in total and per board.

    error_bound_milli: the largest error bound any model of the run allowed, in m degC.
    """
    outage_list = list(outages)
    per_board: dict[str, dict[str, Any]] = {}
    latencies_ms: list[float] = []
    latencies_all_ms: list[float] = []
    checks: list[Check] = []
    for name in sorted(boards):
        books = boards[name]
        row = _board_row(books)
        usual, every = alarm_latencies_ms(books.emitted, books.cloud, outage_list)
        row["alarm_latency_ms"] = percentiles(usual)
        latencies_ms += usual
        latencies_all_ms += every
        per_board[name] = row
        checks += _board_checks(name, books, row)
    total: dict[str, Any] = {key: sum(row[key] for row in per_board.values()) for key in INTEGER_FIELDS}
    total["alarm_latency_ms"] = percentiles(latencies_ms)
    total["alarm_latency_with_outages_ms"] = percentiles(latencies_all_ms)
    total["max_error_mc"] = max((row["max_error_mc"] for row in per_board.values()), default=0)
    total["error_bound_mc"] = error_bound_milli
    total["per_board"] = per_board
    checks += [
        Check("sampled = sent + suppressed", total["sampled"], total["sent"] + total["suppressed"]),
        Check("sent = stored + evicted", total["sent"], total["stored"] + total["evicted"]),
        Check("stored = cloud rows", total["stored"], total["cloud_rows"]),
        Check("events sent = events stored", total["events_sent"], total["events_stored"]),
        Check("events stored = events at the cloud", total["events_stored"], total["events_cloud"]),
        Check("rows tagged = tags verified", total["tagged"], total["verified"]),
        Check("lost", total["lost"], 0),
        Check("duplicates", total["duplicates"], 0),
        Check("error past the bound (m°C)", max(0, total["max_error_mc"] - error_bound_milli), 0),
    ]
    total["reconciled"] = all(check.ok for check in checks)
    return Outcome(total, checks)


def _board_row(books: BoardBooks) -> dict[str, Any]:
    counters = books.counters
    identities = Counter((row.boot, row.seq) for row in books.cloud)
    evicted = counters.get("evicted", 0) + counters.get("events_evicted", 0)
    missing = sum((record.boot, record.seq) not in identities for record in books.emitted)
    cloud_duplicates = sum(identities.values()) - len(identities)
    return {
        "sampled": counters.get("sampled", 0),
        "sent": counters.get("sent", 0),
        "suppressed": counters.get("suppressed", 0),
        "acked": counters.get("acked", 0),
        "stored": books.store.reports,
        "uploaded": books.store.uploaded_reports,
        "cloud_rows": sum(is_report(row.kind) for row in books.cloud),
        "lost": max(0, missing - evicted),
        "duplicates": books.store.duplicates + cloud_duplicates,
        "alarms": sum(row.kind in (HIGH_ON, LOW_ON, RATE_ON) for row in books.cloud),
        "faults": sum(row.kind == FAULT for row in books.cloud),
        "evicted": counters.get("evicted", 0),
        "bytes_uplink": books.bytes_uplink,
        "bytes_if_all_sent": books.bytes_if_all_sent,
        "models_applied": counters.get("models_applied", 0),
        "events_sent": counters.get("events_sent", 0),
        "events_stored": books.store.events,
        "events_cloud": sum(is_event(row.kind) and row.kind != LOST for row in books.cloud),
        "tagged": len(books.cloud) if books.tags else 0,
        "verified": sum(row.verified for row in books.cloud),
        "max_error_mc": max_error_milli(books.samples, books.cloud, books.temperature_channels),
    }


def _board_checks(name: str, books: BoardBooks, row: Mapping[str, Any]) -> list[Check]:
    """Identities of one board, and its firmware's counters against the log kept below the firmware."""
    sent_at_cloud = {(r.boot, r.seq): (r.kind, r.channel, r.uptime_ms, r.value_milli) for r in books.cloud}
    altered = sum(
        sent_at_cloud.get((r.boot, r.seq), expected) != expected
        for r in books.emitted
        for expected in ((r.kind, r.channel, r.uptime_ms, r.value_milli),)
    )
    return [
        Check(f"{name}: sampled, firmware against tap", row["sampled"], len(books.samples)),
        Check(f"{name}: sent, firmware against tap", row["sent"], sum(is_report(r.kind) for r in books.emitted)),
        Check(
            f"{name}: events, firmware against tap", row["events_sent"], sum(is_event(r.kind) for r in books.emitted)
        ),
        Check(f"{name}: acked = stored", row["acked"], row["stored"]),
        Check(f"{name}: stored = uploaded", row["stored"], row["uploaded"]),
        Check(f"{name}: stored = cloud rows", row["stored"], row["cloud_rows"]),
        Check(f"{name}: rows tagged = tags verified", row["tagged"], row["verified"]),
        Check(f"{name}: lost", row["lost"], 0),
        Check(f"{name}: altered on the way", altered, 0),
    ]


def max_error_milli(samples: Iterable[Sample], cloud: Iterable[CloudRow], channels: frozenset[int]) -> int:
    """Largest distance in milli-units between what the reports at the cloud say and the samples taken, over `channels`.

    A sample before the first report that reached the cloud counts with its full distance to that report.
    """
    series: dict[tuple[int, int], list[Report]] = {}
    for row in cloud:
        if is_report(row.kind) and row.channel in channels:
            report = (row.uptime_ms, row.seq, row.value_milli, row.trend_milli_min)
            series.setdefault((row.boot, row.channel), []).append(report)
    signals = {key: Reconstruction(reports) for key, reports in series.items()}
    worst = 0
    for sample in samples:
        if sample.channel not in channels:
            continue
        signal = signals.get((sample.boot, sample.channel))
        if signal is None:
            return abs(sample.value_milli)
        worst = max(worst, abs(sample.value_milli - signal.at(sample.uptime_ms)))
    return worst


def alarm_latencies_ms(
    emitted: Iterable[Emitted], cloud: Iterable[CloudRow], outages: Sequence[tuple[int, int]]
) -> tuple[list[float], list[float]]:
    """Host ms from an alarm record's making to its row being durable at the cloud: (outside outages, all).

    Alarms made during an outage, or within its last moments, wait for the network by design; they stand in the second
    list only.
    """
    received = {(row.boot, row.seq): row.received_unix_ms for row in cloud if is_alarm(row.kind)}
    usual: list[float] = []
    every: list[float] = []
    for record in emitted:
        if not is_alarm(record.kind) or (record.boot, record.seq) not in received:
            continue
        made_ms = record.unix_us / 1000
        latency_ms = max(0.0, received[record.boot, record.seq] - made_ms)
        every.append(latency_ms)
        if not any(start <= made_ms <= end for start, end in outages):
            usual.append(latency_ms)
    return usual, every


def percentiles(values: Sequence[float]) -> dict[str, float | None]:
    """Nearest-rank p50 and p99, rounded to 0.1; None for both when there are no values."""
    if not values:
        return {"p50": None, "p99": None}
    ordered = sorted(values)
    return {
        label: round(ordered[max(0, -(-len(ordered) * share // 100) - 1)], 1)
        for label, share in (("p50", 50), ("p99", 99))
    }


def share_out(total: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Split an integer over names in proportion to weights, exactly (largest remainder)."""
    whole = sum(weights.values())
    if not whole:
        return dict.fromkeys(weights, 0)
    shares = {name: total * weight // whole for name, weight in weights.items()}
    rest = total - sum(shares.values())
    by_remainder = sorted(weights, key=lambda name: (-(total * weights[name] % whole), name))
    for name in by_remainder[:rest]:
        shares[name] += 1
    return shares
