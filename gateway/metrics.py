"""Counters, gauges and histograms, and their text in Prometheus's exposition format 0.0.4.

Every name gets the prefix `isotherm_gateway_`. Safe from any thread. It knows no metric by itself but the help texts
of the counters, kept here so that each is described once.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

PREFIX = "isotherm_gateway_"

HELP = {
    "ingest_messages_total": "Messages taken from the broker, by topic leaf.",
    "ingest_records_total": "Records in valid frames, duplicates included.",
    "ingest_rejected_total": "Messages refused, by reason.",
    "local_samples_total": "Good readings of the gateway's own sensors, by channel.",
    "local_failures_total": "Readings of the gateway's own sensors that failed, by sensor and reason.",
    "local_rounds_missed_total": "Rounds of readings of the gateway's own sensors that could not be held.",
    "third_party_messages_total": "Messages of third-party devices, by outcome.",
    "third_party_readings_total": "Readings in messages of third-party devices, faults included.",
    "third_party_stamps_ignored_total": "Time stamps in payloads left out: too far from the gateway's clock.",
    "ingest_meta_cleaned_total": "Metas whose channels were left out: a name or unit that no receiver takes.",
    "ingest_dropped_total": "Messages dropped because the store's queue stayed full; boards send frames again.",
    "ingest_acks_total": "Acknowledgements handed to the broker.",
    "mqtt_connects_total": "Connections made to the broker.",
    "mqtt_disconnects_total": "Connections lost or refused.",
    "mqtt_session_connects_total": "Connections made to the broker for third-party devices.",
    "mqtt_session_disconnects_total": "Connections for third-party devices lost or refused.",
    "mqtt_outgoing_dropped_total": "Outgoing messages dropped because the queue to the broker was full.",
    "store_rows_total": "Reports and events committed.",
    "store_errors_total": "Commits that failed and were tried again, by reason.",
    "store_listener_errors_total": "Commits of which a part of the gateway could not be told; the rows are stored.",
    "store_poisoned_total": "Items dropped because they cannot be stored.",
    "store_redelivered_total": "Messages that the broker sent again and that were stored already.",
    "store_conflicts_total": "Records whose identity is taken by other content.",
    "store_set_aside_total": "Damaged databases set aside at start.",
    "store_keeper_errors_total": "Steps of the store's keeper (sealing, retention, checks) that failed.",
    "store_sealed_total": "Segments written.",
    "store_segments_left_total": "Segments that left whole, by why.",
    "store_segments_checked_total": "Segments checked bit by bit and found whole.",
    "store_segments_damaged_total": "Segments found damaged and set aside.",
    "store_segments_taken_over_total": "Segments of a lost main file that were taken over at start.",
    "store_queue_seconds": "How long the oldest item of a commit had waited for it to begin.",
    "store_commit_seconds": "Time of a commit, disk included.",
    "alarm_changes_total": "Alarms raised, acknowledged and cleared, by rule.",
    "alarm_notices_total": "Webhooks and commands that took an alarm, by output.",
    "alarm_notice_retries_total": "Tries of webhooks and commands that failed, by output.",
    "alarm_notices_given_up_total": "Alarms that a webhook or command was not told, by output and reason.",
    "windows_closed_total": "Windows closed, or changed after they were.",
    "windows_late_total": "Records that came behind what was folded into windows already.",
    "analysis_runs_total": "Runs of analyses that found their place, by analysis and place.",
    "analysis_failed_total": "Runs of analyses here that gave no result, by analysis; each is tried three times.",
    "analysis_skipped_total": "Windows not judged because too many were due after an outage, by analysis.",
    "analysis_cpu_seconds_total": "Processor time of the processes that ran analyses here.",
    "offload_changes_total": "How often load or calm changed where analyses run, by where to.",
    "offload_reasons_total": "Why runs went where they did, by place and reason.",
    "upload_batches_total": "Batches stored by a sink, by sink and lane.",
    "upload_rows_total": "Rows stored by a sink, by sink and lane.",
    "upload_bytes_total": "Bytes of batch bodies sent, retries included, by sink.",
    "upload_retries_total": "Sends without an explicit reply, by sink and reason.",
    "upload_quarantined_total": "Batches refused for good, by sink and reason.",
    "upload_remade_total": "Batches made anew, smaller or in another encoding, by sink and reason.",
    "upload_seconds": "Time from a batch's first send to its reply, by sink.",
}

# Upper bounds of histograms, in seconds: from a commit to a good disk up to a cloud at the end of a slow line.
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

COUNTER = "counter"
GAUGE = "gauge"

Labels = tuple[tuple[str, str], ...]


class Family(NamedTuple):
    """A whole family, made anew for each scrape. `samples`: (labels, value)."""

    name: str
    kind: str
    help: str
    samples: Sequence[tuple[dict[str, str], float]]


def _key(labels: dict[str, str]) -> Labels:
    """Labels in one order; there is nothing to sort in most, and counters rise with each message."""
    return tuple(labels.items()) if len(labels) < 2 else tuple(sorted(labels.items()))


class Metrics:
    """A registry."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, dict[Labels, float]] = {}
        self._timings: dict[str, dict[Labels, tuple[list[int], float]]] = {}
        self._gauges: dict[str, tuple[str, Labels, Callable[[], float]]] = {}
        self._sources: list[Callable[[], Iterable[Family]]] = []

    def add(self, name: str, amount: float, **labels: str) -> None:
        """Raise a counter."""
        key = _key(labels)
        with self._lock:
            family = self._values.get(name)
            if family is None:
                family = self._values[name] = {}
            family[key] = family.get(key, 0) + amount

    def observe(self, name: str, amount: float, **labels: str) -> None:
        """Add one observation, in seconds, to a histogram."""
        key = _key(labels)
        with self._lock:
            family = self._timings.setdefault(name, {})
            counts, total = family.get(key) or ([0] * (len(BUCKETS_S) + 1), 0.0)
            counts[bisect_left(BUCKETS_S, amount)] += 1
            family[key] = (counts, total + amount)

    def gauge(self, name: str, help_text: str, read: Callable[[], float], **labels: str) -> None:
        """Register a gauge that is read when asked for."""
        key = _key(labels)
        with self._lock:
            self._gauges[name + repr(key)] = (help_text, (("", name), *key), read)

    def source(self, read: Callable[[], Iterable[Family]]) -> None:
        """Register something that makes whole families when asked for."""
        with self._lock:
            self._sources.append(read)

    def value(self, name: str, **labels: str) -> float:
        """One counter; 0 when it never rose."""
        with self._lock:
            return self._values.get(name, {}).get(_key(labels), 0)

    def total(self, name: str) -> float:
        """A counter over all its labels."""
        with self._lock:
            return sum(self._values.get(name, {}).values())

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """A counter summed by one of its labels."""
        out: dict[str, float] = {}
        with self._lock:
            for key, amount in self._values.get(name, {}).items():
                where = dict(key).get(label, "")
                out[where] = out.get(where, 0) + amount
        return out

    def render(self) -> str:
        """The exposition text."""
        lines: list[str] = []
        with self._lock:
            values = {name: dict(family) for name, family in self._values.items()}
            timings = {
                name: {key: (list(counts), total) for key, (counts, total) in family.items()}
                for name, family in self._timings.items()
            }
            gauges = list(self._gauges.values())
            sources = list(self._sources)
        for name in sorted(values):
            self._head(lines, name, HELP.get(name, name), "counter")
            lines += [f"{PREFIX}{name}{_labels(k)} {_number(v)}" for k, v in sorted(values[name].items())]
        for name in sorted(timings):
            self._head(lines, name, HELP.get(name, name), "histogram")
            for key, (counts, total) in sorted(timings[name].items()):
                lines += _histogram(name, key, counts, total)
        named: dict[str, list[str]] = {}
        texts: dict[str, str] = {}
        for help_text, key, read in gauges:
            name = key[0][1]
            texts[name] = help_text
            named.setdefault(name, []).append(f"{PREFIX}{name}{_labels(key[1:])} {_number(read())}")
        for name in sorted(named):
            self._head(lines, name, texts[name], "gauge")
            lines += named[name]
        for family in (family for read in sources for family in read()):
            if family.samples:
                self._head(lines, family.name, family.help, family.kind)
            for labels, amount in family.samples:
                key = _key(labels)
                lines.append(f"{PREFIX}{family.name}{_labels(key)} {_number(amount)}")
        return "\n".join(lines) + "\n"

    @staticmethod
    def _head(lines: list[str], name: str, text: str, kind: str) -> None:
        lines.append(f"# HELP {PREFIX}{name} {text}")
        lines.append(f"# TYPE {PREFIX}{name} {kind}")


def _histogram(name: str, key: Labels, counts: list[int], total_s: float) -> list[str]:
    lines, below = [], 0
    for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), counts, strict=True):
        below += count
        lines.append(f"{PREFIX}{name}_bucket{_labels((*key, ('le', bound)))} {below}")
    return [*lines, f"{PREFIX}{name}_sum{_labels(key)} {total_s:.6f}", f"{PREFIX}{name}_count{_labels(key)} {below}"]


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    inner = ",".join(f'{k}="{_escape(v)}"' for k, v in labels)
    return "{" + inner + "}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
