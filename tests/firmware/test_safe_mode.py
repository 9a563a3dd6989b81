"""Safe mode on real boards: entered after crashes, hangs and panics in a row, told, and left again; never by a user."""

from __future__ import annotations

import importlib
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host_tools.keys import signing
from host_tools.virtual.board import VirtualBoard
from isocore import model, topics
from tests.firmware.conftest import FIRMWARE, Bench
from tests.firmware.test_board import DEADLINE_S, wave
from tests.support.ack_gateway import AckGateway

RELAY = [{"type": "relay", "pin": 16, "channel": "temperature", "on": ["high"]}]
PATIENCE_S = 60.0  # five starts, each a little later than the one before

# What an optional part of the application may do to it; safe mode does without that part.
CRASH_AT_IMPORT = b"raise ValueError('damaged')\n"
PANIC = b"import machine\nmachine.reset()\n"  # as a stack overflow in C: a reset that nobody announced
HANG = b"while True:\n    pass\n"


def mode(gateway: AckGateway, device: str) -> str | None:
    health = gateway.last(device, topics.HEALTH)
    return health["mode"] if health else None


def told(gateway: AckGateway, device: str) -> list[tuple[str, int]]:
    """(state, sequence) of each report on models, in order."""
    with gateway.lock:
        reports = [json.loads(text) for text in gateway.retained.get((device, topics.MODEL_STATE), [])]
    return [(report["state"], report["sequence"]) for report in reports]


def faulty(bench: Bench, device: str, content: bytes, **changes: Any) -> VirtualBoard:
    config = bench.config(device, sampling={"period_ms": 10_000}, actuators=RELAY, **changes)
    return bench.board(config, wave(3000), files={"/isonode/actuator.py": content}, speed=600)


@pytest.mark.parametrize(("name", "content"), [("crash", CRASH_AT_IMPORT), ("panic", PANIC)])
@pytest.mark.micropython
@pytest.mark.mosquitto
def test_an_application_that_crashes_at_import(bench: Bench, gateway: AckGateway, name: str, content: bytes) -> None:
    board = faulty(bench, name, content)
    board.start()
    assert gateway.wait_for(lambda: mode(gateway, name) == "safe", PATIENCE_S), board.log
    assert board.boots == 6, "five crashes in a row, then safe mode"
    assert board.wait_for(lambda: board.counters.get("sampled", 0) > 3 and board.counters["acked"] > 0, DEADLINE_S)
    assert gateway.last(name, topics.META)["mode"] == "safe"
    health = gateway.last(name, topics.HEALTH)
    assert health["crashes"] == 5
    if name == "crash":
        assert health["crash"] == "ValueError: damaged"
    assert not board.history("pin"), "outputs are left alone"
    # Left after a while, to see whether it was something that passes; one more crash leads straight back.
    board.set_speed(6000)
    assert board.wait_for(lambda: board.boots >= 8, PATIENCE_S), (board.boots, board.log)
    assert board.wait_for(lambda: board.counters.get("sampled", 0) > 3 and board.counters["boot"] >= 2, DEADLINE_S)
    board.power_cut()
    if name == "crash":
        logs = [bench.builder.read_file(board.flash_path, path) for path in ("/crash.log",)]
        assert all(0 < len(log) <= 2048 + 1024 for log in logs)


@pytest.mark.micropython
@pytest.mark.mosquitto
def test_an_application_that_hangs(bench: Bench, gateway: AckGateway) -> None:
    """The watchdog is armed before anything is loaded, so that a hang at import ends as well."""
    source = (FIRMWARE / "main.py").read_text(encoding="utf-8")
    assert "_START_MS = 60000" in source
    config = bench.config("hang", sampling={"period_ms": 10_000}, actuators=RELAY)
    files = {"/isonode/actuator.py": HANG, "/main.py": source.replace("= 60000", "= 2500").encode()}
    board = bench.board(config, wave(3000), files=files, speed=600)
    board.start()
    assert gateway.wait_for(lambda: mode(gateway, "hang") == "safe", PATIENCE_S), board.log
    assert board.event_counts["reset"] == 5
    assert {event["cause"] for event in board.history("reset")} == {"WDT_RESET"}
    assert gateway.last("hang", topics.HEALTH)["reset"] == "watchdog"


