"""Alert rules and metric names, by Prometheus's own judge, which set-up brings (or PROMTOOL names).

Where it could not be had, those tests are skipped by name; that rules use metrics which exist is checked either way.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from gateway.figures import families
from gateway.machine import OF_SOME_MACHINES
from gateway.metrics import HELP, PREFIX, Metrics
from gateway.store import Reader
from host_tools.setup.promtool import find_promtool
from isocore.record import HIGH_ON
from tests.gateway.conftest import START_UNIX_MS, Harness, frame_in
from tests.gateway.test_quarantine import refused_batch
from tests.support.board_client import BoardClient, samples, wait_for
from tests.support.daemon import Daemon, FakeCloud
from tests.support.mosquitto import Mosquitto

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RULES = ROOT / "gateway" / "system" / "isotherm-gateway.rules.yml"
DOC = ROOT / "docs" / "gateway.md"
PROMTOOL = find_promtool(ROOT / ".tools", os.environ)

needs_promtool = pytest.mark.skipif(
    not PROMTOOL, reason="NOT RUN: no promtool; `make setup ARGS=test` could not bring it, and PROMTOOL names none"
)


def promtool(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL
    return subprocess.run(
        [PROMTOOL, *arguments], input=stdin, capture_output=True, text=True, cwd=HERE, timeout=60, check=False
    )


def named(text: str) -> set[str]:
    return set(re.findall(PREFIX + r"[a-z_]+", text))


def values(text: str) -> dict[str, float]:
    """Samples by name and labels, without the prefix."""
    return {
        line.removeprefix(PREFIX).rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if not line.startswith("#")
    }


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """/metrics of a daemon that has seen something of everything."""
    folder = tmp_path_factory.mktemp("page")
    with (
        Mosquitto(folder / "broker") as broker,
        FakeCloud() as cloud,
        Daemon(folder / "gw", broker.port, cloud.url, extra='[third_party.plugs]\npreset = "tasmota"') as daemon,
        BoardClient(broker.port) as board,
    ):
        board.publish("a", "health", '{"rssi_dbm":-61,"free_heap_bytes":50000,"outbox":1,"reconnects":0,"boot":true}')
        board.publish("a", "model/state", '{"sequence":2,"state":"committed","id":"ab"}', retain=True)
        board.publish_raw("iso/1/a/up", b"no frame")
        board.deliver("a", 3, [*samples(1, 20), (21, HIGH_ON, 0, 9000, 21_000, 0)])
        wait_for(lambda: len(set(cloud.rows())) == 21, what="the cloud")
        for kind, count in (("events", 1), ("reports", 20)):
            wanted = f'sink_uploaded_records_total{{class="{kind}",sink="cloud"}} {count}'
            wait_for(lambda wanted=wanted: wanted in daemon.get("/metrics"), what=wanted)
        return daemon.get("/metrics")


@needs_promtool
def test_promtool_accepts_the_rules() -> None:
    done = promtool("check", "rules", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_sees_every_alert_fire_and_none_on_a_healthy_site() -> None:
    done = promtool("test", "rules", "alerts.test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.mosquitto
def test_promtool_accepts_the_metrics(page: str) -> None:
    done = promtool("check", "metrics", stdin=page)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_promtool
def test_promtool_accepts_whatever_devices_are_called() -> None:
    metrics = Metrics()
    hostile = ('a"} 1\nup 1', "back\\slash", "new\nline", "\r", "\x00\x1b[2J", "ü€𝄞", "\ud800", "{}=,", "x" * 5000, "")
    for name in hostile:
        metrics.add("ingest_rejected_total", 1, reason=name)
    done = promtool("check", "metrics", stdin=metrics.render().encode("utf-8", "replace").decode())
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_alert_has_a_test_that_names_it() -> None:
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text(encoding="utf-8"))
    tested = (HERE / "alerts.test.yml").read_text(encoding="utf-8")
    assert len(alerts) == len(set(alerts)) > 10
    assert [alert for alert in alerts if f'alertname="{alert}"' not in tested] == []


@pytest.mark.mosquitto
def test_rules_and_documents_name_metrics_that_exist(page: str) -> None:
    known = named(page) | {PREFIX + name for name in (*HELP, *OF_SOME_MACHINES)}
    assert named(RULES.read_text(encoding="utf-8")) - known == set()
    documented = set(re.findall(rf"^\| `({PREFIX}[a-z_]+)` \|", DOC.read_text(encoding="utf-8"), re.MULTILINE))
    assert documented - known == set()
    shown = set(re.findall(rf"^# TYPE ({PREFIX}[a-z_]+) ", page, re.MULTILINE))
    assert (shown | {PREFIX + name for name in HELP}) - documented == set(), "docs/gateway.md lists every metric"


@pytest.mark.mosquitto
def test_the_page_tells_what_happened(page: str) -> None:
    seen = values(page)
    assert seen['device_records_total{device="a",outcome="stored_reports"}'] == 20
    assert seen['sink_uploaded_records_total{class="reports",sink="cloud"}'] == 20
    assert seen['backlog_rows{lane="alarms",sink="cloud"}'] == 0
    assert seen['device_rssi_dbm{device="a"}'] == -61
    assert seen['device_boots{device="a"}'] == 3
    assert seen['device_model_sequence{device="a"}'] == 2
    assert seen["ledger_balanced"] == 1
    assert seen['ingest_dropped_total{leaf="up"}'] == 0, "shown before it rises"
    assert 0 < seen["disk_free_bytes"] <= seen["disk_size_bytes"]
    assert seen["store_bytes"] > 0


def test_backlog_by_lane_with_its_age(harness: Harness) -> None:
    alarm = (21, HIGH_ON, 0, 9000, 21_000, 0)
    harness.put(frame_in("a", 1, samples(1, 20), recv_unix_ms=START_UNIX_MS))
    harness.put(frame_in("a", 1, [alarm], recv_unix_ms=START_UNIX_MS + 30_000))
    harness.put(frame_in("a", 1, samples(22, 31), recv_unix_ms=START_UNIX_MS + 60_000))
    store = harness.store
    assert store.freeze(refused_batch(1, b"x" * 70)._replace(first_row=1, last_row=5, rows=5), 6)
    assert store.leave_behind("cloud", 6, 20)
    reader = Reader(harness.path)
    metrics = Metrics()
    metrics.source(lambda: families(reader, ["cloud"], harness.path, lambda: START_UNIX_MS / 1000 + 100))
    seen = values(metrics.render())
    lanes = {
        lane: tuple(seen[f'backlog_{what}{{lane="{lane}",sink="cloud"}}'] for what in ("rows", "age_seconds"))
        for lane in ("alarms", "live", "backfill")
    }
    assert seen['backlog_frozen_bytes{lane="live",sink="cloud"}'] == 70
    # Live: 5 frozen and 11 beyond the range left behind, the alarm among them (an upper bound); the frozen are oldest.
    assert lanes == {"alarms": (1, 70), "live": (16, 100), "backfill": (15, 100)}
    assert store.uploaded("cloud", 1)
    seen = values(metrics.render())
    assert seen['backlog_age_seconds{lane="live",sink="cloud"}'] == 40, "the alarm is not the live lane's"
    reader.close()
