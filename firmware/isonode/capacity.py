"""For how long the outbox's flash suffices: the figure for people, in days.

Asked at boot and for each health message, and forgotten in between. Reads the app's Node, changes nothing.
"""

from isocore import __version__ as FIRMWARE
from isocore.frame import CRC_BYTES, RECORD_BYTES
from isocore.frame import HEADER_BYTES as FRAME_HEADER_BYTES
from isonode.entries import ENTRY_BYTES

_RATE_AFTER_S = 3600


def capacity_days(capacity_bytes, records_per_day, batch_records=32):
    """Days of records that fit on flash, in tenths, at most 36,500. batch_records: records in one spilled frame."""
    if records_per_day <= 0:
        return 36500.0
    batch_bytes = ENTRY_BYTES + FRAME_HEADER_BYTES + batch_records * RECORD_BYTES + CRC_BYTES
    batches = capacity_bytes // batch_bytes
    return min(batches * batch_records * 10 // records_per_day / 10, 36500.0)


def outbox_days(node):
    """Days until the outbox gives up its oldest report while the gateway stays away, or None while no rate is known.

    At the rate of records since boot; in the first hour, at the rate of every sample being reported.
    """
    if node.clock.s >= _RATE_AFTER_S:
        per_day = node.outbox.next_seq * 86400 // node.clock.s
    elif node.settings.period_ms:
        per_day = len(node.filters) * 86400000 // node.settings.period_ms
    else:
        return None
    return capacity_days(node.outbox.store.capacity_bytes, max(per_day, 1))


def greet(node):
    """One line for whoever watches the console at boot."""
    days = outbox_days(node)
    text = "isotherm %s: boot %d, %d channels, outbox of %d KiB" % (
        FIRMWARE,
        node.boot,
        len(node.filters),
        node.outbox.store.capacity_bytes // 1024,
    )
    print(text if days is None else text + ", %.1f days of every sample" % days)
