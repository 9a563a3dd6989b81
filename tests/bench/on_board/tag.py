"""Runs on MicroPython: a frame of RECORDS records sealed with a CRC and with a tag, and the garbage each makes.

Arguments: folder of the firmware, records a frame. Prints one line of `name=number`; times in ns, sizes and garbage in
bytes, all for one frame.
"""

# MicroPython: the path comes before the imports.
# ruff: noqa: E402, UP031

import gc
import sys
import time

sys.path[:0] = sys.argv[1:2]

from isocore.frame import FrameBuilder

RECORDS = int(sys.argv[2])
ROUNDS = 20
KEY = bytes(range(32))


def measure(builder, key):
    took = heap = 0
    for _ in range(ROUNDS):
        gc.collect()
        gc.disable()
        before = gc.mem_alloc()
        started = time.ticks_us()
        frame = builder.seal(1000, 0, key)
        took += time.ticks_diff(time.ticks_us(), started)
        heap += gc.mem_alloc() - before
        gc.enable()
    return took * 1000 // ROUNDS, heap // ROUNDS, len(frame)


builder = FrameBuilder(RECORDS)
builder.begin(1)
for seq in range(RECORDS):
    assert builder.add(seq + 1, 1, 0, 21000 + seq, seq * 60, 0)
crc_ns, crc_heap, crc_bytes = measure(builder, None)
tag_ns, tag_heap, tag_bytes = measure(builder, KEY)
print(
    "crc=%d tag=%d crc_heap=%d tag_heap=%d crc_bytes=%d tag_bytes=%d"
    % (crc_ns, tag_ns, crc_heap, tag_heap, crc_bytes, tag_bytes)
)
