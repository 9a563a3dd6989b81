"""Runs on MicroPython: what the outbox costs a chip, in counts. Prints one line of `name=number` each.

Arguments: which of erases, backlog, memory; for memory an empty folder follows.
"""

import gc
import sys

from outbox_flash import RamFlash, format_and_mount, unmount

from isocore.record import DELTA, HIGH_ON
from isonode.outbox import Outbox

BLOCKS = 96
BLOCK_BYTES = 4096


def new(batch, **more):
    flash = RamFlash(BLOCKS, BLOCK_BYTES)
    format_and_mount(flash)
    outbox = Outbox("/f/outbox", 1, ram_records=2 * batch, spill_records=batch, **more)
    assert outbox.open()
    return flash, outbox


def deliver(outbox, behind):
    """The gateway acknowledges all but the last `behind` records."""
    seq = outbox.next_seq - 1 - behind
    if seq > 0:
        outbox.ack(1, seq)


def steady(batch, records, behind):
    """Always `behind` records late: each one is written, each segment deleted. Erases per 1000 records."""
    flash, outbox = new(batch)
    before = 0
    for i in range(2 * records):
        if i == records:
            before = flash.erases
        outbox.append(DELTA, 0, 20000 + i % 100, i * 60, 0)
        outbox.maintain(i * 60 % batch)  # the age alone spills nothing here
        if i % batch == 0:
            deliver(outbox, behind)
    assert outbox.counts.io_errors == 0
    outbox.close()
    unmount()
    return (flash.erases - before) * 1000 // records


def full(batch, records):
    """Offline for ever: every record is written, and as many are evicted. Erases per 1000 records."""
    flash, outbox = new(batch, capacity_bytes=65536)
    before = 0
    for i in range(2 * records + 6000):
        if i == records + 6000:
            before = flash.erases
        outbox.append(DELTA, 0, 20000 + i % 100, i * 60, 0)
        outbox.maintain(0)
    assert outbox.counts.evicted_reports
    outbox.close()
    unmount()
    return (flash.erases - before) * 1000 // records


def erases():
    for batch in (10, 16, 32):
        print(f"batch{batch}={steady(batch, 3000, 500)}")
    for batch in (10, 32):
        print(f"full{batch}={full(batch, 3000)}")


class ReadCounter(RamFlash):
    """Counts reads."""

    reads = 0

    def readblocks(self, block, buf, offset=0):
        self.reads += 1
        return RamFlash.readblocks(self, block, buf, offset)


def walk(outbox):
    frames = 0
    boot, seq = outbox.floor()
    seq -= 1
    while True:
        found = outbox.next_frame(boot, seq, seal=True)
        if found is None:
            return frames, seq
        frames += 1
        boot = found[1]
        seq = found[3]


def backlog():
    """Reads of the chip for each frame while a backlog is walked, and frames."""
    flash = ReadCounter(BLOCKS, BLOCK_BYTES)
    format_and_mount(flash)
    outbox = Outbox("/f/outbox", 1)
    assert outbox.open()
    per_frame = []
    for total in (1000, 10000):
        while outbox.next_seq <= total:
            outbox.append(DELTA, 0, 20000, outbox.next_seq, 0)
            outbox.maintain(0)
        flash.reads = 0
        frames, last = walk(outbox)
        assert last == total
        per_frame.append(flash.reads * 10 // frames)
    print(f"reads_at_1000={per_frame[0]} reads_at_10000={per_frame[1]} frames={frames}")


def memory():
    """Bytes an outbox keeps, and the garbage of its calls. In a host folder: a chip in RAM adds garbage of its own."""
    gc.collect()
    gc.collect()
    before = gc.mem_alloc()
    outbox = Outbox(sys.argv[2], 1, capacity_bytes=65536)
    assert outbox.open()
    gc.collect()
    state = gc.mem_alloc() - before
    worst = [0, 0, 0]
    gc.disable()
    for i in range(9000):
        outbox.append(HIGH_ON if i % 100 == 0 else DELTA, 0, 20000, i, 0)
        evictions = outbox.counts.compactions
        gc.collect()
        at = gc.mem_alloc()
        wrote = outbox.maintain(0)
        used = gc.mem_alloc() - at
        k = 1 if outbox.counts.compactions > evictions else 0
        if wrote and used > worst[k]:
            worst[k] = used
    gc.collect()
    at = gc.mem_alloc()
    assert outbox.next_frame(1, 0)
    worst[2] = gc.mem_alloc() - at
    gc.enable()
    gc.collect()
    grown = gc.mem_alloc() - before
    print(f"state={state} full={grown} spill={worst[0]} evict={worst[1]} frame={worst[2]}")


{"erases": erases, "backlog": backlog, "memory": memory}[sys.argv[1]]()
