"""docs/uplink.md is enough to write a receiver from: this one is short, and the real gateway works with it."""

from __future__ import annotations

import ast
import random
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from isocore import topics
from isocore.record import HIGH_ON
from tests.contract.minimal_receiver import Receiver
from tests.support.board_client import BoardClient, wait_for
from tests.support.daemon import Daemon
from tests.support.mosquitto import Mosquitto

LINES_MAX = 120


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    running = Receiver(tmp_path / "receiver.db")
    yield running
    running.close()


def stored(receiver: Receiver) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(receiver.path)) as db:
        return db.execute("SELECT device, boot, seq, kind, channel, value FROM readings ORDER BY 1, 2, 3").fetchall()


def test_it_is_short_and_needs_nothing() -> None:
    text = (Path(__file__).parent / "minimal_receiver.py").read_text(encoding="utf-8")
    assert text.count("\n") < LINES_MAX
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    assert imported <= sys.stdlib_module_names


@pytest.mark.mosquitto
def test_the_gateway_works_with_it(tmp_path: Path, receiver: Receiver) -> None:
    rng = random.Random(1)
    sent = {
        device: [
            (seq, HIGH_ON if seq % 50 == 0 else 2, rng.randrange(3), rng.randrange(-40_000, 90_000), seq * 997, 0)
            for seq in range(1, 301)
        ]
        for device in ("a", "b-2")
    }
    with (
        Mosquitto(tmp_path / "broker") as broker,
        Daemon(tmp_path / "gw", broker.port, receiver.url) as daemon,
        BoardClient(broker.port) as board,
    ):
        board.publish("a", topics.MODEL_STATE, b'{"sequence":3,"state":"committed","id":"ab"}', retain=True)
        for at in range(0, 300, 100):
            for device, records in sent.items():
                board.deliver(device, 7, records[at : at + 100])
        wait_for(lambda: len(stored(receiver)) == 600, what="all readings")
        wait_for(lambda: daemon.status()["sinks"]["cloud"]["rows_pending"] == 0, what="the ledger")
        # A lane that it does not know, and answers.
        wait_for(lambda: daemon.status()["sinks"]["cloud"]["batches"]["models"] > 0, what="states of models")
        assert daemon.stop() == 0
        assert daemon.cli("quarantine", "list").stdout == "Nothing is in quarantine.\n"
        assert daemon.ledger()["differences"] == []
    assert stored(receiver) == [(device, 7, *record[:4]) for device in sorted(sent) for record in sent[device]]
