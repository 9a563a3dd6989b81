"""Batches that a sink refused: list them, send them again, or give them up for that sink.

Changes go through the running daemon's writer; with no daemon, through a writer of this process, which takes the
store's lock first. Either way the store's rules and ledger apply. It formats nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gateway.config import Config
from gateway.control import ask
from gateway.errors import FatalError
from gateway.keeping import keep_of
from gateway.metrics import Metrics
from gateway.store import Reader, Store

_STOP_S = 10.0


def listed(config: Config, sink: str | None = None) -> list[dict[str, Any]]:
    """Every quarantined batch, or those of one sink. Works whether or not the daemon runs."""
    reader = Reader(config.store_path)
    try:
        return [
            {"sink": name, **entry}
            for name in reader.sinks()
            if sink in (None, name)
            for entry in reader.quarantined(name)
        ]
    finally:
        reader.close()


def change(config: Config, operation: str, sink: str, numbers: Sequence[int]) -> int:
    """Do `retry` or `drop` to batches of one sink. Returns how many; raises FatalError at the first that cannot be."""
    if operation == "retry" and sink not in config.sinks:
        raise FatalError(f"sink {sink} is not configured in {config.path}: nobody would send it; drop it instead")
    done = 0
    for number in numbers:
        request = {"do": operation, "sink": sink, "batch": number}
        reply = ask(config.control_path, request)
        if reply is None:
            return done + _alone(config, operation, sink, numbers[done:])
        done += 1
    return done


def _alone(config: Config, operation: str, sink: str, numbers: Sequence[int]) -> int:
    """No daemon: be the writer for a moment."""
    failed: list[Exception] = []
    store = Store(
        config.store_path,
        Metrics(),
        queue_rows=config.store.queue_rows,
        commit_rows=config.store.commit_rows,
        commit_ms=0,
        check_ms=config.store.check_ms,
        keep=keep_of(config.store),
        on_commit=lambda news: None,
        on_fatal=failed.append,
    )
    store.open()
    store.start()
    try:
        for done, number in enumerate(numbers):
            if failed:
                raise FatalError(f"{failed[0]}; {done} of {len(numbers)} batches done")
            apply(store, operation, sink, number, lambda batch: None)
    finally:
        store.stop(_STOP_S)
    return len(numbers)


def apply(store: Store, operation: str, sink: str, number: int, submit: Callable[[Any], None]) -> None:
    """One change through a writer. Raises FatalError when there is no such batch."""
    if operation == "drop":
        known = store.drop(sink, number)
    else:
        batch = store.retry(sink, number)
        known = batch is not None
        if batch is not None:
            submit(batch)
    if not known:
        raise FatalError(f"sink {sink} has no batch {number} in quarantine: see `isotherm-gateway quarantine list`")
