"""Faults of everything around the gateway, each with real processes and traffic, each counted on all three sides.

docs/reliability.md has the counts of a run, and for each fault what was broken in the code to see its test fail.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from gateway import durable
from tests.support.board_client import BoardClient, samples, wait_for
from tests.support.daemon import Answer, Daemon, FakeCloud, Seen
from tests.support.mosquitto import Mosquitto
from tests.support.proxy import Proxy
from tests.support.traffic import Traffic, assert_acks_are_stored, reconcile

pytestmark = pytest.mark.mosquitto

SINK = "live_rows = 40"
YEARS_10_S = 315_360_000


@contextmanager
def stack(
    tmp_path: Path, broker: Mosquitto, cloud: FakeCloud, *, to_broker: int = 0, to_cloud: int = 0, extra: str = ""
) -> Iterator[tuple[Daemon, Traffic]]:
    """A daemon, maybe behind proxies, under traffic."""
    url = f"http://127.0.0.1:{to_cloud}" if to_cloud else cloud.url
    with (
        Daemon(
            tmp_path / "gw",
            to_broker or broker.port,
            url,
            extra=extra,
            sink=SINK,
            mqtt="keepalive_s = 2" if to_broker else "",
        ) as daemon,
        BoardClient(broker.port) as board,
        Traffic(board) as traffic,
    ):
        traffic.more(100)
        yield daemon, traffic


@pytest.mark.parametrize("persistence", [True, False], ids=["with", "without"])
def test_broker_restarts(tmp_path: Path, cloud: FakeCloud, persistence: bool) -> None:
    with (
        Mosquitto(tmp_path / "broker", persistence=persistence) as broker,
        stack(tmp_path, broker, cloud) as (daemon, traffic),
    ):
        for _ in range(4):
            broker.stop()
            broker.start()
            traffic.more(100)
        kept = "with" if persistence else "without"
        reconcile(f"broker restarted {kept} its persistence", "4 times", traffic.finish(), daemon, cloud)


@pytest.mark.parametrize(("up", "down"), [(True, True), (True, False), (False, True)], ids=["both", "up", "down"])
def test_half_open_to_the_broker(tmp_path: Path, broker: Mosquitto, cloud: FakeCloud, up: bool, down: bool) -> None:
    with Proxy(broker.port) as proxy, stack(tmp_path, broker, cloud, to_broker=proxy.port) as (daemon, traffic):
        proxy.go_silent(up, down)
        traffic.more(300)
        assert proxy.swallowed > 0
        assert proxy.accepted >= 2, "the gateway gave the dead session up by itself"
        how = "proxy swallows " + ("both ways" if up and down else "what the gateway says" if up else "its input")
        reconcile("half-open TCP, gateway to broker", how, traffic.finish(), daemon, cloud)


@pytest.mark.parametrize(("up", "down"), [(True, True), (False, True)], ids=["requests", "replies"])
def test_half_open_to_the_cloud(tmp_path: Path, broker: Mosquitto, cloud: FakeCloud, up: bool, down: bool) -> None:
    with (
        Proxy(cloud.port) as proxy,
        stack(tmp_path, broker, cloud, to_cloud=proxy.port) as (daemon, traffic),
    ):
        for _ in range(2):
            wait_for(lambda: proxy.accepted and cloud.seen, what="a connection to the cloud")
            before = proxy.swallowed
            proxy.go_silent(up, down)
            wait_for(lambda before=before: proxy.swallowed > before, what="something swallowed")
            traffic.more(200)
        how = "proxy swallows " + ("requests and replies" if up else "replies")
        reconcile("half-open TCP, gateway to cloud", how, traffic.finish(), daemon, cloud)


def test_truncated_requests(tmp_path: Path, broker: Mosquitto, cloud: FakeCloud) -> None:
    with (
        Proxy(cloud.port) as proxy,
        stack(tmp_path, broker, cloud, to_cloud=proxy.port) as (daemon, traffic),
    ):
        for _ in range(10):
            proxy.cuts = 1
            wait_for(lambda: not proxy.cuts, what="a request cut in half")
            traffic.more(60)
        reconcile("truncated requests", "10 requests cut in half with the connection", traffic.finish(), daemon, cloud)


def test_duplicated_replies(tmp_path: Path, broker: Mosquitto, cloud: FakeCloud) -> None:
    """What the second saying would hide if it were taken for the next request's reply: that one was not stored."""
    cloud.script = lambda seen: error_500(cloud, seen, len(cloud.seen) + 1)
    with (
        Proxy(cloud.port) as proxy,
        stack(tmp_path, broker, cloud, to_cloud=proxy.port) as (daemon, traffic),
    ):
        for _ in range(10):
            proxy.twice = 1
            wait_for(lambda: not proxy.twice, what="a reply said twice")
            traffic.more(60)
        reconcile(
            "duplicated replies", "10 replies said twice, 2 of 3 requests not stored", traffic.finish(), daemon, cloud
        )


