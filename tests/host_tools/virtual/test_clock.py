"""Virtual time: each row once, exact waits, wraps, two bounds on one wait, and time across restarts."""

from __future__ import annotations

from functools import partial

import pytest

from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.tap import read_tap

from .conftest import DEADLINE_S, SAY, Bench, Row

pytestmark = pytest.mark.micropython

DHT = [{"type": "dht22", "pin": 4}]
STROBE = 27

# As the application does it: a stream that the pin's handler makes ready wakes the one poll.
SAMPLER = """
import machine, dht, io, select, time
class Strobe(io.IOBase):
    count = 0
    def edge(self, pin):
        self.count += 1
    def ioctl(self, request, argument):
        return argument if request == 3 and self.count else 0
strobe = Strobe()
poller = select.poll()
poller.register(strobe, select.POLLIN)
sensor = dht.DHT22(machine.Pin(4))
machine.tap_boot = machine.reset_cause()
seq = 0
machine.Pin(27, machine.Pin.IN, machine.Pin.PULL_UP).irq(strobe.edge, machine.Pin.IRQ_RISING)
while True:
    for obj, event in select.virtual_wait(poller, 60000, 1000):
        strobe.count -= 1
        sensor.measure()
        seq += 1
        now = time.ticks_ms()
        machine.tap(0, 0, (sensor.buf[2] << 8 | sensor.buf[3]) * 100, seq, now // 1000, now % 1000)
"""


def _rows(times_ms: list[int]) -> list[Row]:
    return [(t_ms, 10_000 + 100 * i, None, "") for i, t_ms in enumerate(times_ms)]


def test_each_row_of_an_irregular_trace_is_sampled_once_at_its_time(bench: Bench) -> None:
    times_ms = [0, 1, 3, 1_000, 1_001, 61_001, 61_500, 361_500, 361_501, 4_000_000, 90_000_000]
    board = bench.board(SAMPLER, rows=_rows(times_ms), devices=DHT, strobe_pin=STROBE, speed=1_000_000)
    board.start()
    board.wait_event("trace_end", DEADLINE_S)
    board.stop()
    taps = list(read_tap(board.tap_path))
    assert [row.value for row in taps] == [10_000 + 100 * i for i in range(len(times_ms))]
    late_ms = [row.t_s * 1000 + row.t_ms - t_ms for row, t_ms in zip(taps, times_ms, strict=True)]
    assert min(late_ms) >= 0
    assert late_ms[-1] < 1_000  # computing takes real time; waiting adds nothing
    assert [row.real_unix_us for row in taps] == sorted(row.real_unix_us for row in taps)


def test_rows_wait_for_a_slow_sensor(bench: Bench) -> None:
    script = """
import machine, onewire, ds18x20, select, time
bus = ds18x20.DS18X20(onewire.OneWire(machine.Pin(5)))
rom = bus.scan()[0]
poller = select.poll()
pending = 0
def edge(pin):
    global pending
    pending = 1
machine.Pin(27, machine.Pin.IN).irq(edge, machine.Pin.IRQ_RISING)
seq = 0
while True:
    select.virtual_wait(poller, 10, -1)
    if pending:
        pending = 0
        bus.convert_temp()
        select.virtual_wait(poller, 750, -1)
        seq += 1
        machine.tap(0, 0, int(bus.read_temp(rom)) * 1000, seq, 0, 0)
"""
    rows: list[Row] = [(100 * i, 1000 * i, None, "") for i in range(20)]
    board = bench.board(script, rows=rows, devices=[{"type": "ds18b20", "pin": 5}], strobe_pin=STROBE, speed=10_000)
    board.start()
    board.wait_event("trace_end", DEADLINE_S)
    assert board.wait_for(lambda: len(list(read_tap(board.tap_path))) == 20, DEADLINE_S)
    board.stop()
    assert [row.value for row in read_tap(board.tap_path)] == [1000 * i for i in range(20)]


def test_period_mode_reports_the_end_of_the_rows_and_keeps_the_last(bench: Bench) -> None:
    script = """
import machine, dht, time
sensor = dht.DHT22(machine.Pin(4))
seen = []
while not seen or seen[-1] != 3.0:
    time.sleep_ms(60000)
    sensor.measure()
    seen.append(round(sensor.temperature(), 1))
sensor.measure()
say([seen, round(sensor.temperature(), 1)])
"""
    rows: list[Row] = [(30_000, 1_000, None, ""), (90_000, 2_000, None, ""), (150_000, 3_000, None, "")]
    board = bench.board(SAY + script, rows=rows, devices=DHT, speed=10_000)
    board.start()
    board.wait_event("rows_end", DEADLINE_S)
    assert board.trace_done
    assert board.counters["rows"] == 3
    board.power_cut()


