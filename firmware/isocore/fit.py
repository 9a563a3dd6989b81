"""A wait that ends in a slope: the bounded delay of delay.py, with a straight course fitted to what came during it.

Two candidates are narrowed down to what all samples since the beginning allow: one value, held; and one course from the
first reading, whose slope fades as predict.py says. A signal that has moved by more than a share of its bound while it
waited is taken to go on, and the report carries the slope through the last reading, as near as the samples permit;
otherwise, or where no slope fits, one value. Two pairs of integers stand for all the samples. The idea of narrowing
slopes from a fixed point is the swing filter's (H. Elmeleegy et al., "Online Piece-wise Linear Approximation of
Numerical Streams with Precision Guarantees", VLDB 2009).

Loaded only where a model asks for it; knows neither when to end the wait nor what is done with the report.
"""

from isocore.delay import Delay
from isocore.predict import TREND_MAX, span

_ERROR_MAX = 0x0FFFFFFF  # a wider bound counts as this, so that a change plus the bound stays a small integer
_CHANGE_MAX = 0x1FFFFFFF
_REACH_MAX = 700000  # further than any slope can lead: TREND_MAX * 20 minutes
_MOVED_MAX = 10000000  # times 60 it stays a small integer


class Fit(Delay):
    """One channel's waiting report."""

    def __init__(self):
        super().__init__()
        self._enough = 0  # moved by more than this, it goes on
        self._least = 0  # slopes that all samples allow; least above greatest: none
        self._greatest = 0
        self._span = 0  # of the last sample

    def begin(self, t_s, t_ms, value, trend, lead, error_milli):
        """The reading `value` has left its bound. The trend known at this time is not used."""
        # Not super(): a closure over __class__ called with more than four arguments allocates.
        Delay.begin(self, t_s, t_ms, value, 0, lead, error_milli)
        self._least = -TREND_MAX
        self._greatest = TREND_MAX
        self._span = 0

    def expect(self, fit_pct, error_milli):
        """How far the signal has to move, in % of the bound, for its slope to count; after `begin`."""
        self._enough = error_milli * fit_pct // 100 if error_milli < _MOVED_MAX else error_milli // 100 * fit_pct

    def covers(self, t_s, value, error_milli):
        """Narrow both candidates by a sample. False, and nothing is changed, when neither would survive it."""
        if error_milli > _ERROR_MAX:
            error_milli = _ERROR_MAX
        change = min(max(value - self.first, -_CHANGE_MAX), _CHANGE_MAX)
        low = min(max(change - error_milli, -_REACH_MAX), _REACH_MAX)
        high = min(max(change + error_milli, -_REACH_MAX), _REACH_MAX)
        least = self._least
        greatest = self._greatest
        reach = span(t_s - self.t_s)
        if reach:  # low <= slope * reach // 60 <= high
            least = max(least, -(-60 * low // reach))
            greatest = min(greatest, (60 * high + 59) // reach)
        elif low > 0 or high < 0:
            greatest = least - 1
        lowest = max(self._lowest, value - error_milli)
        highest = min(self._highest, value + error_milli)
        if lowest > highest and least > greatest:
            return False
        self._lowest = lowest
        self._highest = highest
        self._least = least
        self._greatest = greatest
        self._span = reach
        self._last = value
        return True

    def close(self, valid_min, valid_max):
        """End the wait: choose `value` and `trend`."""
        moved = min(max(self._last - self.first, -_MOVED_MAX), _MOVED_MAX)
        went_on = moved > self._enough or -moved > self._enough
        held = self._lowest <= self._highest
        if self._span and self._least <= self._greatest and (went_on or not held):
            self.waiting = False
            self.trend = min(max(moved * 60 // self._span, self._least), self._greatest)
            self.value = self.first
            return
        Delay.close(self, valid_min, valid_max)
