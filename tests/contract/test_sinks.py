"""What `send` may return and raise, for every sink; and the HTTP sink against a server that misbehaves in every way.

A new sink joins by adding a rig to RIGS: its sink, what it has stored, and how to take its destination away.
"""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway import wire
from gateway.errors import BatchRejected, BatchUnfit, SinkUnavailable
from gateway.messages import Batch, DeviceInfo, Row
from gateway.sinks.base import Sink, Tuning
from gateway.sinks.file import FileSink
from gateway.sinks.https import HttpSink
from gateway.sinks.mqtt import MqttSink
from tests.support.daemon import Answer, FakeCloud, Seen, read_body, reply
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_receiver import MqttReceiver

BODY = b"compressed columns" * 10


Maker = Callable[[str, float], Sink]


def http_sink(url: str, read_timeout_s: float) -> Sink:
    return HttpSink(url, "gw-test", connect_timeout_s=10.0, read_timeout_s=read_timeout_s, wall_s=lambda: 784_111_700.0)


SINKS: list[Maker] = [http_sink]
PATIENT_S = 20.0


class HttpRig:
    """The HTTP sink and a receiver that refuses other content under a known number, as docs/uplink.md says."""

    def __init__(self, folder: Path) -> None:
        self._cloud = FakeCloud()
        self._cloud.script = self._answer
        self._away = False
        self.sink: Sink = http_sink(self._cloud.url, PATIENT_S)

    def _answer(self, seen: Seen) -> Answer:
        if self._away:
            return 503, {}, b""
        known = self._cloud.stored.get(seen.batch)
        return (409, {}, b"{}") if known not in (None, seen.body) else self._cloud.store(seen)

    def take_away(self, away: bool) -> None:
        self._away = away

    def rows(self) -> dict[int, int]:
        """Rows stored, by batch number."""
        return {number: read_body(body)["rows"] for number, body in self._cloud.stored.items()}

    def close(self) -> None:
        self._cloud.close()


