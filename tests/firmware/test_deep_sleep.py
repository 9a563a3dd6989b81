"""Boards that sleep deeply between samples: one boot, one sequence, and the radio only when something must be said."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from host_tools import bundle
from host_tools.keys import signing
from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.tap import read_tap
from isocore import model, record, slot, topics
from isocore.filter import ChannelFilter
from tests.firmware.conftest import FIRMWARE, UMQTT, Bench, Row
from tests.firmware.test_board import DEADLINE_S, MINUTE_MS, gapless, seqs
from tests.support.ack_gateway import AckGateway

pytestmark = [pytest.mark.micropython, pytest.mark.mosquitto]
KEY = signing.generate()
ALARMS = (record.HIGH_ON, record.HIGH_OFF)


def container(sequence: int = 1, **limits: int) -> bytes:
    params = model.ChannelParams()
    for name, value in limits.items():
        setattr(params, name, value)
    made = model.Model("demo", "class:fridge", sequence, channels={"temperature": params})
    return KEY.sign(model.to_payload(made))


def sleepy(bench: Bench, device: str, rows: Sequence[Row], power: dict[str, Any] | None = None, **limits: int) -> Any:
    config = bench.config(
        device,
        sampling={"period_ms": MINUTE_MS},
        power={"mode": "deep-sleep", **(power or {})},
        model_keys=[{"id": "ops", "key": KEY.public_key.hex()}],
        trial_samples=2,
    )
    return bench.board(config, rows, files={"/model/a.bin": container(**limits)}, speed=20)


def wakes(board: VirtualBoard) -> int:
    return sum(event["cause"] == "DEEPSLEEP_RESET" for event in board.history("reset"))


def samples(board: VirtualBoard) -> list[Any]:
    return [row for row in read_tap(board.tap_path) if row.kind == 0] if board.tap_path.exists() else []


def as_one_filter(board: VirtualBoard, **limits: int) -> None:
    """What the board made of its samples, sleeping between them, is what one filter makes that never slept."""
    params = model.ChannelParams()
    for name, value in limits.items():
        setattr(params, name, value)
    state = ChannelFilter(params)
    want = []
    rows = list(read_tap(board.tap_path))
    for row in rows:
        if row.kind == 0:
            count = state.step(row.t_s, row.t_ms, row.value)
            want += [
                (state.kinds[i], state.values[i], state.at_s(i, row.t_s), state.at_ms(i, row.t_ms))
                for i in range(count)
            ]
    got = [(row.kind, row.value, row.t_s, row.t_ms) for row in rows if row.kind not in (0, record.BOOT)]
    assert got == want


def test_a_wake_is_no_new_boot_and_nothing_is_said_without_need(bench: Bench, gateway: AckGateway) -> None:
    """A room that does not change: one report, then silence; alarms and their end come at once."""
    rows: list[Row] = [(i * MINUTE_MS, 9500 if 6 <= i < 9 else 5000, None, "") for i in range(40)]
    limits = {"high_on_milli": 8000, "high_off_milli": 7000, "error_milli": 5000, "debounce_samples": 2}
    limits |= {"delay_s": 300, "min_interval_s": 3600}  # of reports: no alarm waits for either
    board = sleepy(bench, "sleepy", rows, {"radio_s": 86_400}, **limits)
    board.start()
    assert board.wait_for(lambda: len(samples(board)) >= 13, DEADLINE_S * 2), board.log
    board.stop()
    assert wakes(board) >= 9 and board.event_counts["crash"] == 0
    times = [row.t_s * 1000 + row.t_ms for row in samples(board)]
    assert {after - before for before, after in pairwise(times)} == {MINUTE_MS}, "the grid goes on through the sleeps"
    assert {row.boot for row in read_tap(board.tap_path)} == {1}
    assert gapless(seqs(gateway, "sleepy", 1))
    assert len(gateway.of_kind(record.BOOT)) == 1
    # its first sample comes before the first row: the 21 degC of a simulated room do not last for two samples
    assert len(gateway.of_kind(record.HIGH_ON)) == len(gateway.of_kind(record.HIGH_OFF)) == 1
    with gateway.lock:
        metas = len(gateway.retained["sleepy", topics.META])
    assert metas <= 8, "the radio was on for the start and for each alarm and its end, not at every wake"
    assert gateway.last("sleepy", topics.STATUS) == "online", "a sleeping board is not given up"
    assert board.counters["sampled"] == len(samples(board))
    as_one_filter(board, **limits)
    with gateway.lock:
        frames = [frame for frame in gateway.frames if any(one[1] in ALARMS for one in frame.records)]
    for frame in frames:
        alarms = [one[4] for one in frame.records if one[1] in ALARMS]
        assert max(one[4] for one in frame.records) == max(alarms), "sent before the next sample was taken"


def test_reports_wait_for_company_and_survive_the_sleeps(bench: Bench, gateway: AckGateway) -> None:
    rows: list[Row] = [(i * MINUTE_MS, 5000 + 300 * (i % 2), None, "") for i in range(60)]
    limits = {"error_milli": 100, "min_interval_s": 600, "window_s": 300, "trend_s": 600, "predictor": 2}
    board = sleepy(bench, "batch", rows, {"radio_s": 86_400}, **limits)
    board.start()
    assert board.wait_for(lambda: len(samples(board)) >= 16, DEADLINE_S * 2), board.log
    board.stop()
    made = [row.seq for row in read_tap(board.tap_path) if row.kind]
    arrived = seqs(gateway, "batch", 1)
    assert gapless(arrived) and gapless(made) and len(made) > 14
    assert 0 <= len(made) - len(arrived) <= 11 + 4 * 3, "ten minutes of reports may still wait"
    as_one_filter(board, **limits)
    with gateway.lock:
        assert len(gateway.retained["batch", topics.META]) <= 6


def test_power_cuts_and_lost_gateways_double_nothing(bench: Bench, gateway: AckGateway) -> None:
    values = [5000 + 400 * (i % 2) + (4000 if i % 10 > 7 else 0) for i in range(200)]
    rows: list[Row] = [(i * MINUTE_MS, value, None, "") for i, value in enumerate(values)]
    limits = {"high_on_milli": 8000, "high_off_milli": 7000, "error_milli": 100, "min_interval_s": 300}
    board = sleepy(bench, "cuts", rows, {"radio_s": 3600, "awake_s": 5}, **limits)
    board.start()
    for number in range(4):
        goal = len(samples(board)) + 3
        gateway.answering = number != 1
        assert board.wait_for(lambda goal=goal: len(samples(board)) >= goal, 2 * DEADLINE_S), board.log
        board.power_cut()
        board.start()
    goal = len(samples(board)) + 5
    assert board.wait_for(lambda: len(samples(board)) >= goal, 2 * DEADLINE_S), board.log
    board.stop()
    assert gateway.duplicates < 300
    made: dict[tuple[int, int], Any] = {}
    for row in read_tap(board.tap_path):
        if row.kind:
            assert (row.boot, row.seq) not in made, "an identity was used twice"
            made[row.boot, row.seq] = (row.kind, row.channel, row.value)
    with gateway.lock:
        arrived = {(boot, seq): said[:3] for (_, boot, seq), said in gateway.rows.items()}
    assert set(arrived) <= set(made)
    assert all(made[identity] == said for identity, said in arrived.items())
    for boot in sorted({boot for boot, _ in made})[:-1]:
        missing = sorted(seq for number, seq in made if number == boot and (boot, seq) not in arrived)
        last = max(seq for number, seq in made if number == boot)
        assert missing == list(range(last - len(missing) + 1, last + 1)), "only what was in RAM when the power went"
        assert len(missing) < 16
        kinds = [made[boot, seq][0] for seq in missing[:-3]]
        assert not any(record.HIGH_ON <= kind <= record.FAULT_CLEARED for kind in kinds), "alarms are on flash at once"


def test_a_model_is_tried_and_committed_across_sleeps(bench: Bench, gateway: AckGateway) -> None:
    rows: list[Row] = [(i * MINUTE_MS, 5000 + i, None, "") for i in range(100)]
    board = sleepy(bench, "pupil2", rows, {"radio_s": 120}, error_milli=5000)
    topic = topics.topic("pupil2", topics.MODEL_SET)
    gateway.publish(topic, container(2, error_milli=4000), retain=True)
    board.start()

    def state() -> dict[str, Any]:
        return gateway.last("pupil2", topics.MODEL_STATE) or {}

    assert gateway.wait_for(lambda: state().get("sequence") == 2 and state()["state"] == "committed", DEADLINE_S * 2), (
        state()
    )
    board.stop()
    gateway.publish(topic, b"", retain=True)
    assert {row.boot for row in read_tap(board.tap_path)} == {1}


def test_a_model_without_an_acknowledgement_is_taken_back_across_sleeps(bench: Bench, gateway: AckGateway) -> None:
    """Its time runs on while the board sleeps; the former model then runs again, in the same boot."""
    rows: list[Row] = [(i * MINUTE_MS, 5000 + i, None, "") for i in range(100)]
    config = bench.config(
        "unheard",
        sampling={"period_ms": MINUTE_MS},
        power={"mode": "deep-sleep", "radio_s": 60, "awake_s": 5},
        model_keys=[{"id": "ops", "key": KEY.public_key.hex()}],
        trial_timeout_ms=150_000,
    )
    board = bench.board(config, rows, files={"/model/a.bin": container(error_milli=5000)}, speed=20)
    board.start()
    assert board.wait_for(lambda: board.counters.get("events_acked", 0) > 0, DEADLINE_S), board.log
    gateway.answering = False
    topic = topics.topic("unheard", topics.MODEL_SET)
    gateway.publish(topic, container(2, error_milli=4000), retain=True)

    def reverted() -> bool:
        state = gateway.last("unheard", topics.MODEL_STATE) or {}
        return (state.get("state"), state.get("sequence"), state.get("reason")) == ("reverted", 2, "no_ack")

    assert gateway.wait_for(reverted, DEADLINE_S * 2), gateway.last("unheard", topics.MODEL_STATE)
    assert wakes(board) >= 2
    board.stop()
    gateway.publish(topic, b"", retain=True)
    assert {row.boot for row in read_tap(board.tap_path)} == {1}


@pytest.fixture(scope="module")
def slots() -> dict[str, bytes]:
    """The firmware in both slots, the second on trial."""
    made = bundle.build(FIRMWARE, [UMQTT])
    files = {f"/{name}/{path}": content for name in "ab" for path, content in made.files.items()}
    return {**files, "/boot.py": made.loader, "/slot": slot.to_line("b", "a", slot.TRIAL_STARTS).encode()}


def in_slots(bench: Bench, device: str, files: dict[str, bytes]) -> VirtualBoard:
    config = bench.config(device, sampling={"period_ms": 10_000}, power={"mode": "deep-sleep"})
    bench.master = bench.folder / "empty.img"
    bench.builder.blank(bench.master)
    return bench.board(config, [(0, 5000, None, "")], files=files, speed=20)


def line_of(bench: Bench, board: VirtualBoard) -> tuple[str, str, int] | None:
    return slot.parse(bench.builder.read_file(board.flash_path, "/slot").decode())


def test_new_firmware_proves_itself_across_sleeps(bench: Bench, gateway: AckGateway, slots: dict[str, bytes]) -> None:
    """Half a minute of uptime, of which the board slept most: no wake is a start of the trial."""
    board = in_slots(bench, "prover", slots)
    board.start()
    assert board.wait_for(lambda: any("slot b has proved itself" in line for line in board.log), DEADLINE_S), board.log
    assert wakes(board) >= slot.TRIAL_STARTS - 1
    board.power_cut()
    assert line_of(bench, board) == ("b", "a", slot.PROVEN)


def test_firmware_that_fails_at_each_wake_is_taken_back(
    bench: Bench, gateway: AckGateway, slots: dict[str, bytes]
) -> None:
    main = slots["/b/main.py"].decode()
    broken = main.replace("app.main(", "1 / (cause - 4)\n        app.main(")
    assert broken != main
    last_start = slot.to_line("b", "a", 1).encode()
    board = in_slots(bench, "sleepwalker", {**slots, "/b/main.py": broken.encode(), "/slot": last_start})
    board.start()
    assert board.wait_for(
        lambda: any("slot b did not prove itself, back to a" in line for line in board.log), 2 * DEADLINE_S
    ), board.log
    starts = wakes(board)
    assert board.wait_for(lambda: wakes(board) > starts, DEADLINE_S), "the former firmware sleeps and wakes"
    board.power_cut()
    assert line_of(bench, board) == ("a", "b", slot.REVERTED)
    assert starts >= 1, "it slept before it crashed"
