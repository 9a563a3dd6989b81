"""Fixtures of the gateway's tests: a broker, a receiver, a store in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.errors import StoreDamaged
from gateway.messages import Committed, FrameIn, Record, StoreState
from gateway.metrics import Metrics
from gateway.store import Store
from gateway.store.retention import Keep
from isocore.record import BOOT, HIGH_ON, LOST
from tests.support.board_client import wait_for
from tests.support.daemon import FakeCloud
from tests.support.mosquitto import Mosquitto

START_UNIX_MS = 1_800_000_000_000


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as running:
        yield running


@pytest.fixture
def cloud() -> Iterator[FakeCloud]:
    with FakeCloud() as running:
        yield running


def frame_in(
    device: str,
    boot: int,
    records: list[Record],
    epoch_unix_ms: int | None = None,
    recv_unix_ms: int = START_UNIX_MS,
    tag: bytes = b"",
) -> FrameIn:
    """What ingest makes of a frame."""
    urgent = any(HIGH_ON <= r[1] <= BOOT for r in records)
    lost = any(r[1] == LOST for r in records)
    plain = not lost and records[-1][0] - records[0][0] == len(records) - 1
    return FrameIn(device, boot, records, epoch_unix_ms, tag, recv_unix_ms, urgent, plain)


class Harness:
    """A store whose commits are recorded."""

    def __init__(self, path: Path, commit_ms: int = 0, queue_rows: int = 20_000, keep: Keep | None = None) -> None:
        self.path = path
        self.metrics = Metrics()
        self.news: list[Committed] = []
        self.fatal: list[StoreDamaged] = []
        self.now_s = START_UNIX_MS / 1000
        self.clock_s = 5000.0
        self.states: list[StoreState] = []
        self.on_commit: Callable[[Committed], None] = lambda news: None
        self.store = Store(
            path,
            self.metrics,
            queue_rows=queue_rows,
            commit_rows=2000,
            commit_ms=commit_ms,
            check_ms=1000,
            on_commit=self._committed,
            on_fatal=self.fatal.append,
            keep=keep,
            on_state=self.states.append,
            clock_s=lambda: self.clock_s,
            wall_s=lambda: self.now_s,
        )

    def _committed(self, news: Committed) -> None:
        self.news.append(news)
        self.on_commit(news)

    def start(self) -> Harness:
        self.store.open()
        self.store.start()
        return self

    def put(self, *frames: FrameIn) -> None:
        """Queue frames and wait until each is committed."""
        wanted = sum(len(n.acks) for n in self.news) + len({(f.device, f.boot) for f in frames})
        for frame in frames:
            assert self.store.put(frame, len(frame.records), frame.urgent, 1.0)
        wait_for(lambda: sum(len(n.acks) for n in self.news) >= wanted, what="the commit")

    def settle(self) -> None:
        """Wait for whatever is queued."""
        self.store.advance("none", "live", 1)

    def acks(self) -> list[tuple[str, int, int, tuple[int, int] | None]]:
        return [tuple(ack)[:4] for news in self.news for ack in news.acks]

    def stop(self) -> bool:
        return self.store.stop(5.0)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    running = Harness(tmp_path / "store.db").start()
    yield running
    running.stop()
