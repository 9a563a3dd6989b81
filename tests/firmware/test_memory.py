"""The heap: what the application leaves of a board's 112 KiB, at the start and after a day. See docs/memory.md."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from host_tools import compiling, places
from host_tools.keys import signing
from isocore import model, topics
from tests.firmware.conftest import UMQTT, Bench, Row, RunMicroPython
from tests.support.ack_gateway import AckGateway
from tests.support.mosquitto import Mosquitto

FIRMWARE = Path(__file__).resolve().parents[2] / "firmware"
HEAP_BYTES = 112 * 1024
DEADLINE_S = 60.0
REST_S = 10.0
SPEED = 3_000  # of the board's clock: a day in half a minute; the network's is real
LEAST_FREE_BYTES = HEAP_BYTES // 2  # at rest; overlays that are loaded take up to 19 KB for their while
LEAST_BLOCK_BYTES = 10_000  # in one piece, as health says it while its own overlay is loaded; 12 to 17 KB were seen
LOADS_MAX = 100  # overlays in the day: at the start, at each connect, and while records go to flash and come from there
CHIP_NAMES = 620  # the table of names doubles beyond them, which costs 4.5 KB (host_tools/virtual/sim/names.py)
COUNT_NAMES = """
import sys, micropython
micropython.qstr_info()
with open(sys.argv[1]) as file:
    for line in file:
        hasattr(sys, line[:-1])
micropython.qstr_info()
"""
HELP = "a module was added or grew: docs/memory.md, 'How to add a module without paying for it'"


def day() -> list[Row]:
    """24 hours of a fridge, a row a minute: about one in three is reported."""
    return [(i * 60_000, int(5000 + 2000 * math.sin(i / 20)), 50_000, "") for i in range(24 * 60)]


@pytest.mark.micropython
@pytest.mark.mosquitto
def test_a_day_with_everything_leaves_the_heap_as_it_was(bench: Bench, gateway: AckGateway, broker: Mosquitto) -> None:
    """Traffic, a model, a broker that goes and comes: no growth, and what is free is in one piece."""
    key = signing.generate()
    wifi = {"ssid": "lab", "password": "correct horse"}
    config = bench.config(
        "roomy",
        wifi=wifi,
        sampling={"period_ms": 60_000},
        sensors=[
            {"type": "ds18b20", "pin": 5, "channels": {"temperature": "inside"}},
            {"type": "dht22", "pin": 4, "channels": {"temperature": "air", "humidity": "humidity"}},
        ],
        model_keys=[{"id": "ops", "key": key.public_key.hex()}],
        trial_samples=3,
    )
    board = bench.board(config, day(), speed=SPEED, wifi=wifi, heap_bytes=HEAP_BYTES)
    board.start()
    assert board.wait_for(lambda: board.counters.get("acked", 0) > 5, DEADLINE_S), list(board.log)

    def at_rest() -> int:
        """Free heap once idle overlays are let go; what it was at the deadline if it never gets there.

        At a chip's speed: in a day that takes half a minute there is always a frame, or an hour's health, on its way.
        """
        board.set_speed(1)
        board.wait_for(lambda: board.counters["free_heap_bytes"] >= LEAST_FREE_BYTES, REST_S)
        board.set_speed(SPEED)
        return int(board.counters["free_heap_bytes"])

    at_start = at_rest()
    limits = model.ChannelParams()
    limits.high_on_milli = 30_000
    payload = model.to_payload(model.Model("demo", "device:roomy", 2, channels={"inside": limits}))
    gateway.publish(topics.topic("roomy", topics.MODEL_SET), key.sign(payload), retain=True)
    assert board.wait_for(lambda: board.counters["models_applied"] == 1, DEADLINE_S), board.counters
    with_model = at_rest()
    for _ in range(2):
        broker.kill()
        connects = board.counters["reconnects"]
        broker.start()
        assert board.wait_for(lambda before=connects: board.counters["reconnects"] > before, DEADLINE_S), board.counters
    assert board.wait_for(lambda: board.trace_done and board.counters["outbox"] < 64, DEADLINE_S), board.counters
    at_end = at_rest()
    loads = board.counters["overlay_loads"]
    board.stop()
    health = gateway.last("roomy", topics.HEALTH)
    print(f"free of {HEAP_BYTES}: {at_start} at the start, {with_model} with a model, {at_end} after a day;", health)
    print(loads, "overlays loaded;", board.counters["sampled"], "samples;", board.counters["frames_sent"], "frames")
    assert board.boots == 1 and board.counters["sampled"] >= 3 * 1400
    assert 0 < loads <= LOADS_MAX, "an overlay is loaded for what happens often"
    assert min(at_start, with_model, at_end) >= LEAST_FREE_BYTES, HELP
    assert at_end >= with_model - 4096, "the heap grows with time"
    assert health["largest_block_bytes"] >= LEAST_BLOCK_BYTES, "what is free lies in pieces"


@pytest.mark.micropython
def test_the_firmwares_names_fit_the_table_that_the_simulation_charges(
    tmp_path: Path, run_micropython: RunMicroPython
) -> None:
    """Counted by the interpreter, which has names of its own in its image, as a chip has."""
    found = {**compiling.sources(FIRMWARE), **compiling.sources(UMQTT, "lib")}
    files = compiling.compiled_once(found, places.compiled_folder())
    optional = ("isonode/sensors/", "isonode/strobe", "isonode/renumber", "isonode/sleep", "isonode/tls")
    names: set[bytes] = set()
    for target, path in files.items():
        if target.endswith(".mpy") and not target.startswith(optional):
            names |= new_names(path.read_bytes())
    listed = tmp_path / "names.txt"
    listed.write_bytes(b"\n".join(sorted(name for name in names if b"\n" not in name)))
    before, after = map(int, re.findall(r"n_qstr=(\d+)", run_micropython(COUNT_NAMES, listed)))
    print(after - before, "names")
    assert after - before < CHIP_NAMES, HELP


def new_names(mpy: bytes) -> set[bytes]:
    """Names that a .mpy file brings along; those of MicroPython's static table are numbers in it.

    MicroPython documentation, "MicroPython .mpy files": header of four bytes, two counts, then the names.
    """
    at = 4

    def number() -> int:
        nonlocal at
        value = 0
        while True:
            byte = mpy[at]
            at += 1
            value = value << 7 | byte & 0x7F
            if not byte & 0x80:
                return value

    count = number()
    number()  # of constants
    found = set()
    for _ in range(count):
        length = number()
        if not length & 1:
            found.add(mpy[at : at + (length >> 1)])
            at += (length >> 1) + 1
    return found
