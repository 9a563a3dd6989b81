"""Third-party devices through a real broker to a real daemon: what is sent with QoS 1 counts exactly once.

Messages are published by mosquitto's own client, as captured from the three firmwares. Each carries a value of its own,
so that a lost and a doubled one cannot make up for each other.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

from gateway.messages import Receipt
from gateway.metrics import Metrics
from gateway.mqtt_session import SessionLink, forget
from gateway.store import Reader
from tests.support.board_client import wait_for
from tests.support.daemon import Daemon, FakeCloud, read_body
from tests.support.mosquitto import Mosquitto

pytestmark = pytest.mark.mosquitto

KILLS = int(os.environ.get("ISOTHERM_KILLS", "8"))
KEEPING = "max_queued_messages 0\nset_tcp_nodelay true\n"
TABLES = """
[third_party.plugs]
preset = "tasmota"
time_zone = "UTC"
[third_party.nodes]
preset = "esphome"
[third_party.zigbee]
preset = "zigbee2mqtt"
"""


class Publisher:
    """A client that publishes with QoS 1 and knows what the broker has acknowledged."""

    def __init__(self, port: int) -> None:
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "publisher")
        self._client.max_queued_messages_set(0)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def send(self, topic: str, payload: str) -> None:
        self._client.publish(topic, payload, qos=1).wait_for_publish(10)

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def stored(path: Path) -> Counter[tuple[str, str, int]]:
    """(device, channel's name, value) of all samples."""
    reader = Reader(path)
    try:
        names = {
            name: [channel["name"] for channel in (meta or {}).get("channels") or []]
            for name, (_, meta) in reader.known().items()
        }
        rows = reader._all(
            "SELECT d.name, r.channel, r.value FROM readings r JOIN devices d USING (device) WHERE r.kind = 1"
        )
        return Counter((device, names[device][channel], value) for device, channel, value in rows)
    finally:
        reader.close()


def pub(port: int, topic: str, payload: str, *more: str) -> None:
    """mosquitto_pub, as it is shipped."""
    program = shutil.which("mosquitto_pub")
    assert program, "mosquitto-clients is not installed: run `make setup`"
    command = [program, "-p", str(port), "-t", topic, "-m", payload, *more]
    assert subprocess.run(command, check=False, timeout=20).returncode == 0


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker", extra=KEEPING) as running:
        yield running


def test_three_firmwares_from_the_broker_to_the_cloud(tmp_path: Path, keeping: Mosquitto, cloud: FakeCloud) -> None:
    with Daemon(tmp_path / "gw", keeping.port, cloud.url, extra=TABLES) as daemon, Publisher(keeping.port) as publisher:
        wait_for(lambda: daemon.figure("mqtt_session_connected"), what="the session")
        publisher.send(
            "tele/plug-1/SENSOR",
            '{"Time":"2026-11-25T12:00:00","DS18B20-1":{"Id":"01131B2C3D4E","Temperature":21.4},'
            '"DS18B20-2":{"Id":"01131B2C3D4F","Temperature":19.9},"TempUnit":"C"}',
        )
        publisher.send("attic/sensor/attic_temperature/state", "18.75")
        publisher.send("attic/status", "online")
        publisher.send("zigbee2mqtt/Living Room", '{"battery":97,"humidity":55.2,"linkquality":120,"temperature":70.5}')
        wait_for(lambda: len(set(cloud.rows())) >= 5, what="five rows at the cloud")
        wait_for(lambda: daemon.status()["sinks"]["cloud"]["rows_pending"] == 0, what="the ledger")
        assert daemon.status()["devices"]["attic"]["status"] == "online"
        assert daemon.ledger()["differences"] == []
        known = {}
        for body in cloud.stored.values():
            for device in read_body(body)["devices"]:
                known[device["id"]] = [(channel["name"], channel["unit"]) for channel in device["channels"]]
        assert known["plug-1"] == [
            ("ds18b20-01131b2c3d4e-temperature", "degC"),
            ("ds18b20-01131b2c3d4f-temperature", "degC"),
        ]
        assert known["living-room"] == [("humidity", "%RH"), ("temperature", "degC")]
        assert daemon.stop() == 0


def test_what_comes_while_the_gateway_is_away_waits_at_the_broker(tmp_path: Path, keeping: Mosquitto) -> None:
    with Daemon(tmp_path / "gw", keeping.port, extra=TABLES) as daemon:
        wait_for(lambda: daemon.figure("mqtt_session_connected"), what="the session")
        daemon.kill()
        with Publisher(keeping.port) as publisher:
            for value in range(200):
                publisher.send("n/sensor/temp/state", f"{value / 10}")
        daemon.start()
        path = tmp_path / "gw" / "data" / "isotherm.db"
        wait_for(lambda: len(stored(path)) == 200, timeout_s=90, what="what had waited")
        assert daemon.stop() == 0
        assert set(stored(path).values()) == {1}


def test_acknowledgements_do_not_wait_for_a_full_group(tmp_path: Path) -> None:
    """A window far smaller than a group of the writer's: were acknowledgements held for a group, nothing would move."""
    extra = TABLES + "\n[store]\ncommit_ms = 50\ncommit_rows = 2000\n"
    with (
        Mosquitto(tmp_path / "broker", extra=KEEPING + "max_inflight_messages 3\n") as broker,
        Daemon(tmp_path / "gw", broker.port, extra=extra) as daemon,
        Publisher(broker.port) as publisher,
    ):
        wait_for(lambda: daemon.figure("mqtt_session_connected"), what="the session")
        for value in range(60):
            publisher.send("n/sensor/temp/state", str(value))
        wait_for(lambda: len(stored(tmp_path / "gw" / "data" / "isotherm.db")) == 60, what="all of them")


class Stream(threading.Thread):
    """Publishes values that never repeat until told to stop."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port
        self.done = threading.Event()
        self.sent = 0

    def run(self) -> None:
        with Publisher(self._port) as publisher:
            while not self.done.is_set():
                self.sent += 1
                publisher.send("tele/plug/SENSOR", json.dumps({"AM2301": {"Temperature": self.sent / 1000}}))


def test_kill_9_at_random_moments_loses_and_doubles_nothing(tmp_path: Path, keeping: Mosquitto) -> None:
    rng = random.Random(5)
    path = tmp_path / "gw" / "data" / "isotherm.db"
    with Daemon(tmp_path / "gw", keeping.port, extra=TABLES + "[ingest]\njson_bytes_max = 4096\n") as daemon:
        wait_for(lambda: daemon.figure("mqtt_session_connected"), what="the session")
        stream = Stream(keeping.port)
        stream.start()
        try:
            for _ in range(KILLS):
                target = stream.sent + rng.randint(1, 400)
                wait_for(lambda target=target: stream.sent >= target or not stream.is_alive(), what="traffic")
                daemon.kill()
                daemon.start()
        finally:
            stream.done.set()
            stream.join(20)
        wait_for(lambda: len(stored(path)) == stream.sent, what="the rest")
        assert daemon.stop() == 0
    held = stored(path)
    assert {value for _, _, value in held} == set(range(1, stream.sent + 1))
    assert set(held.values()) == {1}, "none twice"


class Taker:
    """Takes what a link hands over; `room` says whether it has room."""

    def __init__(self, port: int, subscriptions: list[str], unwanted: list[str] | None = None) -> None:
        self.room = True
        self.taken: list[tuple[bytes, Receipt | None]] = []
        self.metrics = Metrics()
        self.link = SessionLink(
            "127.0.0.1", port, "session", 20, subscriptions, unwanted or [], self.take, self.metrics, backoff_max_s=0.1
        )

    def take(self, _topic: str, payload: bytes, _retained: bool, receipt: Receipt | None) -> bool:
        if self.room:
            self.taken.append((payload, receipt))
        return self.room

    def settle(self) -> None:
        self.link.settle([receipt for _, receipt in self.taken if receipt is not None])

    def __enter__(self) -> Taker:
        self.link.start()
        wait_for(lambda: self.link.connected, what="the connection")
        return self

    def __exit__(self, *exception: object) -> None:
        self.link.deafen()
        self.link.stop()

    def texts(self) -> list[str]:
        return [payload.decode() for payload, _ in self.taken]


def test_without_room_the_link_hangs_up_and_the_broker_sends_again(keeping: Mosquitto) -> None:
    with Taker(keeping.port, ["a"]) as taker, Publisher(keeping.port) as publisher:
        publisher.send("a", "1")
        wait_for(lambda: taker.taken, what="the first")
        taker.room = False
        for text in ("2", "3"):
            publisher.send("a", text)
        wait_for(lambda: taker.metrics.value("mqtt_session_disconnects_total") >= 2, what="hanging up")
        taker.room = True
        wait_for(lambda: {"2", "3"} <= set(taker.texts()), what="the others")
        again = [payload for payload, receipt in taker.taken if receipt is not None and receipt.again]
        assert b"1" in again, "taken and not settled: it comes again, and says so"
        assert taker.texts()[-2:] == ["2", "3"]


def test_what_is_settled_does_not_come_again_and_the_rest_does(keeping: Mosquitto) -> None:
    with Taker(keeping.port, ["a"]) as taker, Publisher(keeping.port) as publisher:
        for text in ("1", "2", "3"):
            publisher.send("a", text)
        wait_for(lambda: len(taker.taken) == 3, what="three")
        receipts = [receipt for _, receipt in taker.taken if receipt is not None]
        taker.link.settle([receipts[0]])
        taker.link.settle([receipts[2]])  # out of order: held until the second is durable
    with Taker(keeping.port, ["a"]) as taker:
        wait_for(lambda: len(taker.taken) == 2, what="the rest")
        assert taker.texts() == ["2", "3"]
        taker.link.settle([receipt._replace(link=99) for _, receipt in taker.taken if receipt is not None])
    with Taker(keeping.port, ["a"]) as taker:
        wait_for(lambda: len(taker.taken) == 2, what="both: those receipts were of another connection")
        taker.settle()
    with Taker(keeping.port, ["a"]) as taker, Publisher(keeping.port) as publisher:
        publisher.send("a", "4")
        wait_for(lambda: taker.taken, what="a new one")
        assert taker.texts() == ["4"]


def test_connected_is_who_is_subscribed() -> None:
    """What is published between CONNACK and SUBACK reaches nobody, so until then it is no connection to wait for."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taker = Taker(listener.getsockname()[1], ["a"])
        taker.link.start()
        try:
            broker, _ = listener.accept()
            with broker:
                assert broker.recv(1024)[0] == 0x10  # CONNECT
                broker.sendall(bytes((0x20, 2, 0, 0)))  # CONNACK: accepted
                subscribe = broker.recv(1024)
                assert subscribe[0] == 0x82
                broker.sendall(bytes((0x30, 4, 0, 1)) + b"a1")  # PUBLISH, QoS 0, of a session that was there
                wait_for(lambda: taker.texts() == ["1"], what="the message")
                assert not taker.link.connected
                broker.sendall(bytes((0x90, 3, *subscribe[2:4], 1)))  # SUBACK: QoS 1
                wait_for(lambda: taker.link.connected, what="the connection")
        finally:
            taker.__exit__()


def test_filters_taken_out_are_unsubscribed_and_a_session_can_be_ended(keeping: Mosquitto) -> None:
    with Taker(keeping.port, ["a", "b"]):
        pass
    with Taker(keeping.port, ["a"], unwanted=["b"]) as taker, Publisher(keeping.port) as publisher:
        publisher.send("a", "0")  # once it arrives, the broker has dealt with what came before
        wait_for(lambda: taker.taken, what="the first")
        publisher.send("b", "1")
        publisher.send("a", "2")
        wait_for(lambda: len(taker.taken) == 2, what="the second")
        assert taker.texts() == ["0", "2"]
        taker.settle()
    assert forget("127.0.0.1", keeping.port, "session")
    with Publisher(keeping.port) as publisher:
        publisher.send("a", "3")
    with Taker(keeping.port, ["a"]) as taker, Publisher(keeping.port) as publisher:
        publisher.send("a", "4")
        wait_for(lambda: taker.taken, what="what came after")
        assert taker.texts() == ["4"]
    assert not forget("127.0.0.1", 1, "session", timeout_s=0.2)


def test_the_daemon_ends_a_session_that_nobody_wants(tmp_path: Path, keeping: Mosquitto) -> None:
    note = tmp_path / "gw" / "data" / "session.json"
    with Daemon(tmp_path / "gw", keeping.port, extra=TABLES) as daemon:
        wait_for(lambda: daemon.figure("mqtt_session_connected"), what="the session")
        assert "tele/+/SENSOR" in json.loads(note.read_text(encoding="utf-8"))
        assert daemon.stop() == 0
    with Daemon(tmp_path / "gw", keeping.port):
        wait_for(lambda: not note.exists(), what="the end of the session")


def test_stock_client_with_retained_and_hostile_payloads(tmp_path: Path, keeping: Mosquitto) -> None:
    pub(keeping.port, "tele/plug/SENSOR", '{"AM2301":{"Temperature":1}}', "-r", "-q", "1")
    path = tmp_path / "gw" / "data" / "isotherm.db"
    with Daemon(tmp_path / "gw", keeping.port, extra=TABLES) as daemon:
        wait_for(lambda: daemon.figure('third_party_messages_total{outcome="retained"}') == 1, what="the retained one")
        pub(keeping.port, "tele/plug/SENSOR", '{"AM2301":{"Temperature":NaN}}', "-q", "1")
        pub(keeping.port, "tele/plug/SENSOR", '{"AM2301":{"Temperature":2}}', "-r", "-q", "1")
        pub(keeping.port, "tele/plug/SENSOR", '{"AM2301":{"Temperature":3}}', "-q", "0")
        wait_for(lambda: len(stored(path)) == 2, what="both readings")
        assert daemon.status()["ingest"]["rejected"] == {"json": 1}
        assert daemon.stop() == 0
