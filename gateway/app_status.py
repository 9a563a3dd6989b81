"""The part of app.py for people: /status and /metrics, on a listener and a connection of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway import machine
from gateway.config import Config
from gateway.figures import families
from gateway.metrics import Metrics
from gateway.status import StatusServer
from gateway.store import Reader

# Counters shown before they first rise: an alert on an increase would miss the first one.
_FROM_ZERO: tuple[tuple[str, dict[str, str]], ...] = (
    ("ingest_dropped_total", {"leaf": "up"}),
    ("ingest_meta_cleaned_total", {}),
    ("store_conflicts_total", {}),
    ("store_listener_errors_total", {}),
    ("store_poisoned_total", {}),
    ("store_set_aside_total", {}),
    ("store_keeper_errors_total", {}),
    ("store_segments_damaged_total", {}),
    ("mqtt_disconnects_total", {}),
)


class StatusPages:
    """`start` once there is all that they tell of; nothing without a `metrics.listen`."""

    def __init__(
        self,
        config: Config,
        metrics: Metrics,
        show: Callable[[Reader], dict[str, Any]],
        born_s: float,
        wall_s: Callable[[], float],
    ) -> None:
        """show: what /status says; born_s: when the gateway began."""
        self._config = config
        self._metrics = metrics
        self._show = show
        self._born_s = born_s
        self._wall_s = wall_s
        self._server: StatusServer | None = None
        self._reader: Reader | None = None

    def start(self) -> None:
        config = self._config
        if not config.metrics.listen:
            return
        reader = self._reader = Reader(config.store_path)
        for name, labels in _FROM_ZERO:
            self._metrics.add(name, 0, **labels)
        self._metrics.source(lambda: families(reader, list(config.sinks), config.store_path, self._wall_s))
        self._metrics.source(lambda: machine.families(self._born_s))
        self._server = StatusServer(
            config.metrics.listen, config.address_path, self._metrics.render, lambda: self._show(reader)
        )
        self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
        if self._reader is not None:
            self._reader.close()
