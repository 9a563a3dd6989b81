"""The gateway's acknowledgement: JSON into numbers that were all looked at. Knows nothing of what follows from them."""

import json

from micropython import const

_BYTES_MAX = const(256)  # the contract's are below 130; in a few KB of "[" lies more than the heap
_U32_MAX = const(0xFFFFFFFF)


def read(payload):
    """(boot, seq, got, top, unix_s, ms), design section 3; got: [first, last] or None, top: None where it says none.

    Everything is looked at before any of it counts. Raises ValueError, KeyError, TypeError, IndexError or MemoryError:
    what nonsense leads to.
    """
    if len(payload) > _BYTES_MAX:
        raise ValueError("size")
    ack = json.loads(bytes(payload).decode())
    boot = ack["boot"]
    seq = ack["seq"]
    got = ack.get("got")
    top = ack.get("top")
    unix_s = ack.get("t", 0)
    ms = ack.get("ms", 0)
    for number in (boot, seq, 0 if top is None else top, unix_s, ms, got[0] if got else 0, got[1] if got else 0):
        if not isinstance(number, int) or not 0 <= number <= _U32_MAX:
            raise ValueError("number")
    return boot, seq, got, top, unix_s, ms
