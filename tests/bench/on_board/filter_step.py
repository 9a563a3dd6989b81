"""Runs on MicroPython: time and heap of one filter step, and of a bare integer state machine beside it.

Argument: folder of the firmware. Prints one line of `name=number`; times in ns, heap in bytes, both for one step.
"""

# MicroPython: the path comes before the imports.
# ruff: noqa: E402, UP031

import gc
import sys
import time

sys.path[:0] = sys.argv[1:2]

from isocore.filter import ChannelFilter
from isocore.model import ChannelParams

ROUNDS = 4000
VALUES = (21000, 21062, 21125, 21062, 21000, 20937, 21000, 21062, 21125, 21187, 21250, 21187, 21125, 21062, 20937)


class Bare:
    """Hysteresis and send-on-delta, and nothing else: the least that could be called a filter."""

    def __init__(self):
        self.alarm = False
        self.last = 0

    def step(self, value):
        if self.alarm:
            if value <= 29000:
                self.alarm = False
        elif value >= 30000:
            self.alarm = True
        change = value - self.last
        if change > 500 or change < -500:
            self.last = value
            return 1
        return 0


def params(full):
    made = ChannelParams()
    made.error_milli = 500
    if full:
        made.high_on_milli = 30000
        made.high_off_milli = 29000
        made.low_on_milli = 10000
        made.low_off_milli = 11000
        made.rate_limit_milli_min = 2000
        made.stuck_s = 86400
        made.debounce_samples = 2
    return made


def empty(values, rounds):
    at = 0
    for _ in range(rounds):
        for _value in values:
            at += 60


def bare(machine, values, rounds):
    at = 0
    for _ in range(rounds):
        for value in values:
            at += 60
            machine.step(value)


def real(machine, values, rounds):
    at = 0
    for _ in range(rounds):
        for value in values:
            at += 60
            machine.step(at, 0, value)


def measure(loop, *arguments):
    steps = ROUNDS * len(VALUES)
    gc.collect()
    gc.disable()
    heap = gc.mem_alloc()
    started = time.ticks_us()
    loop(*arguments)
    took = time.ticks_diff(time.ticks_us(), started)
    heap = gc.mem_alloc() - heap
    gc.enable()
    return took * 1000 // steps, heap // steps


loop_ns, loop_heap = measure(empty, VALUES, ROUNDS)
bare_ns, bare_heap = measure(bare, Bare(), VALUES, ROUNDS)
plain_ns, plain_heap = measure(real, ChannelFilter(params(False)), VALUES, ROUNDS)
full_ns, full_heap = measure(real, ChannelFilter(params(True)), VALUES, ROUNDS)
print(
    "bare=%d plain=%d full=%d bare_heap=%d plain_heap=%d full_heap=%d"
    % (bare_ns - loop_ns, plain_ns - loop_ns, full_ns - loop_ns, bare_heap, plain_heap, full_heap)
)
