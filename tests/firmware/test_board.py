"""The whole application on virtual boards against a real mosquitto: delivery under every fault of the path."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from itertools import count, pairwise

import pytest

from host_tools.keys import signing
from host_tools.virtual.tap import read_tap
from isocore import model, record, topics
from tests.firmware.conftest import Bench, Row
from tests.support.ack_gateway import AckGateway
from tests.support.mosquitto import Mosquitto

pytestmark = [pytest.mark.micropython, pytest.mark.mosquitto]
DEADLINE_S = 30.0
MINUTE_MS = 60_000


def wave(count: int, faults: dict[int, str] | None = None) -> list[Row]:
    """A fridge: 5 degC, two degrees up and down, a row a minute."""
    return [
        (i * MINUTE_MS, int(5000 + 2000 * math.sin(i / 20)), 50_000, (faults or {}).get(i, "")) for i in range(count)
    ]


def drained(board: object, events: int = 0) -> bool:
    counters = board.counters  # type: ignore[attr-defined]
    return counters.get("outbox") == 0 and counters.get("events_sent", 0) > events


def seqs(gateway: AckGateway, device: str, boot: int) -> list[int]:
    with gateway.lock:
        return sorted(seq for name, at, seq in gateway.rows if name == device and at == boot)


def gapless(numbers: Sequence[int]) -> bool:
    return numbers[0] == 1 and all(after == before + 1 for before, after in pairwise(numbers))


def test_every_row_is_sampled_once_and_every_record_arrives(bench: Bench, gateway: AckGateway) -> None:
    rows = wave(300)
    board = bench.board(bench.config("whole"), rows, speed=20_000)
    board.start()
    assert board.wait_for(lambda: board.trace_done and drained(board), DEADLINE_S), board.log
    board.stop()
    counters = board.counters
    assert counters["sampled"] == len(rows) == counters["sent"] + counters["suppressed"]
    assert counters["missed"] == counters["faults"] == counters["evicted"] == 0
    assert counters["acked"] == counters["sent"]
    arrived = seqs(gateway, "whole", 1)
    assert gapless(arrived) and len(arrived) == counters["sent"] + counters["events_sent"]
    tapped = list(read_tap(board.tap_path))
    assert [row.seq for row in tapped if row.kind] == arrived
    # each row's own value, as a DS18B20 rounds it, at the row's time
    samples = [row for row in tapped if row.kind == 0]
    for (t_ms, value, _, _), sample in zip(rows, samples, strict=True):
        assert abs(sample.value - value) <= 63
        assert abs(sample.t_s * 1000 + sample.t_ms - (samples[0].t_s * 1000 + samples[0].t_ms) - t_ms) < 2000
    assert gateway.wait_for(lambda: gateway.last("whole", topics.STATUS) == "offline", DEADLINE_S), "no last will"
    meta = gateway.last("whole", topics.META)
    assert meta["boot"] == 1 and meta["floor"] == [1, 1] and meta["class"] == "fridge"
    assert meta["channels"] == [{"name": "temperature", "unit": "degC", "kind": "temperature"}]
    assert {frame.epoch_unix_ms() // 60_000 for frame in gateway.frames if frame.boot == 1} == {1767225600 // 60}


def test_faults_of_the_sensor_are_records_and_never_temperatures(bench: Bench, gateway: AckGateway) -> None:
    faults = {3: "crc", 6: "zero", 9: "missing", 12: "85", 15: "short"}
    config = bench.config("faulty")
    config["sensors"].append({"type": "dht22", "pin": 4, "channels": {"temperature": "air", "humidity": "humidity"}})
    board = bench.board(config, wave(20, faults), speed=2_000)
    board.start()
    assert board.wait_for(lambda: board.trace_done and drained(board), DEADLINE_S), board.log
    board.stop()
    assert board.counters["sampled"] + 5 + 2 * 4 == 20 * 3  # "85" is no fault of a DHT22
    codes = {"ds18b20": {}, "dht22": {}}  # type: dict[str, dict[int, int]]
    for _, _, channel, code in gateway.of_kind(record.FAULT):
        kind = "ds18b20" if channel == 0 else "dht22"
        codes[kind][code] = codes[kind].get(code, 0) + 1
    assert codes["ds18b20"][record.FAULT_CRC] == 1 and codes["ds18b20"][record.FAULT_POWER_ON] == 1
    assert codes["ds18b20"][record.FAULT_MISSING] >= 1 and codes["ds18b20"][record.FAULT_ALL_ZERO] >= 1
    assert codes["dht22"][record.FAULT_CRC] == codes["dht22"][record.FAULT_ALL_ZERO] == 2
    assert len(gateway.of_kind(record.FAULT)) == len(gateway.of_kind(record.FAULT_CLEARED)) == 5 + 2 * 4
    for _, _, channel, value in gateway.of_kind(record.SAMPLE):
        assert value > 2900 and value != 85_000, (channel, value)


def test_a_silent_gateway_costs_time_and_no_record(bench: Bench, gateway: AckGateway) -> None:
    gateway.answering = False
    board = bench.board(bench.config("silent"), wave(400), speed=20_000)
    board.start()
    assert board.wait_for(lambda: board.trace_done and board.counters.get("reconnects", 0) >= 1, DEADLINE_S), board.log
    assert board.counters["retransmits"] > 0 and board.counters["acked"] == 0
    gateway.answering = True
    assert board.wait_for(lambda: drained(board), DEADLINE_S), board.counters
    board.stop()
    assert gapless(seqs(gateway, "silent", 1))
    assert board.counters["sampled"] == 400 and board.counters["evicted"] == 0


def test_frames_lost_on_the_way_come_again(bench: Bench, gateway: AckGateway) -> None:
    seen: dict[int, int] = {}

    def every_third(frame: object) -> bool:
        seen[frame.first_seq] = seen.get(frame.first_seq, 0) + 1  # type: ignore[attr-defined]
        return len(seen) % 3 == 0 and seen[frame.first_seq] == 1  # type: ignore[attr-defined]

    gateway.drop = every_third
    board = bench.board(bench.config("lossy"), wave(300), speed=10_000)
    board.start()
    assert board.wait_for(lambda: board.trace_done and drained(board), DEADLINE_S), board.counters
    board.stop()
    assert board.counters["retransmits"] > 0
    assert gapless(seqs(gateway, "lossy", 1))


def test_wifi_lost_and_found(bench: Bench, gateway: AckGateway) -> None:
    wifi = {"ssid": "lab", "password": "correct horse"}
    board = bench.board(bench.config("radio", wifi=wifi), wave(400), speed=6_000, wifi=wifi)
    board.start()
    assert board.wait_for(lambda: board.counters.get("acked", 0) > 5, DEADLINE_S), board.log
    board.drop_wifi()
    held = board.counters["acked"]
    assert board.wait_for(lambda: board.counters["outbox"] > 20, DEADLINE_S), board.counters
    board.restore_wifi()
    assert board.wait_for(lambda: board.trace_done and drained(board), DEADLINE_S), board.counters
    board.stop()
    assert board.counters["acked"] > held and board.counters["sampled"] == 400
    assert gapless(seqs(gateway, "radio", 1))


def test_power_cuts_lose_nothing_that_was_on_flash(bench: Bench, gateway: AckGateway) -> None:
    gateway.answering = False
    config = bench.config("cut", outbox={"ram_records": 32, "spill_records": 8})
    board = bench.board(config, wave(600), speed=20_000)
    board.start()
    assert board.wait_for(lambda: board.counters.get("outbox", 0) > 80, DEADLINE_S), board.log
    held = board.counters["outbox"]
    board.power_cut()
    board.start()
    assert board.wait_for(lambda: board.counters.get("boot") == 2 and board.counters["sampled"] > 40, DEADLINE_S)
    gateway.answering = True
    assert board.wait_for(lambda: board.trace_done and drained(board), DEADLINE_S), board.counters
    board.stop()
    first = seqs(gateway, "cut", 1)
    assert first == list(range(1, len(first) + 1)) and len(first) >= held - 32  # the rest was in RAM
    assert gapless(seqs(gateway, "cut", 2))
    causes = [value for _, _, _, value in gateway.of_kind(record.BOOT)]
    assert causes == [1, 1]  # power on, twice
    assert gateway.last("cut", topics.META)["boot"] == 2


def test_alarms_switch_the_relay_and_overtake_a_backlog(bench: Bench, gateway: AckGateway) -> None:
    """With a window that the gateway does not open, an alarm still comes through."""
    key = signing.generate()
    limits = model.ChannelParams()
    limits.high_on_milli = 8000
    limits.high_off_milli = 7000
    limits.error_milli = 0
    provisioned = model.Model("demo", "class:fridge", 3, channels={"temperature": limits})
    container = key.sign(model.to_payload(provisioned))
    rows: list[Row] = [(i * MINUTE_MS, 5000 + i * 7 % 900, None, "") for i in range(300)]
    rows += [((300 + i) * MINUTE_MS, 9000, None, "") for i in range(5)]
    rows += [((305 + i) * MINUTE_MS, 5000, None, "") for i in range(5)]
    config = bench.config(
        "alarm",
        model_keys=[{"id": "ops", "key": key.public_key.hex()}],
        actuators=[{"type": "relay", "pin": 16, "channel": "temperature", "on": ["high"]}],
        link={"ack_timeout_ms": 60_000, "keepalive_s": 5, "window": 1, "linger_ms": 20},
    )
    gateway.drop = lambda frame: (
        frame.records[0][1] == record.BOOT
        or frame.records[-1][1]
        in (
            record.SAMPLE,
            record.DELTA,
        )
    )
    board = bench.board(config, rows, files={"/model/a.bin": container}, speed=6_000)
    board.start()
    assert board.wait_for(lambda: bool(gateway.of_kind(record.HIGH_ON)), DEADLINE_S), board.counters
    assert board.counters["acked"] == 0  # the backlog is still there
    assert board.wait_for(lambda: board.trace_done and bool(gateway.of_kind(record.HIGH_OFF)), DEADLINE_S)
    board.stop()
    assert board.counters["alarms"] == 1 and board.counters["model_sequence"] == 3
    assert gateway.last("alarm", topics.MODEL_STATE)["state"] == "committed"
    pins = [event["value"] for event in board.history("pin") if event["pin"] == 16]
    assert pins == [0, 1, 0]


def test_a_model_is_taken_tried_and_committed_and_a_bad_one_never_stops_it(bench: Bench, gateway: AckGateway) -> None:
    key = signing.generate()
    device = "pupil"
    topic = topics.topic(device, topics.MODEL_SET)
    config = bench.config(device, model_keys=[{"id": "ops", "key": key.public_key.hex()}], trial_samples=3)
    board = bench.board(config, wave(5000), speed=600)

    def push(sequence: int, **limits: int) -> bytes:
        params = model.ChannelParams()
        for name, value in limits.items():
            setattr(params, name, value)
        payload = model.to_payload(model.Model("demo", "device:" + device, sequence, channels={"temperature": params}))
        container = key.sign(payload)
        gateway.publish(topic, container, retain=True)
        return container

    def state() -> dict[str, object]:
        return gateway.last(device, topics.MODEL_STATE) or {}

    board.start()
    assert board.wait_for(lambda: board.counters.get("acked", 0) > 0, DEADLINE_S), board.log
    assert state() == {"sequence": 0, "state": "committed", "id": ""}
    good = push(7, error_milli=100_000)  # nothing would be reported any more, and so nothing acknowledged
    assert board.wait_for(lambda: state().get("state") == "committed" and state()["sequence"] == 7, DEADLINE_S), state()
    assert state()["id"] == hashlib.sha256(good).hexdigest()[:16]
    assert board.wait_for(lambda: board.counters["models_applied"] == 1, DEADLINE_S), board.log
    assert board.counters["model_sequence"] == 7
    # refused: a sequence not above the stored one, a forged one, one that is no model at all
    push(7, error_milli=5)
    assert board.wait_for(lambda: state().get("reason") == "sequence", DEADLINE_S), state()
    gateway.publish(topic, good[:-1] + bytes([good[-1] ^ 1]), retain=True)
    assert board.wait_for(lambda: state().get("reason") == "signature", DEADLINE_S), state()
    gateway.publish(topic, b"\x00" * 20_000)
    assert board.wait_for(lambda: board.counters["bad_messages"] == 1, DEADLINE_S), board.counters
    assert state()["sequence"] == 7
    # reverted: everything the sensor says is out of its range
    push(8, valid_max_milli=1000, error_milli=1)
    assert board.wait_for(lambda: state().get("state") == "reverted", DEADLINE_S), "\n".join(board.log)
    assert state()["reason"] == "unhealthy"
    assert board.wait_for(lambda: board.counters["model_sequence"] == 7, DEADLINE_S)
    # the old one survives the power
    board.power_cut()
    gateway.publish(topic, b"", retain=True)
    board.start()
    assert board.wait_for(lambda: board.counters.get("boot") == 2 and board.counters["acked"] > 0, DEADLINE_S)
    assert board.counters["model_sequence"] == 7
    board.stop()


def test_the_period_grid_does_not_drift_and_ticks_may_wrap(bench: Bench, gateway: AckGateway) -> None:
    config = bench.config("grid", sampling={"period_ms": 10_000})
    near_wrap = (1 << 30) - 40_000
    board = bench.board(config, wave(100), speed=1_000, ticks_start_ms=near_wrap)
    board.start()
    assert board.wait_for(lambda: board.counters.get("sampled", 0) >= 60, DEADLINE_S), board.log
    board.stop()
    times = [row.t_s * 1000 + row.t_ms for row in read_tap(board.tap_path) if row.kind == 0]
    assert {after - before for before, after in pairwise(times)} == {10_000}
    assert board.counters["missed"] == 0


def test_steps_of_the_clock_and_the_wrap_of_the_ticks_change_no_record(bench: Bench, gateway: AckGateway) -> None:
    """Sequence, filter, outbox, link of a board whose time of day jumps by ten years, across a wrap of its ticks."""
    ten_years_s = 10 * 365 * 86_400
    acks = count()

    def jumping() -> int:
        jump_s = (0, 0, 0, ten_years_s, ten_years_s)[next(acks) % 5]  # what is far off is said twice
        return 1_800_000_000 + jump_s + boards["jumpy"].counters.get("run_ms", 0) // 1000

    gateway.clocks = {"steady": lambda: 1_800_000_000, "jumpy": jumping}
    boards = {}
    for device, first_ticks in (("steady", 0), ("jumpy", (1 << 30) - 100 * MINUTE_MS)):
        config = bench.config(device, clock="gateway")
        faults = {50: "crc", 51: "crc"}
        boards[device] = bench.board(config, wave(300, faults), speed=2_000, ticks_start_ms=first_ticks)
        boards[device].start()
    records = {}
    for device, board in boards.items():
        assert board.wait_for(lambda board=board: board.trace_done and drained(board), 2 * DEADLINE_S), board.log
        board.stop()
        assert board.counters["reconnects"] == board.counters["evicted"] == board.counters["missed"] == 0
        tapped = list(read_tap(board.tap_path))
        start_s = tapped[0].t_s
        records[device] = [(row.kind, row.channel, row.value, row.seq, round(row.t_s - start_s, -1)) for row in tapped]
        assert gapless(seqs(gateway, device, 1))
    assert records["steady"] == records["jumpy"]
    epochs = {frame.epoch_s // ten_years_s for frame in gateway.frames if frame.epoch_s}
    assert len(epochs) == 2, "the steps did arrive"


def test_the_gateways_clock_serves_a_board_without_its_own(bench: Bench, gateway: AckGateway) -> None:
    gateway.unix_s = lambda: 1_800_000_000
    board = bench.board(bench.config("timeless", clock="gateway"), wave(50), speed=600, epoch_s=None)
    board.start()
    assert board.wait_for(lambda: board.counters.get("acked", 0) > 3, DEADLINE_S), board.log
    board.stop()
    board.start()  # it knows its number now and does not ask, so its first frames come before any answer
    assert board.wait_for(lambda: board.counters.get("boot") == 2 and board.counters["acked"] > 3, DEADLINE_S)
    board.stop()
    with gateway.lock:
        frames = [frame for frame in gateway.frames if frame.boot == 2]  # some of the first boot's may still come
    known = [frame.epoch_unix_ms() for frame in frames if frame.epoch_s]
    assert frames[0].epoch_unix_ms() is None
    assert known and all(abs(ms - 1_800_000_000_000) < 600_000 for ms in known if ms is not None)


def test_broker_gone_and_back(bench: Bench, broker: Mosquitto, gateway: AckGateway) -> None:
    board = bench.board(bench.config("orphan"), wave(500), speed=6_000)
    board.start()
    assert board.wait_for(lambda: board.counters.get("acked", 0) > 3, DEADLINE_S), board.log
    broker.kill()
    assert board.wait_for(lambda: board.counters["outbox"] > 10, DEADLINE_S), board.counters
    broker.start()
    assert board.wait_for(lambda: board.trace_done and drained(board), DEADLINE_S), board.counters
    board.stop()
    assert gapless(seqs(gateway, "orphan", 1))


def test_a_crash_is_written_down_and_the_board_comes_back(bench: Bench) -> None:
    board = bench.board(bench.config("broken", sampling={}))
    board.start()
    assert board.wait_for(lambda: board.boots >= 2, DEADLINE_S), board.log
    board.power_cut()
    text = bench.builder.read_file(board.flash_path, "/crash.log").decode()
    assert "ConfigError: config.json: sampling: must have either period_ms or strobe_pin" in text


def test_health_says_how_the_board_is(bench: Bench, gateway: AckGateway) -> None:
    board = bench.board(bench.config("hale"), wave(10), speed=600)
    board.start()
    assert board.wait_for(lambda: gateway.last("hale", topics.HEALTH) is not None, DEADLINE_S), board.log
    board.stop()
    health = gateway.last("hale", topics.HEALTH)
    assert health["reset"] == "power_on" and health["boot"] == 1 and health["free_heap_bytes"] > 0
    assert json.dumps(health).isascii()
