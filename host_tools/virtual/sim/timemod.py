"""The board's `time` module: virtual ticks and sleeps, wall time from the RTC since the port's epoch.

`net_ticks_ms` exists on virtual boards only: real time, for the timers of the link. Must not know who waits.
"""

import time as _native

from sim import clock, machine

ticks_ms = clock.ticks_ms
ticks_us = clock.ticks_us
ticks_cpu = clock.ticks_cpu
ticks_add = clock.ticks_add
ticks_diff = clock.ticks_diff
net_ticks_ms = clock.net_ticks_ms
sleep_ms = clock.sleep_ms

_epoch_unix_s = machine._UNIX_2000_S
_spare_us = 0  # microseconds slept that do not fill a millisecond yet


def start(epoch_unix_s):
    """Where this port's `time()` begins: 2000 on ESP32, 1970 on RP2."""
    global _epoch_unix_s
    _epoch_unix_s = epoch_unix_s


def sleep(duration_s):
    clock.sleep_ms(int(duration_s * 1000))


def sleep_us(duration_us):
    global _spare_us
    _spare_us += duration_us
    if _spare_us >= 1000:
        whole_ms = _spare_us // 1000
        _spare_us %= 1000
        clock.sleep_ms(whole_ms)


def time():
    return machine.wall_unix_s() - _epoch_unix_s


def time_ns():
    return time() * 1_000_000_000 + clock.run_ms * 1_000_000


def gmtime(when_s=None):
    return _native.gmtime((time() if when_s is None else when_s) + _epoch_unix_s)[:8]


localtime = gmtime


def mktime(fields):
    in_host_zone = _native.mktime(tuple(fields)[:6] + (0, 0, 0))
    return in_host_zone - machine._local_offset_s() - _epoch_unix_s
