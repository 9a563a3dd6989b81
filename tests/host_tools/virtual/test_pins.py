"""Pins: what the supervisor sees of outputs, and what the board feels at inputs."""

from __future__ import annotations

import pytest

from .conftest import DEADLINE_S, SAY, Bench

pytestmark = pytest.mark.micropython


def test_outputs_are_reported(bench: Bench) -> None:
    script = """
import machine, time
relay = machine.Pin(16, machine.Pin.OUT, value=0)
relay.on()
time.sleep_ms(200)
relay(0)
led = machine.Pin(2, machine.Pin.OUT)
for _ in range(50):
    led.toggle()
    time.sleep_ms(1)
led.on()
time.sleep(1000)
"""
    board = bench.board(script)
    board.start()
    assert board.wait_for(
        lambda: any(e["pin"] == 2 and e["writes"] == 51 and e["value"] == 1 for e in board.history("pin")), DEADLINE_S
    )
    board.power_cut()
    seen = [(event["pin"], event["value"]) for event in board.history("pin")]
    relay = [value for pin, value in seen if pin == 16]
    assert relay == [0, 1, 0]
    assert len([value for pin, value in seen if pin == 2]) < 40  # a fast pin is thinned, its writes are counted


def test_inputs_pulls_and_edges(bench: Bench) -> None:
    script = """
import machine, select
seen = []
button = machine.Pin(14, machine.Pin.IN, machine.Pin.PULL_UP)
idle = [button(), machine.Pin(15, machine.Pin.IN).value(), machine.Pin(14) is button]
button.irq(lambda pin: seen.append(pin.value()), machine.Pin.IRQ_RISING | machine.Pin.IRQ_FALLING)
print("ready")
poller = select.poll()
while len(seen) < 3:
    select.virtual_wait(poller, 10, -1)
say([idle, seen])
"""
    board = bench.board(SAY + script)
    board.start()
    assert board.wait_for(lambda: "ready" in board.log, DEADLINE_S)
    for level in (False, False, True, False):
        board.set_pin(14, level)
    assert bench.result(board) == [[1, 0, True], [0, 1, 0]]
    board.power_cut()


def test_open_drain_floats_high_and_pulls_low(bench: Bench) -> None:
    script = """
import machine
pin = machine.Pin(5, machine.Pin.OPEN_DRAIN, machine.Pin.PULL_UP, value=1)
high = pin()
pin(0)
say([high, pin()])
"""
    assert bench.run(script) == [1, 0]


def test_chip_facts(bench: Bench) -> None:
    script = """
import machine, esp32
say([len(machine.unique_id()), machine.freq(), esp32.mcu_temperature(), esp32.idf_heap_info(esp32.HEAP_DATA)[0][0] > 0])
"""
    assert bench.run(script) == [6, 160_000_000, 36, True]


def test_unknown_control_line_is_an_error_event(bench: Bench) -> None:
    board = bench.board("import time\ntime.sleep(1000)")
    board.start()
    board.wait_event("boot", DEADLINE_S)
    board._send("fly away")
    assert "fly away" in board.wait_event("error", DEADLINE_S)["text"]
    board.power_cut()
