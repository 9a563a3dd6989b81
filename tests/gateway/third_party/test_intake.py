"""Messages of third-party devices to records: outcomes, identity, faults, room, hostile input. Nothing is sent."""

from __future__ import annotations

import json
import random
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.document import parse
from gateway.errors import ConfigError
from gateway.messages import MetaIn, NoteIn, OwnIn, Receipt
from gateway.metrics import Metrics
from gateway.own import Clock, Item, Own
from gateway.third_party.intake import Intake, Known
from isocore.record import FAULT, FAULT_CLEARED, FAULT_MISSING, FAULT_RANGE, FAULT_STUCK, SAMPLE
from isocore.topics import is_device_id

WALL_S = 1_800_000_000.0
ALL = {
    "plugs": {"preset": "tasmota", "time_zone": "UTC"},
    "nodes": {"preset": "esphome"},
    "zigbee": {"preset": "zigbee2mqtt"},
    "shed": {
        "topic": "shed/{device}/state",
        "availability": "shed/{device}/up",
        "values": {"temperature": "/t"},
        "units": {"temperature": "degF"},
    },
}


class Bench:
    """An intake between a script of messages and what stands for the store."""

    def __init__(self, tables: dict[str, Any] = ALL, known: Known | None = None, boards: str = "") -> None:
        config = parse(Path("gateway.toml"), {"third_party": tables})
        self.items: list[Item] = []
        self.room = True
        self.released: list[int] = []
        self.metrics = Metrics()
        self.wall_s = WALL_S
        self.monotonic_s = 100.0
        self.own = Own(self.put, Clock(lambda: self.wall_s, lambda: self.monotonic_s))
        self.own.begin(3, {})
        self.monotonic_s += 50.0
        self.wall_s += 50.0
        self.intake = Intake(
            config.third_party,
            self.own,
            self.metrics,
            known=known or {},
            taken=lambda device: device in boards.split(),
            release=lambda receipt: self.released.append(receipt.mid),
            json_bytes_max=8192,
            full_wait_s=0.0,
            clock_s=lambda: 0.0,
        )
        self.mid = 0

    def put(self, item: Item, _rows: int, _urgent: bool, _wait_s: float) -> bool:
        if self.room:
            self.items.append(item)
        return self.room

    def send(self, topic: str, payload: str | bytes, retained: bool = False, qos: int = 1) -> bool:
        self.mid += 1
        receipt = Receipt(1, self.mid, b"d" * 16, False) if qos else None
        return self.intake.handle(topic, payload.encode() if isinstance(payload, str) else payload, retained, receipt)

    def own_items(self) -> list[OwnIn]:
        return [item for item in self.items if isinstance(item, OwnIn)]

    def made(self) -> list[tuple[str, int, int, int]]:
        """(device, kind, channel, value)."""
        return [(item.device, *made[:3]) for item in self.own_items() for made in item.made]

    def channels(self, device: str) -> list[tuple[str, str]]:
        metas = [json.loads(i.text) for i in self.items if isinstance(i, MetaIn) and i.device == device]
        return [(c["name"], c["unit"]) for c in metas[-1]["channels"]]

    def rejected(self) -> dict[str, float]:
        return self.metrics.by_label("ingest_rejected_total", "reason")

    def outcomes(self) -> dict[str, float]:
        return self.metrics.by_label("third_party_messages_total", "outcome")


def test_what_is_asked_of_the_broker() -> None:
    assert Bench().intake.subscriptions == [
        "+/sensor/+/state",
        "+/status",
        "shed/+/state",
        "shed/+/up",
        "tele/+/LWT",
        "tele/+/SENSOR",
        "zigbee2mqtt/+",
        "zigbee2mqtt/+/availability",
    ]


