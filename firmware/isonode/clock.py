"""The board's time: uptime that never wraps, and the wall time at uptime 0 when it is known.

Uptime is whole seconds plus milliseconds, accumulated from ticks that wrap at 2^30 ms, so `advance` must be called at
least every six days; it allocates nothing. Wall time is only ever added to uptime, never used for waiting, so a step
of it changes the label of later frames and nothing else: it is taken at once, not smoothed. Who is believed:

    - a source counts for TRUST_S after it last spoke; meanwhile a lesser one is not heard (RTC, gateway, SNTP rise)
    - differences within the source's tolerance (network delay) change nothing
    - a difference of more than _DOUBT_S must be said twice in a row

The ticks functions are passed in; nothing here knows how a source is asked.
"""

from micropython import const

SOURCE_RTC, SOURCE_GATEWAY, SOURCE_SNTP = 1, 2, 3
TRUST_S = 86400
_EPOCH_MAX_S = const(0x3FFFFFFF)  # seconds since 2025: 2059
_TOLERANCE_MS = (0, 1000, 1000, 200)  # by source; 20 ppm of a crystal are 1.7 s a day
_DOUBT_S = const(600)


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
        self.source = 0
        self._spoke_s = 0  # uptime at which the source was heard last
        self._doubt_s = 0  # an epoch far from the present one, said once

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

    def set_wall(self, wall_s, wall_ms, source=SOURCE_GATEWAY):
        """A source says that now is wall_s (seconds since 2025) and wall_ms. Returns True if the epoch changed.

        Values that cannot be are ignored.
        """
        if source < self.source and self.s - self._spoke_s < TRUST_S:
            return False
        s = wall_s - self.s
        ms = wall_ms - self.ms
        if ms < 0:
            s -= 1
            ms += 1000
        if not 0 < s <= _EPOCH_MAX_S or not 0 <= ms <= 999:
            return False
        first = self.epoch_s == 0
        away_s = s - self.epoch_s
        if not first:
            if -_DOUBT_S < away_s < _DOUBT_S:
                self._doubt_s = 0
            elif not -_DOUBT_S < s - self._doubt_s < _DOUBT_S:
                self._doubt_s = s
                return False
        self.source = source
        self._spoke_s = self.s
        if not first:
            if -10 < away_s < 10 and abs(away_s * 1000 + ms - self.epoch_ms) <= _TOLERANCE_MS[source]:
                return False
            self.resyncs += 1
        self._doubt_s = 0
        self.epoch_s = s
        self.epoch_ms = ms
        return True
