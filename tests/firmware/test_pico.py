"""The same firmware as a Pico W: virtual boards of boards/pico_w.toml, whose chip has an RP2040's habits (sim/rp2.py).

What differs and is shown: two causes of a reset, told apart by the watchdog's registers; eight bytes that survive one;
a watchdog of 8.4 s; time since 1970; no `esp32`; a radio with states of its own and power save; no deep sleep.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from host_tools import bundle, deploy
from host_tools.device import Device
from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.fleet import VirtualFleet
from host_tools.virtual.image import BoardFiles, ImageBuilder
from host_tools.virtual.interpreter import Interpreter
from host_tools.virtual.spec import BoardSpec, load_hardware
from host_tools.virtual.tap import read_tap
from isocore import record, topics
from tests.firmware.conftest import FIRMWARE, ROOT, UMQTT, RunMicroPython
from tests.firmware.test_board import DEADLINE_S, drained, gapless, seqs
from tests.support.ack_gateway import AckGateway
from tests.support.mosquitto import Mosquitto
from tests.support.serial_board import Line, samples

pytestmark = [pytest.mark.micropython, pytest.mark.mosquitto]
PATIENCE_S = 60.0
NO_POWER_SAVE = 0x10  # CYW43_NONE_PM
EPOCH_UNIX_S = 1767225600
HARDWARE = load_hardware(ROOT / "boards" / "pico_w.toml")
LAB = {"ssid": "lab", "password": "correct horse"}


class Picos:
    """Makes boards; all are off when the module's tests are over."""

    def __init__(self, folder: Path, interpreter: Interpreter, fleet: VirtualFleet, port: int) -> None:
        self.builder = ImageBuilder(interpreter, folder / "images", flash_bytes=HARDWARE.flash_bytes)
        self._master = self.builder.master(FIRMWARE, [UMQTT])
        self._made_by = (folder, interpreter, fleet)
        self._port = port

    def config(self, device: str, **changes: Any) -> dict[str, Any]:
        return {
            "device": device,
            "board": "pico_w",
            "gateway": {"host": "127.0.0.1", "port": self._port},
            "wifi": LAB,
            "clock": "rtc",
            "sampling": {"period_ms": 10_000},
            "sensors": [
                {"type": "ds18b20", "pin": 5, "channels": {"temperature": "temperature"}},
                {"type": "chip", "channels": {"temperature": "chip"}},
            ],
            "link": {"ack_timeout_ms": 400, "keepalive_s": 5, "backoff_max_ms": 400, "linger_ms": 50},
            **changes,
        }

    def board(self, config: dict[str, Any], files: dict[str, bytes] | None = None, **spec: Any) -> VirtualBoard:
        """One that is off, with the firmware on it unless `files` bring another."""
        folder, interpreter, fleet = self._made_by
        spec.setdefault("wifi", LAB)
        made = BoardSpec(config["device"], config, files=files or {}, epoch_s=EPOCH_UNIX_S, **spec)
        board = VirtualBoard(made, folder / made.device, interpreter, fleet, HARDWARE)
        self.builder.make_boards(self._master, [BoardFiles(board.flash_path, made.flash_files())])
        return board


@pytest.fixture(scope="module")
def picos(tmp_path_factory: pytest.TempPathFactory, interpreter: Interpreter, broker: Mosquitto) -> Iterator[Picos]:
    with VirtualFleet() as fleet:
        yield Picos(tmp_path_factory.mktemp("picos"), interpreter, fleet, broker.port)


def causes(gateway: AckGateway, device: str) -> list[int]:
    """Of each boot of which the gateway knows, in order: the reset cause that its first record tells."""
    with gateway.lock:
        rows = sorted(gateway.rows.items())
    return [row[2] for (name, _, _), row in rows if name == device and row[0] == record.BOOT]


def crashes(gateway: AckGateway, board: VirtualBoard) -> int:
    """Crashes in a row, as the board tells once it is up."""
    device, boot = board.spec.device, board.counters["boot"]

    def said() -> bool:
        health = gateway.last(device, topics.HEALTH)
        return health is not None and health["boot"] == boot

    assert gateway.wait_for(said, DEADLINE_S), list(board.log)
    return int(gateway.last(device, topics.HEALTH)["crashes"])


def bite(board: VirtualBoard) -> None:
    """What the simulated watchdog does to a firmware that hangs."""
    assert board.pid is not None
    os.kill(board.pid, signal.SIGALRM)


