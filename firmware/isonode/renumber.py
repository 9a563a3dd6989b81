"""Moves records on flash to boot numbers that were never used, segment by segment, across power cuts.

Runs before the outbox opens, once in the life of a flash at most. Each segment is rewritten beside itself and renamed,
newest first, so a cut leaves every segment old or new, in order, and doing it again changes what is left. Must not know
why the numbers change (identity.py).
"""

import os

from isocore.frame import decode, encode
from isonode.counts import Counts
from isonode.entries import READY, Walker, header, segment_path


def segments(root, first, top):
    """Boots first..top become top + 1 and up, in the same order. Raises OSError; what was done stays done."""
    try:
        names = os.listdir(root)
    except OSError:
        return  # no outbox yet
    if "reserve" in names:  # room for the copies; the outbox lays it down again
        os.remove(root + "/reserve")
    for number in sorted([int(name[:-4]) for name in names if name.endswith(".seg")], reverse=True):
        _rewrite(root, number, first, top)


def _rewrite(root, number, first, top):
    walker = Walker(root, Counts())
    walker.seek(number)
    concerned = False
    while walker.load() == READY:
        concerned = concerned or first <= walker.boot <= top
        walker.skip()
    if concerned:
        _copy(walker, root, number, first, top)
    walker.close()


def _copy(walker, root, number, first, top):
    temporary = root + "/" + str(number) + ".tmp"
    walker.seek(number)
    with open(temporary, "wb") as file:
        while walker.load() == READY:
            if walker.replaces:  # a marker stood before the first entry
                file.write(header(b"", walker.replaces, 0, 0, 0, 0, 0, 0))
                walker.replaces = 0
            boot = walker.boot
            data = walker.frame()
            if first <= boot <= top:
                boot += top + 1 - first
                if data is not None:
                    frame = decode(data)
                    data = encode(boot, frame.epoch_s, frame.epoch_ms, frame.records)
            if data is not None:  # a damaged one is left out; the outbox accounts for the hole
                counts = (walker.reports, walker.events, walker.windows, walker.lost)
                file.write(header(data, boot, walker.first, walker.last, *counts))
                file.write(data)
            walker.skip()
    os.rename(temporary, segment_path(root, number))
