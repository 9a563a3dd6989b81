"""Entries: how sealed frames lie in the outbox's segment files. Writes and reads the bytes, decides nothing.

A segment file is a row of entries, each a header and one frame (isocore.frame), appended and flushed in one go:

    offset  size  field
    0       1     mark 0xA5
    1       1     format = 1
    2       1     reports in the frame (SAMPLE, DELTA)
    3       1     events in the frame (alarm, fault, boot; LOST is not counted here)
    4       1     window figures in the frame
    5       1     LOST records in the frame
    6       2     length of the frame in bytes; 0: a marker without a frame, see below
    8       4     boot
    12      4     first seq the frame accounts for (before its first record's seq when that is LOST)
    16      4     last seq
    20      4     CRC-32 of the frame, whether it ends in a CRC of its own or in a tag whose key the reader may lack
    24      2     low half of the CRC-32 of the 24 bytes above, so that a walk can trust a header without its frame

A marker (length 0) opens a compacted segment: this file replaces the segment whose number stands in the boot field,
which may still be there if the power was cut between the renaming and the removal.

This file must not know which segments there are, what was acknowledged, or why something is evicted.
"""

import binascii
import struct

from isocore.frame import CRC_BYTES, FLAG_TAG, FLAG_TREND, HEADER_BYTES, TAG_BYTES, FrameBuilder, encode
from isocore.record import BOARD_CHANNEL, LOST, is_event, is_report

MARK = 0xA5
FORMAT = 1
ENTRY = "<BBBBBBHIIII"
ENTRY_CHECK_AT = 24
ENTRY_BYTES = 26

# What Walker.load found at its offset.
READY = 1  # a whole entry; the fields are set
END = 0  # the file ends here, or is not there
TORN = -1  # bytes that are no whole entry: a torn tail, or damage; nothing behind it can be trusted
FAILED = -2  # the file could not be read; worth another try

_ENOENT = 2
_TIMES_AT = 12  # offset of the first record's uptime and of the epoch in a frame, see isocore.frame
_TREND_BYTES = 2  # that end a record which carries a trend


def segment_path(root, number):
    """Path of a segment file."""
    return root + "/" + str(number) + ".seg"


def header(data, boot, first, last, reports, events, windows, lost):
    """The entry header for one sealed frame (or for a marker, when `data` is empty)."""
    out = bytearray(ENTRY_BYTES)
    crc = binascii.crc32(data) & 0xFFFFFFFF
    struct.pack_into(ENTRY, out, 0, MARK, FORMAT, reports, events, windows, lost, len(data), boot, first, last, crc)
    struct.pack_into("<H", out, ENTRY_CHECK_AT, binascii.crc32(memoryview(out)[:ENTRY_CHECK_AT]) & 0xFFFF)
    return out


def lost_frame(boot, first, last, t_s, t_ms, epoch_s, epoch_ms, key):
    """A frame of one LOST record that accounts for the seqs first..last."""
    record = (last, LOST, BOARD_CHANNEL, last - first + 1, t_s * 1000 + t_ms, 0)
    return encode(boot, epoch_s, epoch_ms, [record], key)


def times(data):
    """(epoch_s, epoch_ms, t_s, t_ms) of a frame: its epoch, and the uptime of its last record."""
    base_s, base_ms, epoch_ms, epoch_s = struct.unpack_from("<IHHI", data, _TIMES_AT)
    end = len(data) - (TAG_BYTES if data[1] & FLAG_TAG else CRC_BYTES) - (_TREND_BYTES if data[1] & FLAG_TREND else 0)
    step_ms = base_ms + struct.unpack_from("<i", data, end - 4)[0]
    return epoch_s, epoch_ms, base_s + step_ms // 1000, step_ms % 1000


