"""One virtual board in the foreground, as `isotherm virtual run` shows it: its port, its log, its end.

A board's folder keeps its flash between runs, like a board in a drawer. Must not know the command line.
"""

from __future__ import annotations

import fcntl
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from host_tools import boards
from host_tools.errors import HostError, InputError
from host_tools.virtual.board import Event, VirtualBoard
from host_tools.virtual.errors import BoardError
from host_tools.virtual.image import BoardFiles, ImageBuilder
from host_tools.virtual.interpreter import find_micropython
from host_tools.virtual.spec import BoardSpec, load_hardware
from isocore.topics import is_device_id

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ROOT / ".tools" / "umqtt"
DEFAULT_NAME = "virtual-1"
DEFAULT_FOLDER = Path("virtual-boards")
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
_LOOK_S = 0.5

Say = Callable[[str], None]


def run_board(
    name: str | None,
    config: Path | None,
    rows: Path | None,
    speed: float,
    folder: Path | None,
    say: Say,
    *,
    bare: bool = False,
    kind: str = "virtual",
) -> int:
    """Run until Ctrl-C (130), SIGTERM (0) or a failure (HostError). kind: the board file whose chip it poses as."""
    like = boards.load(kind)
    configuration = _read_config(config)
    name = name or configuration.get("device") or DEFAULT_NAME
    if not is_device_id(name):
        raise InputError(f"--name: {name!r} does not match [a-z0-9-]{{1,32}}")
    if not speed > 0:
        raise InputError(f"--speed: {speed:g} is not above 0")
    if rows is not None and not rows.is_file():
        raise InputError(f"--rows: {rows}: no such file")
    folder = folder or DEFAULT_FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    with _alone_in(folder), _stop_signal() as stopped:
        board = _make(name, configuration, rows, speed, folder, say, bare, like)
        board.on_log.append(lambda _, line: say(line))
        board.events.append(lambda _, event: _tell(event, say))
        try:
            board.start()
            say(f"{name} is on: {board.serial.path}, which is also {board.serial.link}")
            say(f"from another terminal: mpremote connect {board.serial.path} repl; Ctrl-C here switches it off")
            while board.running and not stopped.is_set():
                board.wait_for(lambda: not board.running or stopped.is_set(), _LOOK_S)
            if not stopped.is_set():
                raise BoardError(f"board {name} stopped by itself: see {board.log_path}")
        except KeyboardInterrupt:
            say(f"{name} is off")
            return EXIT_INTERRUPTED
        finally:
            board.close()
    return 0


def _read_config(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        configuration = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--config: {path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"--config: {path}: is not JSON ({error})") from error
    if not isinstance(configuration, dict):
        raise InputError(f"--config: {path}: must hold one JSON object")
    return configuration


def _make(
    name: str,
    configuration: dict[str, Any],
    rows: Path | None,
    speed: float,
    folder: Path,
    say: Say,
    bare: bool,
    like: boards.Board,
) -> VirtualBoard:
    """The board, off, with its flash as it was, or new."""
    if not (LIBRARIES / "umqtt" / "simple.py").is_file():
        raise HostError("umqtt.simple is missing: run `make setup`")
    interpreter = find_micropython(root=ROOT)
    spec = BoardSpec(
        device=name,
        config=configuration,
        rows=rows,
        devices=_devices(configuration, like),
        strobe_pin=configuration.get("sampling", {}).get("strobe_pin"),
        speed=speed,
        epoch_s=int(time.time()) if configuration.get("clock") == "rtc" else None,
        wifi=configuration.get("wifi", {}),
        serial=True,
    )
    hardware = load_hardware(like.path)
    board = VirtualBoard(spec, folder, interpreter, hardware=hardware)
    builder = ImageBuilder(interpreter, ROOT / ".tools" / "images", flash_bytes=hardware.flash_bytes)
    if not board.flash_path.exists():
        say(f"making {name}'s flash in {folder}")
        if bare:
            builder.blank(board.flash_path)
            return board
        master = builder.master(ROOT / "firmware", [LIBRARIES])
        builder.make_boards(master, [BoardFiles(board.flash_path, spec.flash_files())])
    elif configuration:
        builder.write_files(board.flash_path, spec.flash_files())
    if interpreter.notice:
        say(interpreter.notice)
    return board


def _devices(configuration: dict[str, Any], like: boards.Board) -> list[dict[str, Any]]:
    """The chips on its pins: one of each sensor where its board file has them, and those of the configuration."""
    devices = [{"type": kind, "pin": like.pins[kind]} for kind in ("dht22", "ds18b20") if kind in like.pins]
    for sensor in configuration.get("sensors", ()):
        if "pin" in sensor and sensor["pin"] not in {device["pin"] for device in devices}:
            devices.append({"type": sensor["type"], "pin": sensor["pin"]})
    return devices


def _tell(event: Event, say: Say) -> None:
    kind = event["event"]
    if kind == "reset":
        say(f"-- reset: {event['cause']}")
    elif kind == "prompt" and event["mode"] == "friendly":
        say("-- its prompt is taken, the application is stopped until a reset")
    elif kind == "interrupted":
        say("-- Ctrl-C ended a program that never waited")
    elif kind == "pin":
        say(f"-- pin {event['pin']} is {event['value']}")


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Two boards in one folder would write one flash."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HostError(f"{folder}: a virtual board runs there already: stop it or choose another --dir") from error
        yield


@contextmanager
def _stop_signal() -> Iterator[threading.Event]:
    """SIGTERM ends the run in order."""
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGTERM, before)
