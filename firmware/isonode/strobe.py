"""A pin that asks for samples, loaded only where one is configured. Must not know what is sampled."""

import io

from micropython import const

from isonode import hal

_MP_STREAM_POLL = const(3)


class Strobe(io.IOBase):
    """A pin whose rising edge asks for a sample; wakes the poll as asyncio's ThreadSafeFlag does."""

    def __init__(self, number):
        self.pending = False
        self.held = False  # the round before is still being read: this edge waits, and does not wake the poll
        self.ticks = 0
        self.overruns = 0
        self._pin = hal.on_rising(number, self._edge)

    def _edge(self, pin):
        if self.pending:
            self.overruns += 1
        self.ticks = hal.ticks_ms()
        self.pending = True

    def ioctl(self, request, argument):
        if request == _MP_STREAM_POLL:
            return argument & hal.POLLIN if self.pending and not self.held else 0
        return -1
