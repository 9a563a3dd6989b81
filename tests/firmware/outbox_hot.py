"""Runs on 32-bit MicroPython: `append` allocates nothing, whatever it is given and however full the ring is.

Argument: an empty folder.
"""

import gc
import sys

import micropython

from isocore.frame import decode
from isocore.record import DELTA, FAULT, HIGH_ON, LOST, SMALL_INT_MAX, VALUE_MAX, WINDOW_MEAN
from isonode.outbox import URGENT_RECORDS, Outbox

YEAR_S = 366 * 86400


def run(outbox, count, kinds, value, t_s, t_ms, trend):
    """The hot path with the heap locked: any allocation raises MemoryError."""
    many = len(kinds)
    micropython.heap_lock()
    i = 0
    seq = 0
    while i < count:
        seq = outbox.append(kinds[i % many], 0, value, t_s, t_ms, trend)
        i += 1
    micropython.heap_unlock()
    return seq


def walk(outbox):
    """Records and LOST counts that RAM holds."""
    seq = outbox.floor()[1] - 1
    records = []
    while True:
        found = outbox.next_frame(outbox.boot, seq, seal=True)
        if found is None:
            return records
        for record in decode(found[0]).records:
            assert record[0] > seq
            records.append(record)
            seq = record[0]


outbox = Outbox(sys.argv[1] + "/hot", 1)
assert outbox.open()
outbox.next_seq = SMALL_INT_MAX - 4000
outbox.epoch_s = SMALL_INT_MAX - 1
run(outbox, 5, bytes([DELTA, HIGH_ON]), VALUE_MAX, YEAR_S, 999, 32767)
run(outbox, 5, bytes([DELTA]), -VALUE_MAX, YEAR_S + 900000, 0, -32768)
run(outbox, 5, bytes([FAULT]), SMALL_INT_MAX, SMALL_INT_MAX, 999, 0)
assert outbox.flush()
assert outbox.counts.io_errors == 0

# The ring runs over with the heap locked: reports become LOST, events stay.
ram = Outbox(sys.argv[1] + "/ram", 1)
run(ram, 1000, bytes([DELTA]), 20000, 5, 5, 0)
run(ram, 40, bytes([HIGH_ON]), 20000, 5, 5, 0)
run(ram, 1000, bytes([DELTA, WINDOW_MEAN]), 20000, 5, 5, 0)
records = walk(ram)
assert len(records) == 64, len(records)
assert sum(1 for r in records if r[1] == HIGH_ON) == 40
assert sum(r[3] for r in records if r[1] == LOST) + sum(1 for r in records if r[1] != LOST) == 2040
assert ram.urgent_dropped == 40 - URGENT_RECORDS

# Nothing but events: the oldest go, in the end.
events = Outbox(sys.argv[1] + "/events", 1)
run(events, 500, bytes([HIGH_ON]), 20000, 5, 5, 0)
records = walk(events)
assert records[0][1] == LOST and records[0][3] == 500 - 63, records[0]
assert events.counts.evicted_events == 500 - 63

# Worst case to untangle: events and reports in turn.
mixed = Outbox(sys.argv[1] + "/mixed", 1)
run(mixed, 700, bytes([HIGH_ON, DELTA]), 20000, 5, 5, 0)
records = walk(mixed)
assert sum(r[3] for r in records if r[1] == LOST) + sum(1 for r in records if r[1] != LOST) == 700
gc.collect()
print("ok=1")
