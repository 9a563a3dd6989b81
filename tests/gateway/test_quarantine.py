"""Batches out of quarantine: through the running daemon, without one, and never past the ledger."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.control import ControlServer, ask
from gateway.errors import FatalError, GatewayError
from gateway.messages import Batch, Counts
from gateway.store import Reader
from isocore.record import LOST
from tests.gateway.conftest import Harness, frame_in
from tests.support.board_client import BoardClient, samples, wait_for
from tests.support.daemon import Answer, Daemon, FakeCloud, Seen
from tests.support.mosquitto import Mosquitto


def refuse(seen: Seen) -> Answer:
    return 422, {}, b'{"error":"no such thing"}'


def quarantined(daemon: Daemon) -> list[dict[str, object]]:
    done = daemon.cli("quarantine", "list", "--json")
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def refused_batch(number: int, body: bytes = b"frozen") -> Batch:
    return Batch("cloud", number, "live", 1, 3, 3, (Counts(1, 2, 0, 0, 1),), "gzip", "00", body)


def sink_ledger(path: Path) -> dict[str, int]:
    reader = Reader(path)
    try:
        assert reader.snapshot()["differences"] == []
        assert reader.ledger()["balanced"]
        return dict(reader.ledger()["devices"]["a"]["sinks"]["cloud"])
    finally:
        reader.close()


def test_every_way_out_goes_through_the_ledger(harness: Harness) -> None:
    lost = [(seq, LOST, 255, 7, seq * 1000, 0) for seq in (9, 18)]
    harness.put(frame_in("a", 1, [*samples(1, 2), lost[0], *samples(10, 11), lost[1]]))
    store = harness.store
    for number in (1, 2):
        assert store.freeze(refused_batch(number), 1)
        assert store.quarantine("cloud", number, "because")
    before = sink_ledger(harness.path)
    assert (before["quarantined_reports"], before["quarantined_notices"]) == (4, 2)
    again = store.retry("cloud", 1)
    assert again == refused_batch(1), "the very same bytes, counts included"
    assert store.retry("cloud", 1) is None, "it is out already"
    assert store.drop("cloud", 1) is False, "and on its way: only what is in quarantine can be dropped"
    assert store.drop("cloud", 2) is True
    assert store.drop("cloud", 2) is False
    assert store.retry("cloud", 2) is None
    assert store.uploaded("cloud", 1)
    after = sink_ledger(harness.path)
    assert (after["quarantined_reports"], after["quarantined_notices"]) == (0, 0)
    assert (after["dropped_reports"], after["dropped_notices"]) == (2, 1)
    assert (after["uploaded_reports"], after["uploaded_notices"]) == (2, 1)


@pytest.mark.mosquitto
def test_through_the_running_daemon(tmp_path: Path, broker: Mosquitto, cloud: FakeCloud) -> None:
    cloud.script = refuse
    with Daemon(tmp_path / "gw", broker.port, cloud.url, sink="live_rows = 10") as daemon:
        assert daemon.cli("quarantine", "list").stdout == "Nothing is in quarantine.\n"
        with BoardClient(broker.port) as board:
            board.deliver("a", 1, samples(1, 30))
        wait_for(lambda: sum(int(str(e["rows"])) for e in quarantined(daemon)) == 30, what="the quarantine")
        refused = {seen.batch: seen.body for seen in cloud.seen}
        first, *rest = sorted(refused)
        assert "no such thing" in daemon.cli("quarantine", "list").stdout
        dropped = daemon.cli("quarantine", "drop", "cloud", str(first))
        assert "1 batch of sink cloud dropped" in dropped.stdout
        cloud.script = cloud.store
        done = daemon.cli("quarantine", "retry", "cloud", "--all")
        assert done.stdout.startswith(f"{len(rest)} batch"), done.stderr
        wait_for(lambda: set(cloud.stored) == set(rest), what="the second try")
        assert cloud.stored == {number: refused[number] for number in rest}, "byte-identical"
        wait_for(lambda: daemon.status()["sinks"]["cloud"]["rows_pending"] == 0, what="the ledger")
        assert quarantined(daemon) == []
        with BoardClient(broker.port) as board:
            board.deliver("a", 1, samples(31, 60))
        wait_for(lambda: len(set(cloud.rows())) >= 50, what="what comes later: slots are free again")
        twice = daemon.cli("quarantine", "retry", "cloud", str(first))
        assert (twice.returncode, twice.stderr.count("\n")) == (1, 1)
        assert f"no batch {first} in quarantine" in twice.stderr
        assert daemon.stop() == 0
        done_with = daemon.ledger()["ledger"]["devices"]["a"]["sinks"]["cloud"]
        assert done_with["dropped_reports"] + done_with["uploaded_reports"] == 60


@pytest.mark.mosquitto
def test_without_a_daemon(tmp_path: Path, broker: Mosquitto, cloud: FakeCloud) -> None:
    cloud.script = refuse
    daemon = Daemon(tmp_path / "gw", broker.port, cloud.url)
    assert "has not run yet" in daemon.cli("quarantine", "list").stderr
    with daemon, BoardClient(broker.port) as board:
        board.deliver("a", 1, samples(1, 30))
        wait_for(lambda: sum(int(str(e["rows"])) for e in quarantined(daemon)) == 30, what="the quarantine")
        assert daemon.stop() == 0
        cloud.script = cloud.store
        assert daemon.cli("quarantine", "retry", "cloud", "--all").returncode == 0
        assert quarantined(daemon) == []
        daemon.start()
        wait_for(lambda: len(set(cloud.rows())) == 30, what="the next start sends them")


@pytest.mark.mosquitto
def test_what_it_refuses(tmp_path: Path, broker: Mosquitto, cloud: FakeCloud) -> None:
    with Daemon(tmp_path / "gw", broker.port, cloud.url) as daemon:
        assert "--all" in daemon.cli("quarantine", "retry", "cloud").stderr
        assert "--all" in daemon.cli("quarantine", "drop", "cloud", "1", "--all").stderr
        assert "is not configured" in daemon.cli("quarantine", "retry", "other", "1").stderr
        control = tmp_path / "gw" / "data" / "control.sock"
        assert control.stat().st_mode & 0o777 == 0o600
        with pytest.raises(FatalError, match="unknown request"):
            ask(control, {"do": "format", "sink": "cloud", "batch": 1})
        control.unlink()  # a daemon that cannot be asked, and whose store is locked
        refused = daemon.cli("quarantine", "drop", "cloud", "1")
        assert refused.returncode == 1
        assert "another gateway already uses" in refused.stderr


def test_the_socket_serves_whoever_comes_next(tmp_path: Path) -> None:
    def answer(request: dict[str, object]) -> dict[str, object]:
        if request.get("do") == "fail":
            raise GatewayError("it cannot be")
        return {"seen": request}

    path = tmp_path / ("deep" * 30) / "control.sock"  # longer than a socket's name may be
    path.parent.mkdir()
    assert ask(path, {}) is None
    server = ControlServer(path, answer)
    server.start()
    try:
        for hostile in (b"", b"[1]\n", b"{\n", b"\xff\n", b"x" * 9000):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.settimeout(10)
                short = tmp_path / "s"
                short.unlink(missing_ok=True)
                short.symlink_to(path)
                peer.connect(str(short))
                with suppress(ConnectionResetError, BrokenPipeError):
                    peer.sendall(hostile)
                    peer.shutdown(socket.SHUT_WR)
                    assert peer.recv(100) == b""
        assert ask(path, {"n": 1}) == {"seen": {"n": 1}}
        with pytest.raises(FatalError, match="it cannot be"):
            ask(path, {"do": "fail"})
    finally:
        server.stop()
    assert ask(path, {}) is None
