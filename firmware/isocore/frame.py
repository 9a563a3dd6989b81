"""Frames: the bytes of records, the same in flash, on the air and in the cloud's check.

Layout, little-endian:

    offset  size  field
    0       1     version = 1
    1       1     flags: bit 0 TREND (records carry a trend), bit 1 TAG (HMAC instead of CRC)
    2       2     count of records, 1..COUNT_MAX
    4       4     boot number, 1..2^30-1
    8       4     seq of the first record, 1..2^30-1
    12      4     uptime of the first record, whole seconds
    16      2     uptime of the first record, milliseconds 0..999
    18      2     epoch, milliseconds 0..999
    20      4     epoch, seconds since 2025-01-01T00:00:00Z at uptime 0; 0: the board has no trusted time
    24      12n   records: kind u8, channel u8, seq step u16, value i32, uptime step from the first record in ms i32
    or      14n   the same and trend i16 (milli-units a minute), when TREND is set
    end     4     CRC-32 (IEEE 802.3) of all before it
    or      16    first 16 bytes of HMAC-SHA256 of all before it (RFC 2104 section 5), when TAG is set

The encoding is canonical: for given records there is one frame, and decode followed by encode gives the same bytes.
Steps of the first record are 0, later seq steps are 1 or more, TREND is set only if some trend is not 0.
A frame does not name its device: the topic does, and the device's own key when it is tagged.
"""

import binascii
import hashlib
import struct

from isocore.errors import FrameError
from isocore.record import KIND_LAST, SMALL_INT_MAX

VERSION = 1
FLAG_TREND = 1
FLAG_TAG = 2

HEADER = "<BBHIIIHHI"
HEADER_BYTES = 24
RECORD_BYTES = 12
RECORD_TREND_BYTES = 14
CRC_BYTES = 4
TAG_BYTES = 16
COUNT_MAX = 255
FRAME_BYTES_MAX = HEADER_BYTES + COUNT_MAX * RECORD_TREND_BYTES + TAG_BYTES

EPOCH_BASE_UNIX_S = 1735689600  # 2025-01-01T00:00:00Z; keeps wall seconds in 30 bits until 2059
# An uptime step must stay a small integer on the board: 2^30 ms is 12.4 days.
_STEP_S_MAX = 1000000
_STEP_MS_MAX = SMALL_INT_MAX


def hmac_sha256(key, data):
    """HMAC-SHA256 (RFC 2104) of `data` under `key`, both bytes. Returns 32 bytes. Runs where there is no `hmac`."""
    if len(key) > 64:
        key = hashlib.sha256(key).digest()
    pad = bytearray(64)
    pad[: len(key)] = key
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in pad))
    inner.update(data)
    outer = hashlib.sha256(bytes(b ^ 0x5C for b in pad))
    outer.update(inner.digest())
    return outer.digest()


def size_of(header):
    """Full length in bytes of the frame that starts with `header` (at least HEADER_BYTES long).

    Raises FrameError if the header cannot start a frame. Lets a reader walk frames that lie one after another in flash.
    """
    if len(header) < HEADER_BYTES:
        raise FrameError("short", "frame header cut short")
    if header[0] != VERSION:
        raise FrameError("version", "frame version %d is not supported" % header[0])
    flags = header[1]
    if flags & ~(FLAG_TREND | FLAG_TAG):
        raise FrameError("flags", "unknown frame flags 0x%02x" % flags)
    count = header[2] | header[3] << 8
    if not 1 <= count <= COUNT_MAX:
        raise FrameError("count", "frame says %d records" % count)
    size = RECORD_TREND_BYTES if flags & FLAG_TREND else RECORD_BYTES
    return HEADER_BYTES + count * size + (TAG_BYTES if flags & FLAG_TAG else CRC_BYTES)


