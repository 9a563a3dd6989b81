"""Sensors and alarm outputs of the whole application on virtual boards: I2C chips, their faults, and no network."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from host_tools.keys import signing
from host_tools.virtual.tap import read_tap
from isocore import model, record, topics
from tests.firmware.conftest import Bench, Row
from tests.support.ack_gateway import AckGateway

pytestmark = [pytest.mark.micropython, pytest.mark.mosquitto]
DEADLINE_S = 30.0
MINUTE_MS = 60_000
I2C = {"scl": 22, "sda": 21}
CHIPS: list[dict[str, Any]] = [
    {"type": "sht3x", **I2C, "channels": {"temperature": "a", "humidity": "ah"}},
    {"type": "sht4x", **I2C, "address": "0x46", "channels": {"temperature": "b"}},
    {"type": "bme280", **I2C, "channels": {"temperature": "c", "humidity": "ch"}},
    {"type": "tmp102", **I2C, "channels": {"temperature": "d"}},
    {"type": "tmp117", **I2C, "address": 0x49, "channels": {"temperature": "e"}},
]
TOLERANCE_MILLI = {0: 2, 1: 2, 2: 2, 3: 8, 4: 60, 5: 63, 6: 8}
CLOSED_PORT = 9  # discard: nobody listens there


def by_channel(rows: list[Any], kind: int) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for row in rows:
        if row.kind == kind:
            found.setdefault(row.channel, []).append(row.value)
    return found


def test_every_i2c_sensor_on_one_bus_with_every_fault(bench: Bench) -> None:
    faults = {4: "missing", 8: "zero", 12: "crc", 16: "85", 20: "short", 24: "busy", 28: "wedged"}
    rows: list[Row] = [(i * MINUTE_MS, -9_000 + 700 * i, 30_000 + 1_000 * i, faults.get(i, "")) for i in range(32)]
    config = bench.config("i2c", sensors=CHIPS, gateway={"host": "127.0.0.1", "port": CLOSED_PORT})
    board = bench.board(config, rows, speed=6_000)
    board.start()
    assert board.wait_for(lambda: board.trace_done, DEADLINE_S), board.log
    board.stop()
    tapped = list(read_tap(board.tap_path))
    samples = by_channel(tapped, 0)
    ended = by_channel(tapped, record.FAULT_CLEARED)
    began = by_channel(tapped, record.FAULT)
    assert began == ended, "each ends, with the next row"
    two_wire = [record.FAULT_MISSING, record.FAULT_ALL_ZERO]  # what the bus does alone: no answer, zeros
    after = [record.FAULT_MISSING] * 3  # power lost in a conversion (nothing to fetch), clock held, never ready
    for channel in (0, 1, 2):  # Sensirion
        assert began[channel] == [*two_wire, record.FAULT_CRC, *after], channel
    for channel in (3, 4, 5, 6):  # no checksum: `crc` is nothing to them; they show that they were off
        assert began[channel] == [*two_wire, record.FAULT_POWER_ON, *after[1:]], channel
    for channel, values in samples.items():
        bad = (4, 8, 12, 16, 20, 24) if channel < 3 else (4, 8, 16, 20, 24)
        good = [row for i, row in enumerate(rows) if i not in bad]
        wanted = [row[2] if channel in (1, 4) else row[1] for row in good]
        assert len(values) == len(wanted), channel  # a wedged bus costs no sample
        for value, true in zip(values, wanted, strict=True):
            assert true is not None and abs(value - true) <= TOLERANCE_MILLI[channel], (channel, value, true)
    assert board.counters["missed"] == 0


def limits(**fields: int) -> tuple[bytes, dict[str, Any]]:
    """A signed model for the class `fridge`, and the key that boards must know."""
    key = signing.generate()
    params = model.ChannelParams()
    for name, value in fields.items():
        setattr(params, name, value)
    made = model.Model("demo", "class:fridge", 1, channels={"temperature": params})
    return key.sign(model.to_payload(made)), {"id": "ops", "key": key.public_key.hex()}


def levels(board: Any, pin: int) -> list[int]:
    return [event["value"] for event in board.history("pin") if event["pin"] == pin]


def test_outputs_work_from_the_first_sample_without_any_network(bench: Bench) -> None:
    """No broker, no access point: the very first sample is an alarm, and the pins switch at its time."""
    container, key = limits(high_on_milli=8_000, high_off_milli=7_000)
    wifi = {"ssid": "lab", "password": "correct horse"}
    temperatures = [9_000, 9_000, 5_000, 5_000, 9_000, 5_000]
    rows: list[Row] = [(i * MINUTE_MS, temp, None, "") for i, temp in enumerate(temperatures)]
    rows += [(6 * MINUTE_MS, 5_000, None, "missing"), (7 * MINUTE_MS, 5_000, None, "")]
    config = bench.config(
        "alone",
        wifi=wifi,
        gateway={"host": "127.0.0.1", "port": CLOSED_PORT},
        model_keys=[key],
        actuators=[
            {"type": "relay", "pin": 16, "channel": "temperature", "on": ["high"]},
            {"type": "relay", "pin": 18, "channel": "temperature", "on": ["high"], "active": 0, "safe": 1},
            {"type": "led", "pin": 2, "channel": "temperature", "on": ["high"], "latching": True},
            {"type": "buzzer", "pin": 17, "channel": "temperature", "on": ["high"], "blink_ms": 20_000},
        ],
    )
    board = bench.board(config, rows, files={"/model/a.bin": container}, speed=2_000, wifi=wifi)
    board.drop_wifi()
    board.start()
    assert board.wait_for(lambda: board.trace_done, DEADLINE_S), board.log
    board.stop()
    assert board.counters["acked"] == 0 and board.counters["sampled"] == 7
    assert levels(board, 16) == [0, 1, 0, 1, 0]
    assert levels(board, 18) == [1, 0, 1, 0, 1, 0, 1], "active low, and on while the sensor is missing"
    assert levels(board, 2) == [0, 1], "latched by the first alarm, over its end and a fault"
    beeps = levels(board, 17)
    assert 6 <= len(beeps) <= 11 and beeps[-1] == 0 and all(a != b for a, b in pairwise(beeps))
    first = next(event for event in board.history("pin") if event["pin"] == 16 and event["value"])
    sample = next(row for row in read_tap(board.tap_path) if row.kind == 0)
    assert 0 <= first["uptime_ms"] - (sample.t_s * 1000 + sample.t_ms) < 2_000, "a conversion later, and no more"


def test_a_power_cycle_releases_a_latch(bench: Bench) -> None:
    container, key = limits(high_on_milli=8_000)
    config = bench.config(
        "latch",
        sampling={"period_ms": 10_000},
        gateway={"host": "127.0.0.1", "port": CLOSED_PORT},
        model_keys=[key],
        actuators=[
            {"type": "relay", "pin": 16, "channel": "temperature", "on": ["high"], "latching": True, "release_pin": 14}
        ],
    )
    rows: list[Row] = [(0, 9_000, None, ""), (2 * MINUTE_MS, 5_000, None, ""), (600 * MINUTE_MS, 5_000, None, "")]
    board = bench.board(config, rows, files={"/model/a.bin": container}, speed=200)
    board.start()
    assert board.wait_for(lambda: board.counters.get("sampled", 0) > 20, DEADLINE_S), board.log
    assert levels(board, 16) == [0, 1]
    board.power_cut()
    board.start()  # power on: forgotten
    assert board.wait_for(lambda: board.counters.get("boot") == 2 and board.counters["sampled"] > 2, DEADLINE_S)
    assert levels(board, 16)[2:] == [0]
    board.power_cut()


def test_a_button_releases_a_latch(bench: Bench) -> None:
    container, key = limits(high_on_milli=8_000)
    config = bench.config(
        "button",
        sampling={"period_ms": 10_000},
        gateway={"host": "127.0.0.1", "port": CLOSED_PORT},
        model_keys=[key],
        actuators=[
            {"type": "relay", "pin": 16, "channel": "temperature", "on": ["high"], "latching": True, "release_pin": 14}
        ],
    )
    rows: list[Row] = [(0, 9_000, None, ""), (2 * MINUTE_MS, 5_000, None, ""), (600 * MINUTE_MS, 5_000, None, "")]
    board = bench.board(config, rows, files={"/model/a.bin": container}, speed=200)
    board.start()
    board.set_pin(14, True)
    assert board.wait_for(lambda: board.counters.get("sampled", 0) > 20, DEADLINE_S), board.log
    assert levels(board, 16) == [0, 1]
    board.set_pin(14, False)
    assert board.wait_for(lambda: levels(board, 16) == [0, 1, 0], DEADLINE_S), board.history("pin")
    board.power_cut()


def test_a_board_says_how_long_its_outbox_lasts(bench: Bench, gateway: AckGateway) -> None:
    """One channel a minute, every one reported, on 256 KiB: docs/outbox.md has the same figure."""
    board = bench.board(bench.config("roomy", sampling={"period_ms": MINUTE_MS}))
    board.start()
    assert board.wait_for(lambda: gateway.last("roomy", topics.HEALTH) is not None, DEADLINE_S), board.log
    board.power_cut()
    assert any("1 channels, outbox of 256 KiB, 13.2 days of every sample" in line for line in board.log), board.log
    assert gateway.last("roomy", topics.HEALTH)["outbox_days"] == 13.2
