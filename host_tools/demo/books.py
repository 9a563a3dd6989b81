"""Gathers what `reconcile` holds against one another: the boards' logs, the gateway's file, the receiver's file.

Reads; changes nothing and judges nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from host_tools.cloud.store_read import CloudReader
from host_tools.demo import all_sent
from host_tools.demo.plan import BoardPlan, Plan
from host_tools.demo.reconcile import BoardBooks, CloudRow, Emitted, Sample, StoreCount, share_out
from host_tools.demo.stack import Stack
from host_tools.errors import StoreError
from host_tools.virtual.tap import KIND_OBSERVED, read_tap
from isocore.record import LOST

Counters = Mapping[str, Any]
SINK = "cloud"


def gather(plan: Plan, stack: Stack) -> dict[str, BoardBooks]:
    """The books of every board; all processes have stopped."""
    ledger = stack.gateway_counts()
    out: dict[str, BoardBooks] = {}
    with CloudReader(stack.cloud_dir) as cloud:
        totals = cloud.counters()
        for board in plan.boards:
            samples, emitted = _tap(stack.boards[board.name].tap_path)
            out[board.name] = BoardBooks(
                counters={key: value for key, value in stack.boards[board.name].counters.items() if type(value) is int},
                samples=samples,
                emitted=emitted,
                store=_store_count(ledger, board.name),
                cloud=[
                    CloudRow(
                        *(r.boot, r.seq, r.kind, r.channel, r.uptime_ms, r.value, r.recv_unix_ms, r.trend),
                        verified=r.verdict == "verified",
                    )
                    for r in cloud.readings(board.name)
                ],
                temperature_channels=_temperature_channels(board),
                tags=stack.links.tags,
            )
    uplink = share_out(totals["bytes_uplink"], {name: len(books.cloud) for name, books in out.items()})
    whole = all_sent.bytes_per_board(plan, out, posts=totals["posts"])
    for name, books in out.items():
        books.bytes_uplink = uplink[name]
        books.bytes_if_all_sent = whole[name]
    return out


def cloud_counters(folder: Path) -> tuple[int, int]:
    """(rows, batches) in the receiver's store; zeros before it exists."""
    try:
        with CloudReader(folder) as cloud:
            counters = cloud.counters()
    except StoreError:
        return 0, 0
    return counters.get("rows_new", 0), counters.get("batches_stored", 0)


def stored_and_backlog(status: Mapping[str, Any]) -> tuple[int, int]:
    """(records stored, records not yet at the cloud) from the gateway's status."""
    stored = int(status["ledger"]["totals"]["stored"])
    pending = status["sinks"][SINK]["rows_pending"]
    return stored, int(pending)


def _temperature_channels(board: BoardPlan) -> frozenset[int]:
    return frozenset(number for number, name in enumerate(board.channels) if name == "temperature")


def _tap(path: Path) -> tuple[list[Sample], list[Emitted]]:
    samples: list[Sample] = []
    emitted: list[Emitted] = []
    if path.exists():
        for row in read_tap(path):
            uptime_ms = row.t_s * 1000 + row.t_ms
            if row.kind == KIND_OBSERVED:
                samples.append(Sample(row.boot, row.channel, uptime_ms, row.value))
            elif row.kind != LOST:
                emitted.append(
                    Emitted(row.boot, row.seq, row.kind, row.channel, uptime_ms, row.value, row.real_unix_us)
                )
    return samples, emitted


def _store_count(ledger: Mapping[str, Any], name: str) -> StoreCount:
    rows = ledger["rows"].get(name)
    if rows is None:
        return StoreCount()
    uploaded = ledger["ledger"]["devices"][name]["sinks"].get(SINK, {}).get("uploaded_reports", 0)
    return StoreCount(rows["reports"], rows["events"], uploaded, rows["rows"] - rows["identities"])
