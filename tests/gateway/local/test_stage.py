"""The gateway's own sensors from a round of readings to the cloud: filter, faults, models, and sensors that hang."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from gateway.config.document import parse
from gateway.local.model import Models
from gateway.local.sensors import Bounds, Reading
from gateway.local.stage import Local
from gateway.local.worker import Worker
from gateway.messages import Committed, NoteIn, OwnIn
from gateway.metrics import Metrics
from gateway.own import Clock, Item, Own
from host_tools.keys import signing
from isocore import model as iso_model
from isocore.record import (
    BOOT,
    DELTA,
    FAULT,
    FAULT_CLEARED,
    FAULT_CRC,
    FAULT_MISSING,
    FAULT_RANGE,
    FAULT_STUCK,
    HIGH_OFF,
    HIGH_ON,
    SAMPLE,
)
from tests.gateway.local.test_sensors import BELOW, GOOD, device
from tests.support.altered import altered
from tests.support.board_client import wait_for
from tests.support.daemon import Daemon, FakeCloud, read_body
from tests.support.mosquitto import Mosquitto

KEY = signing.generate()
COMMIT = Committed([], 1, 1, 0)


class FakeSensor:
    """Says what it is told to; `hang` stops it in the midst of a reading."""

    channels: tuple[tuple[str, str, Bounds], ...] = (("", "degC", (-40_000, 80_000)),)

    def __init__(self) -> None:
        self.readings: list[Reading] = [(20_000, 0)]
        self.error: Exception | None = None
        self.trouble = "a trouble"
        self.reads = 0
        self.go = threading.Event()
        self.go.set()

    def read(self) -> list[Reading]:
        self.reads += 1
        readings = list(self.readings)
        self.go.wait(30)
        if self.error is not None:
            raise self.error
        return readings


class FakeLink:
    """Records what is published."""

    def __init__(self) -> None:
        self.connects = 1
        self.retained: dict[str, bytes] = {}

    def publish(self, messages: Sequence[tuple[str, bytes]], retain: bool = False) -> None:
        assert retain
        self.retained.update(messages)


class Bench:
    """The stage, its rounds by hand."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.sensors = {name: FakeSensor() for name in names or ("attic",)}
        self.items: list[Item] = []
        self.now_s = 1000.0
        self.metrics = Metrics()
        self.link = FakeLink()
        local = {"fleet": "home", "model_keys": [KEY.public_key.hex()], "trial_samples": 3, "read_timeout_s": 1.0}
        config = parse(folder / "gateway.toml", {"gateway": {"id": "gw-1", "data_dir": "."}, "local": local})
        own = Own(self.put, Clock(lambda: 1_800_000_000.0 + self.now_s, lambda: self.now_s))
        self.own = own
        self.stage = Local(config, own, self.metrics, self.link, sensors=self.sensors)  # type: ignore[arg-type]
        self.stage.prepare()
        for worker in self.stage._workers:
            worker.start()

    def put(self, item: Item, _rows: int, _urgent: bool, _wait_s: float) -> bool:
        self.items.append(item)
        return True

    def round(self, after_s: float = 10.0, **readings: Reading) -> None:
        """A round; readings by sensor, with _ for - in names."""
        for name, reading in readings.items():
            self.sensors[name].readings = [reading]
        self.now_s += after_s
        self.stage._take_offer()
        self.stage.round()
        self.stage._settle_models()

    def made(self) -> list[tuple[int, int, int]]:
        """(kind, channel, value), without the first one, the start."""
        return [made[:3] for item in self.items if isinstance(item, OwnIn) for made in item.made][1:]

    def take(self) -> list[tuple[int, int, int]]:
        made = self.made()
        self.items = [item for item in self.items if isinstance(item, OwnIn)][:1]
        return made

    def state(self) -> dict[str, object]:
        return dict(json.loads(self.link.retained["iso/1/gw-1/model/state"]))

    def failures(self) -> dict[str, float]:
        return self.metrics.by_label("local_failures_total", "reason")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(*names: str) -> Bench:
        made.append(Bench(tmp_path, *names))
        return made[-1]

    yield make
    for one in made:
        for sensor in one.sensors.values():
            sensor.go.set()
        one.stage.stop(1.0)


def container(sequence: int, target: str = "*", **params: int) -> bytes:
    """A signed model for channel attic."""
    channel = iso_model.ChannelParams()
    for name, value in params.items():
        setattr(channel, name, value)
    payload = iso_model.to_payload(iso_model.Model("home", target, sequence, channels={"attic": channel}))
    return KEY.sign(payload)


def test_the_same_filter_as_a_boards(bench: Callable[..., Bench]) -> None:
    one = bench()
    assert [made[0] for item in one.items if isinstance(item, OwnIn) for made in item.made] == [BOOT]
    for value in (20_000, 20_050, 20_100, 20_101, 20_000):
        one.round(attic=(value, 0))
    assert one.made() == [(SAMPLE, 0, 20_000), (DELTA, 0, 20_101), (DELTA, 0, 20_000)]
    assert one.metrics.value("local_samples_total", channel="attic") == 5
    uptimes = [made[3] for item in one.items if isinstance(item, OwnIn) for made in item.made]
    assert uptimes == [0, 10_000, 40_000, 50_000]


