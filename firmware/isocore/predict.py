"""What a report says of the time after it: the one formula that boards, trainer and receiver reconstruct a channel by.

    predict(value, trend, d), d = whole seconds of uptime since the report:
        x = min(d, HORIZON_S)
        value + trend * (x - x^2 / (2 * HORIZON_S)) / 60,  in floor division, kept within +-VALUE_MAX

So a trend of 0 holds the value, and any other one fades until it stands still at HORIZON_S, having moved the value by
trend * 20 minutes. It follows from the report alone: neither the model nor the clock of the day is needed. All steps
stay small integers on a board.
"""

from isocore.record import VALUE_MAX

HORIZON_S = 2400
TREND_MAX = 32767  # milli-units a minute; i16 in a frame


def span(elapsed_s):
    """The seconds at full slope that `elapsed_s` whole seconds of a fading one are worth: 0 to HORIZON_S / 2."""
    if elapsed_s > HORIZON_S:
        elapsed_s = HORIZON_S
    return elapsed_s - elapsed_s * elapsed_s // (2 * HORIZON_S)


def displacement(trend, elapsed_s):
    """How far `trend` (milli-units a minute) has moved a value `elapsed_s` whole seconds after its report."""
    return trend * span(elapsed_s) // 60


def predict(value, trend, elapsed_s):
    """The value that stands `elapsed_s` whole seconds after a report of `value` and `trend`. Allocates nothing."""
    if not trend:
        return value
    value += displacement(trend, elapsed_s)
    if value > VALUE_MAX:
        return VALUE_MAX
    if value < -VALUE_MAX:
        return -VALUE_MAX
    return value
