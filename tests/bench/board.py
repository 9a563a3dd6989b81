"""The board's side on MicroPython's unix port: filter step, reading to record, P-256, and the application's heap.

This machine's processor, not a board's: what carries over is the ratio to a bare state machine, and every count of
bytes, since the interpreter is as wide as a board's.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from host_tools.keys import signing
from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.fleet import VirtualFleet
from host_tools.virtual.image import BoardFiles, ImageBuilder
from host_tools.virtual.interpreter import Interpreter, find_micropython
from host_tools.virtual.spec import BoardSpec, load_hardware
from isocore import payload as payloads
from isocore.model import ChannelParams, Model
from tests.bench.common import CHILD_S_MAX, BenchError, Result, Settings, until
from tests.bench.stack import broker
from tests.support.ack_gateway import AckGateway
from tests.support.daemon import ROOT

SCRIPTS = Path(__file__).parent / "on_board"
FIRMWARE = ROOT / "firmware"
UMQTT = ROOT / ".tools" / "umqtt"
HEAP_BYTES = 112 * 1024  # an ESP32 without PSRAM
SOURCE_HEAP_BYTES = 400 * 1024  # the whole application compiled on the spot, which a board gets as byte code


def run(settings: Settings) -> list[Result]:
    """All of it."""
    folder = settings.workdir("board")
    interpreter = find_micropython(root=ROOT)
    if interpreter.bits != 32:
        settings.say(f"  {interpreter.notice}")
    runs = range(settings.runs)
    step = [script(interpreter, "filter_step.py", FIRMWARE) for _ in runs]
    path = [
        script(interpreter, "record_path.py", FIRMWARE, UMQTT, folder / f"outbox-{n}", heap_bytes=SOURCE_HEAP_BYTES)
        for n in runs
    ]
    key = signing.generate()
    container = folder / "model.bin"
    model = Model("demo", "*", 1, channels={"temperature": ChannelParams()})
    container.write_bytes(key.sign(payloads.to_payload(model)))
    verify = [script(interpreter, "verify.py", FIRMWARE, container, key.public_key.hex()) for _ in runs]
    heap = _app_heap(settings, interpreter, folder)
    bare = [one["bare"] / 1000 for one in step]
    beside = "bare integer state machine"
    return [
        Result("filter step, error bound only", "µs", [s["plain"] / 1000 for s in step], _heap(step, "plain_heap"),
               beside, bare, "the same order, 0 B", 2),
        Result("filter step, limits, rate, stuck and debounce", "µs", [s["full"] / 1000 for s in step],
               _heap(step, "full_heap"), beside, bare, "the same order, 0 B", 2),
        Result("reading to record in the outbox, application's own path", "µs", [p["record"] / 1000 for p in path],
               _heap(path, "heap"), digits=2),
        Result("P-256 verification of a container", "ms", [v["us"] / 1000 for v in verify],
               f"container of {container.stat().st_size} bytes, heap of {HEAP_BYTES} bytes", digits=1),
        *heap,
    ]  # fmt: skip


def _heap(found: list[dict[str, int]], name: str) -> str:
    return f"{max(one[name] for one in found)} B of heap each"


def script(interpreter: Interpreter, name: str, *arguments: object, heap_bytes: int = HEAP_BYTES) -> dict[str, int]:
    """Run a script with a board's heap; it prints name=number."""
    done = subprocess.run(
        [*interpreter.command, *interpreter.heap_option(heap_bytes), str(SCRIPTS / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=CHILD_S_MAX,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"{name} on MicroPython: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
    return {key: int(value) for key, value in (pair.split("=") for pair in done.stdout.split())}


def _app_heap(settings: Settings, interpreter: Interpreter, folder: Path) -> list[Result]:
    """What the whole application leaves of its heap once it is connected and its first records are acknowledged."""
    hardware = load_hardware()
    config: dict[str, Any] = {
        "device": "bench-heap",
        "class": "fridge",
        "fleet": "demo",
        "board": "virtual",
        "clock": "rtc",
        "sampling": {"period_ms": 1000},
        "sensors": [{"type": "ds18b20", "pin": 5, "channels": {"temperature": "temperature"}}],
    }
    free: list[float] = []
    with broker(folder) as mqtt, VirtualFleet() as fleet:
        config["gateway"] = {"host": "127.0.0.1", "port": mqtt.port}
        gateway = AckGateway(mqtt.port)
        try:
            builder = ImageBuilder(interpreter, folder / "images")
            master = builder.master(FIRMWARE, [UMQTT])
            for number in range(settings.runs):
                spec = BoardSpec("bench-heap", config, speed=4, epoch_s=1767225600)
                board = VirtualBoard(spec, folder / f"board-{number}", interpreter, fleet)
                builder.make_boards(master, [BoardFiles(board.flash_path, spec.flash_files())])
                board.start()
                until(lambda board=board: board.counters.get("acked", 0) > 0, "the board's first ack", 30)  # type: ignore[misc]
                board.stop()
                free.append(float(board.counters["free_heap_bytes"]))
        finally:
            gateway.close()
    return [
        Result("application's heap free after start, garbage collected", "bytes", free,
               f"of a heap of {hardware.heap_bytes} as on a chip; the simulation's own share is not in it"),
    ]  # fmt: skip
