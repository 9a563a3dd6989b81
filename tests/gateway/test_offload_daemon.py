"""The daemon with a real receiver: under load runs go to the cloud, a reload brings them home, kills double nothing."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from isocore.frame import EPOCH_BASE_UNIX_S
from tests.support.board_client import BoardClient, samples, wait_for
from tests.support.daemon import Daemon
from tests.support.mosquitto import Mosquitto
from tests.support.uplink import ReceiverProcess

pytestmark = pytest.mark.mosquitto

# Any machine under test is busier than that, so the first looks send runs away.
LOADED = "cpu_high = 0.0001\ncpu_low = 0.00001"
CALM = "cpu_high = 1.01\ncpu_low = 1.005"
EXTRA = f"""
[windows]
lengths_s = [2]
grace_s = 0
[upload.all]
send = ["windows", "alarms"]
[analyses.site]
length_s = 2
high = 60.0
[offload]
rise = 1
fall = 1
{LOADED}
"""


def results(receiver: ReceiverProcess) -> list[tuple[int, str, int]]:
    """(window, who made it, whether the windows were the same) of what has a result."""
    with closing(sqlite3.connect(receiver.data / "cloud.db")) as db:
        sql = "SELECT start_unix_s, place, matching FROM analysis WHERE result IS NOT NULL ORDER BY start_unix_s"
        return db.execute(sql).fetchall()


def made_by(receiver: ReceiverProcess, place: str) -> int:
    return sum(who == place for _, who, _ in results(receiver))


def is_shown_away(offload: dict[str, Any]) -> bool:
    """Which place, and why: now, and of the last run."""
    last = offload["analyses"].get("site", {})
    return offload["place"] == "cloud" and "cpu" in offload["load"] and "cpu" in last.get("reasons", ())


def test_away_under_load_and_home_again(tmp_path: Path, broker: Mosquitto) -> None:
    with ReceiverProcess(tmp_path) as receiver:
        receiver.start()
        url = f"http://127.0.0.1:{receiver.port}"
        with Daemon(tmp_path / "gw", broker.port, url, extra=EXTRA) as daemon, BoardClient(broker.port) as board:
            for device in ("a", "b", "c"):
                board.deliver(device, 1, samples(1, 5), epoch_s=int(time.time()) - 10 - EPOCH_BASE_UNIX_S)
            wait_for(lambda: made_by(receiver, "cloud") >= 2, 60, "results of the cloud")
            assert daemon.figure('analysis_runs_total{analysis="site",place="cloud"}') >= 2
            wait_for(lambda: is_shown_away(daemon.status()["offload"]), 60, "the decision in /status")
            for figure in (
                *("offload_away", 'offload_load{reason="cpu"}', 'offload_figure{figure="cpu"}'),
                'offload_changes_total{to="cloud"}',
            ):
                wait_for(lambda name=figure: daemon.figure(name) > 0, 60, figure)
            daemon.kill()
            daemon.start()
            before = made_by(receiver, "cloud")
            wait_for(lambda: made_by(receiver, "cloud") > before, 60, "results after a kill")
            text = daemon.config.read_text(encoding="utf-8")
            daemon.config.write_text(text.replace(LOADED, CALM), encoding="utf-8")
            daemon.hang_up()
            wait_for(lambda: daemon.status()["offload"]["place"] == "here", 60, "calm")
            before = made_by(receiver, "gateway")
            wait_for(lambda: made_by(receiver, "gateway") > before, 60, "results made here")
            wait_for(lambda: daemon.figure('offload_changes_total{to="here"}') >= 1, 60, "the way home in the metrics")
            assert daemon.figure("offload_away") == 0
            wait_for(lambda: daemon.figure("analysis_due") == 0, 60, "nothing that lags")
            assert daemon.ledger()["differences"] == []
            assert daemon.stop() == 0
        found = results(receiver)
        assert all(matching for _, _, matching in found)
        with closing(sqlite3.connect(receiver.data / "cloud.db")) as db:
            counters = dict(db.execute("SELECT name, value FROM counter"))
        assert "analyses_conflicting" not in counters
        assert receiver.stop() == 0
