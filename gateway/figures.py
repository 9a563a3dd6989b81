"""Figures that are read from the store when a scrape asks: backlog, devices, ledger, disk.

Families for gateway.metrics, made from a reader's answers. Each scrape costs a few indexed reads, however long the
backlog. It keeps nothing and knows no thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from gateway.messages import LANES
from gateway.metrics import COUNTER, GAUGE, Family

_KEPT = ("received", "stored_reports", "stored_events", "stored_windows", "stored_notices", "duplicates", "conflicts")
_CLASSES = ("reports", "events", "windows", "notices")
# What boards say of themselves: key of `health`, name, help.
_HEALTH = (
    ("rssi_dbm", "device_rssi_dbm", "Signal strength that a board reports, in dBm."),
    ("free_heap_bytes", "device_free_heap_bytes", "Free heap that a board reports."),
    ("outbox", "device_outbox_records", "Records that a board holds unacknowledged."),
    ("reconnects", "device_reconnects", "Reconnects since the board's boot."),
)
_NUMBER_MAX = 1 << 53


class Source(Protocol):
    """What is asked: gateway.store.Reader."""

    def lanes(self, sink: str) -> dict[str, dict[str, int]]: ...
    def backlog(self, sink: str) -> dict[str, Any]: ...
    def ledger(self) -> dict[str, Any]: ...
    def devices(self) -> dict[str, dict[str, Any]]: ...


def families(source: Source, sinks: Sequence[str], store: Path, wall_s: Callable[[], float]) -> Iterator[Family]:
    """All of them, for one scrape."""
    yield from _backlog(source, sinks, wall_s())
    yield from _devices(source.devices())
    yield from _ledger(source.ledger(), sinks)
    yield from _disk(store)


def _backlog(source: Source, sinks: Sequence[str], now_s: float) -> Iterator[Family]:
    rows, ages, frozen, quarantined = [], [], [], []
    for sink in sinks:
        lanes = source.lanes(sink)
        for lane in LANES:
            labels = {"sink": sink, "lane": lane}
            entry = lanes[lane]
            oldest_ms = entry["oldest_unix_ms"]
            rows.append((labels, float(entry["rows"])))
            frozen.append((labels, float(entry["frozen_bytes"])))
            ages.append((labels, max(0.0, now_s - oldest_ms / 1000) if oldest_ms else 0.0))
        quarantined.append(({"sink": sink}, float(source.backlog(sink)["quarantined"]["batches"])))
    yield Family("backlog_rows", GAUGE, "Rows that a sink has not stored yet, frozen or not; an upper bound.", rows)
    yield Family("backlog_age_seconds", GAUGE, "Age of the oldest row that a sink has not stored yet.", ages)
    yield Family("backlog_frozen_bytes", GAUGE, "Bytes of batches frozen and not stored by the sink yet.", frozen)
    yield Family("quarantine_batches", GAUGE, "Batches that a sink refused and nobody has decided on.", quarantined)


def _devices(devices: dict[str, dict[str, Any]]) -> Iterator[Family]:
    seen, boots, models = [], [], []
    health: dict[str, list[tuple[dict[str, str], float]]] = {name: [] for _, name, _ in _HEALTH}
    for name, device in devices.items():
        labels = {"device": name}
        if device["last_seen_unix_ms"]:
            seen.append((labels, device["last_seen_unix_ms"] / 1000))
        if device["boot"]:
            boots.append((labels, float(device["boot"])))
        state = device["model_state"]
        if isinstance(state, dict) and _is_number(state.get("sequence")):
            models.append((labels, float(state["sequence"])))
        said = device["health"] if isinstance(device["health"], dict) else {}
        for key, figure, _ in _HEALTH:
            if _is_number(said.get(key)):
                health[figure].append((labels, float(said[key])))
    yield Family("device_last_seen_timestamp_seconds", GAUGE, "When a device was last heard, in unix time.", seen)
    yield Family("device_boots", GAUGE, "Number of a device's latest boot: it rises with every reset.", boots)
    yield Family("device_model_sequence", GAUGE, "Sequence of the threshold model that a device reports.", models)
    for _, figure, text in _HEALTH:
        yield Family(figure, GAUGE, text, health[figure])


def _is_number(value: object) -> bool:
    """True for a finite number that a float holds; what boards say is not to be trusted."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _NUMBER_MAX


def _ledger(ledger: dict[str, Any], sinks: Sequence[str]) -> Iterator[Family]:
    kept, missing = [], []
    sent = {
        (sink, what): dict.fromkeys(_CLASSES, 0) for sink in sinks for what in ("uploaded", "dropped", "quarantined")
    }
    for name, entry in ledger["devices"].items():
        kept += [({"device": name, "outcome": key}, float(entry[key])) for key in _KEPT]
        missing += [({"device": name, "reason": key}, float(entry[key])) for key in ("lost", "gap")]
        for (sink, what), tally in sent.items():
            for c in _CLASSES:
                tally[c] += entry["sinks"].get(sink, {}).get(f"{what}_{c}", 0)
    gone = ledger["totals"]["left"]
    left = [({"why": why}, float(gone.get(why, 0))) for why in ("uploaded", "thinned", "bytes", "days", "damaged")]
    yield Family("store_left_records_total", COUNTER, "Records that were stored and are here no more, by why.", left)
    yield Family("device_records_total", COUNTER, "Records by what became of them here, from the ledger.", kept)
    text = "Identities that never came: lost as the board said, gap without a word. Falls when one turns up."
    yield Family("device_missing_records", GAUGE, text, missing)
    for what, kind, text in (
        ("uploaded", COUNTER, "Records stored by a sink, from the ledger."),
        ("dropped", COUNTER, "Records given up for a sink by hand, from the ledger."),
        ("quarantined", GAUGE, "Records in batches that a sink refused, from the ledger."),
    ):
        rows = [
            ({"sink": sink, "class": c}, float(tally[c]))
            for (sink, outcome), tally in sent.items()
            if outcome == what
            for c in _CLASSES
        ]
        yield Family(f"sink_{what}_records{'_total' if kind == COUNTER else ''}", kind, text, rows)
    yield Family("ledger_balanced", GAUGE, "1 while the ledger reconciles.", [({}, float(ledger["balanced"]))])


def _disk(store: Path) -> Iterator[Family]:
    room = os.statvfs(store.parent)
    size = 0
    for part in store.parent.glob(f"{store.name}*"):
        with suppress(FileNotFoundError):  # a segment that leaves just now
            size += part.stat().st_size
    free = float(room.f_bavail * room.f_frsize)
    yield Family("disk_free_bytes", GAUGE, "Room for the gateway on the store's file system.", [({}, free)])
    whole = float(room.f_blocks * room.f_frsize)
    yield Family("disk_size_bytes", GAUGE, "Size of the store's file system.", [({}, whole)])
    yield Family("store_bytes", GAUGE, "Size of the store's files.", [({}, float(size))])