def test_it_measures_delivers_and_starts_again(picos: Picos, gateway: AckGateway) -> None:
    """Power on, a bite of the watchdog and a planned reset are told apart by what the chip's registers say."""
    source = (FIRMWARE / "main.py").read_text(encoding="utf-8")
    assert "_START_MS = 60000" in source, "more than the chip's watchdog counts: shortened, not refused"
    board = picos.board(picos.config("pico", watchdog_ms=1500), speed=100)
    board.start()
    assert board.wait_for(lambda: board.counters.get("acked", 0) > 0, DEADLINE_S), list(board.log)
    health = gateway.last("pico", topics.HEALTH)
    assert health["reset"] == "power_on" and health["largest_block_bytes"] > 0
    assert "idf_heap_free_bytes" not in health, "there is no such heap"
    assert {event["pm"] for event in board.history("joined")} == {NO_POWER_SAVE}
    chip = [row.value for row in read_tap(board.tap_path) if row.kind == 0 and row.channel == 1]
    assert chip and all(35_000 < value < 37_000 for value in chip), "the room and what the chip adds to it"
    with gateway.lock:
        assert {frame.epoch_unix_ms() // 600_000 for frame in gateway.frames} == {EPOCH_UNIX_S // 600}
    bite(board)
    assert board.wait_event("reset", DEADLINE_S)["cause"] == "WDT_RESET"
    assert gateway.wait_for(lambda: gateway.last("pico", topics.HEALTH)["reset"] == "watchdog", DEADLINE_S)
    assert gateway.last("pico", topics.HEALTH)["crashes"] == 1
    assert board.wait_for(lambda: board.counters.get("boot") == 2 and drained(board), DEADLINE_S), board.counters
    board.stop()
    assert causes(gateway, "pico") == [1, 3]
    assert gapless(seqs(gateway, "pico", 1)) and gapless(seqs(gateway, "pico", 2))


@pytest.mark.parametrize(
    ("device", "password", "says"),
    [("pico-typo", "wrong horse", "wifi: wrong password"), ("pico-alone", None, "wifi: no such network")],
)
def test_a_radio_that_does_not_come_up_says_why(
    picos: Picos, gateway: AckGateway, device: str, password: str | None, says: str
) -> None:
    ours = {"ssid": "lab", "password": password or ""}
    board = picos.board(picos.config(device, wifi=ours), speed=100)
    if password is None:
        board.drop_wifi()
    board.start()
    board.wait_event("radio_off", DEADLINE_S, count=2)
    board.trouble_wifi("key")
    assert board.wait_for(lambda: board.counters.get("acked", 0) > 0, DEADLINE_S), list(board.log)
    board.stop()
    assert gateway.last(device, topics.HEALTH)["link_error"] == says
    assert {event["pm"] for event in board.history("joined")} == {NO_POWER_SAVE}, "on again after each switching off"


@pytest.mark.parametrize("trouble", ["off", "lost"])
def test_it_joins_again(picos: Picos, gateway: AckGateway, trouble: str) -> None:
    """A CYW43 does not try again by itself, and notices a lost address."""
    device = "pico-" + trouble
    board = picos.board(picos.config(device), speed=100)
    board.start()
    assert board.wait_for(lambda: board.counters.get("acked", 0) > 0, DEADLINE_S), list(board.log)
    board.trouble_wifi(trouble)
    goal = board.counters["sampled"] + 20
    assert board.wait_for(lambda: board.counters["sampled"] > goal, DEADLINE_S), board.counters
    board.restore_wifi()
    assert board.wait_for(lambda: board.counters["reconnects"] > 0 and drained(board), DEADLINE_S), board.counters
    board.stop()
    assert board.boots == 1 and board.counters["missed"] == 0 and gapless(seqs(gateway, device, 1))


def test_safe_mode_after_crashes_and_none_after_power_cycles(picos: Picos, gateway: AckGateway) -> None:
    """What counts them is eight bytes in the watchdog's scratch registers."""
    relay = [{"type": "relay", "pin": 16, "channel": "temperature", "on": ["high"]}]
    files = {"/isonode/actuator.py": b"raise ValueError('damaged')\n"}
    board = picos.board(picos.config("pico-safe", actuators=relay), files, speed=600)
    board.start()
    board.wait_event("reset", DEADLINE_S, count=3)
    board.power_cut()
    board.start()

    def mode() -> str | None:
        health = gateway.last("pico-safe", topics.HEALTH)
        return str(health["mode"]) if health else None

    assert gateway.wait_for(lambda: mode() == "safe", PATIENCE_S), board.log
    assert gateway.last("pico-safe", topics.HEALTH)["crashes"] == 5
    assert gateway.last("pico-safe", topics.HEALTH)["reset"] == "hard", "forced, not bitten"
    assert board.event_counts["reset"] >= 8, "those before the power cut count no more"
    board.stop()


def test_without_deep_sleep_it_rests_awake_between_its_samples(picos: Picos, gateway: AckGateway) -> None:
    """No memory survives a sleep, so it stays the same boot; the radio is off all the same."""
    config = picos.config("pico-rest", sampling={"period_ms": 60_000}, power={"mode": "deep-sleep", "radio_s": 300})
    board = picos.board(config, speed=600)
    board.start()
    board.wait_event("radio_off", DEADLINE_S, count=3)
    board.stop()
    assert board.boots == 1 and board.event_counts["reset"] == board.event_counts["crash"] == 0
    taken = [row for row in read_tap(board.tap_path) if row.kind == 0 and row.channel == 0]
    times = [row.t_s * 1000 + row.t_ms for row in taken]
    assert len(times) >= 10 and {after - before for before, after in pairwise(times)} == {60_000}
    assert board.event_counts["joined"] >= 3 and gapless(seqs(gateway, "pico-rest", 1))


def test_it_is_deployed_over_its_cable_and_soft_resets_are_no_crashes(picos: Picos, gateway: AckGateway) -> None:
    """After a bite RP2 names the watchdog as the cause of each soft reset too: whoever is at the cable does no harm."""
    board = picos.board(picos.config("pico-wired"), serial=True, speed=20)
    board.start()
    samples(board)
    on = Device(str(board.serial.link), timeout_s=DEADLINE_S)
    facts = deploy.look(on)
    assert (facts.platform, facts.total_bytes) == ("rp2", HARDWARE.flash_bytes)
    outcome = deploy.deploy(on, bundle.build(FIRMWARE, [UMQTT]), lambda _: None)
    assert (outcome.state, outcome.slot) == ("proven", "a")
    samples(board)
    boots = board.event_counts["boot"] + 1
    bites = board.event_counts["reset"] + 1
    bite(board)
    board.wait_event("reset", DEADLINE_S, count=bites)
    samples(board)
    assert crashes(gateway, board) == 1
    line = Line.open(board.serial.path)
    for number in range(3):
        line.prompt()
        line.send(b"import machine; print('cause', machine.reset_cause())\r")
        line.until(b"\r\ncause 3\r\n")
        line.send(b"\x04")
        board.wait_event("boot", DEADLINE_S, count=boots + number + 1)
        samples(board)
        assert crashes(gateway, board) == 0
    line.close()
    board.power_cut()


REGISTERS = """
import sys
real = sys
class Sys:
    platform = "rp2"
    implementation = ("micropython", (1, 25, 0), real.argv[2])
    def __getattr__(self, name):
        return getattr(real, name)
class Machine:
    mem32 = {}
real.modules["sys"] = Sys()
real.modules["machine"] = Machine()
real.path.insert(0, real.argv[1])
from isonode import hal
assert hal.set_rtc_memory(b"ABCDEFGH") and hal.rtc_memory() == b"ABCDEFGH" and not hal.set_rtc_memory(bytes(9))
print(*["%x" % address for address in sorted(Machine.mem32)])
"""


@pytest.mark.parametrize(
    ("machine", "registers"),
    [
        ("Raspberry Pi Pico W with RP2040", "4005800c 40058010"),
        ("Raspberry Pi Pico 2 W with RP2350", "400d800c 400d8010"),
    ],
)
def test_what_survives_a_reset_lies_in_the_chips_own_registers(
    run_micropython: RunMicroPython, tmp_path: Path, machine: str, registers: str
) -> None:
    """SCRATCH0 and SCRATCH1 of the watchdog: RP2040 datasheet 4.7.6; RP2350 datasheet, address map and watchdog."""
    script = tmp_path / "registers.py"
    script.write_text(REGISTERS, encoding="utf-8")
    assert run_micropython(script, FIRMWARE, machine).split("\n")[0] == registers
