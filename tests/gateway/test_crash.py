"""kill -9 of the daemon at random moments: nothing acknowledged is missing, nothing is doubled, the cloud agrees."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

import pytest

from gateway.store import Reader
from tests.support.board_client import BoardClient, samples, wait_for
from tests.support.daemon import Daemon, FakeCloud
from tests.support.mosquitto import Mosquitto

pytestmark = pytest.mark.mosquitto

KILLS = int(os.environ.get("ISOTHERM_KILLS", "10"))
DEVICES = ("a", "b", "c")


def stored(path: Path) -> dict[str, set[int]]:
    """Identities in the store, read while nobody runs."""
    reader = Reader(path)
    try:
        rows = reader._all("SELECT d.name, r.seq FROM readings r JOIN devices d USING (device)")
        assert len(rows) == len(set(rows))
        return {name: {seq for n, seq in rows if n == name} for name in DEVICES}
    finally:
        reader.close()


class Traffic:
    """Boards that keep sending until told to stop; `made` says how far each got."""

    def __init__(self, board: BoardClient) -> None:
        self.board = board
        self.stop = threading.Event()
        self.made = dict.fromkeys(DEVICES, 0)
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            while not self.stop.is_set():
                for device in DEVICES:
                    first = self.made[device] + 1
                    self.board.deliver(device, 1, samples(first, first + 29), timeout_s=60)
                    self.made[device] = first + 29
        except BaseException as exc:
            self.failure = exc

    def finish(self) -> dict[str, int]:
        self.stop.set()
        self.thread.join(60)
        assert self.failure is None, self.failure
        return self.made


def test_kill_9_at_random_moments(tmp_path: Path, broker: Mosquitto, cloud: FakeCloud) -> None:
    rng = random.Random(11)
    path = tmp_path / "gw" / "data" / "isotherm.db"
    with (
        Daemon(tmp_path / "gw", broker.port, cloud.url, sink="live_rows = 40") as daemon,
        BoardClient(broker.port) as board,
    ):
        traffic = Traffic(board)
        try:
            for _ in range(KILLS):
                before = sum(traffic.made.values())
                target = before + rng.randint(1, 300)
                wait_for(lambda target=target: sum(traffic.made.values()) >= target or traffic.failure, what="traffic")
                if rng.random() < 0.5:  # in the midst of a commit or an upload rather than between two
                    seen = len(cloud.seen)
                    wait_for(lambda seen=seen: len(cloud.seen) > seen or traffic.failure, what="an upload")
                    daemon.kill()
                else:  # the moment an ack arrives: what it names must be on the disk
                    board.at_ack = daemon.kill_now
                    wait_for(lambda: daemon.dead or traffic.failure, what="an ack")
                    board.at_ack = lambda: None
                with board.lock:
                    acked = dict(board.watermark)
                held = stored(path)
                for (device, _), seq in acked.items():
                    assert set(range(1, seq + 1)) <= held[device], f"{device}: acknowledged up to {seq}, not all stored"
                daemon.start(wait=False)
            made = traffic.finish()
        finally:
            traffic.stop.set()
            traffic.thread.join(60)
        wait_for(lambda: daemon.status().get("sinks", {}).get("cloud", {}).get("rows_pending") == 0, what="the uploads")
        assert sorted(cloud.rows()) == sorted((d, 1, s) for d, last in made.items() for s in range(1, last + 1))
        assert daemon.stop() == 0
        ledger = daemon.ledger()
        assert ledger["differences"] == []
        totals = ledger["ledger"]["totals"]
        assert (totals["stored"], totals["conflicts"], totals["lost"], totals["gap"]) == (sum(made.values()), 0, 0, 0)
        assert {s.batch: s.body for s in cloud.seen} == cloud.stored, "what was sent again was the same"


def test_sigterm_under_load_acknowledges_what_it_stored(tmp_path: Path, broker: Mosquitto) -> None:
    path = tmp_path / "gw" / "data" / "isotherm.db"
    with Daemon(tmp_path / "gw", broker.port) as daemon, BoardClient(broker.port) as board:
        traffic = Traffic(board)
        try:
            wait_for(lambda: sum(traffic.made.values()) > 200, what="traffic")
            assert daemon.stop() == 0
            held = stored(path)
            wait_for(
                lambda: all(board.acked(d, 1) == max(held[d], default=0) for d in DEVICES),
                timeout_s=5,
                what="acks of all that is stored",
            )
            daemon.start()
            traffic.finish()
        finally:
            traffic.stop.set()
            traffic.thread.join(60)
