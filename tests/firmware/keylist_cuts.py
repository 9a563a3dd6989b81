"""Runs on MicroPython: cut the power at every program and erase while a list of model keys is replaced.

Arguments: folder of the firmware, folder of this file, files with the lists of version 1 and 2, and the root's public
key. Each operation is cut clean, torn and just done. Prints `taken_cuts=N file_cuts=N`.
"""

# MicroPython: the path comes before the imports, and there is no contextlib.
# ruff: noqa: E402, I001, SIM115, UP031

import sys

sys.path[:0] = sys.argv[1:3]

from isocore import sign
from isonode import trust
from isonode.models import Models
from outbox_flash import RamFlash, cut_everywhere, format_and_mount, mount, unmount

OLD, NEW, ROOT_KEY = (open(name, "rb").read() for name in sys.argv[3:6])
BLOCKS, BLOCK_BYTES = 24, 512
IDENTITY = ("demo", "a", "b", (0, 1, 0))

# Checking a signature takes 20 ms here and is tested elsewhere; what is cut is the writing.
sign.verify = lambda key, digest, signature: True


def opened():
    models = Models("/f/model", [], IDENTITY, 1, 1000, ROOT_KEY)
    models.open()
    return models


def take(models):
    models.offer_list(NEW)
    return models._list


def check(promised, where):
    """The list is a whole one, and the new one can be had."""
    version, keys, _ = trust.kept("/f/model", ROOT_KEY)
    assert version in (max(1, promised or 1), 2) and len(keys) == 1, (where, promised, version)
    assert take(opened()) == 2, ("stuck", where)


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


flash = RamFlash(BLOCKS, BLOCK_BYTES)
format_and_mount(flash)
write("/f/model-keys.isos", OLD)
assert opened()._list == 1
unmount()
taken = cut_everywhere(BLOCKS, BLOCK_BYTES, flash.data, lambda flash: take(opened()), check)
mount(flash)
write("/f/model-keys.isos", NEW)
unmount()
files = cut_everywhere(BLOCKS, BLOCK_BYTES, flash.data, lambda flash: opened()._list, check)
print("taken_cuts=%d file_cuts=%d" % (taken, files))
