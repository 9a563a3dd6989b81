"""Wi-Fi on whole virtual boards whose radio behaves as an ESP32's: each way in which it does not come up, or goes away.

What the board thinks of it is in its next `health`; that it had the radio restarted is the simulation's `radio_off`.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from host_tools.virtual.board import VirtualBoard
from isocore import topics
from tests.firmware.conftest import Bench
from tests.firmware.test_board import drained, gapless, seqs, wave
from tests.support.ack_gateway import AckGateway

pytestmark = [pytest.mark.micropython, pytest.mark.mosquitto]
DEADLINE_S = 30.0
LAB = {"ssid": "lab", "password": "correct horse"}


def made(bench: Bench, device: str, wifi: Mapping[str, str], air: Mapping[str, str], rows: int = 100) -> VirtualBoard:
    return bench.board(bench.config(device, wifi=dict(wifi)), wave(rows), speed=6_000, wifi=air)


def delivered(gateway: AckGateway, board: VirtualBoard) -> str:
    """Waits until all is delivered, in one boot and without a gap; the last error that the link told in `health`."""
    assert board.wait_for(lambda: board.trace_done and drained(board), DEADLINE_S), (board.counters, list(board.log))
    board.stop()
    device = board.spec.device
    assert board.boots == 1 and board.counters["missed"] == 0
    assert gapless(seqs(gateway, device, 1))
    return str(gateway.last(device, topics.HEALTH).get("link_error", ""))


@pytest.mark.parametrize(
    ("device", "wifi", "air"),
    [("open", {"ssid": "cafe", "password": ""}, {"ssid": "cafe"}), ("wpa2", LAB, LAB)],
)
def test_open_and_wpa2_networks(
    bench: Bench, gateway: AckGateway, device: str, wifi: dict[str, str], air: dict[str, str]
) -> None:
    board = made(bench, device, wifi, air)
    board.start()
    assert delivered(gateway, board) == ""
    assert board.event_counts["radio_off"] == 0


@pytest.mark.parametrize(
    ("device", "password", "says"),
    [("mistyped", "wrong horse", "wifi: wrong password"), ("keyless", "", "wifi: password missing")],
)
def test_a_wrong_password_is_told_and_tried_again(
    bench: Bench, gateway: AckGateway, device: str, password: str, says: str
) -> None:
    """Until the access point takes it; ESP32 itself says "connecting" for as long as it may try again."""
    board = made(bench, device, {"ssid": "lab", "password": password}, LAB)
    board.start()
    board.wait_event("radio_off", DEADLINE_S, count=3)
    board.trouble_wifi("key")
    assert delivered(gateway, board) == says


def test_an_access_point_that_goes_away_for_long(bench: Bench, gateway: AckGateway) -> None:
    """The radio begins to join again by itself, and takes a second order for an error: no reason to crash."""
    board = made(bench, "left", LAB, LAB, rows=400)
    board.start()
    assert board.wait_for(lambda: board.counters.get("acked", 0) > 3, DEADLINE_S), list(board.log)
    board.drop_wifi()
    board.wait_event("radio_off", DEADLINE_S, count=2)
    board.restore_wifi()
    assert delivered(gateway, board) == "wifi: no such network"


def test_an_address_that_is_lost(bench: Bench, gateway: AckGateway) -> None:
    """ESP32 goes on saying that it is connected: silence, and then the missing address, tell."""
    board = made(bench, "evicted", LAB, LAB, rows=400)
    board.start()
    assert board.wait_for(lambda: board.counters.get("acked", 0) > 3, DEADLINE_S), list(board.log)
    board.trouble_wifi("lost")
    board.wait_event("radio_off", DEADLINE_S)
    board.restore_wifi()
    assert delivered(gateway, board) == "wifi: address lost"


@pytest.mark.soak
def test_stuck_connecting_ends_after_half_a_minute(bench: Bench, gateway: AckGateway) -> None:
    board = made(bench, "stuck", LAB, LAB, rows=400)
    board.start()
    assert board.wait_for(lambda: board.counters.get("acked", 0) > 3, DEADLINE_S), list(board.log)
    board.drop_wifi()
    board.trouble_wifi("stuck")
    board.wait_event("radio_off", 2 * DEADLINE_S)
    board.restore_wifi()
    assert delivered(gateway, board) == "wifi: stuck connecting"
