"""Ingest against good, wrong and hostile messages. The clock is ours; nothing is sent anywhere."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.guard import RateLimitedLog
from gateway.ingest import Ingest, Out, ack_message
from gateway.messages import Ack, FrameIn, MetaIn, NoteIn
from gateway.metrics import Metrics
from isocore import frame as frames
from isocore.record import HIGH_ON, LOST
from tests.support.board_client import samples


class Recorder:
    """Takes what ingest hands on; `room` says whether there is any."""

    def __init__(self, json_bytes_max: int = 8192) -> None:
        self.items: list[Out] = []
        self.calls: list[tuple[int, bool]] = []
        self.room = True
        self.metrics = Metrics()
        self.ingest = Ingest(
            self.put, self.metrics, json_bytes_max=json_bytes_max, wall_s=lambda: 1000.5, clock_s=lambda: 0.0
        )

    def put(self, item: Out, rows: int, urgent: bool) -> bool:
        self.calls.append((rows, urgent))
        if self.room:
            self.items.append(item)
        return self.room

    def rejected(self) -> dict[str, float]:
        return self.metrics.by_label("ingest_rejected_total", "reason")


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def test_a_frame_passes_whole(recorder: Recorder) -> None:
    records = [*samples(1, 3), (4, HIGH_ON, 0, 9, 4000, 5)]
    recorder.ingest.handle("iso/1/fridge-1/up", frames.encode(7, 10, 20, records), False)
    unix_ms = (frames.EPOCH_BASE_UNIX_S + 10) * 1000 + 20
    assert recorder.items == [FrameIn("fridge-1", 7, records, unix_ms, b"", 1_000_500, True, True)]
    assert recorder.calls == [(4, True)]


def test_a_tag_is_kept_unchecked(recorder: Recorder) -> None:
    data = frames.encode(1, 0, 0, samples(1, 2), b"k" * 32)
    recorder.ingest.handle("iso/1/a/up", data, False)
    item = recorder.items[0]
    assert isinstance(item, FrameIn)
    assert item.tag == data[-16:]
    assert item.epoch_unix_ms is None


@pytest.mark.parametrize("lost", [0, -1, 6])
def test_a_lost_record_that_cannot_be_is_refused(recorder: Recorder, lost: int) -> None:
    recorder.ingest.handle("iso/1/a/up", frames.encode(1, 0, 0, [(5, LOST, 255, lost, 0, 0)]), False)
    assert recorder.items == []
    assert recorder.rejected() == {"frame_lost": 1}


def test_seq_steps_and_lost_take_the_slow_way(recorder: Recorder) -> None:
    recorder.ingest.handle("iso/1/a/up", frames.encode(1, 0, 0, [(5, LOST, 255, 5, 0, 0)]), False)
    recorder.ingest.handle("iso/1/a/up", frames.encode(1, 0, 0, [samples(1, 1)[0], samples(3, 3)[0]]), False)
    assert [item.plain for item in recorder.items if isinstance(item, FrameIn)] == [False, False]


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("iso/1/UPPER/up", "topic"),
        ("iso/1/a/b/up", "topic"),
        ("iso/1//up", "topic"),
        ("iso/1/" + "a" * 33 + "/up", "topic"),
        ("iso/2/a/up", "topic"),
        ("iso/1/a/ack", "topic"),
        ("iso/1/a/model/set", "topic"),
        ("", "topic"),
        ("iso/1/a'; drop table readings;--/up", "topic"),
    ],
)
def test_foreign_topics_are_refused(recorder: Recorder, topic: str, reason: str) -> None:
    recorder.ingest.handle(topic, b"{}", False)
    assert recorder.items == []
    assert recorder.rejected() == {reason: 1}


def test_a_retained_frame_is_refused(recorder: Recorder) -> None:
    recorder.ingest.handle("iso/1/a/up", frames.encode(1, 0, 0, samples(1, 2)), True)
    assert recorder.rejected() == {"retained": 1}


@pytest.mark.parametrize(
    ("leaf", "payload", "reason"),
    [
        ("status", b"maybe", "status"),
        ("status", b"", "status"),
        ("meta", b"", "json"),
        ("meta", b"\xff\xfe", "json"),
        ("meta", b"[" * 8000, "depth"),
        ("health", b'{"a":1e999}', "json"),
        ("meta", b"[]", "meta"),
        ("meta", b"{}", "meta"),
        ("meta", b'{"v":2}', "meta"),
        ("meta", b'{"v":1,"floor":[1]}', "meta"),
        ("meta", b'{"v":1,"floor":[1,true]}', "meta"),
        ("meta", b'{"v":1,"floor":[0,1]}', "meta"),
        ("meta", b'{"v":1,"floor":[1,1073741824]}', "meta"),
        ("meta", b'{"v":1,"floor":{"a":1}}', "meta"),
        ("meta", b'{"v":1,"boot":-1}', "meta"),
        ("meta", b'{"v":1,"class":"No Such"}', "meta"),
        ("meta", b'{"v":1,"x":NaN}', "json"),
        ("meta", b'{"v":1,"x":' + b"9" * 5000 + b"}", "json"),
        ("health", b"3", "health"),
        ("health", b"x" * 9000, "size"),
        ("model/state", b'{"sequence":1,"state":"good"}', "model_state"),
        ("model/state", b'{"sequence":1.5,"state":"trial"}', "model_state"),
        ("model/state", b'"trial"', "model_state"),
    ],
)
def test_wrong_documents_are_refused_by_reason(recorder: Recorder, leaf: str, payload: bytes, reason: str) -> None:
    recorder.ingest.handle(f"iso/1/a/{leaf}", payload, True)
    assert recorder.items == []
    assert recorder.rejected() == {reason: 1}


def test_good_documents_pass(recorder: Recorder) -> None:
    meta = {"v": 1, "class": "fridge", "floor": [2, 9], "boot": 2, "uptime_s": 7}
    recorder.ingest.handle("iso/1/a/meta", json.dumps(meta).encode(), False)
    recorder.ingest.handle("iso/1/a/status", b"online", True)
    recorder.ingest.handle("iso/1/a/model/state", b'{"sequence":3,"state":"trial","id":"ab","x":[1]}', True)
    recorder.ingest.handle("iso/1/a/health", b'{"rssi":-60}', True)
    assert recorder.items == [
        MetaIn("a", json.dumps(meta), "fridge", (2, 9), 2, 7000, 1_000_500),
        NoteIn("a", "status", "online", 0),  # kept by the broker: no sign of life
        NoteIn("a", "model_state", '{"sequence": 3, "state": "trial", "id": "ab"}', 0),
        NoteIn("a", "health", '{"rssi": -60}', 0),
    ]


def test_a_retained_metas_uptime_is_old_news(recorder: Recorder) -> None:
    recorder.ingest.handle("iso/1/a/meta", b'{"v":1,"uptime_s":7}', True)
    item = recorder.items[0]
    assert isinstance(item, MetaIn)
    assert item.uptime_ms is None


def test_nobody_else_may_be_a_device_of_the_gateways_own() -> None:
    recorder = Recorder()
    recorder.ingest = Ingest(recorder.put, recorder.metrics, json_bytes_max=8192, ours=lambda device: device == "gw-1")
    recorder.ingest.handle("iso/1/gw-1/up", frames.encode(1, 0, 0, samples(1, 2)), False)
    recorder.ingest.handle("iso/1/gw-1/meta", b'{"v":1}', False)  # its own, come back
    recorder.ingest.handle("iso/1/gw-2/up", frames.encode(1, 0, 0, samples(1, 2)), False)
    assert recorder.rejected() == {"own_id": 1}
    assert len(recorder.items) == 1
    recorder.ingest.handle("iso/1/gw-2/meta", b'{"v":1,"own":true}', False)
    item = recorder.items[1]
    assert isinstance(item, MetaIn)
    assert json.loads(item.text) == {"v": 1}


def test_ids_out_of_nowhere_are_bounded() -> None:
    recorder = Recorder()
    recorder.ingest = Ingest(recorder.put, recorder.metrics, json_bytes_max=8192, devices_max=3)
    recorder.ingest.begin(["known", "other"])
    recorder.ingest.handle("iso/1/first/up", b"no frame", False)  # what is refused takes no place
    for device in ("new", "newer", "known", "new"):
        recorder.ingest.handle(f"iso/1/{device}/up", frames.encode(1, 0, 0, samples(1, 2)), False)
    assert [item.device for item in recorder.items] == ["new", "known", "new"]
    assert recorder.rejected() == {"frame_short": 1, "devices": 1}
    recorder.ingest.tune(8192, 4)
    recorder.ingest.handle("iso/1/newer/up", frames.encode(1, 0, 0, samples(1, 2)), False)
    assert recorder.items[-1].device == "newer"


def test_no_room_is_counted(recorder: Recorder) -> None:
    recorder.room = False
    recorder.ingest.handle("iso/1/a/up", frames.encode(1, 0, 0, samples(1, 2)), False)
    assert recorder.metrics.value("ingest_dropped_total", leaf="up") == 1


def test_two_thousand_mutated_messages_never_raise(recorder: Recorder) -> None:
    rng = random.Random(4)
    good = [
        ("iso/1/a/up", frames.encode(1, 5, 6, samples(1, 30))),
        ("iso/1/a/up", frames.encode(1, 0, 0, [(9, LOST, 255, 3, 0, 7)], b"k" * 32)),
        ("iso/1/a/meta", b'{"v":1,"class":"fridge","floor":[2,9],"channels":[{"name":"t","unit":"degC"}]}'),
        ("iso/1/a/model/state", b'{"sequence":3,"state":"trial"}'),
        ("iso/1/a/health", b'{"rssi":-60,"a":{"b":[1,2,3]}}'),
        ("iso/1/a/status", b"online"),
    ]
    for _ in range(2000):
        topic, payload = rng.choice(good)
        data = bytearray(payload)
        for _ in range(rng.randint(1, 4)):
            what = rng.randrange(5)
            at = rng.randrange(len(data) + 1)
            if what == 0 and data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            elif what == 1:
                del data[at:]
            elif what == 2:
                data[at:at] = rng.randbytes(rng.randint(1, 50))
            elif what == 3:
                data[at:at] = data[: rng.randint(0, 4096)]
            else:
                topic = topic[: rng.randrange(len(topic))] + rng.choice("#+/\0é ") + topic[rng.randrange(len(topic)) :]
        recorder.ingest.handle(topic, bytes(data), rng.random() < 0.2)
    rejected = sum(recorder.rejected().values())
    assert rejected + len(recorder.items) == 2000
    assert rejected > 1000


@given(st.text(max_size=60), st.binary(max_size=200), st.booleans())
def test_anything_at_all_never_raises(topic: str, payload: bytes, retained: bool) -> None:
    recorder = Recorder()
    recorder.ingest.handle(topic, payload, retained)
    recorder.ingest.handle("iso/1/a/up", payload, retained)
    recorder.ingest.handle("iso/1/a/meta", payload, retained)


def test_log_lines_are_bounded_and_tell_what_they_left_out(caplog: pytest.LogCaptureFixture) -> None:
    now_s = [0.0]
    limited = RateLimitedLog(10.0, lambda: now_s[0])
    assert limited.warn("crc", "one")
    assert not any(limited.warn("crc", "more") for _ in range(500))
    assert limited.warn("topic", "another reason has its own turn")
    now_s[0] = 10.0
    assert limited.warn("crc", "later")
    assert [r.getMessage() for r in caplog.records][-1] == "crc: later (500 more of this kind)"


def test_a_refusal_names_its_device_for_the_journal(caplog: pytest.LogCaptureFixture) -> None:
    ingest = Ingest(lambda item, rows, urgent: True, Metrics(), json_bytes_max=100, wall_s=lambda: 0.0)
    ingest.handle("iso/1/fridge-1/up", b"no frame", False)
    ingest.handle("no/topic/of/ours", b"", False)
    said = [r.fields for r in caplog.records]  # type: ignore[attr-defined]
    assert said[0] == {"reason": "frame_short", "device": "fridge-1"}
    assert said[1] == {"reason": "topic"}


def test_what_was_left_out_is_summed_up(caplog: pytest.LogCaptureFixture) -> None:
    now_s = [0.0]
    limited = RateLimitedLog(10.0, lambda: now_s[0])
    for reason, count in (("crc", 3), ("json", 5)):
        for _ in range(count):
            limited.warn(reason, "x")
    now_s[0] = 11.0
    limited.warn("topic", "x")
    assert [r.getMessage() for r in caplog.records][-1] == "refused since, without a line each: crc 2, json 4"
    limited.warn("topic", "x")
    limited.flush()
    assert [r.getMessage() for r in caplog.records][-1] == "refused since, without a line each: topic 1"
    limited.flush()
    assert len(caplog.records) == 5


def test_ack_message() -> None:
    topic, payload = ack_message(Ack("a", 3, 17, (20, 24)), 1000.5)
    assert topic == "iso/1/a/ack"
    assert json.loads(payload) == {"boot": 3, "seq": 17, "t": 1000, "ms": 500, "got": [20, 24]}
    assert "got" not in json.loads(ack_message(Ack("a", 3, 17, None), 1.0)[1])
    assert json.loads(ack_message(Ack("a", 0, 0, None, 6), 1.0)[1])["top"] == 6


ODD_CHANNELS = (
    {"name": "", "unit": "degC"},
    {"name": "x" * 65, "unit": "degC"},
    {"name": "a\nb", "unit": "degC"},
    {"name": "\ud800", "unit": "degC"},
    {"name": "t", "unit": "x" * 17},
    {"name": "t", "unit": ""},
    {"name": 3, "unit": "degC"},
    {"name": "t"},
    "t",
)


@pytest.mark.parametrize("channel", ODD_CHANNELS, ids=repr)
def test_a_meta_with_odd_channels_counts_without_them(recorder: Recorder, channel: object) -> None:
    meta = {"v": 1, "floor": [2, 9], "channels": [{"name": "t", "unit": "degC"}, channel]}
    recorder.ingest.handle("iso/1/a/meta", json.dumps(meta).encode(), False)
    item = recorder.items[0]
    assert isinstance(item, MetaIn)
    assert item.floor == (2, 9), "the floor closes gaps all the same"
    assert json.loads(item.text) == {**meta, "channels": None}
    assert recorder.metrics.value("ingest_meta_cleaned_total") == 1
    assert recorder.rejected() == {}


def test_a_meta_at_the_bounds_is_kept(recorder: Recorder) -> None:
    meta = {"v": 1, "channels": [{"name": "ü" * 64, "unit": "°" * 16, "kind": "temperature"}]}
    recorder.ingest.handle("iso/1/a/meta", json.dumps(meta).encode(), False)
    item = recorder.items[0]
    assert isinstance(item, MetaIn)
    assert json.loads(item.text) == meta
    assert recorder.metrics.value("ingest_meta_cleaned_total") == 0
