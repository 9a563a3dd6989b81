"""Words to the service manager, heard on a socket of the test's own; and that a stuck writer stops the feed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.app import Gateway
from gateway.config import parse
from gateway.notify import Notifier
from tests.support.board_client import wait_for
from tests.support.daemon import Daemon
from tests.support.mosquitto import Mosquitto


class Manager:
    """What systemd is to a service: a datagram socket that listens."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.heard: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.setblocking(False)

    def listen(self) -> list[dict[str, str]]:
        """All that was said so far."""
        while True:
            try:
                text = self._socket.recv(4096).decode()
            except BlockingIOError:
                return self.heard
            self.heard.append(dict(line.split("=", 1) for line in text.splitlines()))

    def count(self, word: str) -> int:
        return sum(word in said for said in self.listen())

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(f"@isotherm-test-{tmp_path.name}-{id(tmp_path)}")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("environ", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "2000000"}, None),
        ({"NOTIFY_SOCKET": "@x"}, None),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "2000000"}, 2.0),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, None),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "soon"}, None),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "0"}, None),
    ],
)
def test_the_environment(environ: dict[str, str], watchdog_s: float | None) -> None:
    assert Notifier.from_environment(environ).watchdog_s == watchdog_s


def test_a_manager_that_is_gone_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier(str(tmp_path / "nobody"))
    notifier.feed()
    notifier.feed()
    assert len(caplog.records) == 1, "said once"
    Notifier(None).feed()


def test_a_path_serves_as_well_as_an_abstract_name(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "n"))
    Notifier(manager.address).ready("all is well")
    assert manager.listen() == [{"READY": "1", "STATUS": "all is well"}]
    manager.close()


@pytest.mark.mosquitto
def test_the_life_of_a_service(
    tmp_path: Path, broker: Mosquitto, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    with Daemon(tmp_path / "gw", broker.port) as daemon:
        wait_for(lambda: manager.count("WATCHDOG") >= 3, what="a fed watchdog, with nothing to do")
        assert "READY" in manager.heard[0]
        assert "gw-test" in manager.heard[0]["STATUS"]
        assert daemon.process is not None
        daemon.process.send_signal(1)
        wait_for(lambda: manager.count("READY") == 2, what="ready again")
        assert int(next(said for said in manager.heard if "RELOADING" in said)["MONOTONIC_USEC"]) > 0
        assert daemon.stop() == 0
        assert "STOPPING" in manager.listen()[-1]


class Stage:
    """A gateway in this process, without a broker, its writer at hand."""

    def __init__(self, tmp_path: Path, manager: Manager) -> None:
        document = {"gateway": {"data_dir": str(tmp_path / "data")}, "mqtt": {"port": 1}, "metrics": {"listen": ""}}
        config = parse(tmp_path / "gateway.toml", document)
        self.gateway = Gateway(config, notifier=Notifier(manager.address, 0.08))
        self.store = self.gateway._store
        self._thread = threading.Thread(target=self.gateway.run, daemon=True)
        self._thread.start()
        wait_for(lambda: manager.count("READY"), what="the start")

    def stop(self) -> None:
        self.gateway.request_stop()
        self._thread.join(20)
        assert not self._thread.is_alive()


def test_a_stuck_writer_stops_the_feed(tmp_path: Path, manager: Manager) -> None:
    stage = Stage(tmp_path, manager)
    try:
        wait_for(lambda: manager.count("WATCHDOG") >= 2, what="the feed")
        stuck, release = threading.Event(), threading.Event()

        def hang(_connection: object) -> None:
            stuck.set()
            release.wait(60)

        ticket = stage.store._ask(hang)  # the writer itself hangs, in the middle of a transaction
        assert stuck.wait(10)
        turns = stage.store.turns
        feeds = 0

        def quiet() -> bool:
            """No feed between two wishes for one; each wish is a look of the main thread at the writer."""
            nonlocal feeds
            before, feeds = feeds, manager.count("WATCHDOG")
            stage.gateway._wake()
            return before == feeds

        wait_for(lambda: quiet() and quiet() and quiet(), what="silence")
        assert stage.store.turns == turns
        reloads = manager.count("READY")
        stage.gateway.request_reload()  # the main thread still works: it is not the one that is stuck
        wait_for(lambda: manager.count("READY") > reloads, what="a reload")
        assert manager.count("WATCHDOG") == feeds, "and all the same it does not feed"
        release.set()
        assert ticket.wait(20)
        wait_for(lambda: manager.count("WATCHDOG") > feeds, what="the feed again")
    finally:
        release.set()
        stage.stop()


def test_a_dead_thread_stops_the_feed(tmp_path: Path, manager: Manager) -> None:
    stage = Stage(tmp_path, manager)
    try:
        wait_for(lambda: manager.count("WATCHDOG"), what="the feed")
        assert stage.gateway._threads_live()
        stage.gateway._link.stop(0)
        assert not stage.gateway._threads_live()
    finally:
        stage.stop()
