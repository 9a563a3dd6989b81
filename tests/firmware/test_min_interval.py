"""The minimum interval: reports wait so long for company, and no longer; alarms never do (docs/filter.md)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.firmware.test_link import Wire

FULL = 10  # reports that fill the fake outbox's frame
STEP_MS = 500

events = st.tuples(st.integers(0, 8_000), st.integers(1, 4), st.sampled_from((False, False, False, True)))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from((0, 500, 3_000, 20_000)), st.lists(events, min_size=1, max_size=25))
def test_reports_wait_so_long_for_one_another_and_alarms_never(
    interval_ms: int, life: list[tuple[int, int, bool]]
) -> None:
    wire = Wire(keepalive_s=3600)
    wire.session.keepalive_s = 3600
    wire.connect()
    wire.step(times=3)
    wire.link.linger_ms = interval_ms
    clock_ms = 0
    appended_ms: dict[int, int] = {}
    urgent: set[int] = set()
    sent: set[int] = set()

    def look() -> None:
        """One turn of the loop; whatever left is held to the rules, and acknowledged."""
        wire.step(times=2)
        for first, last in wire.frames():
            new = [seq for seq in range(first, last + 1) if seq not in sent]
            if not new:
                continue
            waited_ms = clock_ms - appended_ms[new[0]]
            assert waited_ms >= interval_ms or len(new) >= FULL or urgent & set(new), (first, last, waited_ms)
            sent.update(new)
            wire.ack(last)
        for seq, at_ms in appended_ms.items():
            assert seq in sent or (seq not in urgent and clock_ms - at_ms < interval_ms + STEP_MS), seq

    for gap_ms, count, is_alarm in life:
        while gap_ms > 0:
            ms = min(STEP_MS, gap_ms)
            wire.port.go(ms)
            clock_ms += ms
            gap_ms -= ms
            look()
        for _ in range(count):
            wire.append(1, urgent=is_alarm)
            appended_ms[wire.outbox.last] = clock_ms
        if is_alarm:
            urgent.add(wire.outbox.last)
        look()
