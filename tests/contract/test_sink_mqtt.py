"""The MQTT sink against a real mosquitto: whose word counts, brokers that refuse or vanish, and hostile replies."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.errors import BatchRejected, BatchUnfit, SinkUnavailable
from gateway.sinks.base import Tuning
from gateway.sinks.mqtt import MqttSink
from tests.contract.test_sinks import real_batch
from tests.support.board_client import BoardClient, samples, wait_for
from tests.support.daemon import Daemon, read_body
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_receiver import MqttReceiver, Reply
from tests.support.tls import Authority

pytestmark = pytest.mark.mosquitto
PATIENT_S = 20.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as running:
        yield running


@pytest.fixture
def receiver(broker: Mosquitto) -> Iterator[MqttReceiver]:
    with MqttReceiver(broker.port) as running:
        yield running


def sink_to(port: int, read_timeout_s: float = PATIENT_S, confirm: str = "reply", **more: str) -> MqttSink:
    tuning = Tuning(None, 10.0, read_timeout_s)
    return MqttSink(f"mqtt://127.0.0.1:{port}", "gw-test", "s", tuning, confirm=confirm, **more)


@pytest.fixture
def sink(broker: Mosquitto) -> Iterator[MqttSink]:
    made = sink_to(broker.port)
    yield made
    made.close()


def reason(sink: MqttSink, number: int = 42) -> str:
    with pytest.raises(SinkUnavailable) as caught:
        sink.send(real_batch(number))
    return caught.value.reason


def test_a_batch_and_its_properties(sink: MqttSink, receiver: MqttReceiver) -> None:
    batch = real_batch()
    assert not sink.send(batch).duplicate
    assert sink.send(batch).duplicate
    number, headers, body = receiver.seen[0]
    assert (number, body) == (42, batch.body)
    assert headers == {
        "Content-Encoding": batch.encoding,
        "Isotherm-Gateway": "gw-test",
        "Isotherm-Batch": "42",
        "Isotherm-Digest": f"sha-256={batch.digest}",
    }


def test_a_puback_alone_is_not_believed(broker: Mosquitto, receiver: MqttReceiver) -> None:
    receiver.script = lambda number, headers, body: None
    impatient = sink_to(broker.port, read_timeout_s=0.3)
    assert reason(impatient) == "timeout"
    receiver.script = receiver.store
    assert not impatient.send(real_batch()).duplicate, "over the same connection"
    impatient.close()


def test_a_connection_that_ends_after_the_puback_is_no_success(
    broker: Mosquitto, receiver: MqttReceiver, sink: MqttSink
) -> None:
    came = threading.Event()

    def silent(number: int, headers: dict[str, str], body: bytes) -> Reply:
        came.set()
        return None

    receiver.script = silent
    seen: list[str] = []
    sender = threading.Thread(target=lambda: seen.append(reason(sink)))
    sender.start()
    assert came.wait(PATIENT_S)
    broker.kill()
    sender.join(PATIENT_S)
    assert seen == ["broken"]
    broker.start()
    receiver.script = receiver.store
    wait_for(lambda: sends(sink), what="broker and receiver to come back")


def sends(sink: MqttSink) -> bool:
    try:
        sink.send(real_batch())
    except SinkUnavailable:
        return False
    return True


def test_nobody_there_to_store_it(broker: Mosquitto, sink: MqttSink) -> None:
    assert reason(sink) == "no_receiver", "the broker says so in its PUBACK"
    by_word = sink_to(broker.port, confirm="puback", topic="other")
    assert reason(by_word) == "no_receiver"
    by_word.close()


def test_the_brokers_word_where_it_was_chosen(broker: Mosquitto, receiver: MqttReceiver) -> None:
    receiver.script = lambda number, headers, body: None
    by_word = sink_to(broker.port, confirm="puback")
    assert by_word.send(real_batch(7)).new_rows is None
    wait_for(lambda: [number for number, _, _ in receiver.seen] == [7], what="the batch")
    by_word.close()


def test_no_broker() -> None:
    made = sink_to(1)
    assert reason(made) == "unreachable"
    made.close()


def test_a_broker_that_is_mute_is_given_up(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as mute:
        tuning = Tuning(None, 0.3, PATIENT_S)
        made = MqttSink(f"mqtt://127.0.0.1:{mute.getsockname()[1]}", "gw-test", "s", tuning)
        assert reason(made) == "unreachable"
        made.close()


def test_an_acl_that_denies_is_no_success(tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic read #\n", encoding="ascii")
    acl.chmod(0o600)
    with Mosquitto(tmp_path / "broker", extra=f"user root\nacl_file {acl}\n") as broker, MqttReceiver(broker.port):
        for confirm in ("reply", "puback"):
            made = sink_to(broker.port, confirm=confirm)
            assert reason(made) == "denied", "MQTT 5 tells; 3.1.1 would have acknowledged it"
            made.close()


def test_a_password_that_is_wrong(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker", extra="allow_anonymous false\n") as broker:
        made = sink_to(broker.port, username="gw")
        assert reason(made) == "denied"
        made.close()


HOSTILE: dict[str, tuple[Reply, str]] = {
    "another batch": ({"batch": 43, "code": 200, "status": "stored"}, "timeout"),
    "true for a batch": ({"batch": True, "code": 200, "status": "stored"}, "timeout"),
    "another gateway": ({"gateway": "gw-other", "code": 200, "status": "stored"}, "http_0xx"),
    "no code": ({"status": "stored"}, "http_0xx"),
    "stored nothing": ({"code": 200, "status": "queued"}, "unnamed"),
    "no JSON": ({"raw": b"\xff\xfe{"}, "timeout"),
    "too deep": ({"raw": b"[" * 50_000}, "timeout"),
    "busy": ({"code": 429, "retry_after_s": 7}, "busy"),
    "down": ({"code": 503, "retry_after_s": float("nan")}, "http_5xx"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_without_an_explicit_reply_nothing_is_believed(broker: Mosquitto, receiver: MqttReceiver, case: str) -> None:
    answer, why = HOSTILE[case]
    receiver.script = lambda number, headers, body: answer
    made = sink_to(broker.port, read_timeout_s=0.3 if why == "timeout" else PATIENT_S)
    assert reason(made) == why
    receiver.script = receiver.store
    made.tune(Tuning(None, 10.0, PATIENT_S))
    assert not made.send(real_batch()).duplicate
    made.close()


def test_refusals_are_those_of_http(sink: MqttSink, receiver: MqttReceiver) -> None:
    receiver.script = lambda number, headers, body: {"code": 422, "error": "no such thing"}
    with pytest.raises(BatchRejected, match="no such thing"):
        sink.send(real_batch())
    receiver.script = lambda number, headers, body: {"code": 415, "accept_encoding": "gzip"}
    with pytest.raises(BatchUnfit):
        sink.send(real_batch())
    assert sink.accepts == {"gzip"}


def test_a_broker_of_small_packets_gets_small_batches(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker", extra="max_packet_size 2000\n") as broker, MqttReceiver(broker.port):
        made = sink_to(broker.port)
        with pytest.raises(BatchUnfit):
            made.send(real_batch()._replace(body=b"x" * 3000))
        assert not made.send(real_batch()).duplicate
        made.close()


def test_another_password_is_used_without_losing_what_is_under_way(broker: Mosquitto, receiver: MqttReceiver) -> None:
    release, came = threading.Event(), threading.Event()

    def slow(number: int, headers: dict[str, str], body: bytes) -> Reply:
        came.set()
        release.wait(PATIENT_S)
        return receiver.store(number, headers, body)

    receiver.script = slow
    made = sink_to(broker.port)
    done: list[bool] = []
    sender = threading.Thread(target=lambda: done.append(made.send(real_batch(1)).duplicate))
    sender.start()
    assert came.wait(PATIENT_S)
    made.tune(Tuning("another", 10.0, PATIENT_S))
    release.set()
    sender.join(PATIENT_S)
    assert done == [False]
    assert not made.send(real_batch(2)).duplicate
    made.close()


def test_over_mutual_tls(tmp_path: Path) -> None:
    from gateway.config import parse
    from gateway.sinks.make import make_sink

    authority = Authority(tmp_path / "ca")
    server, client = authority.server(), authority.client("gw-test")
    secure = (  # as root, the broker would give that up and be unable to read what is in this folder
        "user root\nlistener {port} 127.0.0.1\nrequire_certificate true\n"
        f"cafile {authority.ca}\ncertfile {server.cert}\nkeyfile {server.key}\n"
    )
    from host_tools.demo.processes import free_port

    port = free_port()
    with Mosquitto(tmp_path / "broker", extra=secure.format(port=port)) as broker, MqttReceiver(broker.port) as inner:
        keys = {"cert_file": str(client.cert), "key_file": str(client.key), "ca_file": str(authority.ca)}
        table = {"type": "mqtt", "url": f"mqtts://127.0.0.1:{port}", "connect_timeout_s": 10.0}
        document = {"gateway": {"id": "gw-test"}, "sinks": {"s": table | keys, "open": table}}
        config = parse(tmp_path / "gateway.toml", document)
        made = make_sink(config, "s", 1, lambda: 0.0)
        assert not made.send(real_batch()).duplicate
        assert list(inner.stored) == [42]
        made.close()
        stranger = make_sink(config, "open", 1, lambda: 0.0)
        with pytest.raises(SinkUnavailable) as caught:
            stranger.send(real_batch())
        assert caught.value.reason == "tls"
        stranger.close()


def test_through_the_daemon_while_the_other_broker_dies(tmp_path: Path, broker: Mosquitto) -> None:
    with Mosquitto(tmp_path / "upstream") as upstream, MqttReceiver(upstream.port) as receiver:
        sink = (
            f'[sinks.other]\ntype = "mqtt"\nurl = "mqtt://127.0.0.1:{upstream.port}"\nlive_age_s = 0.05\n'
            "backoff_base_s = 0.02\nbackoff_max_s = 0.2\nread_timeout_s = 2\n"
        )
        with Daemon(tmp_path / "gw", broker.port, extra=sink) as daemon, BoardClient(broker.port) as board:
            board.deliver("a", 1, samples(1, 300))
            wait_for(lambda: rows(receiver) == 300, what="the first batches")
            upstream.kill()
            board.deliver("a", 1, samples(301, 600))
            wait_for(lambda: daemon.status()["sinks"]["other"]["failures_in_a_row"] > 1, what="the outage")
            upstream.start()
            wait_for(lambda: rows(receiver) == 600, what="the rest")
            wait_for(lambda: daemon.status()["sinks"]["other"]["rows_pending"] == 0, what="the ledger")
            assert daemon.stop() == 0
            assert daemon.ledger()["differences"] == []


def rows(receiver: MqttReceiver) -> int:
    return sum(read_body(body)["rows"] for body in list(receiver.stored.values()))
