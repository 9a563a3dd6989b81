"""The daemon as a process, against a real broker: faults of broker, cloud and of its own, and hostile messages."""

from __future__ import annotations

import json
import random
import socket
import threading
from pathlib import Path

import pytest

from isocore import frame as frames
from isocore.record import HIGH_ON, LOST
from tests.support.board_client import BoardClient, boot_record, samples, wait_for
from tests.support.daemon import Answer, Daemon, FakeCloud, Seen, reply
from tests.support.mosquitto import Mosquitto

pytestmark = pytest.mark.mosquitto


def identities(device: str, boot: int, last: int) -> list[tuple[str, int, int]]:
    return [(device, boot, seq) for seq in range(1, last + 1)]


def refusing(held: socket.socket) -> str:
    """An address that refuses connections as long as the socket is held: bound, and not listening."""
    held.bind(("127.0.0.1", 0))
    return f"http://127.0.0.1:{held.getsockname()[1]}"


def wait_for_cloud(cloud: FakeCloud, rows: int) -> None:
    wait_for(lambda: len(set(cloud.rows())) >= rows, what=f"{rows} rows at the cloud")


def test_from_board_to_cloud_and_reconciled(tmp_path: Path, broker: Mosquitto, cloud: FakeCloud) -> None:
    with Daemon(tmp_path / "gw", broker.port, cloud.url) as daemon, BoardClient(broker.port) as board:
        board.meta("fridge-1", 3, (3, 1))
        board.publish("fridge-1", "status", "online", retain=True)
        board.publish("fridge-1", "model/state", '{"sequence":2,"state":"committed","id":"ab"}', retain=True)
        board.deliver("fridge-1", 3, [boot_record(), *samples(2, 300)])
        wait_for_cloud(cloud, 300)
        assert sorted(cloud.rows()) == identities("fridge-1", 3, 300)
        ack = board.last_ack("fridge-1")
        assert set(ack) >= {"boot", "seq", "t", "ms"}
        wait_for(lambda: daemon.status()["sinks"]["cloud"]["rows_pending"] == 0, what="the ledger")
        status = daemon.status()
        device = status["devices"]["fridge-1"]
        assert (device["class"], device["status"], device["covered_seq"]) == ("room", "online", 300)
        assert device["model_state"] == {"sequence": 2, "state": "committed", "id": "ab"}
        assert status["ledger"]["balanced"]
        ledger = daemon.ledger()
        assert ledger["rows"]["fridge-1"]["identities"] == 300
        assert ledger["differences"] == []
        assert daemon.stop() == 0
        assert daemon.ledger() == ledger, "the same when nobody runs"


def test_status_and_ledger_for_people(tmp_path: Path, broker: Mosquitto) -> None:
    daemon = Daemon(tmp_path / "gw", broker.port)
    away = daemon.cli("status")
    assert away.returncode == 1
    assert "does not run" in away.stderr
    assert "has not run yet" in daemon.cli("ledger").stderr
    with daemon, BoardClient(broker.port) as board:
        board.deliver("room-1", 1, samples(1, 20))
        assert "room-1" in daemon.cli("status").stdout
        assert json.loads(daemon.cli("status", "--json").stdout)["running"] is True
        table = daemon.cli("ledger").stdout
        assert "room-1" in table
        assert "agree" in table
        metrics = daemon.get("/metrics")
        assert 'isotherm_gateway_ingest_messages_total{leaf="up"} ' in metrics
        assert daemon.get("/healthz") == '{"status":"ok"}'
        second = daemon.cli("run")
        assert (second.returncode, second.stdout) == (1, "")
        assert "another gateway" in second.stderr


def test_broker_away_at_start_and_restarted_later(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path / "broker")
    daemon = Daemon(tmp_path / "gw", broker.port).start(wait=False)
    try:
        wait_for(lambda: daemon.get("/healthz"), what="life without a broker")
        broker.start()
        with BoardClient(broker.port) as board:
            board.deliver("a", 1, samples(1, 50))
            broker.kill()
            broker.start()
            board.deliver("a", 1, samples(51, 100))
        broker.stop()
        assert daemon.stop() == 0
        assert daemon.ledger()["rows"]["a"]["identities"] == 100
    finally:
        daemon.__exit__()


