"""Whether the signal keeps going the same way, and how far a report may then stand ahead of its reading.

A report whose value lies in the middle of its bound is left after one bound; one that lies at the far end is left after
two, if the signal really goes on, and at the first step back if it does not. So the report goes ahead once the signal
has left in the same direction `lead_after` times before: by what the bound leaves over the signal's own wavering, which
is the furthest that it went back, against that direction, since the last report. A slope is carried on the same
condition. Integers and fixed state; nothing is allocated after construction. Loaded only where a model asks for it.
"""

_RUN_MAX = 1000  # far beyond any lead_after, and no end to count to


class Follow:
    """One channel's course since its last report, and how many reports in a row went the same way."""

    def __init__(self):
        self._run = 0  # reports in a row that left upwards, or, negative, downwards
        self._highest = 0  # readings since the last report ...
        self._lowest = 0
        self._fell = 0  # ... and the furthest from a highest down, and from a lowest up
        self._rose = 0

    def restart(self, value):
        """`value` has just been read and reported."""
        self._highest = self._lowest = value
        self._fell = self._rose = 0

    def forget(self):
        """Something ended the course: a fault, another model."""
        self._run = 0

    def take(self, value):
        """One reading."""
        if value > self._highest:
            self._highest = value
        elif value < self._lowest:
            self._lowest = value
        if self._highest - value > self._fell:
            self._fell = self._highest - value
        if value - self._lowest > self._rose:
            self._rose = value - self._lowest

    def left(self, upwards, lead_after, error_milli):
        """The reading has left its bound: how far the report may go ahead, at most `error_milli`; -1 if not at all."""
        if upwards:
            self._run = self._run + 1 if self._run > 0 else 1
            wavering = self._fell
            run = self._run
        else:
            self._run = self._run - 1 if self._run < 0 else -1
            wavering = self._rose
            run = -self._run
        if run > _RUN_MAX:
            self._run = _RUN_MAX if upwards else -_RUN_MAX
        if run <= lead_after:
            return -1
        return max(error_milli - wavering, 0)
