"""The reference receiver over MQTT: the gateway's own sink, a real broker, one store; and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.errors import BatchRejected, SinkUnavailable
from gateway.sinks.base import Tuning
from gateway.sinks.mqtt import MqttSink
from host_tools.cloud.store import Store
from host_tools.cloud.store_read import CloudReader
from host_tools.cloud.subscriber import Source, Subscriber
from host_tools.errors import HostError, InputError
from tests.contract.test_sinks import real_batch
from tests.support.board_client import wait_for
from tests.support.mosquitto import Mosquitto
from tests.support.uplink import ReceiverProcess

pytestmark = pytest.mark.mosquitto


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as running:
        yield running


def sink_to(port: int, gateway: str = "gw-test") -> MqttSink:
    return MqttSink(f"mqtt://127.0.0.1:{port}", gateway, "s", Tuning(None, 10.0, 10.0))


def sent(sink: MqttSink, number: int) -> bool:
    """Whether it was taken; False while nobody is subscribed yet."""
    try:
        sink.send(real_batch(number))
    except SinkUnavailable as exc:
        assert exc.reason in ("no_receiver", "unreachable", "broken"), exc
        return False
    return True


def test_the_program_stores_what_gateways_publish(tmp_path: Path, broker: Mosquitto) -> None:
    sink = sink_to(broker.port)
    with ReceiverProcess(tmp_path) as receiver:
        receiver.start("--mqtt", f"mqtt://127.0.0.1:{broker.port}")
        wait_for(lambda: sent(sink, 1), what="the receiver at the broker")
        assert sink.send(real_batch(1)).duplicate
        assert sink.send(real_batch(2)).new_rows == 0, "other number, same rows: none is new"
        with pytest.raises(BatchRejected, match="409"):
            sink.send(real_batch(1, records=5))
        broker.kill()
        broker.start()
        wait_for(lambda: sent(sink, 3), what="the receiver to come back")
        assert receiver.stop() == 0
    sink.close()
    with CloudReader(tmp_path / "data") as reader:
        assert [(name, count.rows) for name, count in reader.counts_per_device().items()] == [("a", 3)]


def test_a_gateway_cannot_write_under_anothers_name(tmp_path: Path, broker: Mosquitto) -> None:
    with Store(tmp_path / "data") as store:
        subscriber = Subscriber(store, Source(f"mqtt://127.0.0.1:{broker.port}", "isotherm", None, None))
        honest, forger = sink_to(broker.port), sink_to(broker.port, "gw-other")
        wait_for(lambda: sent(honest, 1), what="the receiver at the broker")
        with pytest.raises(BatchRejected, match="differ from the headers"):
            forger.send(real_batch(2))  # frozen by gw-test
        honest._gateway = "gw-other"  # on the topic of gw-test, its only one by the broker's ACL
        with pytest.raises((BatchRejected, SinkUnavailable), match="not the gateway of the topic"):
            honest.send(real_batch(3))
        for sink in (honest, forger):
            sink.close()
        subscriber.close()


@pytest.mark.parametrize("url", ["http://x", "mqtt://192.0.2.1", "mqtts://", "x"])
def test_what_is_no_broker_is_named(tmp_path: Path, url: str) -> None:
    with Store(tmp_path / "data") as store, pytest.raises(InputError):
        Subscriber(store, Source(url, "isotherm", None, None))


def test_a_broker_that_is_away_is_one_sentence(tmp_path: Path) -> None:
    with Store(tmp_path / "data") as store, pytest.raises(HostError, match="cannot be reached"):
        Subscriber(store, Source("mqtt://127.0.0.1:1", "isotherm", None, None))
