"""Status, ledger and quarantine for people: documents in, a page out. How a page looks is screen.py's.

It asks nobody: `now_unix_s` is given. What devices and receivers said may hold anything: screen.py makes it printable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gateway.screen import Cell, Page, bad, good, poor

_SILENT_S = 7500.0  # two heartbeats of an hour and some: as the alert IsothermDeviceSilent
_ALARMS_SHOWN = 10
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


def status_page(document: dict[str, Any], now_unix_s: float) -> Page:
    """The /status document."""
    broker, store, ledger = document["broker"], document["store"], document["ledger"]
    page = Page()
    cares = list(_cares(document, now_unix_s))
    page.line("gateway", f"{document['gateway']}, version {document['version']}, up {span(document['uptime_s'])}")
    page.line(
        "broker", f"{broker['host']}:{broker['port']} ", good("connected") if broker["connected"] else bad("away")
    )
    page.line(
        "store", f"{store['file']} ", bad(f"failing: {store['failing']}") if store["failing"] else good("written")
    )
    rejected = ", ".join(f"{n:,} {why}" for why, n in sorted(document["ingest"]["rejected"].items())) or "none"
    records = f"{document['ingest']['records']:,} records of boards since the start"
    page.line("ingest", f"{records}; refused messages: {rejected}")
    page.line("ledger", good("reconciles") if ledger["balanced"] else bad("does not reconcile"))
    page.line("", totals_text(ledger["totals"]))
    if document["sinks"]:
        page.table(
            ("sink", "destination", "state", ">waiting", ">on their way", ">quarantined"),
            [_sink_row(name, sink) for name, sink in document["sinks"].items()],
        )
    if document["devices"]:
        page.table(
            ("device", "class", "status", "heard", ">boot", ">durable up to", "model"),
            [_device_row(name, device, now_unix_s) for name, device in document["devices"].items()],
        )
    page.notes("needs care", cares)
    return page


def _cares(document: dict[str, Any], now_unix_s: float) -> Iterator[str]:
    """What somebody should look at, the gravest first."""
    store = document["store"]
    if not document["ledger"]["balanced"]:
        yield "the ledger does not reconcile: keep the store as it is, see `isotherm-gateway ledger`"
    if store["failing"]:
        yield f"the store cannot be written ({store['failing']}): nothing is acknowledged, boards keep it all"
    if not document["broker"]["connected"]:
        yield "the broker is away: no board is heard"
    if store["set_aside"]:
        yield f"a damaged store was set aside as {store['set_aside']}"
    for alarm in document.get("alarms", [])[:_ALARMS_SHOWN]:
        subject = " ".join(part for part in (alarm["rule"], alarm["device"], alarm["channel"]) if part)
        yield f"alarm {alarm['number']} ({alarm['severity']}, {alarm['state']}) {subject}: {alarm['text']}"
    for name, sink in document["sinks"].items():
        if sink["last_error"]:
            yield f"sink {name}: {sink['last_error']}; batches are kept and tried again"
        count = sink["quarantined"]["batches"]
        if count:
            yield f"sink {name} refused {count} batches: `isotherm-gateway quarantine list` says why"
    silent = [name for name, device in document["devices"].items() if _silent_s(device, now_unix_s) > _SILENT_S]
    if silent:
        rest = f" and {len(silent) - 5} more" if len(silent) > 5 else ""
        yield f"not heard for more than {span(_SILENT_S)}: {', '.join(silent[:5])}{rest}"


def _sink_row(name: str, sink: dict[str, Any]) -> tuple[Cell, ...]:
    refused = sink["quarantined"]["rows"]
    return (
        name,
        sink["url"],
        poor(f"failing {sink['failures_in_a_row']}x") if sink["last_error"] else good("answers"),
        f"{sum(sink['unfrozen_rows'].values()):,}",
        f"{sink['pending']['rows']:,}",
        bad(f"{refused:,}") if refused else "0",
    )


def _device_row(name: str, device: dict[str, Any], now_unix_s: float) -> tuple[Cell, ...]:
    seen_ms, model, status = device["last_seen_unix_ms"], device["model_state"], device["status"]
    heard = f"{span(now_unix_s - seen_ms / 1000)} ago" if seen_ms else "-"
    return (
        name,
        device["class"] or "-",
        good(status) if status == "online" else status or "-",
        poor(heard) if _silent_s(device, now_unix_s) > _SILENT_S else heard,
        f"{device['boot']:,}" if device["boot"] else "-",
        f"{device['covered_seq']:,}" if device["covered_seq"] else "-",
        f"{model.get('sequence', '?')} {model.get('state', '?')}" if isinstance(model, dict) else "-",
    )


def _silent_s(device: dict[str, Any], now_unix_s: float) -> float:
    seen_ms = device["last_seen_unix_ms"]
    return now_unix_s - seen_ms / 1000 if seen_ms else 0.0


def ledger_page(document: dict[str, Any]) -> Page:
    """The ledger document."""
    rows = []
    for name, entry in document["ledger"]["devices"].items():
        sinks = entry["sinks"].values()
        sums = [
            sum(v for s in sinks for k, v in s.items() if k.startswith(what))
            for what in ("uploaded", "pending", "quarantined", "dropped", "skipped")
        ]
        figures = (entry["stored"], entry["stored_reports"], entry["stored_events"], *sums)
        rest = (entry["duplicates"], entry["lost"], entry["gap"])
        rows.append((name, *(f"{n:,}" for n in (*figures, *rest))))
    page = Page()
    names = ("stored", "reports", "events", "uploaded", "pending", "quarantined", "dropped", "skipped")
    page.table(("device", *(f">{name}" for name in (*names, "duplicates", "lost", "gap"))), rows)
    page.line("", totals_text(document["ledger"]["totals"]))
    if document["differences"]:
        page.notes("differences", document["differences"])
    else:
        page.line("", good("Ledger and rows agree."))
    return page


def quarantine_page(entries: Sequence[dict[str, Any]]) -> Page:
    """Refused batches."""
    page = Page()
    if not entries:
        page.line("", "Nothing is in quarantine.")
        return page
    rows = [(e["sink"], str(e["batch"]), e["lane"], f"{e['rows']:,}", e["reason"] or "-") for e in entries]
    page.table(("sink", ">batch", "lane", ">rows", "reason"), rows)
    return page


def alarms_page(entries: Sequence[dict[str, Any]], now_unix_s: float) -> Page:
    """Alarms that stand, or stood."""
    page = Page()
    if not entries:
        page.line("", good("No alarm stands."))
        return page
    rows: list[tuple[Cell, ...]] = []
    for e in entries:
        ago = f"{span(now_unix_s - e['raised_unix_ms'] / 1000)} ago"
        state = poor(e["state"]) if e["state"] == "raised" else e["state"]
        rows.append(
            (str(e["number"]), e["severity"], state, ago, e["rule"], e["device"] or "-", e["channel"] or "-", e["text"])
        )
    page.table((">alarm", "severity", "state", "raised", "rule", "device", "channel", "what"), rows)
    return page


def totals_text(totals: dict[str, Any]) -> str:
    """The sums of a ledger in one sentence."""
    left = ", ".join(f"{why} {count:,}" for why, count in totals.get("left", {}).items())
    return (
        f"{totals['stored']:,} stored ({totals['stored_reports']:,} reports, {totals['stored_events']:,} events),"
        f" {totals['duplicates']:,} duplicates dropped, {totals['conflicts']:,} conflicts, {totals['lost']:,} lost on"
        f" boards, {totals['gap']:,} missing without a word" + (f"; no longer here: {left}" if left else "")
    )


def span(seconds: float) -> str:
    """A stretch of time in its two largest units."""
    whole = max(0, round(seconds))
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S} min"
    return f"{whole // _DAY_S} d {whole % _DAY_S // _HOUR_S} h"
