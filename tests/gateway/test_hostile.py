"""Hostile traffic at the real daemon through the real broker, with good traffic in between that must all arrive.

2,000 messages here, 100,000 in `make soak`; ISOTHERM_HOSTILE sets another number, and ISOTHERM_SEED another seed.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

from gateway.store import Reader
from tests.gateway.hostile import messages
from tests.support.board_client import BoardClient, samples, wait_for
from tests.support.daemon import Daemon
from tests.support.mosquitto import Mosquitto

pytestmark = pytest.mark.mosquitto

SEED = int(os.environ.get("ISOTHERM_SEED", "20"))
COUNT = int(os.environ.get("ISOTHERM_HOSTILE", "0"))
BATCH = 500
EXTRA = """
[third_party.plugs]
preset = "tasmota"
time_zone = "UTC"
[third_party.nodes]
preset = "esphome"
[third_party.zigbee]
preset = "zigbee2mqtt"
"""


def run(workdir: Path, count: int) -> Counter[str]:
    """The campaign. Returns what was refused, by reason."""
    extra = "max_queued_messages 0\nset_tcp_nodelay true\n"
    with (
        Mosquitto(workdir / "broker", extra=extra) as broker,
        Daemon(workdir / "gw", broker.port, extra=EXTRA) as daemon,
        BoardClient(broker.port) as board,
    ):
        wait_for(lambda: daemon.figure("mqtt_session_connected"), what="the session")
        evil = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "evil")
        evil.max_queued_messages_set(0)
        evil.max_inflight_messages_set(500)
        evil.connect("127.0.0.1", broker.port)
        evil.loop_start()
        process = daemon.process
        good = 0
        waiting = []
        for number, message in enumerate(messages(SEED, count), 1):
            waiting.append(evil.publish(message.topic, message.payload, message.qos, message.retained))
            if number % BATCH == 0 or number == count:
                for sent in waiting:
                    sent.wait_for_publish(60)
                waiting.clear()
                board.deliver("honest", 1, samples(good * 10 + 1, good * 10 + 10), timeout_s=60)
                good += 1
                reading = {"AM2301": {"Temperature": good / 1000}}
                evil.publish("tele/honest-plug/SENSOR", json.dumps(reading), qos=1).wait_for_publish(60)
        path = workdir / "gw" / "data" / "isotherm.db"
        wait_for(lambda: sum(plug(path).values()) == good, timeout_s=60, what="the good readings")
        evil.disconnect()
        evil.loop_stop()
        assert daemon.process is process and not daemon.dead, "it never ended"
        status = daemon.status()
        assert status["devices"]["honest"]["covered_seq"] == good * 10
        assert set(plug(path).values()) == {1}
        assert daemon.stop() == 0
        assert daemon.ledger()["differences"] == []
        lines = daemon.log.read_text(encoding="utf-8").splitlines()
        assert not [line for line in lines if "Traceback" in line or "CRITICAL" in line]
        assert len(lines) < 400 + count // 100, "the log is bounded"
        return Counter(status["ingest"]["rejected"])


def plug(path: Path) -> Counter[int]:
    """Values of the good third-party device, and how often each is there."""
    reader = Reader(path)
    try:
        rows = reader._all(
            "SELECT r.value FROM readings r JOIN devices d USING (device) WHERE d.name = 'honest-plug' AND r.kind = 1"
        )
        return Counter(row[0] for row in rows)
    finally:
        reader.close()


def test_hostile_messages_are_counted_and_stop_nothing(tmp_path: Path) -> None:
    refused = run(tmp_path, COUNT or 2_000)
    assert {"frame_crc", "frame_version", "json", "size", "depth", "own_id", "topic"} <= set(refused)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_hostile_messages(tmp_path: Path) -> None:
    refused = run(tmp_path, COUNT or 100_000)
    print(f"\nseed {SEED}, {COUNT or 100_000} messages, refused: {dict(refused.most_common())}")
    assert sum(refused.values()) > (COUNT or 100_000) * 0.3


def test_the_same_seed_gives_the_same_messages() -> None:
    assert list(messages(3, 500)) == list(messages(3, 500))
    assert list(messages(3, 500)) != list(messages(4, 500))
