"""The board's time: uptime that never wraps, and the wall time at uptime 0 when it is known.

Uptime is whole seconds plus milliseconds, accumulated from ticks that wrap at 2^30 ms, so `advance` must be called at
least every six days; it allocates nothing. Wall time is only ever added to uptime, never used for waiting. The
ticks functions are passed in; nothing here knows where wall time comes from.
"""

from micropython import const

_EPOCH_MAX_S = const(0x3FFFFFFF)  # seconds since 2025: 2059
_RESYNC_MS = const(1000)  # a gateway time further off replaces the epoch: a step or drift, not network delay


class Clock:
    """Uptime in `s` and `ms`; `epoch_s`, `epoch_ms`: wall time at uptime 0 since 2025, 0 while unknown."""

    def __init__(self, ticks_ms, ticks_diff):
        self._ticks_ms = ticks_ms
        self._ticks_diff = ticks_diff
        self._last = ticks_ms()
        self.s = 0
        self.ms = 0
        self.at_s = 0
        self.at_ms = 0
        self.epoch_s = 0
        self.epoch_ms = 0
        self.resyncs = 0

    def advance(self):
        """Bring `s` and `ms` up to now. Returns the ticks of now."""
        now = self._ticks_ms()
        ms = self.ms + self._ticks_diff(now, self._last)
        self._last = now
        if ms >= 1000:
            self.s += ms // 1000
            ms %= 1000
        self.ms = ms
        return now

    def at(self, ticks):
        """Set `at_s`, `at_ms` to the uptime of a moment near the last `advance`; never below 0."""
        ms = self.ms + self._ticks_diff(ticks, self._last)
        s = self.s + ms // 1000
        if s < 0:
            s = ms = 0
        self.at_s = s
        self.at_ms = ms % 1000

    def set_wall(self, wall_s, wall_ms):
        """Learn that now is wall_s (seconds since 2025) and wall_ms. Returns True if the epoch changed.

        Values that cannot be are ignored, and so are differences that network delay explains.
        """
        s = wall_s - self.s
        ms = wall_ms - self.ms
        if ms < 0:
            s -= 1
            ms += 1000
        if not 0 < s <= _EPOCH_MAX_S or not 0 <= ms <= 999:
            return False
        if self.epoch_s:
            away_s = s - self.epoch_s
            if -10 < away_s < 10 and abs(away_s * 1000 + ms - self.epoch_ms) <= _RESYNC_MS:
                return False
            self.resyncs += 1
        self.epoch_s = s
        self.epoch_ms = ms
        return True
