"""Rounds of the lake's writer: one, or one after the other until a signal. Sees log, writer and upkeep; is none.

It runs in a process of its own, beside the receiver's: Arrow's memory and Python's lock are then no matter of ingest's,
and a kill of either is none of the other.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from host_tools.cloud.store_log import StoreLog
from host_tools.errors import HostError, InputError
from host_tools.lake.snapshot import load
from host_tools.lake.storage import Storage
from host_tools.lake.upkeep import Policy, upkeep
from host_tools.lake.writer import catch_up, only_writer

LOOK_S = 2.0  # how often --beside is looked after


def one_round(data: Path, storage: Storage, policy: Policy) -> str:
    """Write, fold, drop, merge; returns what was done, for people. Raises StoreError, LakeError."""
    with StoreLog(data) as log, only_writer(data):
        written = catch_up(log, storage)
        if load(storage) is None:
            return f"{storage.name}: the store holds nothing yet"
        done = upkeep(storage, policy, time.time_ns() // 1_000_000)
    parts = [f"{count} {name}" for name, count in written.rows.items()]
    parts += [f"{count} {what}" for count, what in zip(done, _DONE, strict=True) if count]
    return f"{storage.name}: {', '.join(parts) or 'nothing new'}; up to batch {written.batches_upto} of the store"


_DONE = ("days folded", "files merged", "rows dropped by policy")


def rounds(
    data: Path,
    storage: Storage,
    policy: Policy,
    every_s: float,
    beside: int | None,
    say: Callable[[str], None],
    complain: Callable[[str], None],
) -> None:
    """A round each `every_s`, until SIGTERM, SIGINT, SIGHUP, or until process `beside` is gone.

    The first round's failure ends it; a later one's is said, and tried again with the next round.
    """
    with _told_to_stop() as stop:
        say(one_round(data, storage, policy))
        while not _waited(stop, every_s, beside):
            try:
                say(one_round(data, storage, policy))
            except InputError:
                raise
            except HostError as error:
                complain(f"isotherm: {error}; next round in {every_s:.0f} s")


def _waited(stop: threading.Event, every_s: float, beside: int | None) -> bool:
    """Wait for the next round. True when there is to be none."""
    end_s = time.monotonic() + every_s
    while (left_s := end_s - time.monotonic()) > 0:
        if stop.wait(left_s if beside is None else min(left_s, LOOK_S)):
            return True
        if beside is not None and not _alive(beside):
            return True
    return False


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """An event that a signal sets: a round under way is finished first, though killing it would do no harm."""
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