def test_cloud_away_at_start_and_for_a_while(tmp_path: Path, broker: Mosquitto) -> None:
    with (
        socket.socket() as held,
        Daemon(tmp_path / "gw", broker.port, refusing(held)) as daemon,
        BoardClient(broker.port) as board,
    ):
        board.deliver("a", 1, samples(1, 500))
        wait_for(lambda: daemon.status()["sinks"]["cloud"]["failures_in_a_row"] > 2, what="failing sends")
        assert "cannot be reached" in daemon.status()["sinks"]["cloud"]["last_error"]
        assert daemon.stop() == 0, "an orderly end does not wait for the cloud"
        assert daemon.ledger()["ledger"]["devices"]["a"]["stored"] == 500


FAULTS = ("500", "503 with Retry-After", "lost reply after storing", "reply for another batch", "silence")


@pytest.mark.parametrize("fault", FAULTS)
def test_cloud_faults_lose_and_double_nothing(tmp_path: Path, broker: Mosquitto, cloud: FakeCloud, fault: str) -> None:
    rng = random.Random(3)
    release = threading.Event()

    def script(seen: Seen) -> Answer:
        with cloud.lock:
            bad = len(cloud.seen) < 12 and rng.random() < 0.6
        if not bad or fault == "lost reply after storing":
            answer = cloud.store(seen)
            return None if bad else answer
        if fault == "silence":
            release.wait(10)
            return None
        if fault == "reply for another batch":
            return 200, {}, reply(seen._replace(batch=1), "stored")
        return (500, {}, b"") if fault == "500" else (503, {"Retry-After": "0"}, b"")

    cloud.script = script
    with Daemon(tmp_path / "gw", broker.port, cloud.url, sink="live_rows = 20") as daemon:
        with BoardClient(broker.port) as board:
            board.deliver("a", 1, [boot_record(), *samples(2, 400)])
        wait_for_cloud(cloud, 400)
        wait_for(lambda: daemon.status()["sinks"]["cloud"]["rows_pending"] == 0, what="all replies")
        release.set()
        assert sorted(cloud.rows()) == identities("a", 1, 400)
        bodies: dict[int, set[bytes]] = {}
        for seen in cloud.seen:
            bodies.setdefault(seen.batch, set()).add(seen.body)
        assert all(len(variants) == 1 for variants in bodies.values()), "every retry is byte-identical"
        assert len(cloud.seen) > len(bodies), "there were retries"
        assert daemon.ledger()["differences"] == []


def test_a_refused_batch_is_quarantined_and_the_rest_goes_on(
    tmp_path: Path, broker: Mosquitto, cloud: FakeCloud
) -> None:
    poison: list[int] = []

    def script(seen: Seen) -> Answer:
        with cloud.lock:
            if not poison:
                poison.append(seen.batch)
        return (422, {}, b'{"error":"no such thing"}') if seen.batch == poison[0] else cloud.store(seen)

    cloud.script = script
    with Daemon(tmp_path / "gw", broker.port, cloud.url, sink="live_rows = 50") as daemon:
        with BoardClient(broker.port) as board:
            board.deliver("a", 1, samples(1, 300))
        wait_for(lambda: daemon.status()["sinks"]["cloud"]["rows_pending"] == 0, what="the rest")
        ledger = daemon.ledger()
        quarantine = ledger["sinks"]["cloud"]["quarantine"]
        assert [q["batch"] for q in quarantine] == poison
        assert "no such thing" in quarantine[0]["reason"]
        done = ledger["ledger"]["devices"]["a"]["sinks"]["cloud"]
        assert done["uploaded_reports"] + done["quarantined_reports"] == 300
        assert len(cloud.rows()) == done["uploaded_reports"]
        assert ledger["differences"] == []


def test_an_alarm_passes_a_cloud_that_is_busy_with_a_backlog(
    tmp_path: Path, broker: Mosquitto, cloud: FakeCloud
) -> None:
    release = threading.Event()
    alarms: list[Seen] = []

    def script(seen: Seen) -> Answer:
        from tests.support.daemon import read_body

        if read_body(seen.body)["lane"] == "alarms":
            alarms.append(seen)
        else:
            release.wait(30)
        return cloud.store(seen)

    cloud.script = script
    with (
        Daemon(tmp_path / "gw", broker.port, cloud.url, sink="live_rows = 20", read_timeout_s=60.0) as daemon,
        BoardClient(broker.port) as board,
    ):
        board.deliver("a", 1, samples(1, 300))
        wait_for(lambda: cloud.seen, what="stuck live batches")
        board.send("a", 1, [(301, HIGH_ON, 0, 9000, 301_000, 0)])
        wait_for(lambda: alarms, timeout_s=15, what="the alarm while every live slot is taken")
        release.set()
        assert daemon.stop() == 0


