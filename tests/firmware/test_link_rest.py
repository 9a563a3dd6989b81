"""A link at rest leaves the code for sending and parsing alone: on a board it is then not in memory."""

from __future__ import annotations

from typing import Any

import pytest

from isonode.link import Link
from isonode.mqtt_reader import Reader
from tests.firmware.test_link import KEEPALIVE_MS, OPTIONS, Wire

STEP_MS = 100


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What of the overlay `talk` was called, in order."""
    calls: list[str] = []

    def watch(owner: type, name: str) -> None:
        method = getattr(owner, name)

        def told(self: Any, *args: Any) -> Any:
            calls.append(name)
            return method(self, *args)

        monkeypatch.setattr(owner, name, told)

    watch(Link, "_send")
    watch(Reader, "feed")
    return calls


def at_rest() -> Wire:
    wire = Wire()
    wire.connect()
    wire.step(times=5)
    return wire


def test_ten_minutes_of_pings_use_none_of_it(used: list[str]) -> None:
    wire = at_rest()
    before = len(wire.sock.writes)
    used.clear()
    pings = 0
    for _ in range(600_000 // STEP_MS):
        wire.port.go(STEP_MS)
        wire.step()
        if len(wire.sock.writes) > before + pings:
            pings += 1
            wire.sock.incoming.append(b"\xd0\x00")
    assert pings == 600_000 // (KEEPALIVE_MS // 2 + STEP_MS) and wire.link.connects == 1
    assert wire.sock.sent.endswith(b"\xc0\x00" * pings)
    assert used == []


def test_a_report_that_lingers_and_a_full_window_use_none_of_it(used: list[str]) -> None:
    wire = at_rest()
    wire.append(3)
    wire.step(times=2)
    used.clear()
    for _ in range(4):
        wire.port.go(STEP_MS)
        wire.step()
    assert used == [] and wire.frames() == []
    wire.port.go(STEP_MS)
    wire.step()
    assert used and wire.frames() == [(1, 3)]
    wire.append(100)
    wire.step(times=OPTIONS["window"] + 2)
    assert len(wire.frames()) == OPTIONS["window"]
    used.clear()
    wire.step(times=10)
    assert used == []


def test_a_batch_that_fills_up_does_not_wait_for_the_linger(used: list[str]) -> None:
    wire = at_rest()
    wire.append(3)
    wire.step(times=2)
    wire.append(wire.outbox.batch_records - 3)
    wire.step()
    assert wire.frames() == [(1, wire.outbox.batch_records)]


def test_an_event_goes_out_in_the_very_next_step(used: list[str]) -> None:
    wire = at_rest()
    wire.append(3)
    wire.step(times=2)
    wire.append(1, urgent=True)
    wire.step()
    assert wire.frames() == [(1, 4)]
