"""What a board keeps while it is off or resets: run time, the trace's position, the RTC and its memory.

One small file in the work dir, rewritten in place by single writes, so that SIGKILL leaves the last complete one.
Must not know what the values mean to the firmware.
"""

import struct

# magic, boots, run_s, run_ms, rows fired, rows file offset, wall clock correction (s)
_FORM = "<4sIIHxxIIi"
_MAGIC = b"ISV1"
_SIZE = struct.calcsize(_FORM)
RTC_MEMORY_BYTES = 2048  # MICROPY_HW_RTC_USER_MEM_MAX of the ESP32 port

boots = 0
run_s = 0
run_ms = 0
rows_fired = 0
rows_offset_bytes = 0
wall_correction_s = 0

_buffer = bytearray(_SIZE)
_file = None
_memory_file = None


def open_file(path):
    """A file to read and rewrite in place, made when it is not there."""
    try:
        return open(path, "r+b")
    except OSError:
        return open(path, "w+b")


def load(path, memory_path):
    """Open both files; a missing or short one means a board that never ran."""
    global _file, _memory_file, boots, run_s, run_ms, rows_fired, rows_offset_bytes, wall_correction_s
    _file = open_file(path)
    _memory_file = open_file(memory_path)
    raw = _file.read(_SIZE)
    if len(raw) == _SIZE and raw[:4] == _MAGIC:
        _, boots, run_s, run_ms, rows_fired, rows_offset_bytes, wall_correction_s = struct.unpack(_FORM, raw)


def save():
    struct.pack_into(_FORM, _buffer, 0, _MAGIC, boots, run_s, run_ms, rows_fired, rows_offset_bytes, wall_correction_s)
    _file.seek(0)
    _file.write(_buffer)


def read_memory():
    _memory_file.seek(0)
    head = _memory_file.read(2)
    if len(head) < 2:
        return b""
    return _memory_file.read(head[0] | head[1] << 8)


def write_memory(data):
    if len(data) > RTC_MEMORY_BYTES:
        raise ValueError("buffer too long")
    _memory_file.seek(0)
    _memory_file.write(bytes((len(data) & 0xFF, len(data) >> 8)) + bytes(data))
