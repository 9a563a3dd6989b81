"""Runs on MicroPython: one P-256 verification of a signed container, and the garbage it makes.

Arguments: folder of the firmware, file of the container, public key in hexadecimal. Prints one line of `name=number`.
"""

# MicroPython: the path comes before the imports.
# ruff: noqa: E402, UP031

import binascii
import gc
import sys
import time

sys.path[:0] = sys.argv[1:2]

from isocore import sign

with open(sys.argv[2], "rb") as file:
    container = file.read()
key = binascii.unhexlify(sys.argv[3])
gc.collect()
started = time.ticks_us()
payload = sign.open_container(container, sign.KIND_MODEL, (key,))
took = time.ticks_diff(time.ticks_us(), started)
print("us=%d payload=%d" % (took, len(payload)))
