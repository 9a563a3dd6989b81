"""A store in a process of its own, to be killed: sends batches for ever, and says each number once it is answered.

For `multiprocessing`'s fork server, which starts one in milliseconds. Several batches wait at any time, so a kill falls
into groups as well.
"""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future
from multiprocessing.connection import Connection
from pathlib import Path

from host_tools.cloud.store import Store, Stored
from host_tools.cloud.wire import Batch, Device, Reading
from isocore.record import DELTA

ROWS = 40
IN_FLIGHT = 8


def batch(number: int) -> Batch:
    """The batch of this number: always the same rows and digest, two of them its neighbour's as well."""
    first = (number - 1) * ROWS + 1
    rows = [Reading(0, 1, seq, DELTA, 0, 4000 + seq, 0, seq * 1000, 5000, 1) for seq in range(first, first + ROWS + 2)]
    digest = hashlib.sha256(str(number).encode()).digest()
    return Batch("gw-1", number, digest, "live", (Device("fridge", None, None),), rows)


def run(folder: Path, first: int, answered: Connection) -> None:
    """Until killed."""
    waiting: deque[tuple[int, Future[Stored]]] = deque()
    with Store(folder) as store:
        number = first
        while True:
            while len(waiting) < IN_FLIGHT:
                waiting.append((number, store.submit(batch(number), 100)))
                number += 1
            done, future = waiting.popleft()
            future.result()
            answered.send(done)