class Frame:
    """One decoded frame.

    records: list of (seq, kind, channel, value, uptime_ms, trend_milli_min); the rest as in the layout above.
    `tag` is b"" for a CRC frame; a tag is not checked by whoever lacks the key.
    """

    def __init__(self, boot, epoch_s, epoch_ms, records, tag=b""):
        self.boot = boot
        self.epoch_s = epoch_s
        self.epoch_ms = epoch_ms
        self.records = records
        self.tag = tag

    @property
    def first_seq(self):
        return self.records[0][0]

    @property
    def last_seq(self):
        return self.records[-1][0]

    def epoch_unix_ms(self):
        """Unix time in ms at uptime 0, or None when the board had no trusted time."""
        if not self.epoch_s:
            return None
        return (EPOCH_BASE_UNIX_S + self.epoch_s) * 1000 + self.epoch_ms


def decode(data, key=None):
    """Decode bytes into a Frame.

    key: the device's 32-byte key; when given, a tagged frame's tag is checked and an untagged frame is refused.
    Raises FrameError, and nothing else, for anything that is not the canonical encoding of a frame.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise FrameError("type", "a frame is bytes")
    total = len(data)
    want = size_of(data)
    if total < want:
        raise FrameError("short", "frame of %d bytes, header asks for %d" % (total, want))
    if total > want:
        raise FrameError("long", "frame of %d bytes, header asks for %d" % (total, want))
    _, flags, count, boot, seq, base_s, base_ms, epoch_ms, epoch_s = struct.unpack_from(HEADER, data, 0)
    _check_integrity(data, flags, total, key)
    if not 1 <= boot <= SMALL_INT_MAX or not 1 <= seq <= SMALL_INT_MAX or base_s > SMALL_INT_MAX:
        raise FrameError("range", "boot, seq or uptime outside 30 bits")
    if base_ms > 999 or epoch_ms > 999 or epoch_s > SMALL_INT_MAX or (epoch_ms and not epoch_s):
        raise FrameError("range", "milliseconds past 999, or epoch out of range")
    base = base_s * 1000 + base_ms
    records = _records(data, flags & FLAG_TREND, count, seq, base)
    tag = bytes(data[total - TAG_BYTES :]) if flags & FLAG_TAG else b""
    return Frame(boot, epoch_s, epoch_ms, records, tag)


def _check_integrity(data, flags, total, key):
    if flags & FLAG_TAG:
        if key is not None:
            body = memoryview(data)[: total - TAG_BYTES]
            want = hmac_sha256(key, body)[:TAG_BYTES]
            difference = 0
            for i in range(TAG_BYTES):
                difference |= want[i] ^ data[total - TAG_BYTES + i]
            if difference:
                raise FrameError("tag", "frame tag does not match")
        return
    if key is not None:
        raise FrameError("tag", "frame carries no tag")
    (crc,) = struct.unpack_from("<I", data, total - CRC_BYTES)
    if binascii.crc32(memoryview(data)[: total - CRC_BYTES]) & 0xFFFFFFFF != crc:
        raise FrameError("crc", "frame CRC does not match")


def _records(data, with_trend, count, seq, base):
    layout = "<BBHiih" if with_trend else "<BBHii"
    size = RECORD_TREND_BYTES if with_trend else RECORD_BYTES
    records = []
    offset = HEADER_BYTES
    trend = 0
    any_trend = 0
    for i in range(count):
        if with_trend:
            kind, channel, seq_step, value, step_ms, trend = struct.unpack_from(layout, data, offset)
            any_trend |= trend
        else:
            kind, channel, seq_step, value, step_ms = struct.unpack_from(layout, data, offset)
        offset += size
        if not 1 <= kind <= KIND_LAST:
            raise FrameError("kind", "record kind %d is unknown" % kind)
        if i == 0:
            if seq_step or step_ms:
                raise FrameError("canonical", "first record has a step")
        elif not seq_step:
            raise FrameError("order", "seq does not rise")
        seq += seq_step
        uptime_ms = base + step_ms
        if seq > SMALL_INT_MAX or uptime_ms < 0 or not -_STEP_MS_MAX <= step_ms <= _STEP_MS_MAX:
            raise FrameError("range", "seq or uptime out of range")
        if not -SMALL_INT_MAX <= value <= SMALL_INT_MAX:
            raise FrameError("range", "value %d out of range" % value)
        records.append((seq, kind, channel, value, uptime_ms, trend))
    if with_trend and not any_trend:
        raise FrameError("canonical", "trend flag without a trend")
    return records


class FrameBuilder:
    """A frame under construction in one fixed buffer. `add` allocates nothing, `seal` makes bounded garbage."""

    def __init__(self, capacity):
        """capacity: records a frame may hold, 1..COUNT_MAX."""
        if not 1 <= capacity <= COUNT_MAX:
            raise ValueError("capacity must be 1..%d" % COUNT_MAX)
        self.capacity = capacity
        self.count = 0
        self.boot = 0
        self.first_seq = 0
        self.last_seq = 0
        self._base_s = 0
        self._base_ms = 0
        self._trend = 0
        self._buf = bytearray(HEADER_BYTES + capacity * RECORD_TREND_BYTES + TAG_BYTES)

    def begin(self, boot):
        """Empty the frame; what follows belongs to `boot`."""
        self.boot = boot
        self.count = 0
        self._trend = 0

    def add(self, seq, kind, channel, value, t_s, t_ms, trend=0):
        """Append one record taken at uptime t_s seconds + t_ms milliseconds. All are small integers.

        Returns True, or False when the frame must be sealed first (full, or the record is too far from the first one).
        """
        count = self.count
        if count == 0:
            self.first_seq = seq
            self._base_s = t_s
            self._base_ms = t_ms
            seq_step = 0
            step_ms = 0
        else:
            if count == self.capacity:
                return False
            seq_step = seq - self.last_seq
            step_s = t_s - self._base_s
            if seq_step > 0xFFFF or step_s > _STEP_S_MAX or step_s < -_STEP_S_MAX:
                return False
            step_ms = step_s * 1000 + t_ms - self._base_ms
        struct.pack_into(
            "<BBHiih",
            self._buf,
            HEADER_BYTES + count * RECORD_TREND_BYTES,
            kind,
            channel,
            seq_step,
            value,
            step_ms,
            trend,
        )
        if trend:
            self._trend = 1
        self.last_seq = seq
        self.count = count + 1
        return True

    def seal(self, epoch_s=0, epoch_ms=0, key=None):
        """Finish the frame and return its bytes; the builder stays as it is until the next `begin`.

        epoch_s: seconds since EPOCH_BASE_UNIX_S at uptime 0, or 0. key: the device's key, for a tag instead of a CRC.
        """
        flags = (FLAG_TREND if self._trend else 0) | (FLAG_TAG if key is not None else 0)
        size = RECORD_TREND_BYTES if self._trend else RECORD_BYTES
        end = HEADER_BYTES + self.count * size
        tail = TAG_BYTES if key is not None else CRC_BYTES
        out = bytearray(end + tail)
        struct.pack_into(
            HEADER,
            out,
            0,
            VERSION,
            flags,
            self.count,
            self.boot,
            self.first_seq,
            self._base_s,
            self._base_ms,
            epoch_ms,
            epoch_s,
        )
        source = memoryview(self._buf)
        at = HEADER_BYTES
        offset = HEADER_BYTES
        for _ in range(self.count):
            out[at : at + size] = source[offset : offset + size]
            at += size
            offset += RECORD_TREND_BYTES
        body = memoryview(out)[:end]
        if key is not None:
            out[end:] = hmac_sha256(key, body)[:TAG_BYTES]
        else:
            struct.pack_into("<I", out, end, binascii.crc32(body) & 0xFFFFFFFF)
        return bytes(out)


def encode(boot, epoch_s, epoch_ms, records, key=None):
    """Encode records, as in Frame.records, into one frame; inverse of `decode`. FrameError if they do not fit one."""
    if not 1 <= len(records) <= COUNT_MAX:
        raise FrameError("count", "a frame holds 1..%d records" % COUNT_MAX)
    builder = FrameBuilder(len(records))
    builder.begin(boot)
    for seq, kind, channel, value, uptime_ms, trend in records:
        if not builder.add(seq, kind, channel, value, uptime_ms // 1000, uptime_ms % 1000, trend):
            raise FrameError("range", "records too far apart for one frame")
    return builder.seal(epoch_s, epoch_ms, key)