def test_the_three_firmwares_and_plain_json() -> None:
    bench = Bench()
    assert bench.send("tele/Plug_1/SENSOR", '{"DS18B20":{"Id":"0316A2","Temperature":21.35},"TempUnit":"C"}')
    assert bench.send("node-1/sensor/attic_temperature/state", "19.5")
    assert bench.send("node-1/sensor/attic_humidity/state", "55")
    assert bench.send("zigbee2mqtt/Living Room", '{"temperature":20.01,"humidity":48.5,"linkquality":99}')
    assert bench.send("shed/main/state", '{"t":32}')
    assert bench.made() == [
        ("plug-1", SAMPLE, 0, 21350),
        ("node-1", SAMPLE, 0, 19500),
        ("node-1", SAMPLE, 1, 55000),
        ("living-room", SAMPLE, 0, 20010),
        ("living-room", SAMPLE, 1, 48500),
        ("main", SAMPLE, 0, 0),
    ]
    assert bench.channels("plug-1") == [("ds18b20-0316a2-temperature", "degC")]
    assert bench.channels("node-1") == [("attic-temperature", "degC"), ("attic-humidity", "%RH")]
    assert bench.channels("main") == [("temperature", "degC")]
    assert bench.released == [], "each waits for its commit"
    assert [item.receipt.mid for item in bench.own_items() if item.receipt] == [1, 2, 3, 4, 5]
    meta = json.loads(next(item.text for item in bench.items if isinstance(item, MetaIn)))
    assert (meta["source"], meta["name"], meta["class"]) == ("plugs", "Plug_1", "third-party")


def test_every_reading_counts_and_carries_the_moment_of_its_receipt() -> None:
    bench = Bench()
    for _ in range(3):
        bench.send("shed/a/state", '{"t":50}')
        bench.monotonic_s += 1.5
        bench.wall_s += 1.5
    assert [made[3] for item in bench.own_items() for made in item.made] == [50_000, 51_500, 53_000]
    assert {item.epoch_unix_ms for item in bench.own_items()} == {int(WALL_S * 1000)}
    assert {item.least_boot for item in bench.own_items()} == {3}


@pytest.mark.parametrize(
    ("stamp", "unix_ms"),
    [
        ("2027-01-15T08:00:40", 1_800_000_040_000),  # after the start, in the zone that is configured
        ("2027-01-15T07:00:00", 1_799_996_400_000),  # before it: the broker kept it while the gateway was away
        ("1970-01-01T00:00:20", 1_800_000_050_000),  # a clock that was never set
        ("2031-01-01T00:00:00", 1_800_000_050_000),
        ("noon", 1_800_000_050_000),
    ],
)
def test_a_payloads_own_time_counts_when_it_can_be_true(stamp: str, unix_ms: int) -> None:
    bench = Bench()
    bench.send("tele/a/SENSOR", json.dumps({"Time": stamp, "AM2301": {"Temperature": 1}}))
    (item,) = bench.own_items()
    uptime_ms = item.made[0][3]
    assert uptime_ms >= 0
    assert item.epoch_unix_ms is not None
    assert item.epoch_unix_ms + uptime_ms == unix_ms


def test_absent_out_of_range_and_back() -> None:
    bench = Bench()
    for value in ("21", "nan", "unavailable", "21.5", "-273", "5000000", "22"):
        bench.send("n/sensor/temp/state", value)
    assert [made[1::2] for made in bench.made()] == [
        (SAMPLE, 21000),
        (FAULT, FAULT_MISSING),
        (FAULT_CLEARED, FAULT_MISSING),
        (SAMPLE, 21500),
        (FAULT, FAULT_RANGE),
        (FAULT_CLEARED, FAULT_RANGE),
        (SAMPLE, 22000),
    ]
    assert bench.outcomes() == {"taken": 7}, "each message is settled by a commit, also one that changes nothing"
    assert bench.metrics.value("third_party_readings_total") == 7


def test_a_sparing_table_reports_what_matters_and_tells_of_stuck_values() -> None:
    bench = Bench({"nodes": {"preset": "esphome", "error_milli": 500, "stuck_s": 60, "heartbeat_s": 3600}})
    for value in ("21", "21.3", "21.6", "21.6", "21.6"):
        bench.send("n/sensor/temp/state", value)
        bench.monotonic_s += 40
    kinds = [made[1] for made in bench.made()]
    assert kinds.count(FAULT) == 1
    assert (FAULT, FAULT_STUCK) in [made[1::2] for made in bench.made()]
    assert len(kinds) == 3


def test_retained_is_old_news() -> None:
    bench = Bench()
    bench.send("tele/a/SENSOR", '{"AM2301":{"Temperature":1}}', retained=True)
    assert bench.items == []
    assert bench.released == [1]
    assert bench.outcomes() == {"retained": 1}


