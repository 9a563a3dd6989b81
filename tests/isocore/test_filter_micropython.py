"""What hypothesis drew on CPython gives the same records on the board's interpreter, and allocates nothing there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings

from host_tools.virtual.interpreter import find_micropython
from isocore.filter import ChannelFilter
from isocore.model import FIELDS
from isocore.record import VALUE_MAX
from tests.isocore.strategies import YEAR_MS, Event, lives, params

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
EXAMPLES = 250
KINDS_OF_STEP = {"sample": 0, "fault": 1, "flush": 2}
Case = dict[str, Any]


def case_of(chosen: Any, life: list[Event]) -> Case:
    """A life and what CPython's filter makes of it."""
    state = ChannelFilter(chosen)
    events, records = [], []
    for what, t_ms, value in [*life, ("flush", life[-1][1], 0)]:
        t_s, rest_ms = divmod(t_ms, 1000)
        if what == "sample":
            count = state.step(t_s, rest_ms, value)
        else:
            count = state.fault(value) if what == "fault" else state.flush()
        events.append((KINDS_OF_STEP[what], t_s, rest_ms, value))
        records.append(
            [
                (state.kinds[i], state.values[i], state.trend(i), state.at_s(i, t_s), state.at_ms(i, rest_ms))
                for i in range(count)
            ]
        )
    names = [*FIELDS, "predictor"]
    return {"params": {name: getattr(chosen, name) for name in names}, "events": events, "records": records}


def drawn_cases() -> list[Case]:
    cases: list[Case] = []

    @settings(max_examples=EXAMPLES, derandomize=True, database=None, phases=[Phase.generate], deadline=None)
    @given(params(), lives())
    def draw(chosen: Any, life: list[Event]) -> None:
        cases.append(case_of(chosen, life))

    draw()
    return cases


def extreme_cases() -> list[Case]:
    """The ends of everything at once: a year of uptime, the widest readings in turn, the widest bound and lead."""
    from isocore.model import ChannelParams

    values = (VALUE_MAX, -VALUE_MAX, 0, VALUE_MAX, VALUE_MAX - 1, -VALUE_MAX, 7, 7, -VALUE_MAX, VALUE_MAX)
    cases = []
    for predictor in (1, 2):
        for trend_s in (0, 1, FIELDS["trend_s"][1]):
            for error_milli in (0, 99, 20_000_000, VALUE_MAX):
                for delay_s, fit_pct in ((0, 0), (300, 0), (300, FIELDS["fit_pct"][1])):
                    made = ChannelParams()
                    made.predictor, made.trend_s, made.error_milli = predictor, trend_s, error_milli
                    made.delay_s, made.fit_pct, made.lead_after = delay_s, fit_pct, int(fit_pct > 0)
                    made.lead_pct = FIELDS["lead_pct"][1]
                    made.window_s, made.heartbeat_s = FIELDS["window_s"][1], FIELDS["heartbeat_s"][1]
                    made.rate_limit_milli_min, made.stuck_s = FIELDS["rate_limit_milli_min"][1], FIELDS["stuck_s"][1]
                    made.high_on_milli = made.high_off_milli = VALUE_MAX
                    made.low_on_milli = made.low_off_milli = -VALUE_MAX
                    for step_ms in (1, 1000, 60_001, 864_000_000):
                        life = [("sample", YEAR_MS + i * step_ms, value) for i, value in enumerate(values * 2)]
                        cases.append(case_of(made, life))
    return cases


@pytest.mark.micropython
def test_the_same_records_and_no_allocation(tmp_path: Path) -> None:
    interpreter = find_micropython(root=ROOT)
    assert interpreter.bits == 32, "a 64-bit interpreter hides allocations: its small integers have 63 bits"
    cases = drawn_cases() + extreme_cases()
    assert {case["params"]["predictor"] for case in cases} == {0, 1, 2}
    late = sum(
        record[3:] != list(event[1:3])
        for case in cases
        for event, step in zip(case["events"], case["records"], strict=True)
        for record in map(list, step)
    )
    assert late > 300, "delays and windows must be among what is compared"
    file = tmp_path / "cases.jsonl"
    file.write_text("".join(json.dumps(case) + "\n" for case in cases), encoding="utf-8")
    done = subprocess.run(
        [
            *interpreter.command,
            *interpreter.heap_option(1 << 20),
            str(HERE / "filter_replay.py"),
            str(ROOT / "firmware"),
            str(file),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.strip() == f"steps={sum(len(case['events']) for case in cases)}"