class Batch:
    """Records on their way into one frame, with the tallies its entry header needs. Wraps isocore's FrameBuilder."""

    def __init__(self, capacity):
        self._builder = FrameBuilder(capacity)
        self.count = 0
        self.boot = 0
        self.begin(0)

    def begin(self, boot):
        """Empty the batch; what follows belongs to `boot`."""
        self._builder.begin(boot)
        self.boot = boot
        self.count = 0
        self.first = 0
        self.last = 0
        self.reports = 0
        self.events = 0
        self.windows = 0
        self.lost = 0

    def add(self, seq, kind, channel, value, t_s, t_ms, trend):
        """Add one record; False when it needs a frame of its own (see FrameBuilder.add)."""
        if not self._builder.add(seq, kind, channel, value, t_s, t_ms, trend):
            return False
        if self.count == 0:
            self.first = seq - value + 1 if kind == LOST else seq
        self.count += 1
        self.last = seq
        if kind == LOST:
            self.lost += 1
        elif is_report(kind):
            self.reports += 1
        elif is_event(kind):
            self.events += 1
        else:
            self.windows += 1
        return True

    def seal(self, epoch_s, epoch_ms, key):
        """The frame's bytes. The batch stays as it is until the next `begin`."""
        return self._builder.seal(epoch_s, epoch_ms, key)

    def header(self, data):
        """The entry header for `data`, the sealed frame of this batch."""
        return header(data, self.boot, self.first, self.last, self.reports, self.events, self.windows, self.lost)


class Walker:
    """Walks one segment, entry by entry, through one file handle, reading headers and, on demand, frames."""

    def __init__(self, root, counts):
        """counts: object whose `io_errors` grows by one for every read that failed."""
        self._root = root
        self._counts = counts
        self._raw = bytearray(ENTRY_BYTES)
        self._view = memoryview(self._raw)[:ENTRY_CHECK_AT]
        self._file = None
        self._size = 0
        self.number = 0
        self.offset = 0
        self.replaces = 0
        self.boot = 0
        self.first = 0
        self.last = 0
        self.reports = 0
        self.events = 0
        self.windows = 0
        self.lost = 0
        self.length = 0
        self.crc = 0

    def seek(self, number, offset=0):
        """Stand before the entry at `offset` of segment `number`. Touches no file yet."""
        if number != self.number:
            self.close()
            self.number = number
        self.offset = offset
        self.replaces = 0

    def close(self):
        """Let go of the file; the position stays. A reader sees a file as it was when opened."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError:
                self._counts.io_errors += 1
            self._file = None

    def load(self):
        """Read the header of the entry that the walker stands before. Returns READY, END, TORN or FAILED."""
        try:
            if self._file is None:
                self._file = open(segment_path(self._root, self.number), "rb")
                self._size = self._file.seek(0, 2)
            status = self._load()
            while status == READY and self.length == 0:
                self.replaces = self.boot
                self.offset += ENTRY_BYTES
                status = self._load()
            return status
        except OSError as error:
            self.close()
            if error.errno == _ENOENT:
                return END
            self._counts.io_errors += 1
            return FAILED

    def _load(self):
        self._file.seek(self.offset)
        got = self._file.readinto(self._raw)
        if not got:
            return END
        raw = self._raw
        if got < ENTRY_BYTES or raw[0] != MARK or raw[1] != FORMAT:
            return TORN
        if binascii.crc32(self._view) & 0xFFFF != raw[24] | raw[25] << 8:
            return TORN
        (
            _,
            _,
            self.reports,
            self.events,
            self.windows,
            self.lost,
            self.length,
            self.boot,
            self.first,
            self.last,
            self.crc,
        ) = struct.unpack_from(ENTRY, raw, 0)
        if self.offset + ENTRY_BYTES + self.length > self._size:
            return TORN
        return READY

    def frame(self):
        """Bytes of the loaded entry's frame, or None if they are damaged. Raises OSError if they cannot be read."""
        self._file.seek(self.offset + ENTRY_BYTES)
        data = self._file.read(self.length)
        if len(data) < HEADER_BYTES or binascii.crc32(data) & 0xFFFFFFFF != self.crc:
            return None
        return data

    def skip(self):
        """Step behind the loaded entry."""
        self.offset += ENTRY_BYTES + self.length

    def beyond(self, boot, seq):
        """True if the loaded entry reaches past (boot, seq)."""
        return self.boot > boot or (self.boot == boot and self.last > seq)

    def records(self):
        """Records in the loaded entry."""
        return self.reports + self.events + self.windows + self.lost
