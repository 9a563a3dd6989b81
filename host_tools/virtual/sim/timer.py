"""`machine.Timer`: calls a function after a while or again and again, in board time.

As on a chip the callback is a soft one: the interpreter runs it between other things. Here that is where the board
waits, its prompt included; a blocking socket call holds it up. Must not know what the callbacks do.
"""

import sys

from sim import clock

_running = []


class Timer:
    ONE_SHOT = 0
    PERIODIC = 1

    def __init__(self, id=-1, **options):
        self._callback = None
        if options:
            self.init(**options)

    def init(self, *, mode=PERIODIC, freq=-1, period=-1, callback=None):
        self.deinit()
        self._period_ms = max(1, int(1000 // freq) if freq > 0 else period)
        self._mode = mode
        self._callback = callback
        self._due = clock.ticks_add(clock.ticks_ms(), self._period_ms)
        _running.append(self)
        clock.timers = sys.modules[__name__]

    def deinit(self):
        if self in _running:
            _running.remove(self)
        if not _running:
            clock.timers = None

    def _fire(self, now):
        if self._mode == self.ONE_SHOT:
            self.deinit()
        else:  # one that is late does not make up for what it missed
            self._due = clock.ticks_add(now, self._period_ms)
        try:
            if self._callback is not None:
                self._callback(self)
        except Exception as error:
            sys.print_exception(error)


def until_ms():
    """Board time until the next one is due, 0 when one is."""
    now = clock.ticks_ms()
    nearest = clock.TICKS_HALF - 1
    for timer in _running:
        nearest = min(nearest, clock.ticks_diff(timer._due, now))
    return max(0, nearest)


def fire():
    """Call those that are due."""
    now = clock.ticks_ms()
    for timer in list(_running):
        if clock.ticks_diff(timer._due, now) <= 0:
            timer._fire(now)
