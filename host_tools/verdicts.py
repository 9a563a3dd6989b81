"""Failing sensors told apart from hot rooms: what an alarm was, by the samples about it.

    stuck, out of range, missing   never get here: the board's filter makes faults of them
    power-on                       a DS18B20 that browned out reads 85 °C (datasheet, "Power-on reset value")
    spike                          the reading jumps, by more than any ordinary step, and is back within two samples and
                                   a quarter of an hour
    room                           everything else

A verdict needs the two samples after the alarm, so boards, which must not wait, alarm all the same; the verdict is for
those who look at alarms later. A sensor that drifts slowly looks like a room that does: only its neighbours can tell
(isocore.analysis). Pure.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence

from host_tools.history import History, Params, Run, replay_run
from isocore.record import HIGH_ON, LOW_ON, RATE_ON

POWER_ON_MILLI = 85_000
POWER_ON_JUMP_MILLI = POWER_ON_MILLI // 10  # a room that comes to 85 °C in smaller steps is hot
SPIKE_SAMPLES = 2
SPIKE_MS = 15 * 60_000  # and within that time: of hourly samples none can be told to be a spike
ROOM, SPIKE, POWER_ON = "room", "spike", "power-on"
JUMP_MILLI_MIN, JUMP_HUMIDITY_MILLI_MIN = 2000, 10_000
JUMP_FACTOR = 4  # times the step from sample to sample that 99 % keep below,
WILD_FACTOR = 20  # of those within so many times the step that three quarters keep below: one spike in ten stays out


def far_milli(history: History, runs: Sequence[Run]) -> int:
    """From what size on a step from sample to sample is no ordinary one, by these runs of the history."""
    least = JUMP_HUMIDITY_MILLI_MIN if history.channel == "humidity" else JUMP_MILLI_MIN
    steps = sorted(step for run in runs for step in run.steps())
    if not steps:
        return least
    tame = bisect_right(steps, max(least, WILD_FACTOR * steps[len(steps) * 3 // 4]))
    return max(least, JUMP_FACTOR * steps[tame * 99 // 100])


def verdict(run: Run, row: int, kind: str, limit_milli: int, far: int) -> str:
    """What the alarm ("high", "low" or "rate") that began at entry `row` of a run was. far: see `far_milli`."""
    before = _good(run, range(row - 1, -1, -1))
    if before is None or run.fault[row]:
        return ROOM
    if (kind == "high" and before >= limit_milli) or (kind == "low" and before <= limit_milli):
        return ROOM  # past the limit before already, and debounced
    jump = run.value[row] - before
    if run.value[row] == POWER_ON_MILLI and abs(jump) > POWER_ON_JUMP_MILLI:
        return POWER_ON
    if abs(jump) < far:
        return ROOM  # a wobble at the limit
    if spike_samples(run, row, before):
        return SPIKE
    # The alarm at a spike's return: the sample before was the spike, and what was before it is as now.
    return SPIKE if _returned(run, row, jump) else ROOM


def verdicts(group: Sequence[History], params: Params) -> Counter[str]:
    """What the alarms were that a board with these parameters makes of histories."""
    limits = {HIGH_ON: ("high", params.high_on_milli), LOW_ON: ("low", params.low_on_milli), RATE_ON: ("rate", 0)}
    return Counter(
        verdict(run, bisect_left(run.t_ms, t_ms), *limits[kind], far)
        for history in group
        for far in (far_milli(history, history.runs),)
        for run in history.runs
        for t_ms, kind, _ in replay_run(run, params).alarms
        if kind in limits
    )


def spike_samples(run: Run, row: int, before: int) -> int:
    """How many samples from `row` on are a spike away from `before`, the value that was; 0: they are none."""
    jump = abs(run.value[row] - before)
    for later in range(row + 1, min(row + 1 + SPIKE_SAMPLES, len(run.t_ms))):
        if run.t_ms[later] - run.t_ms[row] > SPIKE_MS:
            break
        if not run.fault[later] and 2 * abs(run.value[later] - before) < jump:
            return later - row
    return 0


def _returned(run: Run, row: int, jump: int) -> bool:
    earlier = range(row - 2, max(-1, row - 2 - SPIKE_SAMPLES), -1)
    near = (i for i in earlier if not run.fault[i] and run.t_ms[row] - run.t_ms[i] <= SPIKE_MS)
    return any(2 * abs(run.value[row] - run.value[i]) < abs(jump) for i in near)


def _good(run: Run, rows: range) -> int | None:
    return next((run.value[i] for i in rows if not run.fault[i]), None)