def lost_reply(cloud: FakeCloud, seen: Seen, number: int) -> Answer:
    answer = cloud.store(seen)
    return None if number % 3 else answer


def error_500(cloud: FakeCloud, seen: Seen, number: int) -> Answer:
    return (500, {}, b"") if number % 3 else cloud.store(seen)


def silent(cloud: FakeCloud, seen: Seen, number: int) -> Answer:
    if number % 8 == 0:
        threading.Event().wait(1.5)  # past the gateway's patience of 1 s: it has hung up
        return None
    return cloud.store(seen)


def slow(cloud: FakeCloud, seen: Seen, number: int) -> Answer:
    answer = cloud.store(seen)
    threading.Event().wait(0.05 if number % 8 else 1.5)  # every 8th comes after the gateway's patience of 1 s
    return answer


@pytest.mark.parametrize(
    ("answer", "fault", "how"),
    [
        (lost_reply, "lost replies", "2 of 3 replies lost after the cloud had stored"),
        (error_500, "upstream answers 500", "2 of 3 replies"),
        (silent, "upstream silent", "every 8th request is never answered"),
        (slow, "upstream slow", "every reply takes 0.05 s, every 8th 1.5 s: longer than the gateway waits"),
    ],
    ids=["lost", "500", "silent", "slow"],
)
def test_upstream(
    tmp_path: Path,
    broker: Mosquitto,
    cloud: FakeCloud,
    answer: Callable[[FakeCloud, Seen, int], Answer],
    fault: str,
    how: str,
) -> None:
    cloud.script = lambda seen: answer(cloud, seen, len(cloud.seen))
    with stack(tmp_path, broker, cloud) as (daemon, traffic):
        traffic.more(900)
        reconcile(fault, how, traffic.finish(), daemon, cloud)


def test_upstream_refused_at_boot_and_back_later(tmp_path: Path, broker: Mosquitto, cloud: FakeCloud) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        daemon = Daemon(tmp_path / "gw", broker.port, f"http://127.0.0.1:{port}", sink=SINK).start()
        board = BoardClient(broker.port)
        traffic = Traffic(board.__enter__())
        try:
            traffic.more(600)
            held.close()
            with Proxy(cloud.port, port):
                traffic.more(100)
                reconcile("upstream refused at boot", "it answers later", traffic.finish(), daemon, cloud)
        finally:
            traffic.__exit__()
            board.close()
            daemon.__exit__()


def test_broker_away_at_boot(tmp_path: Path, cloud: FakeCloud) -> None:
    broker = Mosquitto(tmp_path / "broker")
    daemon = Daemon(tmp_path / "gw", broker.port, cloud.url, sink=SINK).start(wait=False)
    try:
        wait_for(lambda: daemon.get("/healthz"), what="life without a broker")
        with broker, BoardClient(broker.port) as board, Traffic(board) as traffic:
            traffic.more(300)
            reconcile("broker away at boot", "broker started later", traffic.finish(), daemon, cloud)
    finally:
        daemon.__exit__()


def test_reload_under_load(tmp_path: Path, broker: Mosquitto, cloud: FakeCloud) -> None:
    with stack(tmp_path, broker, cloud) as (daemon, traffic):
        for number in range(10):
            text = daemon.config.read_text(encoding="utf-8")
            daemon.config.write_text(text.replace(SINK, f"live_rows = {30 + number}"), encoding="utf-8")
            daemon.hang_up()
            traffic.more(60)
        assert daemon.logged("configuration read again") >= 5
        reconcile("reload under load", "10 times SIGHUP", traffic.finish(), daemon, cloud)