def test_ticks_wrap_at_two_to_the_thirty(bench: Bench) -> None:
    script = """
import time
before = time.ticks_ms()
time.sleep_ms(2000)
after = time.ticks_ms()
say([before, after, time.ticks_diff(after, before), time.ticks_add(before, 2000) - after])
"""
    before, after, difference, off = bench.run(script, ticks_start_ms=(1 << 30) - 1000, speed=1000)
    assert (1 << 30) - 1000 <= before < 1 << 30
    assert 0 <= after < 1 << 30
    assert after < before
    assert 2000 <= difference < 10_000
    assert -8000 < off <= 0


def test_waiting_advances_board_time_exactly_and_real_time_by_its_share(bench: Bench) -> None:
    script = """
import time
net = time.net_ticks_ms()
late = 0
for i in range(400):
    start = time.ticks_ms()
    time.sleep_ms(997)
    late += time.ticks_diff(time.ticks_ms(), start) - 997
say([late, time.ticks_diff(time.net_ticks_ms(), net)])
"""
    late_ms, real_ms = bench.run(script, speed=1000)
    assert 0 <= late_ms < 10_000  # of 398,800: real milliseconds spent computing, if any
    assert real_ms >= 150  # 398.8 s at a thousandfold, less what a late board may catch up (sim/clock.py, LAG_MAX_US)


def test_a_wait_ends_at_whichever_bound_comes_first(bench: Bench) -> None:
    script = """
import select, time
poller = select.poll()
start = time.ticks_ms()
select.virtual_wait(poller, 5000, -1)
due = time.ticks_diff(time.ticks_ms(), start)
net = time.net_ticks_ms()
start = time.ticks_ms()
select.virtual_wait(poller, 400000000, 30)
say([due, time.ticks_diff(time.net_ticks_ms(), net) >= 30, 0 < time.ticks_diff(time.ticks_ms(), start) < 400000000])
"""
    due_ms, waited, short = bench.run(script, speed=1000)
    assert 5000 <= due_ms < 10_000
    assert waited and short


def test_ready_stream_ends_a_wait_at_once(bench: Bench) -> None:
    script = """
import io, select, time
class Always(io.IOBase):
    def ioctl(self, request, argument):
        return argument if request == 3 else -1
stream = Always()
poller = select.poll()
poller.register(stream, select.POLLIN)
start = time.ticks_ms()
ready = [(obj is stream, event) for obj, event in select.virtual_wait(poller, 100000, -1)]
again = [(obj is stream, event) for obj, event in poller.ipoll(100000)]
poller.unregister(stream)
say([ready, again, time.ticks_diff(time.ticks_ms(), start) < 1000, poller.poll(10)])
"""
    assert bench.run(script) == [[[True, 1]], [[True, 1]], True, []]


def _rows_reached(board: VirtualBoard, rows: int) -> bool:
    return bool(board.counters.get("rows", 0) >= rows)


def test_run_time_and_rows_go_on_after_a_power_cut(bench: Bench) -> None:
    times_ms = [60_000 * i for i in range(400)]
    board = bench.board(SAMPLER, rows=_rows(times_ms), devices=DHT, strobe_pin=STROBE, speed=20_000)
    board.start()
    for cut in range(1, 4):
        assert board.wait_for(partial(_rows_reached, board, 60 * cut), DEADLINE_S)
        before_ms = board.counters["run_ms"]
        board.power_cut()
        board.start()
        board.wait_event("boot", DEADLINE_S, count=cut + 1)
        board.wait_event("counters", DEADLINE_S, count=board.event_counts["counters"] + 1)
        assert board.counters["run_ms"] >= before_ms
    board.wait_event("trace_end", DEADLINE_S)
    board.stop()
    assert board.boots == 4
    values = [row.value for row in read_tap(board.tap_path)]
    assert values == sorted(set(values)), "a row was shown twice"
    assert len(values) >= 400 - 3, "more than the row that was on show at each cut is missing"


def test_wall_clock_is_the_rtc_from_2000(bench: Bench) -> None:
    script = """
import machine, time
first = time.gmtime()
day = machine.RTC().datetime()[:7]
back = time.mktime(time.gmtime(86400 * 366)) - 86400 * 366
machine.RTC().datetime((2030, 5, 17, 0, 12, 30, 15, 0))
say([time.gmtime(0)[:6], first, day, back, time.gmtime()[:6], time.time_ns() // 1000000000 - time.time()])
"""
    epoch, now, day, back, moved, whole = bench.run(script, epoch_s=1_700_000_000)
    assert epoch == [2000, 1, 1, 0, 0, 0]
    assert now == [2023, 11, 14, 22, 13, 20, 1, 318]
    assert day == [2023, 11, 14, 1, 22, 13, 20]
    assert back == 0
    assert moved[:5] == [2030, 5, 17, 12, 30]
    assert whole in (0, -1)


def test_malformed_row_ends_the_trace_with_a_word(bench: Bench) -> None:
    rows = [(0, 1_000, None, ""), (1_000, 1_000, None, "haunted")]
    board = bench.board(SAMPLER, rows=rows, strobe_pin=STROBE, devices=DHT, speed=100)
    board.start()
    assert "malformed" in board.wait_event("error", DEADLINE_S)["text"]
    board.wait_event("trace_end", DEADLINE_S)
    board.power_cut()
