"""The boot number: counts this board's boots, rises with every one, survives a power cut at any write.

Two files take turns: the older one is overwritten, so a torn write leaves the other. Boot numbers are half of every
record's identity (design section 2): one that came twice would make the gateway take new readings for old ones.
"""

import struct

from isonode import durable

PATHS = ("/boot.a", "/boot.b")
_MAGIC = b"IBT1"
BOOT_MAX = 0x3FFFFFFF


def _read(path):
    data = durable.load(path, _MAGIC)
    if data is None or len(data) != 4:
        return 0
    return struct.unpack("<I", data)[0]


def next_boot(at_least=1, paths=PATHS):
    """Count one more boot and return its number, `at_least` or more. The number is durable when this returns."""
    counts = [_read(path) for path in paths]
    boot = max(max(counts) + 1, at_least)
    if boot > BOOT_MAX:
        raise OverflowError("boot numbers are used up")
    durable.save(paths[0] if counts[0] <= counts[1] else paths[1], _MAGIC, struct.pack("<I", boot))
    return boot
