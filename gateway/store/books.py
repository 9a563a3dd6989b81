"""The ledger: the kept figures, the rows counted anew, and one sentence wherever the two differ.

    received = stored + duplicates + conflicts
    stored + made = present + left                     left: uploaded and removed, thinned, dropped by reason
    stored + made for a sink = uploaded + pending + quarantined + dropped + thinned + skipped

per device, and all but the first per class too. It reads through what it is given and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gateway.messages import EVENT_FIRST, EVENT_LAST, LOST

CLASSES = ("reports", "events", "windows", "notices")
_FIGURES = ("rows", "identities", *CLASSES, "lost_records", "alarms", "faults")
_NO_ROWS = {**dict.fromkeys(_FIGURES, 0), "boots": 0}
_COUNT = (
    f"SELECT device, count(*), count(DISTINCT boot * 4294967296 + seq), sum(kind < {EVENT_FIRST}),"
    f" sum(kind BETWEEN {EVENT_FIRST} AND {EVENT_LAST} AND kind != {LOST}), sum(kind > {EVENT_LAST}),"
    f" sum(kind = {LOST}), coalesce(sum(CASE WHEN kind = {LOST} THEN value END), 0), sum(kind IN (3, 5, 7)),"
    " sum(kind = 9) FROM readings GROUP BY device"
)
_BOOTS = "SELECT DISTINCT device, boot FROM readings"
_TWICE = (
    "SELECT count(*) FROM sealed s JOIN readings r ON r.device = s.device AND r.boot = s.boot"
    " AND r.seq BETWEEN s.first_seq AND s.last_seq"
)

Query = Callable[..., list[Any]]

# Windows made here are no records: their batches are in no ledger.
_PENDING = "SELECT sink, sum(rows) FROM batches WHERE state = 'pending' AND lane != 'windows' GROUP BY sink"


def ledger(query: Query) -> dict[str, Any]:
    """The kept figures per device and in all; `balanced` says whether they reconcile for every sink."""
    names = [n for _, n, *_ in query("PRAGMA table_info(ledger)")][1:]
    per_sink = _per_sink(query)
    left = _left(query)
    devices = {}
    totals = dict.fromkeys(names, 0)
    total_left: dict[str, int] = {}
    balanced = True
    for name, device, *values in query(
        "SELECT d.name, l.* FROM ledger l JOIN devices d USING (device) ORDER BY d.name"
    ):
        entry: dict[str, Any] = dict(zip(names, values, strict=True))
        for key in names:
            totals[key] += entry[key]
        stored = _stored(entry)
        balanced &= entry["received"] == stored + entry["duplicates"] + entry["conflicts"]
        entry["stored"] = stored
        entry["left"] = left.get(device, {})
        for why, counts in entry["left"].items():
            total_left[why] = total_left.get(why, 0) + sum(counts.values())
        entry["present"] = stored + entry["made_windows"] - sum(sum(c.values()) for c in entry["left"].values())
        balanced &= entry["present"] >= 0
        entry["sinks"] = {}
        for sink, done in per_sink.get(device, {}).items():
            pending = stored + 2 * done["made_windows"] - sum(done.values())
            balanced &= pending >= 0
            entry["sinks"][sink] = {**done, "pending": pending}
        devices[name] = entry
    totals["stored"] = _stored(totals)
    totals["present"] = sum(entry["present"] for entry in devices.values())
    return {"totals": {**totals, "left": total_left}, "balanced": balanced, "devices": devices}


def _per_sink(query: Query) -> dict[int, dict[str, dict[str, int]]]:
    names = [n for _, n, *_ in query("PRAGMA table_info(ledger_sink)")][2:]
    out: dict[int, dict[str, dict[str, int]]] = {}
    for sink, device, *values in query("SELECT * FROM ledger_sink"):
        out.setdefault(device, {})[sink] = dict(zip(names, values, strict=True))
    return out


def _left(query: Query) -> dict[int, dict[str, dict[str, int]]]:
    out: dict[int, dict[str, dict[str, int]]] = {}
    for device, why, *counts in query("SELECT * FROM ledger_left ORDER BY why"):
        out.setdefault(device, {})[why] = dict(zip(CLASSES, counts, strict=True))
    return out


def count_rows(query: Query, sources: Iterable[Query]) -> dict[str, dict[str, int]]:
    """Counts of the rows themselves, per device: walks the hot rows and every segment."""
    names = dict(query("SELECT device, name FROM devices ORDER BY name"))
    tally: dict[int, list[int]] = {}
    boots: set[tuple[int, int]] = set()
    for source in sources:
        for device, *figures in source(_COUNT):
            entry = tally.setdefault(device, [0] * len(_FIGURES))
            tally[device] = [a + b for a, b in zip(entry, figures, strict=True)]
        boots.update(source(_BOOTS))
    return {
        name: {**dict(zip(_FIGURES, tally[device], strict=True)), "boots": sum(d == device for d, _ in boots)}
        for device, name in names.items()
        if device in tally
    }


def differences(query: Query, kept: dict[str, Any], counted: dict[str, dict[str, int]]) -> list[str]:
    """One sentence per difference between ledger, rows, segments and batches; none when all agree."""
    faults = []
    for name, entry in kept.items():
        rows = counted.get(name, _NO_ROWS)
        for what in CLASSES:
            gone = sum(counts[what] for counts in entry["left"].values())
            made = entry["made_windows"] if what == "windows" else 0
            expected = entry[f"stored_{what}"] + made - gone
            if expected != rows[what]:
                faults.append(f"{name}: ledger says {expected} {what} are present, the store holds {rows[what]}")
        if rows["rows"] != rows["identities"]:
            faults.append(f"{name}: {rows['rows']} rows but {rows['identities']} identities")
        stored = entry["stored"]
        if entry["received"] != stored + entry["duplicates"] + entry["conflicts"]:
            faults.append(f"{name}: received {entry['received']} is not stored + duplicates + conflicts")
    ((twice,),) = query(_TWICE)
    if twice:
        faults.append(f"{twice} identities are in the main file although they were sealed")
    for sink, rows_pending in query(_PENDING):
        left = sum(e["sinks"].get(sink, {}).get("pending", e["stored"]) for e in kept.values())
        if rows_pending > left:
            faults.append(f"sink {sink}: {rows_pending} rows in pending batches, the ledger knows {left}")
    return faults


def _stored(entry: dict[str, Any]) -> int:
    """Records stored, of a ledger's entry or total."""
    return sum(int(entry[f"stored_{what}"]) for what in CLASSES)