def test_availability() -> None:
    bench = Bench()
    bench.send("tele/a/LWT", "Online")  # of a device that never sent a reading: none is made for it
    bench.send("tele/a/SENSOR", '{"AM2301":{"Temperature":1}}')
    bench.send("tele/a/LWT", "Online")
    bench.send("tele/a/LWT", "Offline", retained=True)
    bench.send("zigbee2mqtt/b", '{"temperature":1}')
    bench.send("zigbee2mqtt/b/availability", '{"state":"online"}')
    bench.send("zigbee2mqtt/b/availability", '{"state":["online"]}')
    notes = [(i.device, i.text, i.recv_unix_ms > 0) for i in bench.items if isinstance(i, NoteIn)]
    assert notes == [("a", "online", True), ("a", "offline", False), ("b", "online", True)]
    assert bench.rejected() == {"topic": 1, "status": 1}
    assert len(bench.released) == 5


def test_what_is_of_no_interest_is_let_go() -> None:
    bench = Bench()
    bench.send("zigbee2mqtt/lamp", '{"state":"ON","brightness":120}')
    bench.send("n/sensor/wifi_signal/state", "-60")
    assert bench.items == []
    assert bench.released == [1, 2]
    assert bench.outcomes() == {"ignored": 2}


def test_one_bad_value_does_not_spoil_the_others() -> None:
    bench = Bench()
    bench.send("zigbee2mqtt/a", '{"temperature":"warm","humidity":50}')
    bench.send("zigbee2mqtt/a", '{"temperature":"warm"}')
    assert bench.made() == [("a", SAMPLE, 0, 50000)]
    assert bench.rejected() == {"value": 2}
    assert bench.released == [2]


def test_names_collide_with_nobody() -> None:
    known = {"plug-1": {"source": "plugs", "name": "plug_1"}, "node": {"source": "gone", "name": "node"}}
    bench = Bench(known=known, boards="fridge node plug-1")
    for name in ("plug_1", "Plug 1", "fridge"):
        bench.send(f"tele/{name}/SENSOR", '{"AM2301":{"Temperature":1}}')
    bench.send("node/sensor/temp/state", "1")
    devices = [item.device for item in bench.own_items()]
    assert devices[0] == "plug-1"
    assert len({*devices, "fridge", "node"}) == 6
    assert all(is_device_id(device) for device in devices)


def test_without_room_the_records_wait_and_nothing_else_is_looked_at() -> None:
    bench = Bench()
    bench.send("n/sensor/temp/state", "1")
    bench.room = False
    assert not bench.send("n/sensor/temp/state", "nan")
    assert not bench.send("n/sensor/temp/state", "2")
    bench.room = True
    assert bench.send("n/sensor/temp/state", "2")  # sent again, as 3 is
    assert bench.send("n/sensor/temp/state", "3")
    assert [made[1::2] for made in bench.made()] == [
        (SAMPLE, 1000),
        (FAULT, FAULT_MISSING),
        (FAULT_CLEARED, FAULT_MISSING),
        (SAMPLE, 2000),
        (SAMPLE, 3000),
    ]
    assert bench.released == []


def test_qos_0_is_taken_as_far_as_there_is_room() -> None:
    bench = Bench()
    assert bench.send("n/sensor/temp/state", "1", qos=0)
    assert bench.send("n/sensor/other/state", "1", qos=0)
    assert bench.released == []
    assert [item.receipt for item in bench.own_items()] == [None]


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("tele/a/SENSOR", b"", "json"),
        ("tele/a/SENSOR", b"\xff\xfe", "json"),
        ("tele/a/SENSOR", b'{"AM2301":{"Temperature":NaN}}', "json"),
        ("tele/a/SENSOR", b"[" * 8000, "depth"),
        ("tele/a/SENSOR", b"x" * 9000, "size"),
        ("tele/a/SENSOR", b'{"AM2301":{"Temperature":' + b"9" * 5000 + b"}}", "json"),
        ("tele/a/SENSOR", b'{"AM2301":{"Temperature":[1]}}', "value"),
        ("n/sensor/temp/state", b"21\0", "value"),
        ("n/sensor/temp/state", b"\xff", "value"),
        ("n/sensor/temp/state", b"1" * 100, "size"),
        ("tele/a/b/SENSOR", b"{}", "topic"),
        ("", b"", "topic"),
        ("tele//SENSOR", b"{}", "topic"),
        ("tele/" + "x" * 300 + "/SENSOR", b'{"A":{"Temperature":1}}', "topic"),
    ],
)
def test_hostile_messages_are_counted_by_reason_and_let_go(topic: str, payload: bytes, reason: str) -> None:
    bench = Bench()
    assert bench.send(topic, payload)
    assert bench.own_items() == []
    assert bench.rejected() == {reason: 1}
    assert bench.released == [1]


