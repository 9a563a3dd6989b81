"""Windows over what a channel reported: least, mean and greatest value, count, time in alarm, time in fault.

The one aggregation for both sides: a gateway folds records as they come, a cloud (or a store that thins) folds a list,
and the same records give the same windows. Boards do not load this file; their own summaries, over samples that nobody
else sees, are window.py. It knows no clock, no store and no policy.

Reports are irregular (send-on-delta): a report stands until the next one, within the error bound, and with a trend it
moves as predict.py says. So the figures are those of the signal a receiver reconstructs, not of the reports:

    least, greatest  of that signal, the value carried in included, and of alarms' readings
    mean             by time: area // covered_ms, in floor division as everywhere in isocore
    count            reports stamped inside the window; 0 when the window lives on a value carried in
    last             what stands at the end of what is known of the window
    covered_ms       time for which there was a value
    alarm_ms         time with a high, low or rate alarm on
    fault_ms         time in a fault; no value of that time is in any figure

A mean of reports would be drawn towards where the signal moves, because that is where the reports are.

Nothing is carried further than `hold_s` after a channel's last record, nor into the next boot. Order is (boot, uptime,
seq); windows are aligned on unix time, [n * length_s, (n + 1) * length_s). A record inside what is folded already is
refused: the caller goes back to a window's `opening` and feeds all that came after it again. Everything is an integer
(not a small one: milli-units times milliseconds).
"""

from isocore.predict import HORIZON_S, predict
from isocore.record import (
    DELTA,
    FAULT,
    FAULT_CLEARED,
    HIGH_OFF,
    HIGH_ON,
    LOW_OFF,
    LOW_ON,
    RATE_OFF,
    RATE_ON,
    SAMPLE,
)

_ON = {HIGH_ON: 1, LOW_ON: 2, RATE_ON: 4}
_OFF = {HIGH_OFF: 1, LOW_OFF: 2, RATE_OFF: 4}
KINDS = (SAMPLE, DELTA, HIGH_ON, HIGH_OFF, LOW_ON, LOW_OFF, RATE_ON, RATE_OFF, FAULT, FAULT_CLEARED)

# What is known of a channel after its last record:
# (boot, uptime_ms, seq, unix_ms of that record, value or None, trend, unix_ms of the report, alarms on, fault code)
NOTHING = (0, 0, 0, 0, None, 0, 0, 0, 0)


def mean_of(area, covered_ms, least, greatest):
    """The mean of a window whose figures are kept elsewhere."""
    if covered_ms:
        return area // covered_ms
    return None if least is None else (least + greatest) // 2


class Window:
    """One window so far. `opening`: the channel's state when this window began, and from when on: (state, unix_ms)."""

    def __init__(self, length_s, start_s, opening):
        self.length_s = length_s
        self.start_s = start_s
        self.opening = opening
        self.least = None
        self.greatest = None
        self.last = None
        self.area = 0  # milli-units times ms
        self.covered_ms = 0
        self.count = 0
        self.alarm_ms = 0
        self.fault_ms = 0

    @property
    def mean(self):
        """Mean by time, floor division; None without a value; amid least and greatest when nothing lasted a ms."""
        return mean_of(self.area, self.covered_ms, self.least, self.greatest)

    def figures(self):
        """(least, mean, greatest, last, count, covered_ms, alarm_ms, fault_ms)"""
        return (
            self.least,
            self.mean,
            self.greatest,
            self.last,
            self.count,
            self.covered_ms,
            self.alarm_ms,
            self.fault_ms,
        )

    def see(self, value):
        """A value that the channel had inside this window."""
        if self.least is None:
            self.least = self.greatest = value
        elif value < self.least:
            self.least = value
        elif value > self.greatest:
            self.greatest = value


