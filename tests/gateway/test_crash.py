"""kill -9 of gateway, broker and both at random moments: nothing acknowledged is missing, nothing is doubled.

The stack stays up, only the victim is killed. Half of the gateway's kills come the moment an ack arrives, when what
it names must be on the disk already; acknowledging before the commit fails there within a few kills.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.support.board_client import BoardClient, wait_for
from tests.support.daemon import Daemon, FakeCloud
from tests.support.mosquitto import Mosquitto
from tests.support.traffic import DEVICES, Traffic, assert_acks_are_stored, reconcile, stored

pytestmark = pytest.mark.mosquitto

KILLS = int(os.environ.get("ISOTHERM_KILLS", "50"))
# Small segments, so that the kills fall into sealing and leaving too.
STORE = "[store]\nsegment_rows = 1000\nuploaded_days = 36500\n"


def kill_gateway(daemon: Daemon, board: BoardClient, cloud: FakeCloud, traffic: Traffic, rng: random.Random) -> None:
    """At an upload, or at an ack; then look at what is on the disk."""
    if rng.random() < 0.5:
        seen = len(cloud.seen)
        wait_for(lambda: len(cloud.seen) > seen or traffic.failure, what="an upload")
        daemon.kill()
    else:
        board.at_ack = daemon.kill_now
        wait_for(lambda: daemon.dead or traffic.failure, what="an ack")
        board.at_ack = lambda: None
    assert_acks_are_stored(board, daemon)


def campaign(tmp_path: Path, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    victims = ["gateway", "broker", "both"] * (kills // 3 + 1)
    with (
        Mosquitto(tmp_path / "broker") as broker,
        FakeCloud() as cloud,
        Daemon(tmp_path / "gw", broker.port, cloud.url, extra=STORE, sink="live_rows = 40") as daemon,
        BoardClient(broker.port) as board,
        Traffic(board, seed=seed) as traffic,
    ):
        for victim in rng.sample(victims, kills):
            traffic.more(rng.randint(1, 200))
            if victim != "broker":
                kill_gateway(daemon, board, cloud, traffic, rng)
            if victim != "gateway":
                broker.kill()
                broker.start()
            if victim != "broker":
                daemon.start(wait=False)
        made = traffic.finish()
        how = f"{kills} kills at random moments, seed {seed}"
        reconcile("kill -9 of gateway, broker, both", how, made, daemon, cloud)


def test_kill_9_of_gateway_broker_and_both(tmp_path: Path) -> None:
    campaign(tmp_path, KILLS, 11)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5))
def test_kill_9_many_times(tmp_path: Path, seed: int) -> None:
    campaign(tmp_path, 200, 100 + seed)


def test_sigterm_under_load_acknowledges_what_it_stored(tmp_path: Path, broker: Mosquitto, cloud: FakeCloud) -> None:
    path = tmp_path / "gw" / "data" / "isotherm.db"
    with (
        Daemon(tmp_path / "gw", broker.port, cloud.url) as daemon,
        BoardClient(broker.port) as board,
        Traffic(board) as traffic,
    ):
        for _ in range(3):
            traffic.more(200)
            assert daemon.stop() == 0
            held = stored(path)
            wait_for(
                lambda held=held: all(board.acked(d, 1) == max(held[d], default=0) for d in DEVICES),
                timeout_s=5,
                what="acks of all that is stored",
            )
            daemon.start()
        reconcile("SIGTERM under load", "3 times", traffic.finish(), daemon, cloud)
