"""The boot number: rises with every boot, survives a power cut at any write, and is never used twice for records.

Boot numbers are half of every record's identity (design section 2): one that came twice would make the gateway take new
readings for old ones. So the number is kept with `fresh`, the first boot since the flash knew nothing of earlier ones.
While `fresh` is not 0 nothing may be sent: the gateway is asked first which boot it knows (docs/adr/0006), and boots
`fresh` and later are moved above that. `top`: that answer, while records on flash still wait to be moved.

Two files take turns: the older one is overwritten, so a torn write leaves the other. Knows no outbox and no gateway.
"""

import struct

from isonode import durable

PATHS = ("/boot.a", "/boot.b")
BOOT_MAX = 0x3FFFFFFF
_MAGIC = b"IBT2"
_FORM = "<IIII"  # writes so far, boot, fresh, top
_NOTHING = (0, 0, 0, 0)


def _states(paths):
    return [_read(path) for path in paths or PATHS]


def _read(path):
    data = durable.load(path, _MAGIC)
    if data is None or len(data) != struct.calcsize(_FORM):
        return _NOTHING
    return struct.unpack(_FORM, data)


def _save(states, boot, fresh, top, paths):
    older = 0 if states[0] <= states[1] else 1
    durable.save((paths or PATHS)[older], _MAGIC, struct.pack(_FORM, max(states)[0] + 1, boot, fresh, top))


def load(paths=None):
    """(boot, fresh, top) of the latest boot counted; zeros when there is none."""
    return max(_states(paths))[1:]


def save(boot, fresh, top=0, paths=None):
    """Replace what is kept. Durable when it returns; raises OSError."""
    _save(_states(paths), boot, fresh, top, paths)


def next_boot(at_least=1, paths=None):
    """Count one more boot; returns (its number, `fresh`). Durable when it returns; raises OSError.

    at_least: what the outbox or the configuration know. When that is more than the files say they cannot be trusted,
    and the boot is as fresh as on a flash without them.
    """
    states = _states(paths)
    _, boot, fresh, top = max(states)
    boot += 1
    if boot < at_least or boot == 1:
        boot = fresh = max(boot, at_least)
        top = 0
    if boot > BOOT_MAX:
        raise OverflowError("boot numbers are used up")
    _save(states, boot, fresh, top, paths)
    return boot, fresh
