"""Runs on MicroPython: readings go through filter, actuator and outbox with the heap locked.

Arguments: folder of the firmware, folder of umqtt, folder for the outbox. The node is built without its constructor, so
that nothing but the hot path is there. An allocation raises MemoryError. Prints what was emitted.
"""

# MicroPython: the path comes before the imports, and there is no contextlib.
# ruff: noqa: E402, I001, UP031

import gc
import sys

sys.path[:0] = sys.argv[1:3]

import micropython
from isocore.filter import ChannelFilter
from isocore.model import ChannelParams
from isocore.record import VALUE_MAX
from isonode import app
from isonode.actuator import Outputs
from isonode.clock import Clock
from isonode.health import new_counters
from isonode.outbox import Outbox
from isonode.settings import Actuator

YEAR_S = 366 * 86400
SMALL_INT_MAX = (1 << 30) - 1


class Link:
    def __init__(self):
        self.head_seq = 0

    def appended(self, seq, urgent):
        self.head_seq = seq


class Models:
    on_trial = True

    def on_sample(self):
        pass

    def on_out_of_range(self):
        pass


class Pin:
    IN = PULL_DOWN = PULL_UP = 1

    def init(self, mode, pull):
        pass

    def __init__(self):
        self.level = 0

    def value(self, level=None):
        if level is not None:
            self.level = level
        return self.level


class Hal:
    ticks_ms = staticmethod(app.hal.ticks_ms)
    ticks_diff = staticmethod(app.hal.ticks_diff)

    def pin_out(self, number, level):
        return Pin()

    def pin_open(self, number):
        return Pin()


def outputs():
    """One that follows, and one with everything that costs."""
    blinking = Actuator("buzzer", 2, 0, ["high", "low", "rate"], 1, 1)
    blinking.latching = True
    blinking.release_pin = 3
    blinking.release_level = 1
    blinking.blink_ms = 100
    return [Actuator("relay", 1, 0, ["high", "low"], 1, 0), blinking]


class Sensor:
    """Ready at once; what it reads is set from outside."""

    channels = (0,)

    def __init__(self):
        self.values = [0]
        self.faults = [0]

    def start(self, now):
        pass

    def wait_ms(self, now):
        return 0

    def read(self, now):
        return True


class Settings:
    period_ms = 1000


def params():
    made = ChannelParams()
    made.high_on_milli = 30000
    made.high_off_milli = 29000
    made.low_on_milli = -30000
    made.low_off_milli = -29000
    made.rate_limit_milli_min = 1000
    made.stuck_s = 600
    made.valid_min_milli = -VALUE_MAX
    made.valid_max_milli = VALUE_MAX - 1
    made.error_milli = 0
    return made


class BareNode(app.Node):
    """Without a configuration, a network and a flash of its own."""

    def __init__(self):
        pass


node = BareNode()
node.settings = Settings()
node.counters = new_counters(1)
node.tap = None
node.clock = Clock(app.hal.ticks_ms, app.hal.ticks_diff)
node.clock.s = YEAR_S
node.outbox = Outbox(root=sys.argv[3], boot=1, ram_records=64, spill_records=16)
node.outbox.open()
node.outbox.epoch_s = SMALL_INT_MAX - 10
node.link = Link()
node.models = Models()
node.filters = [ChannelFilter(params())]
node.outputs = Outputs(outputs(), Hal(), sys.argv[3] + "/latch.bin")
node.sensors = [Sensor()]
node._pending = [False]
node._read_once = [False]
node._out_before = [False]
node._urgent = False
node.strobe = None
node._due = app.hal.ticks_ms()
node._round_s = node._round_ms = 0

VALUES = (0, 100, 30000, VALUE_MAX - 1, -VALUE_MAX, -30001, 29000, 5, VALUE_MAX, 5, 5, -1, 31000, 28000)
rounds = 0
now = 0  # a new name could make the module's table grow
for faults in (0, 1, 0, 6, 0):
    for value in VALUES:
        node.sensors[0].values[0] = value
        node.sensors[0].faults[0] = faults
        # what sealing and sending do beside the hot path; the ring is full at times, so eviction is on it too
        if rounds % 50 == 49:
            node.outbox.flush()
        gc.collect()
        micropython.heap_lock()
        now = node.clock.advance()
        node._due = now
        node._urgent = False
        node._begin(node._due, now)
        node._finish(0)
        node.outputs.step(now)
        node.outputs.sooner_ms(now, 5)
        node.clock.s += 70
        micropython.heap_unlock()
        rounds += 1

# the whole of `sample`, as the loop calls it
node._send_events = lambda: None
node._pending[0] = False
node.sensors[0].faults[0] = 0
gc.collect()
for value in VALUES:
    node.sensors[0].values[0] = value
    node._due = node.clock.advance()
    node._urgent = False
    micropython.heap_lock()
    node.sample(node._due)
    micropython.heap_unlock()
    rounds += 1

counters = node.counters
print(
    "rounds=%d sampled=%d sent=%d suppressed=%d events=%d seq=%d"
    % (
        rounds,
        counters["sampled"],
        counters["sent"],
        counters["suppressed"],
        counters["events_sent"],
        node.link.head_seq,
    )
)
