"""Sinks that come and go: where a late one begins, what its ledger says, and who may hold readings back."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from gateway.store import Reader
from isocore.record import HIGH_ON
from tests.gateway.conftest import Harness, frame_in
from tests.support.board_client import BoardClient, samples, wait_for
from tests.support.daemon import Answer, Daemon, FakeCloud, Seen
from tests.support.mosquitto import Mosquitto


def test_a_late_sink_begins_where_it_is_told(harness: Harness) -> None:
    harness.put(frame_in("a", 1, [*samples(1, 9), (10, HIGH_ON, 0, 9000, 10_000, 0)]))
    store = harness.store
    assert store.enrol({"early": "oldest", "late": "newest"}, 5.0) == ["early", "late"]
    reader = Reader(harness.path)
    assert [reader.cursor(sink, lane) for sink in ("early", "late") for lane in ("alarms", "live")] == [1, 1, 11, 11]
    harness.put(frame_in("a", 1, samples(11, 13)))
    snapshot = reader.snapshot()
    assert snapshot["ledger"]["balanced"]
    assert snapshot["differences"] == []
    late = snapshot["ledger"]["devices"]["a"]["sinks"]["late"]
    assert (late["skipped_reports"], late["skipped_events"], late["pending"]) == (9, 1, 3)
    assert store.enrol({"early": "oldest", "late": "newest"}, 5.0) == [], "said again at each start, done once"
    assert reader.cursor("late", "live") == 11
    reader.close()


def test_only_configured_sinks_hold_readings_back(harness: Harness) -> None:
    store = harness.store
    reader = Reader(harness.path)
    store.enrol({"one": "oldest", "two": "newest"}, 5.0)
    assert reader.live_sinks() == ["one", "two"]
    store.enrol({"two": "newest"}, 5.0)
    assert (reader.live_sinks(), reader.sinks()) == (["two"], ["one", "two"])
    assert store.enrol({"one": "newest", "two": "newest"}, 5.0) == [], "it is known: it goes on where it was"
    assert reader.live_sinks() == ["one", "two"]
    assert reader.cursor("one", "live") == 1
    reader.close()


@pytest.mark.mosquitto
def test_a_sink_that_hangs_holds_up_no_other(tmp_path: Path, broker: Mosquitto, cloud: FakeCloud) -> None:
    with FakeCloud() as hanging:
        asked, over = threading.Event(), threading.Event()

        def hang(seen: Seen) -> Answer:
            asked.set()
            over.wait(60)
            return None

        hanging.script = hang
        drive = tmp_path / "drive"
        drive.mkdir()
        more = (
            f'[sinks.hanging]\nurl = "{hanging.url}"\nlive_age_s = 0.05\nread_timeout_s = 60\n'
            f'[sinks.drive]\ntype = "file"\nfolder = "{drive}"\nlive_age_s = 0.05\n'
        )
        with Daemon(tmp_path / "gw", broker.port, cloud.url, sink=more) as daemon, BoardClient(broker.port) as board:
            board.deliver("a", 1, [*samples(1, 200), (201, HIGH_ON, 0, 9000, 201_000, 0)])
            wait_for(lambda: len(set(cloud.rows())) == 201, what="the cloud")
            wait_for(asked.is_set, what="the sink that hangs")
            board.deliver("a", 1, samples(202, 400))
            wait_for(lambda: len(set(cloud.rows())) == 400, what="the cloud again")
            wait_for(
                lambda: sum(len(p.read_bytes().splitlines()) for p in drive.glob("*.ndjson")) > 400, what="the drive"
            )
            wait_for(lambda: daemon.status()["sinks"]["cloud"]["rows_pending"] == 0, what="the ledger")
            assert daemon.status()["sinks"]["hanging"]["rows_pending"] == 400
            assert daemon.stop() == 0, "and a request that hangs does not hold up the end"
            over.set()
            assert daemon.ledger()["differences"] == []


@pytest.mark.mosquitto
def test_a_sink_added_to_a_store_with_readings(tmp_path: Path, broker: Mosquitto, cloud: FakeCloud) -> None:
    with FakeCloud() as second, FakeCloud() as third:
        daemon = Daemon(tmp_path / "gw", broker.port, cloud.url)
        with daemon, BoardClient(broker.port) as board:
            board.deliver("a", 1, samples(1, 50))
            wait_for(lambda: len(set(cloud.rows())) == 50, what="the first sink")
            assert daemon.stop() == 0
            text = daemon.config.read_text(encoding="utf-8")
            text += f'[sinks.all]\nurl = "{second.url}"\nlive_age_s = 0.05\n'
            text += f'[sinks.fresh]\nurl = "{third.url}"\nlive_age_s = 0.05\nstart = "newest"\n'
            daemon.config.write_text(text, encoding="utf-8")
            daemon.start()
            board.deliver("a", 1, samples(51, 60))
            wait_for(lambda: len(set(second.rows())) == 60, what="the sink that wants all")
            wait_for(lambda: len(set(third.rows())) == 10, what="the sink that wants what is new")
            wait_for(lambda: all(s["rows_pending"] == 0 for s in daemon.status()["sinks"].values()), what="the ledger")
            assert min(seq for _, _, seq in third.rows()) == 51
            assert daemon.stop() == 0
        document = daemon.ledger()
        assert document["differences"] == []
        assert document["ledger"]["devices"]["a"]["sinks"]["fresh"]["skipped_reports"] == 50
