"""Window summaries: the least, mean and greatest reading of each stretch of uptime, and how many there were.

Integers and fixed state; the mean is exact (rounded down) whatever the count and the size of the readings, since it is
kept as quotient and remainder instead of a sum. Loaded only where a model asks for it; knows nothing of reports.
"""

from isocore.record import WINDOW_COUNT, WINDOW_MAX, WINDOW_MEAN, WINDOW_MIN


class Window:
    """Windows of `window_s` seconds, aligned on uptime 0: [n * window_s, (n + 1) * window_s)."""

    def __init__(self, window_s):
        self.window_s = window_s
        self.count = 0
        self.least = 0
        self.mean = 0
        self.greatest = 0
        self.end_s = 0  # uptime at which the present one ends
        self.reported_s = 0  # and at which the last one ended
        self._rest = 0  # sum of the readings = mean * count + rest, 0 <= rest < count

    def step(self, out, t_s, value):
        """One sample. If it ends a window, that one goes to `out.emit`, stamped with its end, `reported_s`."""
        if t_s >= self.end_s:
            if self.count:
                self.reported_s = self.end_s
                out.emit(WINDOW_MIN, self.least)
                out.emit(WINDOW_MEAN, self.mean)
                out.emit(WINDOW_MAX, self.greatest)
                out.emit(WINDOW_COUNT, self.count)
            self.count = 1
            self.end_s = (t_s // self.window_s + 1) * self.window_s
            self.least = self.mean = self.greatest = value
            self._rest = 0
            return
        count = self.count + 1
        self.count = count
        if value < self.least:
            self.least = value
        elif value > self.greatest:
            self.greatest = value
        more = value - self.mean
        self.mean += more // count
        self._rest += more % count
        if self._rest >= count:
            self._rest -= count
            self.mean += 1
