"""Runs on MicroPython: cut the power at every program and erase in the life of an outbox, then look what is left.

Argument: the scenario. Each operation of it is cut in three ways (clean, torn, just done). For the scenario "random" a
seed and a number of cuts follow: one chip lives through them all.
Prints a line of `name=number`; ends in an AssertionError that names the cut at the first violation.
"""

import gc
import os
import random
import sys

from outbox_flash import CUT_CLEAN, CUT_DONE, CUT_TORN, RamFlash, format_and_mount, mount, unmount

from isocore.frame import decode
from isocore.record import DELTA, HIGH_ON, LOST
from isonode.outbox import Outbox

ROOT = "/f/outbox"

# blocks, block_bytes, segment_bytes, capacity_bytes, records before, records in the life, an event every, an ack every
SCENARIOS = {
    "young": (48, 512, 1024, 8192, 0, 70, 13, 0),
    "draining": (48, 512, 1024, 8192, 200, 70, 13, 3),
    "full": (48, 512, 1024, 6144, 600, 70, 11, 0),
    "full_of_events": (48, 512, 1024, 6144, 700, 60, 2, 0),
    "cramped": (48, 512, 1024, 65536, 300, 70, 11, 0),
    "random": (40, 512, 1024, 7168, 0, 0, 9, 0),
    "real_blocks": (16, 4096, 4096, 16384, 1280, 70, 40, 50),
}
SPILL_RECORDS = 8
LIVED_EVERY = 10  # not a multiple of the three ways of a cut: each of them comes
EVICTS_EVENTS = ("full_of_events",)


def value_of(boot, seq):
    return (seq * 7919 + boot * 104729) % 60000 - 20000


def open_outbox(boot, scenario):
    _, block_bytes, segment_bytes, capacity_bytes, _, _, _, _ = scenario
    outbox = Outbox(
        ROOT,
        boot,
        ram_records=2 * SPILL_RECORDS,
        spill_records=SPILL_RECORDS,
        segment_bytes=segment_bytes,
        capacity_bytes=capacity_bytes,
        block_bytes=block_bytes,
    )
    return outbox, outbox.open()


class Life:
    """Appends, spills, flushes alarms, acknowledges; knows what it was promised."""

    def __init__(self, outbox, event_every, ack_every):
        self.outbox = outbox
        self.event_every = event_every
        self.ack_every = ack_every
        self.durable = 0

    def run(self, count, flash):
        outbox = self.outbox
        for i in range(count):
            seq = outbox.next_seq
            event = seq % self.event_every == 0
            outbox.append(HIGH_ON if event else DELTA, 0, value_of(outbox.boot, seq), 1 + seq * 60, seq % 1000)
            outbox.maintain(1 + seq * 60)
            if event and outbox.flush_urgent():
                self.durable = seq
            if self.ack_every and i % self.ack_every == self.ack_every - 1:
                self._acknowledge()
            if flash.dead:
                return
        if outbox.flush():
            self.durable = outbox.next_seq - 1

    def _acknowledge(self):
        boot, seq = self.outbox.floor()
        found = self.outbox.next_frame(boot, seq - 1, seal=True)
        if found is not None:
            self.outbox.ack(found[1], found[3])


def fill(flash, spare_blocks):
    """Another file takes all room but a little: what a log that nobody bounds does."""
    try:
        with open("/f/filler", "ab") as file:
            while os.statvfs("/f")[3] > spare_blocks:
                file.write(bytes(flash.block_bytes))
                file.flush()
    except OSError:
        pass


def check(outbox, scenario, promised, may_evict_events):
    """Walk everything; promised: {boot: last durable seq}. Returns records delivered."""
    event_every = scenario[6]
    boot, seq = outbox.floor()
    seq -= 1
    delivered = 0
    covered = {boot: seq}
    while True:
        found = outbox.next_frame(boot, seq, seal=True)
        if found is None:
            break
        frame = decode(found[0])
        assert frame.boot >= boot, "order of boots"
        if frame.boot != boot:
            boot = frame.boot
            seq = 0
        for record_seq, kind, _, value, _, _ in frame.records:
            if record_seq <= seq:
                continue
            if kind == LOST:
                assert record_seq - value <= seq, "gap before LOST"
                if not may_evict_events:
                    for gone in range(seq + 1, record_seq + 1):
                        assert gone % event_every, "an event was evicted"
            else:
                assert record_seq == seq + 1, "gap"
                assert value == value_of(boot, record_seq), "altered"
                assert kind == (DELTA if record_seq % event_every else HIGH_ON), "altered kind"
                delivered += 1
            seq = record_seq
        covered[boot] = seq
    for boot in promised:
        if promised[boot] and boot >= outbox.floor()[0]:
            assert covered.get(boot, 0) >= promised[boot], "durable records are gone"
    return delivered


