"""The filter: one channel's samples in, the records that matter out.

An integer state machine with fixed state. `step` allocates nothing on a board, whatever the uptime and the values. The
trainer replays history through this very file, so what it predicts is what the board does.

Rules, in the order in which a step applies them:
 1. A reading outside the valid range is a fault, not a sample.
 2. A good reading ends a fault: FAULT_CLEARED, and the reading is reported afresh.
 3. Unchanged for `stuck_s`: FAULT(stuck) until it changes; the samples still count.
 4. Limits with hysteresis: on after `debounce_samples` samples in a row at or past *_on; off after as many at or
    back of *_off and back of *_on.
 5. Rate: the change since an anchor at least a minute old, scaled to a minute, against `rate_limit_milli_min`.
 6. Windows of `window_s`: least, mean, greatest and count of the samples of one that has ended.
 7. Reporting: the first sample, and whenever the reading has left what the last report predicts (predict.py) by more
    than `error_milli`, or `heartbeat_s` has passed; its value may stand ahead of the reading. With `delay_s` a reading
    that left waits so long, or until no report could cover what came since, or a heartbeat, a fault or `flush` ends the
    wait. Either way the receiver is never off by more than `error_milli` at any sample. Alarms and faults never wait.

Slope, going ahead, delay and windows stand in files of their own, which a board loads when a model first asks for them.
Uptime comes as whole seconds plus milliseconds, which stay small integers for 34 years. A caller that has no reading
calls `fault` with the code instead.
"""

from isocore.model import PREDICTOR_NONE, PREDICTOR_TREND
from isocore.predict import predict
from isocore.record import (
    DELTA,
    FAULT,
    FAULT_CLEARED,
    FAULT_RANGE,
    FAULT_STUCK,
    HIGH_OFF,
    HIGH_ON,
    LOW_OFF,
    LOW_ON,
    RATE_OFF,
    RATE_ON,
    SAMPLE,
    WINDOW_MIN,
)

OUT_MAX = 12  # records one step can make: two of faults, three of alarms, four of a window, two reports; and one spare
_RATE_WINDOW_S = 60
_RATE_SPAN_S_MAX = 3600  # rate_limit_milli_min * span stays a small integer: 250000 * 3600 < 2^30 ...
_RATE_SPAN_MIN_MAX = 4000  # ... and so it does in minutes
_LEAD_ERROR_MAX = 10000000  # error_milli * lead_pct stays one below this