def test_devices_and_channels_are_bounded() -> None:
    bench = Bench({"nodes": {"preset": "esphome", "devices_max": 2}})
    for device in "abc":
        bench.send(f"{device}/sensor/temp/state", "1")
    for i in range(70):
        bench.send(f"a/sensor/temp{i}/state", "1")
    assert bench.rejected() == {"devices": 1, "channels": 7}


def test_two_thousand_mutated_messages_never_raise() -> None:
    bench = Bench()
    rng = random.Random(8)
    good = [
        (
            "tele/a/SENSOR",
            b'{"Time":"2027-01-15T08:00:40","DS18B20":{"Id":"0316A2","Temperature":21.35},"TempUnit":"F"}',
        ),
        ("n/sensor/temp/state", b"21.5"),
        ("zigbee2mqtt/b", b'{"temperature":20.01,"humidity":48.5,"last_seen":"2027-01-15T08:00:40Z"}'),
        ("shed/main/state", b'{"t":-1.5e2}'),
        ("tele/a/LWT", b"Online"),
    ]
    for _ in range(2000):
        topic, payload = rng.choice(good)
        data = bytearray(payload)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(data) + 1)
            what = rng.randrange(4)
            if what == 0 and data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            elif what == 1:
                del data[at:]
            elif what == 2:
                data[at:at] = rng.choice([b"1e999", b"null", b"[[", b"\0", b"NaN", b"9" * 400, b'":', b"-"])
            else:
                topic = topic[: rng.randrange(len(topic))] + rng.choice("/é \0") + topic[rng.randrange(len(topic)) :]
        assert bench.send(topic, bytes(data), retained=rng.random() < 0.1)
    assert sum(bench.outcomes().values()) == 2000
    settled = {item.receipt.mid for item in bench.own_items() if item.receipt} | set(bench.released)
    assert settled == set(range(1, 2001)), "each message is let go, at once or by its commit"


@given(
    st.sampled_from(["tele/a/SENSOR", "n/sensor/temp/state", "zigbee2mqtt/b", "shed/m/state"]), st.binary(max_size=80)
)
def test_anything_at_all_never_raises(topic: str, payload: bytes) -> None:
    Bench().send(topic, payload)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["Temperature", "Id", "t", "Time", "TempUnit", "x"]), inner, max_size=4)
        ),
        max_leaves=8,
    )
)
def test_any_document_never_raises(document: object) -> None:
    bench = Bench()
    payload = json.dumps(document).encode()
    for topic in ("tele/a/SENSOR", "zigbee2mqtt/b", "shed/m/state"):
        bench.send(topic, payload)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "topic is missing"),
        ({"topic": "a/{device}"}, "values is missing"),
        ({"topic": "a/b", "values": {"temp": "/t"}}, "placeholder for the device"),
        ({"topic": "a/{device}", "values": {"temp": "t"}}, "begin with /"),
        ({"topic": "a/{device}", "values": {"p": "/t"}}, "does not say the unit of p"),
        ({"topic": "a/{device}", "values": {"Temp C": "/t"}}, "must match [a-z0-9-]{1,64}"),
        ({"preset": "tasmotta"}, "did you mean tasmota?"),
        ({"preset": "tasmota", "values": {"t": "/t"}}, 'is for preset "json"'),
        ({"preset": "tasmota", "names": {"A": "Ä"}}, "must match [a-z0-9-]{1,32}"),
        ({"preset": "tasmota", "names": {"A": "a", "B": "a"}}, "one id to two names"),
        ({"preset": "tasmota", "time_zone": "Mars/Phobos"}, "time zone that this machine knows"),
        ({"preset": "tasmota", "time_zone": "../../etc/passwd"}, "time zone that this machine knows"),
        ({"preset": "tasmota", "valid_min_milli": 5, "valid_max_milli": 5}, "must be below valid_max_milli"),
        ({"preset": "tasmota", "availability": "tele/#"}, "whole levels"),
    ],
)
def test_a_table_with_a_mistake_is_refused_by_name(table: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(Path("gateway.toml"), {"third_party": {"x": table}})
    assert said in str(refused.value)
    assert "third_party.x." in str(refused.value)


@pytest.mark.parametrize("page", ["third-party.md", "gateway.md"])
def test_what_the_pages_show_can_be_used_as_it_stands(page: str) -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        parse(Path("gateway.toml"), tomllib.loads(block))
