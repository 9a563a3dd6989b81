"""Runs on MicroPython: cut the power at every program and erase while boots are counted and models change.

Arguments: folder of the firmware, folder of this file, files with the containers of sequence 1 and 2, and with the
public key. Each operation is cut clean, torn and just done. Prints a line of `name=number`.
"""

# MicroPython: the path comes before the imports, and there is no contextlib.
# ruff: noqa: E402, I001, SIM115, UP031

import sys

sys.path[:0] = sys.argv[1:3]

from isocore import sign
from isonode import bootcount
from isonode.models import Models
from outbox_flash import RamFlash, cut_everywhere, format_and_mount, unmount

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


def next_boot(_flash=None):
    return bootcount.next_boot(1, PATHS)[0]


def check_boot(seen, where):
    """Numbers rise across every cut."""
    after = next_boot()
    assert after > max(seen or 0, 3), ("boot number came again", where, seen, after)


def change_model(_flash):
    """The sequence that has to run from here on."""
    models = opened()
    assert models.sequence == 1, ("before the cut", models.state)
    take(models, SECOND)
    return 2 if models.io_errors == 0 and models.sequence == 2 and not models.on_trial else 1


def check_model(promised, where):
    models = opened()
    assert models.sequence in (promised or 1, 2), ("neither model runs", where, promised, models.state)
    take(models, SECOND)
    assert models.sequence == 2, ("stuck", where, models.state)


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
boot_cuts = cut_everywhere(BLOCKS, BLOCK_BYTES, flash.data, next_boot, check_boot)

flash = RamFlash(BLOCKS, BLOCK_BYTES)
format_and_mount(flash)
fresh = opened()
take(fresh, FIRST)
assert fresh.sequence == 1 and not fresh.on_trial
unmount()
model_cuts = cut_everywhere(BLOCKS, BLOCK_BYTES, flash.data, change_model, check_model)
print("boot_cuts=%d model_cuts=%d" % (boot_cuts, model_cuts))