def test_faults_begin_and_end_once(bench: Callable[..., Bench]) -> None:
    one = bench()
    for reading in ((20_000, 0), (0, FAULT_CRC), (0, FAULT_CRC), (20_000, 0), (90_000, 0), (20_000, 0)):
        one.round(attic=reading)
    assert one.made() == [
        (SAMPLE, 0, 20_000),
        (FAULT, 0, FAULT_CRC),
        (FAULT_CLEARED, 0, FAULT_CRC),
        (SAMPLE, 0, 20_000),
        (FAULT, 0, FAULT_RANGE),
        (FAULT_CLEARED, 0, FAULT_RANGE),
        (SAMPLE, 0, 20_000),
    ]
    assert one.failures() == {"crc": 2}


def test_a_sensor_that_hangs_stops_nobody_and_what_it_says_later_is_nothing(bench: Callable[..., Bench]) -> None:
    one = bench("attic", "cellar")
    one.round()
    one.take()
    attic = one.sensors["attic"]
    attic.go.clear()
    for value in (21_000, 22_000, 23_000):
        one.round(cellar=(value, 0))
    assert one.made() == [
        (FAULT, 0, FAULT_MISSING),
        (DELTA, 1, 21_000),
        (DELTA, 1, 22_000),
        (DELTA, 1, 23_000),
    ]
    assert attic.reads == 2, "it is not asked again while it hangs"
    assert one.failures()["hung"] == 3
    assert sum(thread.name == "sensor-attic" for thread in threading.enumerate()) == 1, "one thread, however long"
    attic.readings = [(25_000, 0)]
    attic.go.set()
    wait_for(lambda: not one.stage._workers[0].busy, what="its return")
    one.take()
    one.round(attic=(25_000, 0))
    assert one.made() == [(FAULT_CLEARED, 0, FAULT_MISSING), (SAMPLE, 0, 25_000)]


def test_whatever_a_library_raises_is_this_sensors_fault_alone(bench: Callable[..., Bench]) -> None:
    one = bench("attic", "cellar")
    one.sensors["attic"].error = NotImplementedError("no such chip")
    one.round(cellar=(21_000, 0))
    assert one.made() == [(FAULT, 0, FAULT_MISSING), (SAMPLE, 1, 21_000)]
    assert isinstance(one.stage._workers[0].failure, NotImplementedError)
    one.sensors["attic"].error = None
    one.round()
    assert one.made()[2:] == [(FAULT_CLEARED, 0, FAULT_MISSING), (SAMPLE, 0, 20_000)]


def test_a_worker_that_is_stopped_ends() -> None:
    worker = Worker("x", FakeSensor())
    worker.start()
    assert worker.ask()
    assert worker.answer(5.0) == [(20_000, 0)]
    worker.stop()
    worker._thread.join(5.0)
    assert not worker._thread.is_alive()


# -- models


def test_a_signed_model_goes_on_trial_and_is_kept(bench: Callable[..., Bench], tmp_path: Path) -> None:
    one = bench()
    one.round()
    one.stage.offer("gw-1", container(1, error_milli=5_000, high_on_milli=30_000, high_off_milli=29_000))
    one.round(attic=(21_000, 0))
    assert one.state()["state"] == "trial"
    one.take()
    one.round(attic=(24_000, 0))
    one.round(attic=(24_500, 0))
    assert one.state()["state"] == "trial", "not before the store has committed"
    one.stage.committed(COMMIT)
    one.round(attic=(30_000, 0))
    assert one.state()["state"] == "committed"
    one.round(attic=(28_000, 0))
    assert one.made() == [(HIGH_ON, 0, 30_000), (DELTA, 0, 30_000), (HIGH_OFF, 0, 28_000)]
    notes = [item.text for item in one.items if isinstance(item, NoteIn) and item.column == "model_state"]
    assert json.loads(notes[-1])["sequence"] == 1
    again = Bench(tmp_path)  # the next start
    again.round()
    assert again.state() == {"sequence": 1, "state": "committed", "id": one.state()["id"]}
    again.stage.stop(1.0)


@pytest.mark.parametrize(
    ("offer", "reason"),
    [
        (b"", "size"),
        (b"x" * 200, "magic"),
        (signing.generate().sign(b"{}"), "key"),
        (KEY.sign(b"{}"), "payload"),
        (altered(container(5)), "signature"),
        (container(5, target="class:fridge"), "target"),
        (container(0x3FFFFFFF, target="device:gw-2"), "target"),
    ],
    ids=["nothing", "noise", "stranger", "no-model", "altered", "class", "device"],
)
def test_no_model_runs_that_is_not_signed_and_meant(bench: Callable[..., Bench], offer: bytes, reason: str) -> None:
    one = bench()
    one.round()
    one.stage.offer("gw-1", offer)
    one.round()
    assert (one.state()["state"], one.state()["reason"]) == ("refused", reason)
    assert one.stage._models.current is None


