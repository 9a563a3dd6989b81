"""The heap that a virtual board's firmware finds is a chip's: no figure of the firmware's is better than a board's."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_tools.compiling import MPY_CROSS, OPTIONS
from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.interpreter import Interpreter

from .conftest import DEADLINE_S, SAY, Bench

pytestmark = pytest.mark.micropython

SIM = Path(__file__).resolve().parents[3] / "host_tools" / "virtual" / "sim"
USABLE_BYTES = 112_064  # of 112 KiB: one and a half in 65.5 bytes are the collector's
CHIP_NAMES_BYTES = 4_500  # sim/names.py
DRIVERS_BYTES = 1_664  # sim/heap.py
RUNNING_BYTES = 1_024

# Pins, radio, poller and a connected socket are the chip's and the IDF's; the drivers' objects are the application's.
IN_USE = """
import gc, machine, network, select, socket
import dht, ds18x20, onewire
gc.collect()
before = gc.mem_alloc()
pins = machine.Pin(5), machine.Pin(4)
gc.collect()
with_pins = gc.mem_alloc()
drivers = ds18x20.DS18X20(onewire.OneWire(pins[0])), dht.DHT22(pins[1])
gc.collect()
with_drivers = gc.mem_alloc()
radio = network.WLAN(network.STA_IF)
radio.active(True)
radio.connect("lab", "correct horse")
poller = select.poll()
sock = socket.socket()
sock.connect(socket.getaddrinfo("127.0.0.1", PORT, 0, socket.SOCK_STREAM)[0][-1])
poller.register(sock, select.POLLIN)
for _ in range(20):
    select.virtual_wait(poller, 60000, 50)
gc.collect()
say(gc.mem_alloc() - before - (with_drivers - with_pins))
"""
DRIVERS = """
import gc, sys
class Chip:
    Pin = dht_readinto = reset = writebyte = readbyte = writebit = readbit = crc8 = None
sys.modules["machine"] = sys.modules["_onewire"] = Chip
sys.path.insert(0, sys.argv[1])
for _ in range(2):  # the first time the names are made
    gc.collect()
    before = gc.mem_alloc()
    import dht, ds18x20, onewire
    gc.collect()
    taken = gc.mem_alloc() - before
    for name in ("dht", "ds18x20", "onewire"):
        del sys.modules[name], globals()[name]
print(taken)
"""


@pytest.fixture
def listener() -> Iterator[int]:
    """A port of this host that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture(autouse=True)
def of_32_bits(interpreter: Interpreter) -> None:
    if interpreter.bits != 32:
        pytest.skip("sizes are those of a 32-bit interpreter")


def free_at_start(board: VirtualBoard) -> int:
    board.start()
    try:
        return int(board.wait_event("boot", DEADLINE_S)["heap_free_bytes"])
    finally:
        board.power_cut()


def test_the_firmware_starts_with_what_a_chip_of_that_heap_has(bench: Bench) -> None:
    wanted = USABLE_BYTES - CHIP_NAMES_BYTES - DRIVERS_BYTES + RUNNING_BYTES
    assert wanted - 512 <= free_at_start(bench.board("pass")) <= wanted


def test_what_the_simulation_is_given_while_it_runs_is_what_it_takes(bench: Bench, listener: int) -> None:
    taken = bench.run(SAY + IN_USE.replace("PORT", str(listener)), rows=[(0, 21_000, 50_000, "")])
    print(taken, "bytes")
    assert RUNNING_BYTES <= taken <= RUNNING_BYTES + 512


def test_the_image_s_drivers_are_charged_without_their_bytecode(interpreter: Interpreter, tmp_path: Path) -> None:
    """A file's size is its bytecode and a little more, so the charge must lie above the rest."""
    sizes = 0
    for name in ("dht", "ds18x20", "onewire"):
        made = tmp_path / f"{name}.mpy"
        source = SIM / "drivers" / f"{name}.py"
        subprocess.run([*MPY_CROSS, *OPTIONS, "-o", str(made), str(source)], check=True, timeout=DEADLINE_S)
        sizes += made.stat().st_size
    (tmp_path / "measure.py").write_text(DRIVERS, encoding="ascii")
    done = subprocess.run(
        [*interpreter.command, str(tmp_path / "measure.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    print(done.stdout, sizes)
    assert int(done.stdout) - sizes <= DRIVERS_BYTES <= int(done.stdout)
