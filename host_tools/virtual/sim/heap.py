"""The heap that the firmware finds: what a chip's application would, whatever the simulation takes of this process's.

A heap of so many bytes holds the collector's tables too: for each 64 bytes one byte of marks and a half of finalisers
(py/gc.c, gc_setup_area). Of what is left a chip pays for its table of names (names.py) and for the modules of the
drivers in its image, whose bytecode stays in flash while their dictionaries, classes and functions do not. It does not
pay for pins, radio, watchdog, a socket's and a poller's Python halves, which here are objects that come up as the
firmware uses them. All three are measured in tests/host_tools/virtual/test_heap.py. Must not know the firmware.
"""

import gc
import sys

from sim import names

DRIVERS_BYTES = 1664  # dht, onewire, ds18x20: 3,056 bytes as loaded here, less 1,392 of bytecode and its name tables
RUNNING_BYTES = (
    1024  # two pins, radio, poller and a connected socket: less would charge the simulation's to the firmware
)

_ballast = None


def usable_bytes(area_bytes):
    """What objects can have of a heap of `area_bytes`, on 32 bits."""
    return area_bytes * 8 // 524 * 64


def leave(area_bytes, extra_bytes):
    """Occupy all that the firmware would not have in a chip's heap of `area_bytes`; extra: room that it is given."""
    global _ballast
    free_bytes = usable_bytes(area_bytes) - names.CHIP_BYTES - DRIVERS_BYTES + RUNNING_BYTES + extra_bytes
    if sys.maxsize > 2**32:
        free_bytes *= 2  # words of 64 bits
    gc.collect()
    surplus_bytes = gc.mem_free() - free_bytes
    if surplus_bytes > 0:
        _ballast = bytearray(surplus_bytes)
