"""The few bytes that survive a reset but not a power cut: a head for crash.py, a body for the state of a deep sleep.

ESP32: the RTC's user memory, 2048 bytes. RP2: four scratch registers of the watchdog, so a head and no body. Knows the
layout and nothing of what the bytes mean.
"""

from isonode import hal

HEAD_BYTES = 8
BODY_BYTES_MAX = 2048 - HEAD_BYTES
_MAGIC = b"ISR1"


def head():
    """Four bytes, zeros when nothing was kept."""
    memory = hal.rtc_memory()
    return memory[4:8] if len(memory) >= HEAD_BYTES and memory[:4] == _MAGIC else bytes(4)


def body():
    """What was kept beside the head; b"" when there is none."""
    memory = hal.rtc_memory()
    return memory[HEAD_BYTES:] if memory[:4] == _MAGIC else b""


def keep_head(four):
    """Keep four bytes. Returns whether the chip can."""
    return hal.set_rtc_memory(_MAGIC + four + body())


def keep_body(data):
    """Keep at most BODY_BYTES_MAX bytes beside the head. Returns whether the chip can."""
    return hal.set_rtc_memory(_MAGIC + head() + data)