@pytest.mark.parametrize("jump_s", [YEARS_10_S, -YEARS_10_S], ids=["forward", "back"])
def test_clock_jumps_ten_years(tmp_path: Path, broker: Mosquitto, cloud: FakeCloud, jump_s: int) -> None:
    """While it runs, back again, and over a restart; readings older than 30 days may leave, and none is."""
    offset = tmp_path / "offset"

    def set_clock(by_s: int) -> None:
        """At once: a clock read while the file was empty would be a fault of the test's own."""
        durable.replace(offset, str(by_s).encode("ascii"))

    set_clock(0)
    daemon = Daemon(
        tmp_path / "gw", broker.port, cloud.url, extra="[store]\nsegment_rows = 1000\nmax_days = 30\n", sink=SINK
    )
    daemon.program = ["tests.support.clocked", str(offset)]
    with daemon, BoardClient(broker.port) as board, Traffic(board, step=100) as traffic:
        traffic.more(1200)
        for now_s in (jump_s, 0, jump_s):
            set_clock(now_s)
            traffic.more(300)
        assert daemon.stop() == 0
        daemon.start()
        traffic.more(1200)
        which = "forward" if jump_s > 0 else "back"
        reconcile("clock 10 years " + which, "while running and over a restart", traffic.finish(), daemon, cloud)


def fill(path: Path) -> None:
    """Take every block there is."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT RUN: only root can mount a small file system")
def test_disk_full(tmp_path: Path, broker: Mosquitto, cloud: FakeCloud) -> None:
    data = tmp_path / "gw" / "data"
    data.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(data)], check=False).returncode:
        pytest.skip("NOT RUN: mounting is not allowed here")
    try:
        with stack(tmp_path, broker, cloud, extra="[store]\nreserve_mib = 1\n") as (daemon, traffic):
            for _ in range(2):
                filler = data / "filler"
                fill(filler)
                wait_for(lambda: daemon.status()["store"]["failing"] == "full", timeout_s=60, what="a full disk")
                assert daemon.figure("store_failing") == 1
                assert_acks_are_stored(traffic.board, daemon)
                acked = traffic.sent
                filler.unlink()
                wait_for(lambda: daemon.status()["store"]["failing"] is None, timeout_s=60, what="recovery")
                traffic.more(100)
                assert traffic.sent > acked
            reconcile("disk full", "24 MiB of tmpfs filled to the last block, twice", traffic.finish(), daemon, cloud)
    finally:
        subprocess.run(["umount", "-l", str(data)], check=False)


def backlog(tmp_path: Path, broker: Mosquitto, boards: int) -> None:
    """A month of minute samples while the cloud is away, then all of it goes up."""
    minutes = 30 * 24 * 60
    with socket.socket() as held, FakeCloud() as cloud:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        extra = "[store]\nsegment_rows = 20000\n"
        daemon = Daemon(tmp_path / "gw", broker.port, f"http://127.0.0.1:{port}", extra=extra).start()
        try:
            with BoardClient(broker.port) as board:
                made = {}
                for number in range(boards):
                    name = f"b{number}"
                    for first in range(1, minutes, 4800):
                        last = min(minutes, first + 4799)
                        board.deliver(name, 1, samples(first, last, step_ms=60_000), size=48, timeout_s=120)
                    made[name] = minutes
            assert daemon.stop() == 0
            daemon.start()
            held.close()
            with Proxy(cloud.port, port):
                how = f"minute samples of {boards} board{'s'[: boards > 1]}, cloud away, a restart in between"
                reconcile("30 days of backlog", how, made, daemon, cloud)
        finally:
            daemon.__exit__()


def test_thirty_days_of_backlog(tmp_path: Path, broker: Mosquitto) -> None:
    backlog(tmp_path, broker, 1)


@pytest.mark.soak
def test_thirty_days_of_backlog_of_a_house(tmp_path: Path, broker: Mosquitto) -> None:
    started_s = time.monotonic()
    backlog(tmp_path, broker, 20)
    print(f"20 boards: {time.monotonic() - started_s:.0f} s")
