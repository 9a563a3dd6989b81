"""The /status document: what a person wants to know of the running gateway. docs/gateway.md lists its fields.

It asks whoever knows and formats nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from gateway import __version__
from gateway.config import Config
from gateway.messages import UP_LANES
from gateway.metrics import Metrics


class Kept(Protocol):
    """What the store knows: gateway.store.Reader."""

    def ledger(self) -> dict[str, Any]: ...
    def backlog(self, sink: str) -> dict[str, Any]: ...
    def devices(self) -> dict[str, dict[str, Any]]: ...
    def property(self, key: str) -> Any: ...


class Sending(Protocol):
    """What an uploader knows: gateway.uploader.Uploader."""

    @property
    def failures(self) -> int: ...
    @property
    def last_error(self) -> str | None: ...


def overview(
    config: Config,
    metrics: Metrics,
    kept: Kept,
    sending: Mapping[str, Sending],
    *,
    uptime_s: float,
    connected: bool,
    failing: str | None,
    alarms: Sequence[dict[str, Any]],
    offload: Mapping[str, Any],
) -> dict[str, Any]:
    """One JSON document."""
    ledger = kept.ledger()
    return {
        "gateway": config.gateway.id,
        "version": __version__,
        "running": True,
        "uptime_s": round(uptime_s, 1),
        "broker": {"host": config.mqtt.host, "port": config.mqtt.port, "connected": connected},
        "store": {"file": str(config.store_path), "failing": failing, "set_aside": kept.property("set_aside")},
        "ingest": {
            "records": int(metrics.total("ingest_records_total")),
            "rejected": {k: int(v) for k, v in metrics.by_label("ingest_rejected_total", "reason").items()},
            "dropped": int(metrics.total("ingest_dropped_total")),
        },
        "sinks": {
            name: _sink(config.sinks[name].where, name, sender, metrics, kept, ledger)
            for name, sender in sending.items()
        },
        "alarms": list(alarms),
        "offload": dict(offload),
        "ledger": {"totals": ledger["totals"], "balanced": ledger["balanced"]},
        "devices": kept.devices(),
    }


def _sink(
    where: str, name: str, sender: Sending, metrics: Metrics, kept: Kept, ledger: dict[str, Any]
) -> dict[str, Any]:
    return {
        "url": where,
        "failures_in_a_row": sender.failures,
        "last_error": sender.last_error,
        "batches": {kind: int(metrics.value("upload_batches_total", sink=name, lane=kind)) for kind in UP_LANES},
        "bytes_sent": int(metrics.value("upload_bytes_total", sink=name)),
        "rows_pending": sum(
            device["sinks"].get(name, {}).get("pending", device["stored"]) for device in ledger["devices"].values()
        ),
        **kept.backlog(name),
    }
