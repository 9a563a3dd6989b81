"""A gateway that has spent its day's quota keeps its readings, quarantines none, and delivers all of them later."""

from __future__ import annotations

from pathlib import Path

import pytest

from host_tools.cloud.store_read import CloudReader
from tests.support.board_client import BoardClient, samples, wait_for
from tests.support.daemon import Daemon
from tests.support.mosquitto import Mosquitto
from tests.support.uplink import ReceiverProcess

pytestmark = [pytest.mark.mosquitto, pytest.mark.e2e]
QUOTA = 50


def stored(receiver: ReceiverProcess) -> list[int]:
    with CloudReader(receiver.data) as reader:
        return [row.seq for row in reader.readings("a")]


def test_what_a_quota_puts_off_is_not_lost(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker, ReceiverProcess(tmp_path) as receiver:
        receiver.start("--rows-a-day", str(QUOTA))
        url = f"http://127.0.0.1:{receiver.port}"
        with Daemon(tmp_path / "gw", broker.port, url) as gateway, BoardClient(broker.port) as board:
            board.deliver("a", 1, samples(1, QUOTA))
            wait_for(lambda: len(stored(receiver)) == QUOTA, 60, "the day's quota at the receiver")
            board.deliver("a", 1, samples(1, 200))
            refused = 'isotherm_gateway_upload_retries_total{reason="busy",sink="cloud"}'
            wait_for(lambda: refused in gateway.get("/metrics"), 60, "a batch put off")
            assert len(stored(receiver)) == QUOTA
            quarantined = gateway.cli("quarantine", "list", "--json")
            assert (quarantined.returncode, quarantined.stdout.strip()) == (0, "[]")
            assert gateway.stop() == 0
            port = receiver.port
            assert receiver.stop() == 0
            receiver.start("--port", str(port))  # a quota that was lifted, or another day
            gateway.start()
            wait_for(lambda: len(stored(receiver)) == 200, 60, "the rest")
            assert stored(receiver) == list(range(1, 201))
            assert gateway.stop() == 0
            ledger = gateway.ledger()["ledger"]
    assert ledger["balanced"]
