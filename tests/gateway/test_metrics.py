"""The registry and its exposition text, and the status server."""

from __future__ import annotations

import http.client
import re
import socket
from pathlib import Path

import pytest

from gateway.errors import FatalError
from gateway.metrics import HELP, PREFIX, Metrics
from gateway.status import StatusServer

SAMPLE = re.compile(r'^[a-z_]+(\{[a-z_]+="(?:[^"\\\n]|\\.)*"(,[a-z_]+="(?:[^"\\\n]|\\.)*")*\})? -?[0-9.e+-]+$')


def test_counters_add_up_by_label() -> None:
    metrics = Metrics()
    metrics.add("upload_rows_total", 3, sink="a", lane="live")
    metrics.add("upload_rows_total", 4, lane="live", sink="a")
    metrics.add("upload_rows_total", 1, sink="b", lane="live")
    assert metrics.value("upload_rows_total", sink="a", lane="live") == 7
    assert metrics.by_label("upload_rows_total", "sink") == {"a": 7, "b": 1}
    assert metrics.total("upload_rows_total") == 8
    assert metrics.value("never") == 0


def test_the_text_is_well_formed_whatever_the_labels() -> None:
    metrics = Metrics()
    metrics.add("ingest_rejected_total", 1, reason='a"b\\c\nd')
    metrics.observe("store_commit_seconds", 0.25)
    metrics.gauge("backlog", "Rows.", lambda: 2.5, lane="live")
    metrics.gauge("backlog", "Rows.", lambda: 3, lane="alarms")
    text = metrics.render()
    lines = text.splitlines()
    assert text.endswith("\n")
    for line in lines:
        assert line.startswith(("# HELP ", "# TYPE ")) or SAMPLE.match(line), line
    assert f"{PREFIX}store_commit_seconds_count 1" in lines
    assert f'{PREFIX}store_commit_seconds_bucket{{le="0.25"}} 1' in lines
    assert f'{PREFIX}store_commit_seconds_bucket{{le="0.1"}} 0' in lines
    assert f'{PREFIX}store_commit_seconds_bucket{{le="+Inf"}} 1' in lines
    assert f'{PREFIX}backlog{{lane="live"}} 2.5' in lines
    assert sum(line.startswith(f"# TYPE {PREFIX}backlog ") for line in lines) == 1


def test_names_follow_the_rules() -> None:
    for name in HELP:
        assert name.endswith(("_total", "_seconds")), name
        assert HELP[name].endswith(".")


def test_pages(tmp_path: Path) -> None:
    address = tmp_path / "address"
    server = StatusServer("127.0.0.1:0", address, lambda: "metrics\n", lambda: {"a": 1})
    server.start()
    connection = http.client.HTTPConnection(address.read_text().strip(), timeout=5)
    seen = {}
    for path in ("/metrics", "/status?x=1", "/healthz", "/other", "/../etc"):
        connection.request("GET", path)
        response = connection.getresponse()
        seen[path] = (response.status, response.read())
    connection.close()
    server.stop()
    assert seen["/metrics"] == (200, b"metrics\n")
    assert seen["/status?x=1"] == (200, b'{"a": 1}')
    assert seen["/healthz"][0] == 200
    assert (seen["/other"][0], seen["/../etc"][0]) == (404, 404)
    assert not address.exists()


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(FatalError, match=listen):
            StatusServer(listen, tmp_path / "address", lambda: "", dict).start()
