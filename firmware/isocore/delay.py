"""The bounded delay: a reading that left its bound waits, so that its report can be chosen to cover what follows too.

While it waits, two candidates are narrowed down to the values that all samples since would allow a report to have: one
held, one with the trend known at the beginning. Nothing else is kept of the samples. Loaded only where a model asks
for it; knows neither when to end the wait nor what is done with the report.
"""

from isocore.predict import displacement

_ERROR_MAX = 0x0FFFFFFF  # a wider bound counts as this, so that reading plus trend plus bound stays a small integer


class Delay:
    """One channel's waiting report. While `waiting`: stamp `t_s`, `t_ms`; after `close`: its `value` and `trend`."""

    def __init__(self):
        self.waiting = False
        self.t_s = 0
        self.t_ms = 0
        self.first = 0  # the reading that left the bound
        self.value = 0
        self.trend = 0
        self._last = 0
        self._lead = 0
        self._lowest = 0  # what a held report may be ...
        self._highest = 0
        self._low = 0  # ... and one with the trend; lowest above highest: none is left
        self._high = 0

    def begin(self, t_s, t_ms, value, trend, lead, error_milli):
        """The reading `value` has left its bound; `lead` is how far beyond it the report would best stand."""
        self.waiting = True
        self.t_s = t_s
        self.t_ms = t_ms
        self.first = self._last = value
        self.trend = trend
        self._lead = lead
        self._lowest = self._low = value - error_milli
        self._highest = self._high = value + error_milli

    def covers(self, t_s, value, error_milli):
        """Narrow both candidates by a sample. False, and nothing is changed, when neither would survive it."""
        if error_milli > _ERROR_MAX:
            error_milli = _ERROR_MAX
        lowest = max(self._lowest, value - error_milli)
        highest = min(self._highest, value + error_milli)
        level = value - displacement(self.trend, t_s - self.t_s)
        low = max(self._low, level - error_milli)
        high = min(self._high, level + error_milli)
        if lowest > highest and low > high:
            return False
        self._lowest = lowest
        self._highest = highest
        self._low = low
        self._high = high
        self._last = value
        return True

    def close(self, valid_min, valid_max):
        """End the wait: choose `value` and `trend`, within the valid range where the bound permits."""
        self.waiting = False
        if self.trend and self._low <= self._high:
            wanted = self.first
            low = self._low
            high = self._high
        else:
            self.trend = 0
            wanted = self._last
            low = self._lowest
            high = self._highest
        wanted = min(max(wanted + self._lead, valid_min), valid_max)
        self.value = min(max(wanted, low), high)
