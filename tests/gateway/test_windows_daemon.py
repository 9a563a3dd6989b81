"""Windows of a daemon that is killed again and again equal, at the receiver, those of one fold over all records."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from gateway.app_watch import Watch
from gateway.config import parse
from gateway.store import WindowReader
from gateway.windows import FOLLOWER
from host_tools.cloud import wire as down
from host_tools.cloud.windows import Window
from isocore.aggregate import fold
from isocore.frame import EPOCH_BASE_UNIX_S
from isocore.record import DELTA, FAULT, FAULT_CLEARED, HIGH_OFF, HIGH_ON, SAMPLE
from tests.gateway.conftest import Harness
from tests.support.board_client import BoardClient, Record, wait_for
from tests.support.daemon import Daemon, FakeCloud
from tests.support.mosquitto import Mosquitto

pytestmark = pytest.mark.mosquitto

LENGTHS_S = (2, 10)
HOLD_S = 40
KILLS = 4
ROUND = 150
EXTRA = f"""
[windows]
lengths_s = {list(LENGTHS_S)}
hold_s = {HOLD_S}
grace_s = 0
[upload.all]
send = ["windows", "alarms"]
"""
Figures = tuple[int | None, ...]


def records(rng: random.Random, first: int, last: int, uptime_ms: int) -> list[Record]:
    """Reports, an alarm and a fault now and then, gaps longer than a value is carried."""
    out = []
    for seq in range(first, last + 1):
        uptime_ms += 60_000 if rng.random() < 0.03 else rng.randint(200, 4000)
        kind = rng.choices((SAMPLE, DELTA, HIGH_ON, HIGH_OFF, FAULT, FAULT_CLEARED), (20, 60, 3, 3, 2, 2))[0]
        out.append((seq, kind, 0, rng.randint(-5000, 9000), uptime_ms, 0))
    return out


def figures(window: Window) -> Figures:
    return (window.least, window.mean, window.greatest, *window[8:])


def arrived(cloud: FakeCloud) -> dict[tuple[int, int], Figures]:
    """By length and start: what the highest revision says; without those that say nothing."""
    latest: dict[tuple[int, int], Window] = {}
    with cloud.lock:
        bodies = dict(cloud.stored)
        heads = {seen.batch: seen.headers for seen in cloud.seen}
    for number, body in bodies.items():
        head = down.read_head({name.lower(): value for name, value in heads[number].items()})
        for window in down.decode(head, body).windows:
            key = (window.length_s, window.start_unix_s)
            if key not in latest or window.revision > latest[key].revision:
                latest[key] = window
    return {key: row for key, window in latest.items() if any((row := figures(window))[3:]) or row[0] is not None}


def test_where_folding_begins_is_kept_before_anything_goes_up(tmp_path: Path) -> None:
    """A kill before the first step would begin after rows that the ledger has in windows already."""
    path = tmp_path / "isotherm.db"
    config = parse(tmp_path / "gateway.toml", {"gateway": {"data_dir": str(tmp_path)}})
    assert config.store_path == path
    harness = Harness(path)
    harness.store.open()
    watch = Watch(config, harness.store, harness.metrics, time.time)
    watch.open(0, lambda: None)
    harness.store.start()
    harness.settle()
    reader = WindowReader(path)
    assert reader.follower(FOLLOWER) == 1
    reader.close()
    watch.close()
    assert harness.stop()


def test_windows_after_kills_are_those_of_one_fold(tmp_path: Path, broker: Mosquitto, cloud: FakeCloud) -> None:
    rng = random.Random(8)
    epoch_unix_s = int(time.time()) - 86_400  # all of it is long over, so every window closes
    made: list[Record] = []
    with (
        Daemon(tmp_path / "gw", broker.port, cloud.url, extra=EXTRA) as daemon,
        BoardClient(broker.port) as board,
    ):
        for _ in range(KILLS):
            fresh = records(rng, len(made) + 1, len(made) + ROUND, made[-1][4] if made else 0)
            made += fresh
            seen = len(cloud.seen)
            board.deliver("a", 1, fresh, epoch_s=epoch_unix_s - EPOCH_BASE_UNIX_S)
            if rng.random() < 0.5:  # at once, or while windows go up
                wait_for(lambda seen=seen: len(cloud.seen) > seen, what="windows on their way")
            daemon.kill()
            daemon.start()
        items = [(1, s, k, v, t, u, epoch_unix_s * 1000 + u) for s, k, _, v, u, t in made]
        limit_ms = (epoch_unix_s + 80_000) * 1000
        assert made[-1][4] < 70_000_000
        expected = {key: w.figures() for key, w in fold(items, LENGTHS_S, HOLD_S, limit_ms).items()}
        wait_for(lambda: arrived(cloud) == expected, timeout_s=40, what="their last revisions")
        reports = sum(kind in (SAMPLE, DELTA) for _, kind, *_ in made)
        wait_for(lambda: daemon.status()["sinks"]["cloud"]["rows_pending"] == 0, what="the ledger")
        assert daemon.stop() == 0
        ledger = daemon.ledger()
        assert ledger["differences"] == []
        assert ledger["ledger"]["devices"]["a"]["sinks"]["cloud"]["aggregated_reports"] == reports
        assert cloud.rows().count(("a", 1, 1)) <= 1
