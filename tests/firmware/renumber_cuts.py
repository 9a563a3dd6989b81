"""Runs on MicroPython: cut the power at every program and erase while records on flash move to unused boot numbers.

Arguments: folder of the firmware, folder of this file. Each operation is cut clean, torn and just done; afterwards the
board starts again as often as it takes, and its outbox must hold the same records in the same order, no number of which
lies below what the gateway knows. Prints a line of `name=number`.
"""

# MicroPython: the path comes before the imports, and there is no contextlib.
# ruff: noqa: E402, I001, UP031

import sys

sys.path[:0] = sys.argv[1:3]

from isocore.frame import decode
from isocore.record import HIGH_ON, SAMPLE
from isonode import bootcount, identity
from isonode.outbox import Outbox
from outbox_flash import RamFlash, cut_everywhere, format_and_mount, unmount

BLOCKS, BLOCK_BYTES = 64, 512
FOLDER = "/f/outbox"
PATHS = ("/f/boot.a", "/f/boot.b")
TOP = 9  # what the gateway knows

bootcount.PATHS = PATHS


def start():
    """One start of the board up to the outbox. Returns (outbox, boot, fresh)."""
    boot, fresh = identity.begin(1, FOLDER)
    outbox = Outbox(FOLDER, boot, 16, 8, 600, BLOCK_BYTES, BLOCKS * BLOCK_BYTES // 2, None, BLOCK_BYTES)
    outbox.open()
    assert outbox.boot == boot, (outbox.boot, boot)
    return outbox, boot, fresh


def contents(outbox):
    """[(boot, seq, kind, value)] in order of delivery."""
    out = []
    boot, seq = outbox.floor()
    seq -= 1
    while True:
        item = outbox.next_frame(boot, seq, True)
        if item is None:
            return out
        data, boot, _, seq = item
        for record in decode(data).records:
            out.append((boot, record[0], record[1], record[3]))


def fill():
    """Three boots of a fresh flash, each with records on it."""
    for turn in range(3):
        outbox, boot, fresh = start()
        assert (boot, fresh) == (turn + 1, 1)
        for i in range(20):
            outbox.append(HIGH_ON if i % 7 == 0 else SAMPLE, 0, 1000 * boot + i, i, 0)
            outbox.flush_urgent()
            outbox.maintain(i)
        outbox.close()


def resets():
    raise SystemExit


identity.hal.reset = resets


def settle(outbox, boot, fresh):
    """The gateway's answer; True once the board may send, False when it restarts first."""
    try:
        return identity.settle(outbox, boot, fresh, TOP) == boot
    except SystemExit:
        return False


flash = RamFlash(BLOCKS, BLOCK_BYTES)
format_and_mount(flash)
fill()
outbox, boot, fresh = start()
assert boot == 4 and fresh == 1
want = [(number + TOP, seq, kind, value) for number, seq, kind, value in contents(outbox)]
assert len(want) == 60
unmount()


def renumber(flash):
    while not flash.dead and not settle(*start()):
        pass


def check(_promised, where):
    for _ in range(4):
        outbox, boot, fresh = start()
        if not fresh or settle(outbox, boot, fresh):
            break
    else:
        raise AssertionError(("never settles", where))
    got = contents(outbox)
    assert got == want, ("records changed", where, got[:3], got[-3:], len(got))
    assert boot > max(item[0] for item in got), ("boot", boot)


cuts = cut_everywhere(BLOCKS, BLOCK_BYTES, flash.data, renumber, check)
print("cuts=%d" % cuts)
