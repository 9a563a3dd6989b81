"""Runs on MicroPython: cut the power at every program and erase while boots are counted and models change.

Arguments: folder of the firmware, folder of this file, files with the containers of sequence 1 and 2, and with the
public key. Each operation is cut clean, torn and just done. Prints a line of `name=number`.
"""

# MicroPython: the path comes before the imports, and there is no contextlib.
# ruff: noqa: E402, I001, SIM105, SIM115, UP031

import sys

sys.path[:0] = sys.argv[1:3]

from isocore import sign
from isonode import bootcount
from isonode.models import Models
from outbox_flash import CUT_CLEAN, CUT_DONE, CUT_TORN, RamFlash, format_and_mount, mount, unmount

FIRST, SECOND, KEY = (open(name, "rb").read() for name in sys.argv[3:6])
BLOCKS, BLOCK_BYTES = 24, 512
PATHS = ("/f/boot.a", "/f/boot.b")
IDENTITY = ("demo", "a", "b", (0, 1, 0))

# Checking a signature takes 20 ms here and is tested elsewhere; what is cut is the writing.
sign.verify = lambda key, digest, signature: True


def diff(end, start):
    return end - start


def opened():
    models = Models("/f/model", [KEY], IDENTITY, 1, 1000)
    models.open()
    return models


def take(models, container):
    if models.offer(container):
        models.on_sample()
        models.on_ack()
        models.step(0, diff)


def count_boots(start):
    """Returns the operations of one boot; asserts that numbers rise across every cut."""
    cuts = 0
    at = 0
    while True:
        at += 1
        done = False
        for mode in (CUT_CLEAN, CUT_TORN, CUT_DONE):
            flash = RamFlash(BLOCKS, BLOCK_BYTES, start)
            mount(flash)
            flash.dies_at = at
            flash.mode = mode
            seen = 0
            try:
                seen = bootcount.next_boot(1, PATHS)[0]
            except OSError:
                pass
            done = done or not flash.dead
            unmount()
            flash.dead = False
            flash.dies_at = 0
            mount(flash)
            after = bootcount.next_boot(1, PATHS)[0]
            assert after > max(seen, 3), ("boot number came again", at, mode, seen, after)
            unmount()
            cuts += 1
        if done:
            return cuts


def change_models(start):
    cuts = 0
    at = 0
    while True:
        at += 1
        done = False
        for mode in (CUT_CLEAN, CUT_TORN, CUT_DONE):
            flash = RamFlash(BLOCKS, BLOCK_BYTES, start)
            mount(flash)
            flash.dies_at = at
            flash.mode = mode
            promised = 1
            try:
                models = opened()
                assert models.sequence == 1, ("before the cut", models.state)
                take(models, SECOND)
                if models.io_errors == 0 and models.sequence == 2 and not models.on_trial:
                    promised = 2
            except OSError:
                pass
            done = done or not flash.dead
            unmount()
            flash.dead = False
            flash.dies_at = 0
            mount(flash)
            models = opened()
            assert models.sequence in (promised, 2), ("neither model runs", at, mode, promised, models.state)
            take(models, SECOND)
            assert models.sequence == 2, ("stuck", at, mode, models.state)
            unmount()
            cuts += 1
        if done:
            return cuts


flash = RamFlash(BLOCKS, BLOCK_BYTES)
format_and_mount(flash)
for want in (1, 2, 3):
    assert bootcount.next_boot(1, PATHS)[0] == want
assert bootcount.next_boot(10, PATHS)[0] == 10
unmount()
flash = RamFlash(BLOCKS, BLOCK_BYTES)
format_and_mount(flash)
for _ in range(3):
    bootcount.next_boot(1, PATHS)[0]
unmount()
boot_cuts = count_boots(flash.data)

flash = RamFlash(BLOCKS, BLOCK_BYTES)
format_and_mount(flash)
fresh = opened()
take(fresh, FIRST)
assert fresh.sequence == 1 and not fresh.on_trial
unmount()
model_cuts = change_models(flash.data)
print("boot_cuts=%d model_cuts=%d" % (boot_cuts, model_cuts))
