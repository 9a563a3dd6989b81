"""SIGHUP: what changes at once, what waits, and that neither a wrong file nor a right one costs a message."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from gateway.config import Config, parse
from gateway.reload import plan
from tests.support.board_client import BoardClient, samples, wait_for
from tests.support.daemon import Daemon, FakeCloud
from tests.support.mosquitto import Mosquitto

SINK = '[sinks.cloud]\nurl = "http://127.0.0.1:8440"\n'


def parsed(text: str) -> Config:
    return parse(Path("/etc/isotherm/gateway.toml"), tomllib.loads(text))


def test_live_keys_change_and_others_wait() -> None:
    old = parsed("[mqtt]\nport = 1\n" + SINK)
    new = parsed(
        '[mqtt]\nport = 2\n[log]\nlevel = "debug"\n[ingest]\nfull_wait_s = 1\n' + SINK + "live_rows = 7\nlive_slots = 9"
    )
    decided = plan(old, new)
    assert set(decided.changed) == {"log.level", "ingest.full_wait_s", "sinks.cloud.live_rows"}
    assert set(decided.waiting) == {"mqtt.port", "sinks.cloud.live_slots"}
    assert (decided.config.mqtt.port, decided.config.sinks["cloud"].live_slots) == (1, 2), "as they are in force"
    assert (decided.config.log.level, decided.config.sinks["cloud"].live_rows) == ("debug", 7)
    assert plan(decided.config, new).changed == ()
    assert plan(decided.config, new).waiting == decided.waiting, "said again until it is done"


def test_sinks_come_and_go_at_a_restart() -> None:
    decided = plan(parsed(SINK), parsed(SINK.replace("cloud", "other")))
    assert decided.waiting == ("sinks.cloud", "sinks.other")
    assert list(decided.config.sinks) == ["cloud"]


@pytest.mark.mosquitto
def test_reload_during_load_loses_and_doubles_nothing(tmp_path: Path, broker: Mosquitto, cloud: FakeCloud) -> None:
    with (
        Daemon(tmp_path / "gw", broker.port, cloud.url, sink="live_rows = 400") as daemon,
        BoardClient(broker.port) as board,
    ):
        good = daemon.config.read_text(encoding="utf-8")
        for turn in range(8):
            # Shrinking and growing batches while rows are being read for them.
            daemon.config.write_text(good.replace("live_rows = 400", f"live_rows = {3 if turn % 2 else 300}"), "utf-8")
            board.send("a", 1, samples(1 + 200 * turn, 200 + 200 * turn))
            daemon.hang_up()
            wait_for(lambda turn=turn: daemon.logged("configuration read again") > turn, what="the reload")
        wait_for(lambda: board.acked("a", 1) == 1600, what="acks over the one connection")
        wait_for(lambda: len(set(cloud.rows())) == 1600, what="the cloud")
        assert len(cloud.rows()) == 1600
        assert daemon.logged("connected to broker") == 1, "nothing was closed"
        assert daemon.stop() == 0
        assert daemon.ledger()["differences"] == []


@pytest.mark.mosquitto
def test_a_bad_file_changes_nothing_and_is_named(tmp_path: Path, broker: Mosquitto, cloud: FakeCloud) -> None:
    with Daemon(tmp_path / "gw", broker.port, cloud.url) as daemon, BoardClient(broker.port) as board:
        good = daemon.config.read_text(encoding="utf-8")
        daemon.config.write_text(good + "live_rws = 3\n", encoding="utf-8")
        daemon.hang_up()
        wait_for(lambda: daemon.logged("stays as it was"), what="the refusal")
        assert daemon.logged("did you mean sinks.cloud.live_rows?") == 1
        token = daemon.config.with_name("token")
        token.write_text("two words", encoding="utf-8")
        token.chmod(0o600)
        daemon.config.write_text(good + 'token_file = "token"\n', encoding="utf-8")
        daemon.hang_up()
        wait_for(lambda: daemon.logged("must hold one token"), what="the refusal of the token")
        board.deliver("a", 1, samples(1, 20))
        wait_for(lambda: len(cloud.rows()) == 20, what="life goes on")
        assert "Authorization" not in cloud.seen[0].headers
        token.write_text("rotated", encoding="utf-8")
        daemon.config.write_text(good.replace("[mqtt]", "[mqtt]\nkeepalive_s = 30") + 'token_file = "token"\n', "utf-8")
        daemon.hang_up()
        wait_for(lambda: daemon.logged("only a restart takes it up: mqtt.keepalive_s"), what="the reload")
        board.deliver("a", 1, samples(21, 40))
        wait_for(lambda: len(cloud.rows()) == 40, what="the rest")
        assert cloud.seen[-1].headers["Authorization"] == "Bearer rotated"
