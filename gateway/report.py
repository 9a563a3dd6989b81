"""Status and ledger as text for people. It only formats documents it is given."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import click


def print_status(document: dict[str, Any]) -> None:
    """The /status document on a screen."""
    broker = document["broker"]
    store = document["store"]
    click.echo(f"gateway   {document['gateway']} {document['version']}, up {document['uptime_s']:.0f} s")
    link = "connected" if broker["connected"] else "away"
    click.echo(f"broker    {broker['host']}:{broker['port']} {link}")
    click.echo(f"store     {store['file']}" + (f"  FAILING: {store['failing']}" if store["failing"] else ""))
    if store["set_aside"]:
        click.echo(f"          a damaged store was set aside as {store['set_aside']}")
    rejected = ", ".join(f"{k} {v}" for k, v in sorted(document["ingest"]["rejected"].items())) or "none"
    click.echo(f"ingest    {document['ingest']['records']} records, rejected: {rejected}")
    for name, sink in document["sinks"].items():
        state = f"failing: {sink['last_error']}" if sink["last_error"] else "answers"
        click.echo(f"sink      {name} {sink['url']} {state}")
        waiting = sum(sink["unfrozen_rows"].values())
        click.echo(
            f"          {sink['pending']['rows']} rows in {sink['pending']['batches']} batches on their way,"
            f" up to {waiting} rows waiting, {sink['quarantined']['rows']} rows quarantined"
        )
    balance = "reconciles" if document["ledger"]["balanced"] else "DOES NOT RECONCILE"
    click.echo(f"ledger    {balance}: {_totals(document['ledger']['totals'])}")
    if not document["devices"]:
        return
    click.echo("")
    now_s = time.time()
    rows = [("device", "class", "status", "seen", "boot", "durable", "model")]
    for name, device in document["devices"].items():
        seen = device["last_seen_unix_ms"]
        model = device["model_state"] or {}
        rows.append(
            (
                name,
                device["class"] or "-",
                device["status"] or "-",
                f"{max(0.0, now_s - seen / 1000):.0f} s ago" if seen else "-",
                str(device["boot"] or "-"),
                str(device["covered_seq"] or "-"),
                f"{model['sequence']} {model['state']}" if model else "-",
            )
        )
    _table(rows)


def print_ledger(document: dict[str, Any]) -> None:
    """The ledger document on a screen."""
    rows = [
        (
            "device",
            "stored",
            "reports",
            "events",
            "uploaded",
            "pending",
            "quarantined",
            "dropped",
            "duplicates",
            "lost",
            "gap",
        )
    ]
    for name, entry in document["ledger"]["devices"].items():
        sinks = entry["sinks"].values()
        uploaded = sum(v for s in sinks for k, v in s.items() if k.startswith("uploaded"))
        quarantined = sum(v for s in sinks for k, v in s.items() if k.startswith("quarantined"))
        dropped = sum(v for s in sinks for k, v in s.items() if k.startswith("dropped"))
        pending = sum(s["pending"] for s in sinks)
        figures = (entry["stored"], entry["stored_reports"], entry["stored_events"], uploaded, pending, quarantined)
        rest = (dropped, entry["duplicates"], entry["lost"], entry["gap"])
        rows.append((name, *map(str, figures), *map(str, rest)))
    _table(rows)
    click.echo("")
    click.echo(_totals(document["ledger"]["totals"]))
    for difference in document["differences"]:
        click.echo(f"DIFFERENCE {difference}")
    if not document["differences"]:
        click.echo("Ledger and rows agree.")


def print_quarantine(entries: Sequence[dict[str, Any]]) -> None:
    """Refused batches on a screen."""
    if not entries:
        click.echo("Nothing is in quarantine.")
        return
    rows = [("sink", "batch", "lane", "rows", "reason")]
    rows += [(e["sink"], str(e["batch"]), e["lane"], str(e["rows"]), e["reason"] or "-") for e in entries]
    _table(rows)


def _totals(totals: dict[str, int]) -> str:
    return (
        f"{totals['stored']} stored ({totals['stored_reports']} reports, {totals['stored_events']} events),"
        f" {totals['duplicates']} duplicates dropped, {totals['conflicts']} conflicts, {totals['lost']} lost on boards,"
        f" {totals['gap']} missing without a word"
    )


def _table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
