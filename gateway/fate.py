"""What becomes of a batch once its sink has spoken: stored, refused, or made anew. Durable before its slot is free.

It joins one sink's store, batcher and uploader through what it calls of them, and knows none of their insides. All of
it runs in the uploader's threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.errors import BatchUnfit
from gateway.messages import Batch
from gateway.remake import Codec, remake


class Changes(Protocol):
    """What is changed: gateway.store.Store. Each call returns when durable."""

    def uploaded(self, sink: str, batch: int) -> bool: ...
    def quarantine(self, sink: str, batch: int, reason: str) -> bool: ...
    def reserve_batches(self, count: int) -> int | None: ...
    def replace(self, sink: str, number: int, new: Sequence[Batch]) -> bool: ...


class Slots(Protocol):
    """Who counts what is on its way: gateway.batcher.Batcher."""

    def freed(self, lane: str) -> None: ...
    def again(self, batch: Batch) -> None: ...
    def shrink(self, rows: int) -> None: ...


class Fate:
    """Of one sink's batches. `slots` is set once the batcher is there."""

    def __init__(self, sink: str, gateway: str, changes: Changes, codec: Callable[[], Codec]) -> None:
        self._sink = sink
        self._gateway = gateway
        self._changes = changes
        self._codec = codec
        self.slots: Slots

    def stored(self, batch: Batch) -> None:
        """The sink said that it has it."""
        if self._changes.uploaded(self._sink, batch.batch):
            self.slots.freed(batch.lane)

    def refused(self, batch: Batch, reason: str) -> None:
        """The sink will never take it."""
        if self._changes.quarantine(self._sink, batch.batch, reason):
            self.slots.freed(batch.lane)

    def unfit(self, batch: Batch, why: BatchUnfit) -> None:
        """Its rows go into new batches, in one change of the store; into quarantine if no other form is left."""
        parts = 2 if why.reason == "too_large" else 1
        codec = self._codec()
        if parts == 1 and codec[0] == batch.encoding:  # the configuration allows no other
            self.refused(batch, str(why))
            return
        first = self._changes.reserve_batches(parts)
        if first is None:
            return  # stopping: it stays frozen
        try:
            new = remake(self._gateway, batch, range(first, first + parts), codec)
        except ValueError as exc:
            self.refused(batch, f"{why}; {exc}")
            return
        if parts > 1:
            self.slots.shrink(batch.rows // 2)
        if self._changes.replace(self._sink, batch.batch, new):
            for part in new:
                self.slots.again(part)
            self.slots.freed(batch.lane)
