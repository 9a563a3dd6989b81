"""The part of app.py for sinks: each has a reader, a batcher and an uploader of its own, so none holds another."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from gateway import wire
from gateway.analyses import Outgoing
from gateway.app_watch import policies
from gateway.batcher import Batcher, Policy
from gateway.beside import ModelSource, WindowSource
from gateway.config import Config, SinkConfig
from gateway.fate import Fate
from gateway.messages import LANE_ALARMS, LANE_BACKFILL, LANE_LIVE, REVISED_LANES
from gateway.metrics import Metrics
from gateway.sinks.make import make_sink
from gateway.store import Reader, Store, WindowReader
from gateway.uploader import Backoff, Circuit, Uploader


class SinkLane(NamedTuple):
    reader: Reader
    windows: WindowReader
    batcher: Batcher
    uploader: Uploader

    def close(self) -> None:
        self.reader.close()
        self.windows.close()


def policy(sink: SinkConfig) -> Policy:
    slots = {
        LANE_ALARMS: sink.alarm_slots,
        LANE_LIVE: sink.live_slots,
        LANE_BACKFILL: sink.backfill_slots,
        **dict.fromkeys(REVISED_LANES, 1),
    }
    return Policy(sink.live_rows, sink.live_age_s, sink.backfill_rows, sink.backfill_after_s, slots)


def backoff(sink: SinkConfig) -> Backoff:
    return Backoff(sink.backoff_base_s, sink.backoff_max_s, random.Random())


def build(
    name: str,
    whole: Config,
    store: Store,
    metrics: Metrics,
    head_row: int,
    wall_s: Callable[[], float],
    analyses: Outgoing | None = None,
) -> SinkLane:
    """Join a sink's parts; nothing runs yet. Raises ConfigError."""
    config = whole.sinks[name]
    wire.compressor(config.compression)  # a module that is missing is told now
    bounds = policy(config)
    sink = make_sink(whole, name, sum(bounds.slots.values()), wall_s)
    reader = Reader(whole.store_path)
    windows = WindowReader(whole.store_path)

    def codec() -> tuple[str, Callable[[bytes], bytes]]:
        return wire.negotiated(config.compression, sink.accepts)

    fate = Fate(name, whole.gateway.id, store, codec)
    uploader = Uploader(
        name,
        sink,
        bounds.slots,
        Circuit(backoff(config)),
        metrics,
        on_stored=fate.stored,
        on_refused=fate.refused,
        on_unfit=fate.unfit,
    )
    batcher = Batcher(
        name,
        whole.gateway.id,
        reader,
        store,
        bounds,
        codec,
        uploader.submit,
        head_row=head_row,
        policies=policies(whole),
        beside=(
            WindowSource(name, whole.gateway.id, reader, windows, analyses),
            ModelSource(name, whole.gateway.id, reader),
        ),
        wall_s=wall_s,
    )
    fate.slots = batcher
    return SinkLane(reader, windows, batcher, uploader)