def test_hostile_messages_on_the_wire(tmp_path: Path, broker: Mosquitto) -> None:
    rng = random.Random(9)
    good = frames.encode(1, 5, 6, samples(1, 20))
    with Daemon(tmp_path / "gw", broker.port) as daemon, BoardClient(broker.port) as board:
        topics = ["iso/1/a/up", "iso/1/A/up", "iso/1/a/meta", "iso/1/a/health", "iso/1/a/model/state", "iso/1/x y/up"]
        for number in range(500):
            data = bytearray(good)
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            if number % 5 == 0:
                data *= rng.randint(2, 400)
            board.publish_raw(rng.choice(topics), bytes(data[: rng.randrange(len(data) + 1)]))
        board.publish_raw("iso/1/a/up", b"\0" * 2_000_000)
        board.publish_raw("iso/1/a/up", good, retain=True)
        board.deliver("honest", 1, samples(1, 50))
        status = daemon.status()
        assert sum(status["ingest"]["rejected"].values()) > 400
        assert status["ledger"]["balanced"]
        assert status["devices"]["honest"]["covered_seq"] == 50
        assert len(daemon.log.read_text().splitlines()) < 60, "the log is bounded"
        assert daemon.stop() == 0


@pytest.mark.parametrize("full_wait_s", [0.0, 5.0])
def test_a_full_queue_holds_back_or_drops_and_nothing_is_lost(
    tmp_path: Path, broker: Mosquitto, full_wait_s: float
) -> None:
    extra = f"[store]\nqueue_rows = 100\ncommit_rows = 100\ncommit_ms = 20\n[ingest]\nfull_wait_s = {full_wait_s}"
    with Daemon(tmp_path / "gw", broker.port, extra=extra) as daemon, BoardClient(broker.port) as board:
        for first in range(1, 4001, 100):  # far more at once than there is room for
            board.send("a", 1, samples(first, first + 99))
        board.deliver("a", 1, samples(1, 4000), timeout_s=60, size=100)
        board.deliver("b", 2, samples(1, 20))
        board.send("b", 2, [(60, LOST, 255, 35, 60_000, 0)])  # 21 to 25 are nowhere
        wait_for(lambda: board.last_ack("b").get("got") == [60, 60], what="an ack beyond the watermark")
        board.meta("b", 2, (2, 61))
        wait_for(lambda: daemon.status()["devices"]["b"]["covered_seq"] == 60, what="the floor")
        dropped = daemon.status()["ingest"]["dropped"]
        assert dropped > 0 if full_wait_s == 0 else dropped == 0
        ledger = daemon.ledger()
        assert ledger["differences"] == []
        entry = ledger["ledger"]["devices"]["a"]
        assert (entry["stored"], entry["gap"], entry["lost"]) == (4000, 0, 0)
        entry = ledger["ledger"]["devices"]["b"]
        assert (entry["stored"], entry["gap"], entry["lost"]) == (21, 5, 35)
        assert daemon.stop() == 0


def test_a_new_store_takes_over_from_a_lost_one(tmp_path: Path, broker: Mosquitto) -> None:
    with Daemon(tmp_path / "gw", broker.port) as daemon, BoardClient(broker.port) as board:
        board.meta("a", 1, (1, 1))
        board.deliver("a", 1, samples(1, 100))
        daemon.kill()
        for file in (tmp_path / "gw" / "data").glob("isotherm.db*"):
            file.unlink()
        daemon.start()
        board.send("a", 1, samples(101, 110))
        wait_for(lambda: board.last_ack("a").get("got") == [101, 110], what="an ack beyond the watermark")
        assert board.last_ack("a")["seq"] == 0
        board.meta("a", 1, (1, 101))  # no progress: the board reconnects, and tells its floor
        board.deliver("a", 1, samples(101, 120))
        wait_for(lambda: board.last_ack("a")["seq"] == 120, what="progress")
        entry = daemon.ledger()["ledger"]["devices"]["a"]
        assert (entry["gap"], entry["stored"]) == (100, 20)


def test_one_ack_a_device_a_commit(tmp_path: Path, broker: Mosquitto) -> None:
    extra = "[store]\ncommit_ms = 300"
    with Daemon(tmp_path / "gw", broker.port, extra=extra), BoardClient(broker.port) as board:
        for first in range(1, 200, 10):
            board.send("a", 1, samples(first, first + 9))
        wait_for(lambda: board.acked("a", 1) == 200, what="the ack")
        assert len(board.acks) <= 4
