"""The line in /slot that says which firmware a board starts: slot "a", "b", or "-" for the root of its flash.

    ISL1 <slot> <former> <left> <crc32>

`left` starts remain to a slot on trial before `former` comes back; PROVEN and REVERTED are the two ends of a trial.
boot.py reads and writes the same line, and may import nothing that lies in a slot: it has its own few lines for it, and
a test holds the two together. Pure: no I/O.
"""

import binascii

MAGIC = "ISL1"
PATH = "/slot"
SLOTS = ("a", "b", "-")
PROVEN = -1  # it runs
REVERTED = -2  # `former` did not prove itself, and this one came back
TRIAL_STARTS = 3


def to_line(slot, former, left):
    """The line's text."""
    body = "%s %s %s %d" % (MAGIC, slot, former, left)
    return "%s %08x\n" % (body, binascii.crc32(body.encode()) & 0xFFFFFFFF)


def parse(line):
    """(slot, former, left), or None for a line that cannot be trusted."""
    words = line.split()
    if len(words) != 5 or words[0] != MAGIC or words[1] not in SLOTS or words[2] not in SLOTS:
        return None
    try:
        left = int(words[3])
    except ValueError:
        return None
    return (words[1], words[2], left) if to_line(words[1], words[2], left).split() == words else None


def folder(slot):
    """Where a slot's files lie."""
    return "" if slot == "-" else "/" + slot
