"""Small entries of a segment into one frame, for the reader; loaded when there are some, which takes an outage.

Nothing is lost by refusing: an entry that cannot be joined is delivered by itself, or as what could not be read.
"""

from isocore.errors import FrameError
from isocore.frame import FLAG_TAG, decode, encode
from isonode.entries import READY

_SMALL_BELOW = 8  # records
_JOINED_MAX = 32


def join(walker, data, last, count, key):
    """(frame, last seq) of `data`, a frame of `count` records up to `last`, with the entries that the walker stands at.

    The walker is left behind what was joined. key: the board's, with which the frame is sealed again.
    """
    if (data[1] & FLAG_TAG != 0) != (key is not None):
        return data, last  # it could not be sealed as it was
    behind = walker.offset
    end = last
    frame = records = None
    while walker.load() == READY and walker.first == end + 1 and walker.records() < _SMALL_BELOW:
        if (frame is not None and walker.boot != frame.boot) or count + walker.records() > _JOINED_MAX:
            break
        try:
            if frame is None:
                frame = decode(data, key)
                records = frame.records
            other = decode(walker.frame() or b"", key)
        except FrameError:
            break  # damaged, or tagged with another key
        except OSError:
            walker.close()  # the place stays: the reader comes here again, and counts what fails
            break
        if other.boot != frame.boot or (other.epoch_s, other.epoch_ms) != (frame.epoch_s, frame.epoch_ms):
            break
        records = records + other.records
        end = walker.last
        count += walker.records()
        walker.skip()
    if end != last:
        try:
            return encode(frame.boot, frame.epoch_s, frame.epoch_ms, records, key), end
        except FrameError:  # more than eleven days apart
            walker.seek(walker.number, behind)
    return data, last