@pytest.mark.micropython
@pytest.mark.mosquitto
def test_a_damaged_configuration_is_replaced_by_the_last_good_one(bench: Bench, gateway: AckGateway) -> None:
    board = bench.board(bench.config("torn", sampling={"period_ms": 10_000}), wave(3000), speed=600)
    board.start()
    # ten minutes of health, and one more look at the slow figures, which comes once a second of real time
    assert board.wait_for(lambda: board.counters.get("sampled", 0) > 200, DEADLINE_S), board.log
    board.power_cut()
    bench.builder.write_files(board.flash_path, {"/config.json": b'{"device":"t\xff\x00\x00'})
    board.start()
    assert gateway.wait_for(lambda: mode(gateway, "torn") == "safe", PATIENCE_S), board.log
    assert "config.json: file: is not" in gateway.last("torn", topics.HEALTH)["config_error"]
    assert board.wait_for(lambda: board.counters.get("acked", 0) > 0, DEADLINE_S)


@pytest.mark.micropython
@pytest.mark.mosquitto
def test_safe_mode_runs_the_built_in_model_and_takes_a_new_one(bench: Bench, gateway: AckGateway) -> None:
    key = signing.generate()

    def container(sequence: int) -> bytes:
        limits = model.ChannelParams()
        limits.high_on_milli = 2000
        made = model.Model("demo", "class:fridge", sequence, channels={"temperature": limits})
        return key.sign(model.to_payload(made))

    device = "cure"
    config = bench.config(
        device,
        sampling={"period_ms": 10_000},
        actuators=RELAY,
        model_keys=[{"id": "ops", "key": key.public_key.hex()}],
        trial_samples=2,
    )
    files = {"/isonode/actuator.py": CRASH_AT_IMPORT, "/model/a.bin": container(3)}
    board = bench.board(config, wave(3000), files=files, speed=600)
    board.start()
    assert gateway.wait_for(lambda: mode(gateway, device) == "safe", PATIENCE_S), board.log
    assert board.wait_for(lambda: board.counters.get("sampled", 0) > 3, DEADLINE_S)
    assert board.counters["model_sequence"] == 0 and board.counters["alarms"] == 0
    assert gateway.last(device, topics.MODEL_STATE)["reason"] == "safe_mode"
    boots = board.boots
    topic = topics.topic(device, topics.MODEL_SET)
    gateway.publish(topic, container(2), retain=True)  # older than the one in force, which counts though idle
    assert gateway.wait_for(lambda: gateway.last(device, topics.MODEL_STATE).get("reason") == "sequence", DEADLINE_S)
    gateway.publish(topic, container(4), retain=True)
    assert board.wait_for(lambda: board.boots > boots, DEADLINE_S), "a new model is a reason to try the whole again"
    # said before it restarted, though it may arrive here after the board's own word of the restart
    assert gateway.wait_for(lambda: ("committed", 4) in told(gateway, device), DEADLINE_S), told(gateway, device)
    assert ("trial", 4) in told(gateway, device)


class FakeHal(types.ModuleType):
    """Resets and memory of a chip, for crash.py on CPython."""

    RESET_UNKNOWN, RESET_POWER_ON, RESET_HARD, RESET_WATCHDOG, RESET_DEEP_SLEEP, RESET_SOFT = range(6)

    def __init__(self) -> None:
        super().__init__("isonode.hal")
        self.memory = b""

    def rtc_memory(self) -> bytes:
        return self.memory

    def set_rtc_memory(self, data: bytes) -> bool:
        self.memory = bytes(data)
        return True