def prepare(scenario):
    """A chip with some history: boot 1, and what it was promised."""
    flash = RamFlash(scenario[0], scenario[1])
    format_and_mount(flash)
    promised = {}
    if scenario[4]:
        outbox, usable = open_outbox(1, scenario)
        assert usable
        life = Life(outbox, scenario[6], 0)
        life.run(scenario[4], flash)
        outbox.close()
        promised[1] = life.durable
        assert life.durable == scenario[4], "the history did not fit"
    unmount()
    return bytes(flash.data), promised


def live(scenario, image, dies_at=0, mode=0):
    """A life that begins with `image`, until the power fails at operation dies_at. Returns (flash, life, image then).

    Without a dies_at it is lived to its end, and flash.log tells each operation. The image is that of the first one.
    """
    flash = RamFlash(scenario[0], scenario[1], image)
    mount(flash)
    if scenario is not SCENARIOS["cramped"]:
        flash.durable = int  # nothing yet
        flash.arm(dies_at, mode)
    outbox, _ = open_outbox(2, scenario)
    life = Life(outbox, scenario[6], scenario[7])
    flash.durable = lambda: life.durable
    if scenario is SCENARIOS["cramped"]:
        fill(flash, 1)
        image = bytes(flash.data)
        flash.arm(dies_at, mode)
    life.run(scenario[5], flash)
    outbox.close()  # lets go of files: once the chip is dead, nothing reaches it
    assert flash.dead or outbox.counts.io_errors == 0, "errors without a fault"
    unmount()
    return flash, life, image


def look(scenario, flash, promised, evict_events):
    """The power is back: what was promised is there, and the board goes on. Returns the records delivered."""
    mount(flash)
    outbox, usable = open_outbox(3, scenario)
    assert usable, "open failed"
    assert outbox.boot == 3, "boot was raised"
    delivered = check(outbox, scenario, promised, evict_events)
    seq = outbox.append(DELTA, 0, value_of(3, 1), 61, 1)
    assert seq == 1
    if scenario is not SCENARIOS["cramped"]:
        assert outbox.flush(), "the chip takes nothing any more"
        promised[3] = 1
    check(outbox, scenario, promised, evict_events)
    assert outbox.counts.io_errors == 0, "errors after the remount"
    outbox.close()
    unmount()
    return delivered


def every_cut(name):
    """Every operation of the scenario, cut in three ways.

    It is lived once, with each operation written down: the chip after a cut is what was there before the operation and
    what the cut left of it. Every LIVED_EVERYth cut is lived indeed, by an outbox whose chip dies under it.
    """
    scenario = SCENARIOS[name]
    image, promised = prepare(scenario)
    before = image
    whole, life, image = live(scenario, before)
    found = life.outbox.counts
    data = bytearray(image)
    cuts = 0
    delivered = 0
    for at, content, durable in whole.log:
        for mode in (CUT_CLEAN, CUT_TORN, CUT_DONE):
            gc.collect()
            flash = RamFlash(scenario[0], scenario[1], data)
            flash.cut(at, content, mode)
            try:
                if cuts % LIVED_EVERY == 0:
                    flash, life, _ = live(scenario, before, 1 + cuts // 3, mode)
                    assert flash.dead and life.durable == durable, "another life"
                    flash.arm(0, mode)
                    flash.dead = False
                held = dict(promised)
                held[2] = durable
                delivered += look(scenario, flash, held, name in EVICTS_EVENTS)
            except AssertionError:
                print(f"violated at cut {cuts} of {name}")
                raise
            cuts += 1
        data[at : at + len(content)] = content
    print(f"cuts={cuts} delivered={delivered} compactions={found.compactions}")
    print(f"no_space={found.no_space} deleted={found.segments_deleted}")


def random_cuts(seed, cuts):
    """One chip, one life after the other, each ended by a cut at a random operation."""
    random.seed(seed)
    scenario = SCENARIOS["random"]
    flash = RamFlash(scenario[0], scenario[1])
    format_and_mount(flash)
    unmount()
    promised = {}
    delivered = 0
    for cut in range(cuts):
        gc.collect()
        boot = cut + 1
        flash.operations = 0
        flash.dies_at = 1 + random.randrange(200)
        flash.mode = random.randrange(3)
        try:
            mount(flash)
            outbox, _ = open_outbox(boot, scenario)
            life = Life(outbox, scenario[6], random.randrange(1, 30))
            life.run(random.randrange(1, 400), flash)
            promised[boot] = life.durable
            outbox.close()
            unmount()
            flash.dead = False
            flash.dies_at = 0
            mount(flash)
            outbox, usable = open_outbox(boot + 1, scenario)
            assert usable and outbox.boot == boot + 1
            for old in [b for b in promised if b < outbox.floor()[0]]:
                promised.pop(old)
            delivered += check(outbox, scenario, promised, True)
            outbox.close()
            unmount()
        except AssertionError:
            print(f"violated at cut {cut}, seed {seed}")
            raise
    print(f"cuts={cuts} delivered={delivered}")


if sys.argv[1] == "random":
    random_cuts(int(sys.argv[2]), int(sys.argv[3]))
else:
    every_cut(sys.argv[1])
