"""Several gateways and their boards into one receiver, all of them killed: every record made is there, once, unchanged.

`make soak` runs three gateways and sixty boards, and two and four. SOAK_SEED repeats a run.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.sites import Sites

pytestmark = [pytest.mark.micropython, pytest.mark.mosquitto, pytest.mark.e2e]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as closing:
        yield closing


def run(
    stack: ExitStack,
    folder: Path,
    *,
    gateways: int,
    boards: int,
    minutes: int,
    speed: float,
    faults: int,
    bound_s: float,
) -> None:
    seed = int(os.environ.get("SOAK_SEED", random.SystemRandom().randrange(1 << 30)))
    print(f"\nseed {seed}: {gateways} gateways, {boards} boards, {minutes} minutes of their time")
    sites = Sites(stack, folder, random.Random(seed), gateways=gateways, boards=boards)
    sites.make_boards(minutes, speed)
    sites.run(minutes, faults, bound_s)
    for gateway in sites.gateways:
        assert gateway.stop() == 0
        assert gateway.ledger()["ledger"]["balanced"]
    assert sites.receiver.stop() == 0
    books = sites.books()
    print("injected: " + ", ".join(f"{name} {count}" for name, count in sorted(sites.injected.items())))
    print("ledger: " + ", ".join(f"{name} {count}" for name, count in books._asdict().items()))
    assert books.made == books.stored + books.evicted > boards * minutes / 20, books
    assert (books.missing, books.altered, books.invented, books.conflicting, books.alarms) == (0, 0, 0, 0, 0), books
    assert books.counted_new == books.rows, books
    assert set(sites.injected.values()) == {faults}
    assert len(sites.injected) == 6


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_two_gateways_into_one_receiver(stack: ExitStack, tmp_path: Path) -> None:
    run(stack, tmp_path, gateways=2, boards=4, minutes=180, speed=1000, faults=1, bound_s=400)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_three_gateways_and_sixty_boards(stack: ExitStack, tmp_path: Path) -> None:
    run(stack, tmp_path, gateways=3, boards=60, minutes=720, speed=200, faults=8, bound_s=2400)
