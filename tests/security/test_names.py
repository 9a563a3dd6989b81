"""Names as weapons, end to end: a board says what it likes of its channels, through broker, gateway and receiver.

Channel names and units are text for people and may be any printable characters: SQL, HTML, labels, formulas, shell and
paths among them. Each border must hand them on as the text they are. A device id is no such text: it never passes.
"""

from __future__ import annotations

import http.client
import json
import re
import sqlite3
import urllib.parse
from pathlib import Path
from typing import Any

import pytest

from host_tools.cloud.store_read import CloudReader
from host_tools.errors import StoreError
from isocore import frame as frames
from isocore import topics
from isocore.record import DELTA
from tests.support.board_client import BoardClient, wait_for
from tests.support.daemon import Daemon
from tests.support.mosquitto import Mosquitto
from tests.support.uplink import ReceiverProcess

pytestmark = pytest.mark.mosquitto

HOSTILE = (
    "'; DROP TABLE reading; --",
    '"} 1e9 evil_total{a="b',
    "back\\slash\\",
    "<script>alert(1)</script>",
    "../../../../tmp/isotherm-planted",
    "$(touch isotherm-planted)`touch isotherm-planted`",
    "=HYPERLINK(1)",
    "{0.__class__} %s %n",
    "a,b;c|d&e?f#g",
)
UNIT = "';\"<&>\\"
# Prometheus's text format 0.0.4: name, labels whose values escape backslash, quote and newline, value.
_SAMPLE = re.compile(r'[a-zA-Z_:][\w:]*(\{[a-z_]\w*="(\\[\\n"]|[^\\"\n])*"(,[a-z_]\w*="(\\[\\n"]|[^\\"\n])*")*\})? \S+')


def well_formed(metrics: str) -> list[str]:
    """Lines that are no sample and no comment."""
    return [line for line in metrics.splitlines() if line[:1] != "#" and not _SAMPLE.fullmatch(line)]


def ask(port: int, path: str, **query: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", f"{path}?{urllib.parse.urlencode(query)}")
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def names_at(receiver: ReceiverProcess) -> list[tuple[Any, ...]]:
    try:
        with CloudReader(receiver.data) as reader:
            return [tuple(channel[1:3]) for device in reader.devices() for channel in device.channels]
    except StoreError:
        return []


def test_hostile_channel_names_are_text_at_every_border(tmp_path: Path) -> None:
    channels = [{"name": name, "unit": UNIT} for name in HOSTILE]
    records = [(n + 1, DELTA, n, 4000 + n, 1000, 0) for n in range(len(HOSTILE))]
    receiver = ReceiverProcess(tmp_path / "cloud")
    (tmp_path / "cloud").mkdir()
    with Mosquitto(tmp_path / "broker") as broker, receiver, BoardClient(broker.port) as boards:
        receiver.start()
        with Daemon(
            tmp_path / "gateway", broker.port, f"http://127.0.0.1:{receiver.port}", read_timeout_s=10
        ) as daemon:
            boards.publish("fridge-1", topics.META, json.dumps({"v": 1, "boot": 1, "channels": channels}).encode())
            boards.publish("fridge-1", topics.UP, frames.encode(1, 0, 0, records))
            expected = [(name, UNIT) for name in HOSTILE]
            wait_for(lambda: names_at(receiver) == expected, 60, "the names at the receiver, as they are")
            for page in ("/metrics", "/status"):
                text = daemon.get(page)
                assert text, page
                if page == "/metrics":
                    assert well_formed(text) == []
                else:
                    json.loads(text)
            assert daemon.ledger()  # the store is whole
        assert well_formed(ask(receiver.port, "/metrics")[1]) == []
        for number, name in enumerate(HOSTILE):
            status, text = ask(receiver.port, "/v1/readings", device="fridge-1", channel=name)
            assert status == 200, text
            assert [row["value"] for row in json.loads(text)["readings"]] == [4000 + number], name
        for device in ("fridge-1' OR 1=1 --", "../fridge-1", "fridge-1/../../x", "fridge-1\0", "fridge-%"):
            assert ask(receiver.port, "/v1/readings", device=device)[0] in (400, 404), device
        assert receiver.stop() == 0
    assert list(tmp_path.rglob("*planted*")) == []
    for store in tmp_path.rglob("*.db"):
        with sqlite3.connect(store) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)], store
        db.close()


def test_the_check_of_metrics_can_fail() -> None:
    assert well_formed('a{b="c"} 1\na 2\na{b="\\"\\\\"} 1') == []
    for line in ('a{b="c"d"} 1', 'a{b="c\\"} 1', 'a{b="c"} 1 x y{', "a{b=c} 1"):
        assert well_formed(line) == [line]
