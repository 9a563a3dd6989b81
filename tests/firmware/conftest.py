"""Fixtures for the board's tests: scripts on real MicroPython, and whole virtual boards against a real broker.

Also makes the application's pure files importable on CPython: `micropython.const` is the identity there.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from host_tools import compiling
from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.fleet import VirtualFleet
from host_tools.virtual.image import BoardFiles, ImageBuilder
from host_tools.virtual.interpreter import Interpreter, find_micropython
from host_tools.virtual.spec import BoardSpec
from tests.support.ack_gateway import AckGateway
from tests.support.mosquitto import Mosquitto

ROOT = Path(__file__).resolve().parents[2]
FIRMWARE = ROOT / "firmware"
UMQTT = ROOT / ".tools" / "umqtt"
HEAP_BYTES = 112 * 1024
TIMEOUT_S = 100

if "micropython" not in sys.modules:
    stand_in = types.ModuleType("micropython")
    stand_in.const = lambda value: value  # type: ignore[attr-defined]
    sys.modules["micropython"] = stand_in
for of_today in ("socket", "struct", "binascii"):  # umqtt.simple 1.3.4 says the names of old, which MicroPython knows
    sys.modules.setdefault("u" + of_today, importlib.import_module(of_today))
if str(UMQTT) not in sys.path:
    sys.path.append(str(UMQTT))

RunMicroPython = Callable[..., str]
Row = tuple[int, int, int | None, str]


@pytest.fixture(scope="session")
def interpreter() -> Interpreter:
    """The MicroPython that set-up made, or MICROPYTHON names."""
    return find_micropython(root=ROOT)


@pytest.fixture(scope="session")
def run_micropython(interpreter: Interpreter) -> RunMicroPython:
    """run_micropython(script, *arguments, heap_bytes=...): its standard output; a traceback fails the test."""

    def run(script: Path | str, *arguments: object, heap_bytes: int = HEAP_BYTES) -> str:
        source = [str(script)] if isinstance(script, Path) else ["-c", script]
        done = subprocess.run(
            [*interpreter.command, *interpreter.heap_option(heap_bytes), *source, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """One broker for the boards of a module; each test has its own device names."""
    with Mosquitto(tmp_path_factory.mktemp("mosquitto")) as running:
        yield running


@pytest.fixture
def gateway(broker: Mosquitto) -> Iterator[AckGateway]:
    """Something that acknowledges."""
    with_acks = AckGateway(broker.port)
    yield with_acks
    with_acks.close()


class Bench:
    """Makes boards that run the real firmware."""

    def __init__(self, folder: Path, builder: ImageBuilder, master: Path, fleet: VirtualFleet, port: int) -> None:
        self.folder = folder
        self.builder = builder
        self.port = port
        self.master = master
        self._fleet = fleet

    def take_sources(self, changes: dict[str, bytes]) -> None:
        """From here on boards carry the sources as a checkout has them, but for `changes`: linking them would take
        longer than most tests. Such a board wants 512 KiB of heap."""
        found = {**compiling.sources(FIRMWARE), **compiling.sources(UMQTT, "lib")}
        files = {path: file.read_bytes() for path, file in found.items()}
        assert set(changes) <= set(files), "there is nothing to change"
        self.master = self.folder / "sources.img"
        self.builder.blank(self.master)
        self.builder.write_files(self.master, {**files, **changes})

    def config(self, device: str, **changes: Any) -> dict[str, Any]:
        """A fridge with a DS18B20 that is strobed; `changes` replace top-level entries."""
        config: dict[str, Any] = {
            "device": device,
            "class": "fridge",
            "fleet": "demo",
            "board": "virtual",
            "gateway": {"host": "127.0.0.1", "port": self.port},
            "clock": "rtc",
            "sampling": {"strobe_pin": 27},
            "sensors": [{"type": "ds18b20", "pin": 5, "channels": {"temperature": "temperature"}}],
            "link": {"ack_timeout_ms": 400, "keepalive_s": 5, "backoff_max_ms": 400, "linger_ms": 50},
        }
        config.update(changes)
        return config

    def board(
        self,
        config: dict[str, Any],
        rows: Sequence[Row] | None = None,
        files: dict[str, bytes] | None = None,
        **spec: Any,
    ) -> VirtualBoard:
        """A board that is off; strobed by its rows when the configuration says so."""
        device = config["device"]
        if rows is not None:
            path = self.folder / f"{device}.rows"
            path.write_text("".join(f"{t},{v},{'' if h is None else h},{f}\n" for t, v, h, f in rows), encoding="utf-8")
            spec.setdefault("rows", path)
        spec.setdefault("strobe_pin", config["sampling"].get("strobe_pin"))
        spec.setdefault("epoch_s", 1767225600)
        board = VirtualBoard(
            BoardSpec(device, config, files=files or {}, **spec), self.folder / device, self.interpreter, self._fleet
        )
        self.builder.make_boards(self.master, [BoardFiles(board.flash_path, board.spec.flash_files())])
        return board

    interpreter: Interpreter


@pytest.fixture(scope="session")
def firmware_image(interpreter: Interpreter, tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageBuilder, Path]:
    """A flash image of firmware/ with umqtt.simple, made once."""
    assert (UMQTT / "umqtt" / "simple.py").is_file(), "umqtt.simple is missing: run `make setup`"
    builder = ImageBuilder(interpreter, tmp_path_factory.mktemp("images"))
    return builder, builder.master(FIRMWARE, [UMQTT])


@pytest.fixture
def bench(
    tmp_path: Path, firmware_image: tuple[ImageBuilder, Path], interpreter: Interpreter, broker: Mosquitto
) -> Iterator[Bench]:
    """Boards of one test; all are off when it ends."""
    builder, master = firmware_image
    with VirtualFleet() as fleet:
        made = Bench(tmp_path, builder, master, fleet, broker.port)
        made.interpreter = interpreter
        yield made


@pytest.fixture
def umqtt_file() -> Path:
    """The parent class's file."""
    return UMQTT / "umqtt" / "simple.py"
