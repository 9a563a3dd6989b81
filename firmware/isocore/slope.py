"""How fast a channel moves: the trend that a report carries when the predictor is "trend".

With `trend_s` = 0 it is the slope since the last report, which needs no state. Otherwise it is an exponential mean, of
time constant `trend_s`, of the change a minute. Integers and fixed state; nothing is allocated after construction.
Loaded only where a model asks for it; knows no report and no bound.
"""

from isocore.predict import TREND_MAX

_CHANGE_MAX = 500000  # of one step, in milli-units; times 60 * 32 it stays a small integer
_RATE_MAX = 1 << 20  # TREND_MAX in 32nds
_STEPS = 64  # the mean moves at most so often in one time constant, so that its share of 1/256 does not vanish


class Slope:
    """One channel's slope."""

    def __init__(self, trend_s):
        self.trend_s = trend_s
        self._step_s = trend_s // _STEPS or 1
        self._rate = 0  # 32nds of a milli-unit a minute
        self._value = 0
        self._at_s = -1  # uptime of `_value`; none yet

    def take(self, t_s, value, afresh):
        """One sample; afresh: the first one, or the first after a fault."""
        trend_s = self.trend_s
        if not trend_s:
            return
        if afresh or self._at_s < 0:
            self._rate = 0
        else:
            span_s = t_s - self._at_s
            if span_s < self._step_s:
                return
            change = value - self._value
            change = min(max(change, -_CHANGE_MAX), _CHANGE_MAX) * 1920 // span_s
            change = min(max(change, -_RATE_MAX), _RATE_MAX)
            share = 256 if span_s >= trend_s else span_s * 256 // trend_s
            self._rate += ((change - self._rate) * share + 128) >> 8
        self._value = value
        self._at_s = t_s

    def trend(self, change, span_s):
        """The trend to report, when the value has changed by `change` in the `span_s` seconds since the last report."""
        if self.trend_s:
            trend = (self._rate + 16) >> 5
        elif span_s > 0:
            trend = min(max(change, -10000000), 10000000) * 60 // span_s
        else:
            return 0
        return min(max(trend, -TREND_MAX), TREND_MAX)