class Channel:
    """One channel's windows, fed in order of (boot, uptime, seq).

    lengths_s: rising, each a multiple of the one before. `windows` gathers what was touched, by (length_s, start_s);
    the caller may take windows out and give them back by `fetch(length_s, start_s)`, which returns a Window or None.
    """

    def __init__(self, lengths_s, hold_s, fetch=None):
        self._lengths_s = lengths_s
        self._hold_ms = hold_s * 1000
        self._fetch = fetch
        self.windows = {}
        self.go_back((NOTHING, 0), None)

    def go_back(self, opening, floor_s):
        """Stand where a window's opening stood; what was folded of windows before `floor_s` stays as it is."""
        self.state, unix_ms = opening
        self._reached_ms = dict.fromkeys(self._lengths_s, unix_ms)
        self._floor_s = floor_s

    def feed(self, boot, seq, kind, value, trend, uptime_ms, unix_ms):
        """Fold one record. False when it lies inside what is folded already; then nothing has changed."""
        if kind not in KINDS:
            return True
        record_ms = self.state[3]
        for reached_ms in self._reached_ms.values():
            if reached_ms > unix_ms and reached_ms > record_ms:
                return False  # closed past it; a clock that was put back (reached_ms == record_ms) starts anew there
        return self.take(boot, seq, kind, value, trend, uptime_ms, unix_ms)

    def take(self, boot, seq, kind, value, trend, uptime_ms, unix_ms):
        """Fold one record of a list that is in order, as after `go_back`. False when it is none of those to come."""
        if (boot, uptime_ms, seq) <= self.state[:3]:
            return False
        if kind in KINDS:
            self._advance(unix_ms, self._lengths_s)
            for length_s in self._lengths_s:
                self._reached_ms[length_s] = unix_ms
            self._apply(boot, seq, kind, value, trend, uptime_ms, unix_ms)
        return True

    def reached(self):
        """How far each length is folded, unix ms in the order of the lengths: with `state`, all that `resume` needs."""
        return [self._reached_ms[length_s] for length_s in self._lengths_s]

    def resume(self, state, reached_ms):
        """Go on where another Channel of the same lengths stood."""
        self.state = tuple(state)
        self._reached_ms = dict(zip(self._lengths_s, reached_ms))
        self._floor_s = None

    def close(self, unix_ms):
        """Carry what stands to the end of every window that ended by then."""
        for length_s in self._lengths_s:
            length_ms = length_s * 1000
            end_ms = unix_ms // length_ms * length_ms
            if end_ms > self._reached_ms[length_s]:
                self._advance(end_ms, (length_s,))
                self._reached_ms[length_s] = end_ms

    def _apply(self, boot, seq, kind, value, trend, uptime_ms, unix_ms):
        before = self.state
        if boot == before[0]:
            standing, slope, report_ms, alarms, fault = before[4:]
        else:
            standing, slope, report_ms, alarms, fault = None, 0, 0, 0, 0
        seen = None
        if kind in (SAMPLE, DELTA):
            if not fault:
                standing, slope, report_ms = value, trend, unix_ms
                seen = value
        elif kind == FAULT:
            standing, fault = None, value
        elif kind == FAULT_CLEARED:
            fault = 0
        elif kind in _ON:
            alarms |= _ON[kind]
        else:
            alarms &= ~_OFF[kind]
        reading = seen is not None
        if kind in (HIGH_ON, HIGH_OFF, LOW_ON, LOW_OFF) and not fault:
            seen = value
        if seen is not None:
            for length_s in self._lengths_s:
                window = self._window(length_s, unix_ms)
                if window is not None:
                    window.see(seen)
                    if reading:
                        window.count += 1
                        window.last = seen
        self.state = (boot, uptime_ms, seq, unix_ms, standing, slope, report_ms, alarms, fault)

    def _advance(self, unix_ms, lengths_s):
        """Fold the time from where each length stands to `unix_ms`, as far as the last record may be believed."""
        _, _, _, record_ms, standing, trend, report_ms, alarms, fault = self.state
        if standing is None and not alarms and not fault:
            return
        until_ms = min(unix_ms, record_ms + self._hold_ms)
        for length_s in lengths_s:
            length_ms = length_s * 1000
            at_ms = self._reached_ms[length_s]
            while at_ms < until_ms:
                end_ms = min(until_ms, at_ms // length_ms * length_ms + length_ms)
                window = self._window(length_s, at_ms)
                if window is not None:
                    if standing is not None:
                        _cover(window, standing, trend, at_ms - report_ms, end_ms - report_ms)
                    if alarms:
                        window.alarm_ms += end_ms - at_ms
                    if fault:
                        window.fault_ms += end_ms - at_ms
                at_ms = end_ms

    def _window(self, length_s, unix_ms):
        start_s = unix_ms // 1000 // length_s * length_s
        if self._floor_s is not None and start_s < self._floor_s:
            return None
        key = (length_s, start_s)
        window = self.windows.get(key)
        if window is None:
            window = self._fetch(length_s, start_s) if self._fetch else None
            if window is None:
                # A record inside the window opens it at its own time, a value carried in at the window's start.
                window = Window(length_s, start_s, (self.state, unix_ms))
            self.windows[key] = window
        return window


def _cover(window, value, trend, from_ms, to_ms):
    """A report's value stands in a window from `from_ms` to `to_ms` after it."""
    first = predict(value, trend, from_ms // 1000)
    final = predict(value, trend, to_ms // 1000)
    window.see(first)
    window.see(final)
    window.last = final
    window.covered_ms += to_ms - from_ms
    if not trend:
        window.area += value * (to_ms - from_ms)
        return
    # The curve is a parabola up to the horizon, for which Simpson's rule is exact, and level behind it.
    turn_ms = min(max(from_ms, HORIZON_S * 1000), to_ms)
    amid = predict(value, trend, (from_ms + turn_ms) // 2000)
    turn = predict(value, trend, turn_ms // 1000)
    window.area += (turn_ms - from_ms) * (first + 4 * amid + turn) // 6 + (to_ms - turn_ms) * final


def fold(records, lengths_s, hold_s, upto_unix_ms=None):
    """Windows of a list of one channel's records, in any order, duplicates allowed: {(length_s, start_s): Window}.

    records: (boot, seq, kind, value, trend, uptime_ms, unix_ms), milli-units. upto_unix_ms: fold also the time after
    the last record, to the end of every window that ended by then.
    """
    channel = Channel(lengths_s, hold_s)
    for record in sorted(records, key=in_order):
        channel.take(*record)
    if upto_unix_ms is not None:
        channel.close(upto_unix_ms)
    return channel.windows


def in_order(record):
    """Sort key of (boot, seq, kind, value, trend, uptime_ms, unix_ms): by boot, uptime, seq."""
    return record[0], record[5], record[1]