class FileRig:
    """The file sink and a drive that can be pulled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "drive"
        self.folder.mkdir()
        self.sink: Sink = FileSink(self.folder, "gw-test")

    def take_away(self, away: bool) -> None:
        pulled = self.folder.with_name("pulled")
        self.folder.rename(pulled) if away else pulled.rename(self.folder)

    def rows(self) -> dict[int, int]:
        out = {}
        for path in self.folder.iterdir():
            head, *lines = path.read_text(encoding="ascii").splitlines()
            assert json.loads(head)["rows"] == len(lines)
            out[json.loads(head)["batch"]] = len(lines)
        return out

    def close(self) -> None:
        return


class MqttRig:
    """The MQTT sink, a real broker and a receiver that can fall silent."""

    def __init__(self, folder: Path) -> None:
        self._broker = Mosquitto(folder / "broker").start()
        self._receiver = MqttReceiver(self._broker.port)
        self.sink: Sink = MqttSink(
            f"mqtt://127.0.0.1:{self._broker.port}", "gw-test", "s", Tuning(None, 10.0, PATIENT_S)
        )

    def take_away(self, away: bool) -> None:
        self._receiver.script = (lambda *batch: {"code": 503}) if away else self._receiver.store

    def rows(self) -> dict[int, int]:
        return {number: read_body(body)["rows"] for number, body in self._receiver.stored.items()}

    def close(self) -> None:
        self._receiver.close()
        self._broker.stop()


Rig = HttpRig | FileRig | MqttRig
RIGS: list[type[HttpRig] | type[FileRig] | type[MqttRig]] = [HttpRig, FileRig, MqttRig]


@pytest.fixture(params=RIGS)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    made: Rig = request.param(tmp_path)
    yield made
    made.sink.close()
    made.close()


def real_batch(number: int = 42, records: int = 3, value: int = 4000) -> Batch:
    rows = [Row(1, 1, seq, 1, 0, value + seq, 0, seq * 1000, None, 0, 5, seq) for seq in range(1, records + 1)]
    infos = {1: DeviceInfo(1, "a", None, None)}
    encoding, compress = wire.compressor("auto")
    body, digest = wire.encode(wire.document("gw-test", number, "live", 1, records, rows, infos), compress)
    return Batch("s", number, "live", 1, records, records, wire.counts(rows), encoding, digest, body)


def test_stored_once_and_known_again(rig: Rig) -> None:
    assert not rig.sink.send(real_batch()).duplicate
    assert rig.sink.send(real_batch()).duplicate
    assert rig.rows() == {42: 3}


def test_other_content_under_a_known_number_is_refused(rig: Rig) -> None:
    rig.sink.send(real_batch())
    with pytest.raises(BatchRejected):
        rig.sink.send(real_batch(value=5000, records=4))
    assert rig.rows() == {42: 3}, "what was stored stays"


def test_away_and_back(rig: Rig) -> None:
    rig.sink.send(real_batch(1))
    rig.take_away(True)
    for _ in range(2):
        with pytest.raises(SinkUnavailable):
            rig.sink.send(real_batch(2))
    rig.take_away(False)
    assert not rig.sink.send(real_batch(2)).duplicate
    assert rig.rows() == {1: 3, 2: 3}


def test_many_at_once(rig: Rig) -> None:
    failed: list[Exception] = []

    def send(number: int) -> None:
        try:
            rig.sink.send(real_batch(number))
        except (SinkUnavailable, BatchRejected) as exc:
            failed.append(exc)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(1, 21)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert failed == []
    assert rig.rows() == dict.fromkeys(range(1, 21), 3)


def test_tuned_while_it_works(rig: Rig) -> None:
    rig.sink.send(real_batch(1))
    rig.sink.tune(Tuning("a-token", 1.0, PATIENT_S))
    rig.sink.send(real_batch(2))
    assert rig.rows() == {1: 3, 2: 3}


def batch(number: int = 42) -> Batch:
    return Batch("s", number, "live", 1, 9, 9, (), "gzip", hashlib.sha256(BODY).hexdigest(), BODY)


@pytest.fixture
def cloud() -> Iterator[FakeCloud]:
    with FakeCloud() as running:
        yield running


@pytest.fixture(params=SINKS)
def sink(request: pytest.FixtureRequest, cloud: FakeCloud) -> Iterator[Sink]:
    made: Sink = request.param(cloud.url, PATIENT_S)
    yield made
    made.close()


def test_the_very_bytes_arrive_with_their_digest(sink: Sink, cloud: FakeCloud) -> None:
    assert not sink.send(batch()).duplicate
    assert sink.send(batch()).duplicate
    assert [seen.body for seen in cloud.seen] == [BODY, BODY]
    headers = cloud.seen[0].headers
    assert headers["Isotherm-Digest"] == "sha-256=" + hashlib.sha256(BODY).hexdigest()
    assert headers["Content-Type"] == "application/vnd.isotherm.batch+json"
    assert (headers["Content-Encoding"], headers["Isotherm-Gateway"]) == ("gzip", "gw-test")
    assert "Authorization" not in headers


def other_batch(seen: Seen) -> Answer:
    return 200, {}, reply(seen._replace(batch=seen.batch + 1), "stored")


def other_gateway(seen: Seen) -> Answer:
    return 200, {}, json.dumps({"gateway": "gw-other", "batch": seen.batch, "status": "stored"}).encode()


UNPROVEN: dict[str, tuple[Callable[[Seen], Answer], str]] = {
    "lost reply": (lambda seen: None, "broken"),
    "reply for another batch": (other_batch, "unnamed"),
    "reply for another gateway": (other_gateway, "unnamed"),
    "empty 200": (lambda seen: (200, {}, b""), "unnamed"),
    "200 of a captive portal": (lambda seen: (200, {}, b"<html>pay here</html>"), "unnamed"),
    "200 that stored nothing": (lambda seen: (200, {}, reply(seen, "queued")), "unnamed"),
    "200 as a list": (lambda seen: (200, {}, b"[1]"), "unnamed"),
    "200 too long": (lambda seen: (200, {}, reply(seen, "stored") + b" " * 70_000), "unnamed"),
    "201": (lambda seen: (201, {}, reply(seen, "stored")), "http_2xx"),
    "redirect": (lambda seen: (302, {"Location": "http://127.0.0.1:1/"}, b""), "http_3xx"),
    "no token": (lambda seen: (401, {}, b""), "denied"),
    "forbidden": (lambda seen: (403, {}, b""), "denied"),
    "wrong address": (lambda seen: (404, {}, b""), "not_found"),
    "too many": (lambda seen: (429, {}, b""), "busy"),
    "server error": (lambda seen: (500, {}, b'{"error":"oh"}'), "http_5xx"),
    "bad gateway": (lambda seen: (502, {}, b"\xff\xfe"), "http_5xx"),
    "unavailable": (lambda seen: (503, {}, b""), "http_5xx"),
    "proxy wants a login": (lambda seen: (407, {}, b""), "denied"),
    "too slow": (lambda seen: (408, {}, b""), "timeout"),
    "too early": (lambda seen: (425, {}, b""), "busy"),
    "any refusal that says when to come again": (lambda seen: (400, {"Retry-After": "9"}, b""), "busy"),
    "too large for now": (lambda seen: (413, {"Retry-After": "9"}, b""), "busy"),
    "true for a batch": (lambda seen: (200, {}, reply(seen._replace(batch=True), "stored")), "unnamed"),
    "200 nested too deep": (lambda seen: (200, {}, b"[" * 60_000), "unnamed"),
}


@pytest.mark.parametrize("case", UNPROVEN)
def test_without_an_explicit_reply_nothing_is_believed(sink: Sink, cloud: FakeCloud, case: str) -> None:
    cloud.script, reason = UNPROVEN[case]
    with pytest.raises(SinkUnavailable) as caught:
        sink.send(batch())
    assert caught.value.reason == reason
    cloud.script = cloud.store
    assert not sink.send(batch()).duplicate, "and the same sink works again at once"
    assert {seen.body for seen in cloud.seen} == {BODY}


@pytest.mark.parametrize("status", [400, 409, 415, 422, 418])
def test_a_refusal_of_the_batch_is_final_and_says_why(sink: Sink, cloud: FakeCloud, status: int) -> None:
    cloud.script = lambda seen: (status, {}, b'{"error":"because it is so"}')
    with pytest.raises(BatchRejected, match="because it is so") as caught:
        sink.send(batch())
    assert caught.value.reason == f"http_{status}"


UNFIT: dict[str, tuple[Answer, str]] = {
    "too large": ((413, {}, b'{"error":"at most 2 rows"}'), "too_large"),
    "encoding": ((415, {"Accept-Encoding": "zstd, identity"}, b"{}"), "encoding"),
    "encoding, with weights": ((415, {"Accept-Encoding": "gzip;q=0, ZSTD;q=0.5"}, b""), "encoding"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_may_go_in_another_form_is_told_apart(sink: Sink, cloud: FakeCloud, case: str) -> None:
    answer, reason = UNFIT[case]
    cloud.script = lambda seen: answer
    with pytest.raises(BatchUnfit) as caught:
        sink.send(batch())
    assert caught.value.reason == reason
    assert sink.accepts == (frozenset({"zstd"}) if reason == "encoding" else None)


@pytest.mark.parametrize(
    "answer",
    [
        (413, {}, b""),
        (415, {"Accept-Encoding": "gzip, zstd"}, b""),  # it is the content type, then
        (415, {"Accept-Encoding": "br"}, b""),
        (415, {"Accept-Encoding": ""}, b""),
        (415, {"Accept-Encoding": "zstd," * 1000}, b""),
    ],
)
def test_what_no_other_form_can_help_is_refused(sink: Sink, cloud: FakeCloud, answer: Answer) -> None:
    cloud.script = lambda seen: answer
    with pytest.raises(BatchRejected):
        sink.send(batch()._replace(rows=1))


def test_what_a_receiver_says_cannot_harm_a_terminal(sink: Sink, cloud: FakeCloud) -> None:
    cloud.script = lambda seen: (422, {}, json.dumps({"error": "\x1b[2Jgone\nERROR all lost" + "x" * 999}).encode())
    with pytest.raises(BatchRejected) as caught:
        sink.send(batch())
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 77.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        ("999999999", 3600.0),
        ("-5", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after(sink: Sink, cloud: FakeCloud, text: str | None, seconds: float | None) -> None:
    cloud.script = lambda seen: (503, {} if text is None else {"Retry-After": text}, b"")
    with pytest.raises(SinkUnavailable) as caught:
        sink.send(batch())
    assert caught.value.retry_after_s == seconds


@pytest.mark.parametrize("maker", SINKS)
def test_a_reply_that_is_late_is_none(maker: Maker, cloud: FakeCloud) -> None:
    release = threading.Event()

    def script(seen: Seen) -> Answer:
        release.wait(PATIENT_S)
        return cloud.store(seen)

    cloud.script = script
    made = maker(cloud.url, 0.2)
    with pytest.raises(SinkUnavailable) as caught:
        made.send(batch())
    release.set()
    assert caught.value.reason == "timeout"
    made.close()


@pytest.mark.parametrize("maker", SINKS)
def test_nobody_there(maker: Maker) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        made = maker(f"http://127.0.0.1:{taken.getsockname()[1]}", PATIENT_S)
        with pytest.raises(SinkUnavailable) as caught:
            made.send(batch())
    assert caught.value.reason == "unreachable"
    made.close()


def test_from_several_threads_at_once(sink: Sink, cloud: FakeCloud) -> None:
    threads = [threading.Thread(target=sink.send, args=(batch(n),)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(cloud.stored) == list(range(20))


def test_connections_are_kept(cloud: FakeCloud) -> None:
    made = http_sink(cloud.url, PATIENT_S)
    for number in range(5):
        made.send(batch(number))
    ports = {seen.headers["Host"] for seen in cloud.seen}
    assert len(ports) == 1
    pool = made._pool.connection_from_url(cloud.url)  # type: ignore[attr-defined]
    assert (pool.num_connections, pool.num_requests) == (1, 5)
    made.close()


def test_the_token_is_sent_and_never_shown(cloud: FakeCloud) -> None:
    made = HttpSink(cloud.url, "gw-test", token="very-secret")
    made.send(batch())
    assert cloud.seen[0].headers["Authorization"] == "Bearer very-secret"
    assert "very-secret" not in repr(made)
    cloud.script = lambda seen: (401, {}, b"")
    with pytest.raises(SinkUnavailable) as caught:
        made.send(batch())
    assert "very-secret" not in str(caught.value)
    made.close()
