"""Reporting, windows and delays of isocore.filter under every set of parameters: what the receiver reconstructs is
never off by more than the bound, alarms and faults do not depend on how is reported, and nothing waits longer than it
may."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from host_tools.reconstruct import Reconstruction, Report
from isocore.filter import OUT_MAX, ChannelFilter
from isocore.model import PREDICTOR_HOLD, PREDICTOR_NONE, PREDICTOR_TREND, ChannelParams
from isocore.record import DELTA, SAMPLE, VALUE_MAX, WINDOW_MIN, is_report
from isocore.slope import Slope
from tests.isocore import reference
from tests.isocore.strategies import Event, lives, params


@dataclass
class Sent:
    """What a filter made of a life."""

    samples: list[tuple[int, int, int]] = field(default_factory=list)  # uptime ms, value, bound at that time
    reports: list[Report] = field(default_factory=list)
    reported_at_ms: list[int] = field(default_factory=list)
    events: list[list[tuple[int, int]]] = field(default_factory=list)  # alarms and faults, by step
    windows: list[tuple[int, int, int]] = field(default_factory=list)  # uptime ms, kind, value


def run(settings: Any, life: list[Event], changes: dict[int, Any] | None = None) -> Sent:
    """Replay a life, with other parameters from the steps in `changes` on; a planned end ends it."""
    state, sent = ChannelFilter(settings), Sent()
    for number, (what, t_ms, value) in enumerate(life):
        if changes and number in changes:
            state.configure(changes[number])
        count = state.fault(value) if what == "fault" else state.step(t_ms // 1000, t_ms % 1000, value)
        take(state, count, t_ms, sent)
        if state.sampled:
            assert what == "sample"
            sent.samples.append((t_ms, value, state.params.error_milli))
    take(state, state.flush(), -1, sent)
    assert state.flush() == 0
    return sent


def take(state: Any, count: int, t_ms: int, sent: Sent) -> None:
    assert count <= OUT_MAX
    reports_before = len(sent.reports)
    sent.events.append([])
    for i in range(count):
        kind, value = state.kinds[i], state.values[i]
        stamp_ms = state.at_s(i, t_ms // 1000) * 1000 + state.at_ms(i, t_ms % 1000)
        if is_report(kind):
            sent.reports.append((stamp_ms, len(sent.reports), value, state.trend(i)))
            sent.reported_at_ms.append(t_ms)
            continue
        assert state.trend(i) == 0
        if kind >= WINDOW_MIN:
            sent.windows.append((stamp_ms, kind, value))
        else:
            assert stamp_ms == t_ms
            sent.events[-1].append((kind, value))
    assert state.reported == len(sent.reports) - reports_before <= 2


@given(params(), lives(), st.dictionaries(st.integers(0, 60), params(), max_size=2))
def test_the_receiver_is_never_off_by_more_than_the_bound(
    settings: Any, life: list[Event], changes: dict[int, Any]
) -> None:
    sent = run(settings, life, changes)
    signal = Reconstruction(sent.reports)
    for t_ms, value, error_milli in sent.samples:
        assert abs(signal.at(t_ms) - value) <= error_milli


@given(params(), lives())
def test_a_report_is_of_a_sample_and_within_its_bound_and_in_order(settings: Any, life: list[Event]) -> None:
    sent = run(settings, life)
    taken = {t_ms: value for t_ms, value, _ in sent.samples}
    for stamp_ms, _, value, trend in sent.reports:
        assert abs(taken[stamp_ms] - value) <= settings.error_milli
        assert settings.predictor == PREDICTOR_TREND or trend == 0
    stamps_ms = [report[0] for report in sent.reports]
    assert stamps_ms == sorted(set(stamps_ms)), "one report a sample at most, in order of time"
    assert len(sent.reports) <= len(sent.samples)
    if settings.predictor == PREDICTOR_NONE:
        assert [(t_ms, value, 0) for t_ms, value, _ in sent.samples] == [
            (t, v, trend) for t, _, v, trend in sent.reports
        ]


@given(params(), lives())
def test_alarms_and_faults_do_not_depend_on_how_is_reported(settings: Any, life: list[Event]) -> None:
    sent = run(settings, life)
    judged = reference.replay(settings, life)
    assert sent.events[:-1] == [[one for one in step if not is_report(one[0])] for step in judged]
    assert sent.events[-1] == []


@given(params(), lives())
def test_plain_send_on_delta_is_what_its_rules_say_on_every_sample(settings: Any, life: list[Event]) -> None:
    settings.predictor = min(settings.predictor, PREDICTOR_HOLD)
    settings.lead_pct = settings.lead_after = settings.delay_s = settings.window_s = 0
    state = ChannelFilter(settings)
    got = []
    for what, t_ms, value in life:
        count = state.fault(value) if what == "fault" else state.step(t_ms // 1000, t_ms % 1000, value)
        got.append([(state.kinds[i], state.values[i]) for i in range(count)])
    assert got == reference.replay(settings, life)


@given(params(), params(), lives(), st.integers(0, 60))
def test_an_alarm_ends_with_its_limit(before: Any, after: Any, life: list[Event], at: int) -> None:
    state = ChannelFilter(before)
    for number, (what, t_ms, value) in enumerate(life):
        if number == at:
            state.configure(after)
        if what == "fault":
            state.fault(value)
            continue
        state.step(t_ms // 1000, t_ms % 1000, value)
        if state.sampled:
            assert not (state.high and state.params.high_on_milli is None)
            assert not (state.low and state.params.low_on_milli is None)
            assert not (state.rate and not state.params.rate_limit_milli_min)


@given(params(), lives())
def test_nothing_waits_longer_than_it_may(settings: Any, life: list[Event]) -> None:
    """A report comes at the first sample at or past the end of its delay, at a fault, or at the end."""
    assume(settings.delay_s and settings.predictor != PREDICTOR_NONE)
    sent = run(settings, life)
    steps_ms = [t_ms for _, t_ms, _ in life]
    for (stamp_ms, *_), at_ms in zip(sent.reports, sent.reported_at_ms, strict=True):
        until_ms = at_ms if at_ms >= 0 else steps_ms[-1] + 1
        between = [t_ms for t_ms in steps_ms if stamp_ms <= t_ms < until_ms]
        assert all(t_ms // 1000 - stamp_ms // 1000 < settings.delay_s for t_ms in between)


@given(params(), lives())
def test_without_a_delay_reports_are_of_the_present_sample(settings: Any, life: list[Event]) -> None:
    settings.delay_s = 0
    sent = run(settings, life)
    assert [report[0] for report in sent.reports] == sent.reported_at_ms


@given(params(), lives())
def test_the_heartbeat_is_kept(settings: Any, life: list[Event]) -> None:
    assume(settings.heartbeat_s)
    sent = run(settings, life)
    reported_s = sorted(t_ms // 1000 for t_ms in sent.reported_at_ms if t_ms >= 0)
    for t_ms, *_ in sent.samples:
        last_s = max(at_s for at_s in reported_s if at_s <= t_ms // 1000)
        assert t_ms // 1000 - last_s < settings.heartbeat_s


@given(lives(), st.sampled_from((60, 600, 86_400)), params())
def test_windows_are_those_of_a_naive_count(life: list[Event], window_s: int, settings: Any) -> None:
    settings.window_s = window_s
    sent = run(settings, life)
    windows: dict[int, list[int]] = {}
    for t_ms, value, _ in sent.samples:
        windows.setdefault(t_ms // 1000 // window_s, []).append(value)
    if windows:
        windows.pop(max(windows))  # the last one had not ended
    expected = []
    for index, values in sorted(windows.items()):
        figures = (min(values), sum(values) // len(values), max(values), len(values))
        end_ms = (index + 1) * window_s * 1000
        expected += [(end_ms, WINDOW_MIN + i, figure) for i, figure in enumerate(figures)]
    assert sent.windows == expected


# ---- by hand


def settings(**values: Any) -> Any:
    made = ChannelParams()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def minutes(values: list[int]) -> list[Event]:
    return [("sample", 60_000 * i, value) for i, value in enumerate(values)]


def shown(sent: Sent) -> list[tuple[int, int, int, int]]:
    """(minute it is of, minute it came, value, trend)"""
    pairs = zip(sent.reports, sent.reported_at_ms, strict=True)
    return [(stamp // 60_000, at // 60_000, value, trend) for (stamp, _, value, trend), at in pairs]


def test_hold_by_hand() -> None:
    sent = run(settings(error_milli=100), minutes([0, 100, 101, 200, 1, 0]))
    assert shown(sent) == [(0, 0, 0, 0), (2, 2, 101, 0), (5, 5, 0, 0)]


def test_lead_stands_ahead_of_the_reading_within_bound_and_valid_range() -> None:
    ahead = settings(error_milli=100, lead_pct=40, valid_max_milli=420)
    assert shown(run(ahead, minutes([0, 150, 290, 291, 189, 400]))) == [
        (0, 0, 0, 0),
        (1, 1, 190, 0),
        (3, 3, 331, 0),
        (4, 4, 149, 0),
        (5, 5, 420, 0),
    ]


def test_a_report_goes_ahead_once_the_signal_keeps_its_direction_by_what_its_wavering_leaves() -> None:
    follows = settings(error_milli=100, lead_after=1)
    # 101 is the first of its direction. From it the signal fell by 30 at most, so the next may stand 70 ahead.
    assert shown(run(follows, minutes([0, 101, 151, 121, 202, 272, 373, 374]))) == [
        (0, 0, 0, 0),
        (1, 1, 101, 0),
        (4, 4, 272, 0),
        (6, 6, 473, 0),  # it did not waver any more: the whole bound
    ]
    # Turned round, it starts anew; a fault makes it forget.
    assert shown(run(follows, minutes([0, 101, 0, -101])))[1:] == [(1, 1, 101, 0), (2, 2, 0, 0), (3, 3, -201, 0)]
    life = [*minutes([0, 101]), ("fault", 70_000, 1), ("sample", 120_000, 150), ("sample", 180_000, 251)]
    assert [report[2] for report in run(follows, life).reports] == [0, 101, 150, 251]


def test_a_steady_lead_is_the_least_of_what_a_direction_gives() -> None:
    both = settings(error_milli=100, lead_after=1, lead_pct=40)
    assert [report[2] for report in run(both, minutes([0, 110, 251, 170, 353])).reports] == [
        0,
        150,
        351,  # all of the bound, since it never wavered
        130,
        393,
    ]


def test_a_slope_is_carried_once_the_signal_keeps_its_direction() -> None:
    ramp = minutes([20 * i for i in range(24)])
    trend = settings(error_milli=100, predictor=PREDICTOR_TREND, lead_after=1)
    assert shown(run(trend, ramp))[:3] == [(0, 0, 0, 0), (6, 6, 120, 0), (12, 12, 240, 20)]


def test_a_wait_ends_in_the_slope_of_what_came_during_it() -> None:
    fitted = settings(error_milli=100, delay_s=300, predictor=PREDICTOR_TREND, fit_pct=100)
    # Rising by 60 a minute since minute 1: one report of that slope, from where it left; a little more, since it fades.
    rising = run(fitted, minutes([0, *[120 + 60 * i for i in range(7)]]))
    assert shown(rising)[1][:3] == (1, 6, 120) and 60 <= shown(rising)[1][3] <= 66
    # It left and then stood: held.
    assert shown(run(fitted, minutes([0, 120, *[170] * 6]))) == [(0, 0, 0, 0), (1, 6, 170, 0)]
    # It moved on by less than its bound: held too, but carried on when less than all of the bound is asked for.
    creeping = minutes([0, 120, 135, 150, 165, 180, 195])
    assert shown(run(fitted, creeping)) == [(0, 0, 0, 0), (1, 6, 195, 0)]
    eager = settings(error_milli=100, delay_s=300, predictor=PREDICTOR_TREND, fit_pct=50)
    assert shown(run(eager, creeping))[1][3] in (15, 16)
    # Neither one value nor one slope: the report is made at once, of what came before.
    assert shown(run(fitted, minutes([0, 150, 400, 150])))[1][:2] == (1, 3)


def test_another_kind_of_wait_begins_when_the_one_in_progress_is_over() -> None:
    fitted = settings(error_milli=100, delay_s=300, predictor=PREDICTOR_TREND, fit_pct=100)
    held = settings(error_milli=100, delay_s=300)
    ramp = minutes([0, *[120 + 60 * i for i in range(14)]])
    changed = shown(run(fitted, ramp, {3: held}))
    assert changed[1][:3] == (1, 6, 120) and changed[1][3] > 50
    assert all(report[3] == 0 for report in changed[2:])
    back = shown(run(held, ramp, {2: fitted, 3: held, 4: fitted}))
    assert back[1][3] == 0 and back[2][3] > 50


def test_a_steady_slope_is_reported_once_and_fades() -> None:
    ramp = minutes([20 * i for i in range(13)])
    assert shown(run(settings(error_milli=100), ramp)) == [(0, 0, 0, 0), (6, 6, 120, 0), (12, 12, 240, 0)]
    trend = settings(error_milli=100, predictor=PREDICTOR_TREND)
    assert shown(run(trend, ramp)) == [(0, 0, 0, 0), (6, 6, 120, 20)]
    # It stands still in the end: a slope that goes on for ever is reported again, one that has ended too.
    longer = run(trend, minutes([20 * i for i in range(60)]))
    assert [report[:2] for report in shown(longer)] == [(0, 0), (6, 6), (27, 27), (48, 48)]


def test_the_mean_slope_forgets_at_a_fault() -> None:
    trend = settings(error_milli=100, predictor=PREDICTOR_TREND, trend_s=60)
    life = [*minutes([0, 20, 40, 60, 80, 100, 120]), ("fault", 400_000, 1), ("sample", 420_000, 140)]
    assert shown(run(trend, life)) == [(0, 0, 0, 0), (6, 6, 120, 20), (7, 7, 140, 0)]


def test_after_a_fault_slopes_are_those_of_a_new_filter() -> None:
    trend = settings(error_milli=100, predictor=PREDICTOR_TREND, trend_s=600)
    ramp = minutes([20 * i for i in range(30)])
    tail = [0, 0, 0, 500, 500, 900]
    again: list[Event] = [("sample", 2_000_000 + 60_000 * i, value) for i, value in enumerate(tail)]
    both = run(trend, [*ramp, ("fault", 1_900_000, 1), *again])
    alone = run(trend, minutes(tail))
    assert [report[2:] for report in both.reports[-3:]] == [report[2:] for report in alone.reports]


def test_a_slope_that_a_model_brings_starts_with_the_next_sample() -> None:
    life = minutes([20_000] * 5 + [20_000 + 200 * i for i in range(1, 4)])
    sent = run(settings(error_milli=100), life, {5: settings(error_milli=100, predictor=PREDICTOR_TREND, trend_s=60)})
    assert shown(sent)[:3] == [(0, 0, 20_000, 0), (5, 5, 20_200, 0), (6, 6, 20_400, 200)]


@pytest.mark.parametrize("period_s", [1, 5, 60, 600, 3600])
@pytest.mark.parametrize("trend_s", [60, 600, 1800])
@pytest.mark.parametrize("milli_min", [60, -60, 6000])
def test_the_mean_slope_comes_near_the_slope_at_any_period(period_s: int, trend_s: int, milli_min: int) -> None:
    slope = Slope(trend_s)
    for i in range(max(3, 6 * trend_s // period_s)):
        slope.take(i * period_s, milli_min * i * period_s // 60, i == 0)
    assert abs(slope.trend(0, 1) - milli_min) <= max(2, abs(milli_min) // 50)


def test_a_delay_covers_what_follows() -> None:
    waits = settings(error_milli=100, delay_s=180)
    # 150 leaves; 300 still fits one value with it; the time is over at minute 4, and what is best then is the last.
    assert shown(run(waits, minutes([0, 150, 200, 300, 250, 350]))) == [(0, 0, 0, 0), (1, 4, 250, 0)]
    # 360 does not fit: the report is made at once, of what came before, and 360 waits in its turn.
    assert shown(run(waits, minutes([0, 150, 360, 340]))) == [(0, 0, 0, 0), (1, 2, 150, 0), (2, -1, 340, 0)]


def test_a_delay_finds_out_whether_it_went_on_or_stopped() -> None:
    waits = settings(error_milli=100, delay_s=300, predictor=PREDICTOR_TREND)
    assert shown(run(waits, minutes([0, 400, *[400] * 6]))) == [(0, 0, 0, 0), (1, 6, 400, 0)]
    went_on = [0, *[400 + 35 * i for i in range(1, 8)]]
    assert shown(run(settings(error_milli=100, delay_s=300), minutes(went_on)))[:2] == [(0, 0, 0, 0), (1, 6, 535, 0)]


def test_fault_and_heartbeat_end_a_delay() -> None:
    waits = settings(error_milli=100, delay_s=300, heartbeat_s=120)
    assert shown(run(waits, minutes([0, 150, 200, 200]))) == [(0, 0, 0, 0), (1, 2, 200, 0), (3, 3, 200, 0)]
    # A heartbeat counts from the report that ended the wait: 400 is no reason to hurry.
    assert shown(run(waits, minutes([0, 150, 400]))) == [(0, 0, 0, 0), (1, 2, 150, 0), (2, -1, 400, 0)]
    life = [*minutes([0, 150]), ("fault", 61_000, 1)]
    sent = run(waits, life)
    assert shown(sent) == [(0, 0, 0, 0), (1, 1, 150, 0)]
    assert sent.events[2] == [(9, 1)]


def test_a_model_without_delay_ends_it_and_one_with_another_bound_narrows_it() -> None:
    waits = settings(error_milli=100, delay_s=300)
    assert shown(run(waits, minutes([0, 150, 150, 150]), {2: settings(error_milli=100)})) == [
        (0, 0, 0, 0),
        (1, 2, 150, 0),
    ]
    narrow = settings(error_milli=10, delay_s=300)
    assert shown(run(waits, minutes([0, 150, 160, 190]), {2: narrow})) == [
        (0, 0, 0, 0),
        (1, 3, 160, 0),
        (3, -1, 190, 0),
    ]


@pytest.mark.parametrize("limit", ["high", "low"])
def test_a_reading_right_at_a_limit_without_hysteresis_switches_once(limit: str) -> None:
    made = settings(error_milli=VALUE_MAX)
    setattr(made, f"{limit}_on_milli", 500)
    setattr(made, f"{limit}_off_milli", 500)
    sent = run(made, minutes([500] * 6))
    assert [len(step) for step in sent.events] == [1, 0, 0, 0, 0, 0, 0]


def test_kinds_of_reports() -> None:
    state = ChannelFilter(settings(error_milli=100, heartbeat_s=120, predictor=PREDICTOR_HOLD))
    kinds = []
    for _, t_ms, value in minutes([0, 50, 50, 151, 151, 151]):
        state.step(t_ms // 1000, 0, value)
        kinds.append(state.kinds[0] if state.reported else 0)
    assert kinds == [SAMPLE, 0, SAMPLE, DELTA, 0, SAMPLE]
