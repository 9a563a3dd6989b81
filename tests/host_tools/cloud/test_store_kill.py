"""kill -9 of a store at any moment: what it answered is there, once, whole, and the next one goes on.

A real process on a real file; only HTTP is left out, so that there are many kills in a few seconds. Over HTTP:
test_process.py.
"""

from __future__ import annotations

import multiprocessing
import os
import random
from pathlib import Path

import pytest

from host_tools.cloud.store import Store
from host_tools.cloud.store_read import CloudReader
from tests.support.store_child import ROWS, batch, run


def killed(folder: Path, kills: int, rng: random.Random) -> set[int]:
    """Start and kill it so often; each goes on after the last number answered. Returns all that was answered."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.store_child"])
    answered: set[int] = set()
    for _ in range(kills):
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=run, args=(folder, max(answered, default=0) + 1, there))
        process.start()
        there.close()
        for _ in range(rng.randrange(1, 60)):
            assert here.poll(60), "the store does not answer"
            answered.add(here.recv())
        process.kill()
        process.join(30)
        try:
            while True:  # what it said before it died
                answered.add(here.recv())
        except EOFError:
            here.close()
    return answered


def check(folder: Path, answered: set[int]) -> None:
    with CloudReader(folder) as reader:
        rows = {row.seq: row.value for row in reader.readings("fridge")}
        counters = reader.counters()
        count = reader.counts_per_device()["fridge"].rows
    assert rows == {seq: 4000 + seq for seq in rows}
    batches = range(1, max(answered) + 1)
    missing = [number for number in batches if any(row.seq not in rows for row in batch(number).readings)]
    assert missing == [], "answered, and not there"
    top = max(rows)
    assert (top - 2) % ROWS == 0, "a batch is there in part"
    assert len(rows) == top == count == counters["rows_new"], "a hole, or a row counted twice"
    assert counters["rows_received"] == counters["batches_stored"] * (ROWS + 2)
    assert counters.get("rows_conflicting", 0) == 0
    with Store(folder) as store:  # the batches under way at a kill come again, as a gateway would send them
        for number in range(max(answered) - 5, max(answered) + 20):
            store.submit(batch(number), 100).result(timeout=60)
    with CloudReader(folder) as reader:
        assert reader.counters()["rows_new"] == reader.counts_per_device()["fridge"].rows


def seeded() -> random.Random:
    seed = int(os.environ.get("SOAK_SEED", random.SystemRandom().randrange(1 << 30)))
    print(f"seed {seed} (SOAK_SEED={seed} repeats it)")
    return random.Random(seed)


def test_thirty_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    check(tmp_path, killed(tmp_path, 30, seeded()))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_kills(tmp_path: Path) -> None:
    answered = killed(tmp_path, 1000, seeded())
    check(tmp_path, answered)
    print(f"1000 kills, {len(answered)} batches answered")
