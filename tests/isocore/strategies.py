"""What the filter's property tests draw: every set of parameters that a model may hold, and the lives of sensors.

Used by hypothesis on CPython; test_filter_micropython.py replays what was drawn on the board's interpreter.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from isocore.model import FIELDS, ChannelParams
from isocore.payload import check_limits
from isocore.record import FAULT_CRC, FAULT_MISSING, VALUE_MAX

Event = tuple[str, int, int]
"""("sample" or "fault", uptime in ms, value in milli-units or fault code)"""

YEAR_MS = 31_536_000_000
readings = st.one_of(st.integers(-3000, 3000), st.sampled_from((0, 0, 500, 501, VALUE_MAX, -VALUE_MAX)))
steps_ms = st.sampled_from((1, 999, 1000, 1000, 5000, 60_000, 60_000, 61_001, 3_600_000, 86_400_000, 864_000_000))


@st.composite
def params(draw: st.DrawFn) -> Any:
    """Limits, most of them near the readings; every way of reporting; windows."""
    near = st.integers(-3000, 3000)
    made = ChannelParams()
    if draw(st.booleans()):
        made.high_on_milli = draw(near)
        made.high_off_milli = made.high_on_milli - draw(st.sampled_from((0, 0, 1, 500, 1000)))
    if draw(st.booleans()):
        top = made.high_on_milli if made.high_on_milli is not None else 3000
        made.low_on_milli = top - draw(st.integers(1, 3000))
        made.low_off_milli = made.low_on_milli + draw(st.sampled_from((0, 0, 1, 500, 1000)))
    made.debounce_samples = draw(st.integers(1, 4))
    made.rate_limit_milli_min = draw(st.sampled_from((0, 0, 1, 100, 1000, 250_000)))
    made.stuck_s = draw(st.sampled_from((0, 60, 600)))
    made.error_milli = draw(st.sampled_from((0, 1, 50, 100, 500, 500, 2000, 20_000_000, VALUE_MAX)))
    made.heartbeat_s = draw(st.sampled_from((0, 0, 60, 200, 3600)))
    made.predictor = draw(st.sampled_from((0, 1, 1, 2, 2, 2)))
    made.trend_s = draw(st.sampled_from((0, 0, 1, 60, 600, 1800, FIELDS["trend_s"][1])))
    made.lead_pct = draw(st.sampled_from((0, 0, -50, -30, 20, 40, 90)))
    made.lead_after = draw(st.sampled_from((0, 0, 1, 2)))
    made.delay_s = draw(st.sampled_from((0, 0, 1, 60, 300)))
    made.fit_pct = draw(st.sampled_from((0, 0, 1, 50, 100, 200)))
    made.window_s = draw(st.sampled_from((0, 0, 60, 600, 86_400)))
    if draw(st.booleans()):
        made.valid_min_milli, made.valid_max_milli = -2500, 2500
    check_limits("t", made)
    return made


@st.composite
def lives(draw: st.DrawFn) -> list[Event]:
    """Steps from milliseconds to a day; jumps, drifts and plateaus; faults between."""
    t_ms = draw(st.sampled_from((0, 999, YEAR_MS)))
    life: list[Event] = []
    value = draw(readings)
    drift = draw(st.sampled_from((0, 1, -7, 60, 300)))
    regular = draw(st.one_of(st.none(), steps_ms))
    for _ in range(draw(st.integers(1, 60))):
        t_ms += regular if regular is not None else draw(steps_ms)
        chance = draw(st.integers(0, 19))
        if chance == 0:
            life.append(("fault", t_ms, draw(st.sampled_from((FAULT_CRC, FAULT_MISSING)))))
            continue
        if chance == 1:
            value = draw(readings)
        elif chance == 2:
            drift = draw(st.sampled_from((0, 1, -7, 60, -300)))
        elif chance > 3:
            value = min(max(value + drift + draw(st.integers(-60, 60)), -VALUE_MAX), VALUE_MAX)
        life.append(("sample", t_ms, value))
    return life
