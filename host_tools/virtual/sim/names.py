"""MicroPython's table of names, so that the firmware finds it as on a chip that has just started.

Every new name (attribute, function, short string) gets 7 bytes in a table that doubles when it is full: 20, 40, 80,
160, 320 entries, 620 in all (py/qstr.c). On a chip only the firmware fills it. Here the simulation has
filled it before, and the firmware's few would make it double once more. So, before the firmware
starts, room is made for all of its names, and what a chip's table takes is charged to it instead. That the firmware
stays within CHIP_NAMES is tested (tests/firmware/test_memory.py). Must not know the firmware's names.
"""

import gc

CHIP_NAMES = 620
CHIP_BYTES = CHIP_NAMES * 7 + 5 * 32  # five tables with their heads
_LARGE_TABLE_BYTES = 8000  # the one of 1280 entries

_charged = None


def make_room():
    """Fill the table until it has doubled to 1280 entries; charge the firmware what it would pay on a chip."""
    global _charged
    gc.collect()
    number = 0
    grown = 0
    while grown < _LARGE_TABLE_BYTES and number < 4000:
        name = "~%d" % number  # no source can say it
        before = gc.mem_alloc()
        hasattr(gc, name)
        grown = gc.mem_alloc() - before
        number += 1
    _charged = bytearray(CHIP_BYTES)
    gc.collect()
