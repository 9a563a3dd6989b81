"""Runs on MicroPython: from a sensor's reading to its record in the outbox, through the application's own code.

Arguments: folders of firmware, umqtt and outbox. The node is built without its constructor: sensors stand ready, and
neither network nor flash is in the measured stretch. Every reading makes a record, since the error bound is 0. Prints
one line of `name=number`; time in ns and heap in bytes for one reading.
"""

# MicroPython: the path comes before the imports.
# ruff: noqa: E402, UP031

import gc
import sys
import time

sys.path[:0] = sys.argv[1:3]

from isocore.filter import ChannelFilter
from isocore.model import ChannelParams
from isonode import app
from isonode.health import new_counters
from isonode.outbox import Outbox

BLOCKS = 400
BLOCK = 32


class Link:
    head_seq = 0

    def appended(self, seq, urgent):
        self.head_seq = seq


class Models:
    on_trial = False

    def on_sample(self):
        pass

    def on_out_of_range(self):
        pass


class Sensor:
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


class Node(app.Node):
    def __init__(self, folder):
        params = ChannelParams()
        params.error_milli = 0
        params.high_on_milli = 30000
        params.high_off_milli = 29000
        self.settings = Settings()
        self.counters = new_counters(1)
        self.tap = None
        self.clock = app.Clock(app.hal.ticks_ms, app.hal.ticks_diff)
        self.outbox = Outbox(root=folder, boot=1, ram_records=2 * BLOCK, spill_records=2 * BLOCK)
        self.outbox.open()
        self.link = Link()
        self.models = Models()
        self.filters = [ChannelFilter(params)]
        self.outputs = None
        self.sensors = [Sensor()]
        self.strobe = None
        self._pending = [False]
        self._read_once = [False]
        self._out_before = [False]
        self._urgent = False
        self._due = app.hal.ticks_ms()
        self._round_s = self._round_ms = 0

    def block(self, readings):
        """The measured stretch: so many readings, one after another."""
        values = self.sensors[0].values
        for i in range(readings):
            values[0] = 20000 + i
            now = self.clock.advance()
            self._begin(now, now)
            self._finish(0)


node = Node(sys.argv[3])
took = heap = 0
for _ in range(BLOCKS):
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    started = time.ticks_us()
    node.block(BLOCK)
    took += time.ticks_diff(time.ticks_us(), started)
    heap += gc.mem_alloc() - before
    gc.enable()
    node.outbox.ack(1, node.outbox.next_seq - 1)
records = node.outbox.next_seq - 1
assert records == BLOCKS * BLOCK, records
print("record=%d heap=%d" % (took * 1000 // records, heap // records))