def test_a_model_that_makes_nonsense_is_reverted_and_not_tried_again(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.stage.offer("gw-1", container(1, valid_max_milli=40_000))
    for _ in range(4):
        one.stage.committed(COMMIT)
        one.round(attic=(20_000, 0))
    assert one.state() == {**one.state(), "state": "committed", "sequence": 1}
    one.stage.offer("gw-1", container(2, valid_max_milli=10_000))
    for _ in range(3):
        one.round()
    assert (one.state()["state"], one.state()["reason"], one.state()["sequence"]) == ("reverted", "unhealthy", 2)
    one.take()
    one.round(attic=(21_000, 0))
    assert (FAULT_CLEARED, 0, FAULT_RANGE) in one.made(), "the one before is in force again"
    one.stage.offer("gw-1", container(2, valid_max_milli=10_000))
    one.round()
    assert one.state()["reason"] == "reverted"
    one.stage.offer("gw-1", container(1, valid_max_milli=41_000))
    one.round()
    assert one.state()["reason"] == "sequence"


def test_a_trial_that_ends_in_restarts_is_reverted(tmp_path: Path) -> None:
    identity = ("home", "gw-1", "gateway", (0, 1, 0))
    keys = (KEY.public_key.hex(),)
    models = Models(tmp_path, keys, identity, 3)
    models.open()
    assert models.offer(container(4), None)
    for _ in range(3):
        models = Models(tmp_path, keys, identity, 3)
        models.open()
        assert models.on_trial
    models = Models(tmp_path, keys, identity, 3)
    models.open()
    assert (models.current, models.state["reason"]) == (None, "reboots")
    assert not (tmp_path / "model.trial.bin").exists()


def test_a_rotten_file_is_never_run(tmp_path: Path) -> None:
    data = bytearray(container(4))
    data[30] ^= 1
    (tmp_path / "model.bin").write_bytes(bytes(data))
    (tmp_path / "model.json").write_text("{", encoding="ascii")
    models = Models(tmp_path, (KEY.public_key.hex(),), ("home", "gw-1", "gateway", (0, 1, 0)), 3)
    models.open()
    assert models.current is None


def test_a_stuck_sensor_is_told(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.stage.offer("gw-1", container(1, stuck_s=60))
    for _ in range(8):
        one.round()
    one.round(attic=(20_010, 0))
    kinds = [made for made in one.made() if made[0] in (FAULT, FAULT_CLEARED)]
    assert kinds == [(FAULT, 0, FAULT_STUCK), (FAULT_CLEARED, 0, FAULT_STUCK)]


# -- the daemon


@pytest.mark.mosquitto
def test_processor_and_1_wire_from_files_to_the_cloud(
    tmp_path: Path, broker: Mosquitto, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")
    folder = tmp_path / "w1"
    folder.mkdir()
    device(folder, "28-000000000001", w1_slave=GOOD)
    device(folder, "28-000000000002", w1_slave=BELOW)
    (tmp_path / "temp").write_text("43312\n", encoding="ascii")
    extra = f"""
[local]
period_s = 2.0
fleet = "home"
model_keys = ["{KEY.public_key.hex()}"]
trial_samples = 1
w1_folder = "{folder}"
cpu_file = "{tmp_path / "temp"}"
[local.sensors.cpu]
kind = "cpu"
[local.sensors.tank]
kind = "ds18b20"
id = "28-000000000001"
[local.sensors.gone]
kind = "ds18b20"
id = "28-00000000000f"
"""
    with Daemon(tmp_path / "gw", broker.port, cloud.url, extra=extra) as daemon:
        wait_for(lambda: len(set(cloud.rows())) >= 4, what="the first round")
        (body,) = [read_body(body) for body in cloud.stored.values()][:1]
        (said,) = [entry for entry in body["devices"] if entry["id"] == "gw-test"]
        assert said["channels"] == [{"name": name, "unit": "degC"} for name in ("cpu", "tank", "gone")]
        device(folder, "28-000000000001", w1_slave=BELOW)
        wait_for(lambda: len(set(cloud.rows())) >= 5, what="a change")
        status = daemon.status()["devices"]["gw-test"]
        assert (status["class"], status["boot"]) == ("gateway", 1)
        publish_model(broker.port, container(3))
        wait_for(
            lambda: (daemon.status()["devices"]["gw-test"]["model_state"] or {}).get("sequence") == 3, what="the model"
        )
        assert daemon.status()["ingest"]["rejected"] == {}, "what it says of itself is not taken for another's"
        assert daemon.stop() == 0
        daemon.start()
        wait_for(lambda: daemon.status()["devices"]["gw-test"]["boot"] == 2, what="the next start")
        assert daemon.stop() == 0
        assert daemon.ledger()["differences"] == []


def publish_model(port: int, data: bytes) -> None:
    import paho.mqtt.publish

    paho.mqtt.publish.single("iso/1/gw-test/model/set", data, retain=True, port=port, qos=1)