@pytest.fixture
def chip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[FakeHal, Any]]:
    """(hal, the crash module on top of it); both are gone afterwards."""
    hal = FakeHal()
    import isonode

    monkeypatch.setitem(sys.modules, "isonode.hal", hal)
    monkeypatch.setattr(isonode, "hal", hal, raising=False)
    names = ("isonode.rtc", "isonode.crash")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.delattr(isonode, name.split(".")[1], raising=False)  # or `from isonode import` finds the former
    crash = importlib.import_module("isonode.crash")
    monkeypatch.setattr(crash, "LOG_PATH", str(tmp_path / "crash.log"))
    monkeypatch.setattr(crash, "OLD_PATH", str(tmp_path / "crash.old"))
    monkeypatch.setattr(sys, "print_exception", _print_exception, raising=False)
    yield hal, crash
    for name in names:
        sys.modules.pop(name, None)


def _print_exception(error: BaseException, file: Any = None) -> None:
    if file is not None:
        file.write(f"Traceback (most recent call last):\n{'x' * 3000}\n{type(error).__name__}: {error}\n")


def test_what_counts_and_what_ends_the_row(chip: tuple[FakeHal, Any]) -> None:
    hal, crash = chip
    assert crash.on_boot(hal.RESET_POWER_ON) == 0
    assert [crash.on_boot(hal.RESET_WATCHDOG) for _ in range(3)] == [1, 2, 3]
    assert crash.on_boot(hal.RESET_HARD) == 4, "a reset that nobody announced is a panic"
    crash.on_planned()
    assert crash.on_boot(hal.RESET_HARD) == 0, "a planned reset is not"
    for number in range(1, 8):
        crash.log(ValueError("x"))
        assert crash.on_boot(hal.RESET_HARD) == number, "counted once: by the log, not by the reset that follows"
    assert crash.on_boot(hal.RESET_DEEP_SLEEP) == 7, "a sleep says nothing"
    crash.on_planned()  # Ctrl-C at the prompt
    assert crash.on_boot(hal.RESET_SOFT) == 0
    crash.log(ValueError("x"))
    hal.memory = b""  # the power was cut
    assert crash.on_boot(hal.RESET_POWER_ON) == 0
    crash.on_boot(hal.RESET_WATCHDOG)
    crash.on_healthy()
    assert crash.count() == 0
    for _ in range(300):
        crash.on_boot(hal.RESET_WATCHDOG)
    assert crash.count() == 255


def test_the_wait_before_a_restart(chip: tuple[FakeHal, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Longer each time; long at once where only the cable helps, so that whoever is at it meets a board at rest."""
    _, crash = chip
    monkeypatch.setattr(crash, "CONFIG_PATH", str(tmp_path / "config.json"))
    assert crash.hold_off_ms() == 60_000, "not provisioned"
    (tmp_path / "config.json").write_text("{}")
    waits = []
    for _ in range(8):
        crash.log(ValueError("x"))
        waits.append(crash.hold_off_ms())
    assert waits == [2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]


def test_safe_mode_is_left_for_one_try_and_ever_later(chip: tuple[FakeHal, Any]) -> None:
    hal, crash = chip
    stays = []
    for _ in range(crash.SAFE_AFTER):
        crash.on_boot(hal.RESET_WATCHDOG)
    for _ in range(6):
        assert crash.count() >= crash.SAFE_AFTER
        stays.append(crash.stay_s())
        crash.on_leaving()
        assert crash.on_boot(hal.RESET_HARD) == crash.SAFE_AFTER - 1, "the whole application is tried"
        crash.log(ValueError("x"))
        assert crash.on_boot(hal.RESET_HARD) == crash.SAFE_AFTER
    assert stays == [3600, 7200, 14400, 28800, 57600, 57600]
    crash.on_healthy()
    assert crash.stay_s() == 3600


def test_the_log_is_bounded_and_ends_with_what_happened(chip: tuple[FakeHal, Any], tmp_path: Path) -> None:
    _, crash = chip
    for number in range(20):
        crash.log(ValueError(f"number {number}"))
        assert crash.last_line() == f"ValueError: number {number}"
    sizes = [(tmp_path / name).stat().st_size for name in ("crash.log", "crash.old")]
    assert all(0 < size <= crash.LOG_BYTES_MAX + crash.ENTRY_BYTES_MAX for size in sizes)
    (tmp_path / "crash.log").unlink()
    (tmp_path / "crash.log").mkdir()  # a flash that refuses
    crash.log(ValueError("unseen"))
    assert crash.count() == 21