class ChannelFilter:
    """Filter of one channel.

    After `step`, `fault` or `flush`, the records to send are `kinds[i]`, `values[i]`, `trend(i)`, stamped with the
    uptime `at_s(i, now_s)`, `at_ms(i, now_ms)`, for i below the returned count. `sampled` says whether the reading
    counted as a sample, `reported` how many reports are among the records: one of a sample that had waited may come
    with one of this sample, or with a fault.
    """

    def __init__(self, params):
        """params: ChannelParams that passed `check_limits`."""
        self.kinds = bytearray(OUT_MAX)
        self.values = [0] * OUT_MAX
        self.sampled = False
        self.reported = 0
        self.high = False
        self.low = False
        self.rate = False
        self.fault_code = 0
        self.stuck = False
        self._count = 0
        self._high_run = 0
        self._low_run = 0
        self._have_report = False
        self._report_value = 0  # what was reported ...
        self._report_trend = 0
        self._report_s = 0
        self._base_value = 0  # ... of this reading
        self._late = -1  # index of the record that had waited, its stamp and its trend
        self._late_s = 0
        self._late_ms = 0
        self._late_trend = 0
        self._slope = None
        self._follow = None
        self._delay = None
        self._fits = False
        self._other_delay = None  # takes over when the wait in progress is over
        self._window = None
        self._have_last = False
        self._last_value = 0
        self._last_change_s = 0
        self._have_anchor = False
        self._anchor_value = 0
        self._anchor_s = 0
        self._anchor_ms = 0
        self.configure(params)

    def configure(self, params):
        """Take other parameters and keep the state: a standing alarm ends only by a sample, a report stays valid.

        Each sample is held to the parameters of its time. A window whose length changes is dropped unreported.
        """
        self.params = params
        self._high_run = 0
        self._low_run = 0
        if params.predictor != PREDICTOR_TREND:
            self._slope = None
        elif self._slope is None or self._slope.trend_s != params.trend_s:
            from isocore.slope import Slope

            self._slope = Slope(params.trend_s)
        if not params.lead_after:
            self._follow = None
        elif self._follow is None:
            from isocore.follow import Follow

            self._follow = Follow()
            self._follow.restart(self._last_value)
        if params.delay_s:
            self._choose_delay(params)
        if not params.window_s:
            self._window = None
        elif self._window is None or self._window.window_s != params.window_s:
            from isocore.window import Window

            self._window = Window(params.window_s)

    def _choose_delay(self, params):
        """The kind of wait that the parameters ask for; one in progress ends as it began."""
        fits = params.predictor == PREDICTOR_TREND and params.fit_pct > 0
        if self._delay is not None and fits == self._fits:
            return
        self._fits = fits
        if fits:
            from isocore.fit import Fit

            made = Fit()
        else:
            from isocore.delay import Delay

            made = Delay()
        if self._delay is not None and self._delay.waiting:
            self._other_delay = made
        else:
            self._delay = made

    def renew(self):
        """Report the next sample whatever it is: a board on a new model wants an ack, and so has to send something."""
        self._have_report = False

    @property
    def alarmed(self):
        """True while any limit is exceeded."""
        return self.high or self.low or self.rate

    def trend(self, i):
        """Trend of record i, in milli-units a minute."""
        if i == self._late:
            return self._late_trend
        return self._report_trend if SAMPLE <= self.kinds[i] <= DELTA else 0

    def at_s(self, i, now_s):
        """Uptime in seconds of record i, when that of the step was `now_s`."""
        if i == self._late:
            return self._late_s
        return self._window.reported_s if self.kinds[i] >= WINDOW_MIN else now_s

    def at_ms(self, i, now_ms):
        """Milliseconds of the uptime of record i."""
        if i == self._late:
            return self._late_ms
        return 0 if self.kinds[i] >= WINDOW_MIN else now_ms

    def _begin(self, sampled):
        self._count = 0
        self._late = -1
        self.reported = 0
        self.sampled = sampled

    def flush(self):
        """Before a planned end: what still waits is reported. Returns the count of records."""
        self._begin(False)
        if self._delay is not None and self._delay.waiting:
            self._release(self.params)
        return self._count

    def fault(self, code):
        """No reading: the sensor failed with `code` (FAULT_*). Returns the count of records, 0 while it lasts."""
        self.flush()
        if code != self.fault_code:
            self.fault_code = code
            self.emit(FAULT, code)
        self._high_run = 0
        self._low_run = 0
        self._have_anchor = False
        return self._count

    def step(self, t_s, t_ms, value):
        """One reading `value` (milli-units) at uptime t_s seconds + t_ms milliseconds. Returns the count of records."""
        params = self.params
        if value < params.valid_min_milli or value > params.valid_max_milli:
            return self.fault(FAULT_RANGE)
        self._begin(True)
        afresh = not self._have_report
        if self.fault_code:
            self.emit(FAULT_CLEARED, self.fault_code)
            self.fault_code = 0
            self._have_last = False
            afresh = True
        self._step_stuck(params, t_s, value)
        self._step_high(params, value)
        self._step_low(params, value)
        self._step_rate(params, t_s, t_ms, value)
        if self._window is not None:
            self._window.step(self, t_s, value)
        self._step_report(params, t_s, t_ms, value, afresh)
        return self._count

    def emit(self, kind, value):
        """Add a record to those of this step."""
        count = self._count
        self.kinds[count] = kind
        self.values[count] = value
        self._count = count + 1

    def _step_stuck(self, params, t_s, value):
        if not self._have_last or value != self._last_value:
            self._have_last = True
            self._last_value = value
            self._last_change_s = t_s
            if self.stuck:
                self.stuck = False
                self.emit(FAULT_CLEARED, FAULT_STUCK)
        elif params.stuck_s and not self.stuck and t_s - self._last_change_s >= params.stuck_s:
            self.stuck = True
            self.emit(FAULT, FAULT_STUCK)

    def _step_high(self, params, value):
        limit = params.high_off_milli if self.high else params.high_on_milli
        if limit is None:
            crossed = self.high  # the limit is gone: a standing alarm ends
        elif self.high:
            # Below *_on too: where both are one, a reading that stands right there must not switch at every sample.
            crossed = value <= limit and value < params.high_on_milli
        else:
            crossed = value >= limit
        if not crossed:
            self._high_run = 0
            return
        self._high_run += 1
        if self._high_run >= params.debounce_samples or limit is None:
            self._high_run = 0
            self.high = not self.high
            self.emit(HIGH_ON if self.high else HIGH_OFF, value)

    def _step_low(self, params, value):
        limit = params.low_off_milli if self.low else params.low_on_milli
        if limit is None:
            crossed = self.low
        elif self.low:
            crossed = value >= limit and value > params.low_on_milli
        else:
            crossed = value <= limit
        if not crossed:
            self._low_run = 0
            return
        self._low_run += 1
        if self._low_run >= params.debounce_samples or limit is None:
            self._low_run = 0
            self.low = not self.low
            self.emit(LOW_ON if self.low else LOW_OFF, value)

    def _step_rate(self, params, t_s, t_ms, value):
        limit = params.rate_limit_milli_min
        if not limit:
            if self.rate:
                self.rate = False
                self.emit(RATE_OFF, 0)
            self._have_anchor = False
            return
        if not self._have_anchor:
            self._move_anchor(t_s, t_ms, value)
            return
        span_s = t_s - self._anchor_s
        if t_ms < self._anchor_ms:
            span_s -= 1
        window_full = span_s >= _RATE_WINDOW_S
        change = value - self._anchor_value
        if change < 0:
            change = -change
        # The bound for a span of a minute or more; a shorter one may change by a whole minute's worth.
        if not window_full:
            bound = limit
        elif span_s <= _RATE_SPAN_S_MAX:
            bound = limit * span_s // _RATE_WINDOW_S
        else:
            bound = limit * min(span_s // _RATE_WINDOW_S, _RATE_SPAN_MIN_MAX)
        over = change > bound
        if over != self.rate and (over or window_full):
            self.rate = over
            if window_full:
                change = change * _RATE_WINDOW_S // span_s if change < 10000000 else change // span_s * _RATE_WINDOW_S
            self.emit(RATE_ON if over else RATE_OFF, change)
        if over or window_full:
            self._move_anchor(t_s, t_ms, value)

    def _move_anchor(self, t_s, t_ms, value):
        self._have_anchor = True
        self._anchor_value = value
        self._anchor_s = t_s
        self._anchor_ms = t_ms

    def _step_report(self, params, t_s, t_ms, value, afresh):
        slope = self._slope
        if slope is not None:
            slope.take(t_s, value, afresh)
        follow = self._follow
        if follow is not None:
            if afresh:
                follow.forget()
            else:
                follow.take(value)
        error = params.error_milli
        plain = afresh or params.predictor == PREDICTOR_NONE
        beat = params.heartbeat_s and t_s - self._report_s >= params.heartbeat_s
        delay = self._delay
        if delay is not None and delay.waiting:
            covered = not plain and delay.covers(t_s, value, error)
            if covered and not beat and t_s - delay.t_s < params.delay_s:
                return
            self._release(params)
            if covered:
                return
            beat = params.heartbeat_s and t_s - self._report_s >= params.heartbeat_s
        if plain:
            self._report(SAMPLE, t_s, value, value, 0)
            return
        change = value - predict(self._report_value, self._report_trend, t_s - self._report_s)
        left = change > error or change < -error
        if not left and not beat:
            return
        trend = slope.trend(value - self._base_value, t_s - self._report_s) if slope is not None else 0
        lead = 0
        if left:
            lead = params.lead_pct
            if lead:
                lead = error * lead // 100 if error < _LEAD_ERROR_MAX else error // 100 * lead
            if follow is not None:
                more = follow.left(change > 0, params.lead_after, error)
                if more < 0:
                    trend = 0
                elif slope is None or self._fits:
                    lead = max(lead, more)
            if change < 0:
                lead = -lead
        if left and params.delay_s and not beat:
            delay = self._delay
            delay.begin(t_s, t_ms, value, trend, lead, error)
            if self._fits:
                delay.expect(params.fit_pct, error)
        else:
            lead = min(max(value + lead, params.valid_min_milli), params.valid_max_milli)
            self._report(DELTA if left else SAMPLE, t_s, value, lead, trend)

    def _release(self, params):
        """Report the sample that waited."""
        delay = self._delay
        delay.close(params.valid_min_milli, params.valid_max_milli)
        self._late = self._count
        self._late_s = delay.t_s
        self._late_ms = delay.t_ms
        self._late_trend = delay.trend
        if self._other_delay is not None:
            self._delay = self._other_delay
            self._other_delay = None
        self._report(DELTA, delay.t_s, delay.first, delay.value, delay.trend)

    def _report(self, kind, t_s, base_value, value, trend):
        self._have_report = True
        self._base_value = base_value
        self._report_value = value
        self._report_trend = trend
        self._report_s = t_s
        if self._follow is not None:
            self._follow.restart(self._last_value)
        self.reported += 1
        self.emit(kind, value)
