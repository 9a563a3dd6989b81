"""A virtual board: one MicroPython process that boots, resets, loses its Wi-Fi or its power as a chip does.

Control goes in by lines, events come out as JSON lines (see sim/host.py). A board that resets is started again with
the right reset cause; one whose power is cut stays off until `start`. Must not know the firmware's meaning of
counters: it keeps the latest and hands on every event.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from host_tools.virtual.errors import BoardError
from host_tools.virtual.fleet import VirtualFleet
from host_tools.virtual.interpreter import Interpreter
from host_tools.virtual.serial import SerialPort
from host_tools.virtual.serial_console import Console
from host_tools.virtual.spec import BoardSpec, Hardware, load_hardware

PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 2, 3, 4, 5  # as `machine` has them on ESP32
RESET_NAMES = {
    PWRON_RESET: "PWRON_RESET",
    HARD_RESET: "HARD_RESET",
    WDT_RESET: "WDT_RESET",
    DEEPSLEEP_RESET: "DEEPSLEEP_RESET",
    SOFT_RESET: "SOFT_RESET",
}
_EXIT_RESET_BASE = 100  # host.EXIT_RESET_BASE of the simulation
_EXIT_AT_PROMPT = 10  # host.EXIT_AT_PROMPT
_EXIT_ALARM = (-signal.SIGALRM, 128 + signal.SIGALRM)  # the watchdog; the second through a shell
_RUNNER = Path(__file__).resolve().parent / "sim" / "runner.py"
_EVENT_START = b'{"event":"'

HISTORY_EVENTS = 512
LOG_LINES = 200
LINE_BYTES_MAX = 1 << 20
SHORT_LIFE_S = 0.5  # a board that lives shorter than this is restarted later and later
RESTART_DELAY_S_MAX = 1.0
_REAP_TIMEOUT_S = 10.0

Event = Mapping[str, Any]


class VirtualBoard:
    """One board in its work dir, which holds its flash, its RTC and its samples file and survives restarts.

    `events`: functions called with (board, event) in the fleet's thread for each event. `counters`: the latest.
    `on_log`: functions called with (board, line) for each line that the firmware printed.
    """

    def __init__(
        self,
        spec: BoardSpec,
        workdir: Path,
        interpreter: Interpreter,
        fleet: VirtualFleet | None = None,
        hardware: Hardware | None = None,
    ) -> None:
        self.spec = spec
        self.workdir = workdir.resolve()
        self.events: list[Callable[[VirtualBoard, Event], None]] = []
        self.on_log: list[Callable[[VirtualBoard, str], None]] = []
        self.counters: Event = {}
        self.boots = 0
        self.restarts = 0
        self.last_cause = 0
        self.trace_done = False
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self.event_counts: Counter[str] = Counter()
        self._history: deque[Event] = deque(maxlen=HISTORY_EVENTS)
        self._interpreter = interpreter
        self._hardware = hardware
        self._fleet = fleet
        self._owns_fleet = fleet is None
        self._changed = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._console = Console(self.workdir, self._log) if spec.serial else None
        self._events_from: IO[bytes] | None = None
        self._document: Event = {}
        self._on = False  # powered: running, or about to be restarted
        self._link_up = True
        self._partial = b""
        self._started_s = 0.0
        self._delay_s = 0.0

    # ---- where things are

    @property
    def flash_path(self) -> Path:
        return self.workdir / "flash.img"

    @property
    def tap_path(self) -> Path:
        return self.workdir / "samples.bin"

    @property
    def log_path(self) -> Path:
        """What the firmware printed."""
        return self.workdir / "board.log"

    @property
    def serial(self) -> SerialPort:
        """Its serial port, there from the first `start` to `close`. Raises BoardError when it was made without one."""
        if self._console is None:
            raise BoardError(f"board {self.spec.device} was made without a serial port: BoardSpec(serial=True)")
        return self._console.port

    @property
    def running(self) -> bool:
        """Powered: running, or being restarted after a reset."""
        return self._on

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process else None

    # ---- what can be done to it

    def start(self) -> None:
        """Power on. Raises BoardError when it is on already or its flash has not been made."""
        if self._on:
            raise BoardError(f"board {self.spec.device} is on already")
        if not self.flash_path.exists():
            raise BoardError(f"board {self.spec.device} has no flash image at {self.flash_path}: make one first")
        if self._hardware is None:
            self._hardware = load_hardware()
        self._document = self.spec.document(self.workdir, self._hardware)
        (self.workdir / "rtc.bin").unlink(missing_ok=True)  # RTC memory does not survive a power cut
        if self._fleet is None:
            self._fleet = VirtualFleet()
        self._fleet.adopt(self)
        self._on = True
        self._delay_s = 0.0
        try:
            self._fleet.call(lambda: self._spawn(PWRON_RESET))
        except BoardError:
            self._on = False
            raise
        except OSError as error:
            self._on = False
            raise BoardError(f"board {self.spec.device}: MicroPython did not start ({error})") from error

    def stop(self, timeout_s: float = 10.0) -> None:
        """Switch off after a last report of its counters. Raises BoardError (and kills it) when it does not answer."""
        if not self._on:
            return
        self._on = False
        self._finish_restart()
        self._send("stop")
        if self._console is not None:
            self._console.off()
        if not self.wait_for(lambda: self._process is None, timeout_s):
            self._kill()
            raise BoardError(f"board {self.spec.device} did not stop within {timeout_s:g} s and was killed")

    def power_cut(self) -> None:
        """Take its power away at once: nothing is finished, nothing is said. Its serial port stays and is silent."""
        self._on = False
        self._finish_restart()
        if self._console is not None:
            self._console.off()
        self._kill()

    def close(self) -> None:
        """Power off for good, without ceremony."""
        self.power_cut()
        if self._console is not None:
            self._console.close()
        if self._owns_fleet and self._fleet is not None:
            fleet, self._fleet = self._fleet, None
            fleet.close()

    def drop_wifi(self) -> None:
        """Its access point goes away: connections stay open and silent."""
        self._link_up = False
        self._send("wifi off")

    def restore_wifi(self) -> None:
        self._link_up = True
        self._send("wifi on")

    def trouble_wifi(self, kind: str) -> None:
        """ "stuck": its access point answers nobody; "lost": it took the board's address back; "key": it now takes the
        board's password. Ends with `restore_wifi`, or when the board restarts."""
        self._send("wifi " + kind)

    def set_pin(self, number: int, level: bool) -> None:
        """Put a level on an input from outside, as a button does."""
        self._send(f"pin {number} {int(level)}")

    def set_speed(self, speed: float) -> None:
        """From now on `speed` board seconds pass in a real one; until it restarts."""
        self._send(f"speed {speed:g}")

    # ---- what can be seen of it

    def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until a condition on this board holds; looked at after every event."""
        with self._changed:
            return self._changed.wait_for(condition, timeout_s)

    def wait_event(self, name: str, timeout_s: float, count: int = 1) -> Event:
        """Wait for the `count`-th event of a name since the board was made; the latest of them."""
        if not self.wait_for(lambda: self.event_counts[name] >= count, timeout_s):
            words = " / ".join(list(self.log)[-5:])
            raise BoardError(f"board {self.spec.device}: no {name} event within {timeout_s:g} s; it printed: {words}")
        with self._changed:
            return next(event for event in reversed(self._history) if event["event"] == name)

    def history(self, name: str | None = None) -> list[Event]:
        """The latest events (at most HISTORY_EVENTS), oldest first."""
        with self._changed:
            return [event for event in self._history if name is None or event["event"] == name]

    # ---- in the fleet's thread

    @property
    def _spec_path(self) -> Path:
        return self.workdir / "spec.json"

    def _spawn(self, cause: int, to_prompt: bool = False) -> None:
        assert self._fleet is not None and self._hardware is not None
        hardware = self._hardware
        heap_bytes = (self.spec.heap_bytes or hardware.heap_bytes) + hardware.simulation_heap_bytes
        if self._console is not None:
            heap_bytes += hardware.serial_heap_bytes + hardware.prompt_heap_bytes
        command = [
            *self._interpreter.command,
            *self._interpreter.heap_option(heap_bytes),
            str(_RUNNER),
            str(self._spec_path),
            str(cause),
            str(int(self._link_up)),
            str(int(to_prompt)),
        ]
        if self._console is None:
            process = self._popen(command, self._document, subprocess.PIPE)
            events = process.stdout
        else:
            with self._console.wiring(keep_input=to_prompt or cause == SOFT_RESET) as wiring:
                document = {**self._document, **wiring.document}
                process = self._popen(command, document, wiring.stdout, wiring.pass_fds)
            self._console.started(process)
            events = wiring.events
        assert events is not None
        self._partial = b""
        self._started_s = time.monotonic()
        self.last_cause = cause
        self._process = process
        self._events_from = events
        self._fleet.watch(events.fileno(), self)

    def _popen(
        self, command: list[str], document: Event, stdout: int, pass_fds: tuple[int, ...] = ()
    ) -> subprocess.Popen[bytes]:
        self._spec_path.write_text(json.dumps(document), encoding="utf-8")
        with self.log_path.open("ab") as log:
            # a process group of its own: Ctrl-C is for the supervisor, which then switches its boards off
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=stdout, stderr=log, process_group=0, pass_fds=pass_fds
            )

    def feed(self, data: bytes) -> None:
        """Bytes from the process: whole lines are events or the firmware's prints."""
        lines = (self._partial + data).split(b"\n")
        self._partial = lines.pop()
        if len(self._partial) > LINE_BYTES_MAX:
            self._partial = b""
        for line in lines:
            self._line(line)

    def _line(self, line: bytes) -> None:
        at = line.find(_EVENT_START)
        if at < 0:
            self._log(line)
            return
        if at:
            self._log(line[:at])
        try:
            event = json.loads(line[at:])
        except ValueError:
            self._log(line)
            return
        self._publish(event)

    def _log(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace")
        with self._changed:
            self.log.append(text)
            self._changed.notify_all()
        with self.log_path.open("ab") as log:
            log.write(line + b"\n")
        for callback in list(self.on_log):
            callback(self, text)

    def _publish(self, event: Event) -> None:
        with self._changed:
            name = event["event"]
            if name == "counters":
                self.counters = event
                self.trace_done = bool(event.get("trace_done"))
            elif name == "boot":
                self.boots = int(event["boot_count"])
            elif name in ("trace_end", "rows_end"):
                self.trace_done = True
            self._history.append(event)
            self.event_counts[name] += 1
            self._changed.notify_all()
        for callback in list(self.events):
            callback(self, event)

    def ended(self) -> None:
        """The process closed its output: it has ended, or is about to."""
        process = self._process
        assert process is not None and self._events_from is not None and process.stdin is not None
        if self._partial:
            self._line(self._partial)
            self._partial = b""
        self._events_from.close()
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            code = process.wait(_REAP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        cause = WDT_RESET if code in _EXIT_ALARM else code - _EXIT_RESET_BASE
        asked_for = cause - _EXIT_AT_PROMPT in RESET_NAMES
        if asked_for:
            cause -= _EXIT_AT_PROMPT
        with self._changed:
            self._process = None
            self._changed.notify_all()
        if not self._on:
            return
        if self._console is not None and self._console.interrupted and cause not in RESET_NAMES:
            self._publish({"event": "interrupted"})
            assert self._fleet is not None
            self._fleet.call(lambda: self._spawn(self.last_cause, to_prompt=True))
        elif cause in RESET_NAMES:
            self._publish({"event": "reset", "cause": RESET_NAMES[cause]})
            self._restart_soon(cause, asked_for or cause == DEEPSLEEP_RESET)
        else:
            with self._changed:
                self._on = False
            self._publish({"event": "crash", "returncode": code})

    def _restart_soon(self, cause: int, asked_for: bool) -> None:
        """Restart at once, but a board that keeps resetting by itself only once a second."""
        assert self._fleet is not None
        self.restarts += 1
        if asked_for or time.monotonic() - self._started_s > SHORT_LIFE_S:
            self._delay_s = 0.0
        self._fleet.after(self._delay_s, lambda: self._spawn(cause) if self._on and self._process is None else None)
        self._delay_s = min(RESTART_DELAY_S_MAX, self._delay_s * 2 or 0.05)

    # ---- in any thread

    def _send(self, line: str) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        with contextlib.suppress(OSError, ValueError):  # it has just ended: `ended` deals with that
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()

    def _finish_restart(self) -> None:
        """Let a restart that has begun in the fleet's thread come to its end, so that its process can be seen."""
        if self._fleet is not None and self._document:
            with contextlib.suppress(BoardError):  # the fleet is closed: nothing restarts any more
                self._fleet.call(lambda: None)

    def _kill(self) -> None:
        process = self._process
        if process is None:
            return
        process.kill()
        if not self.wait_for(lambda: self._process is not process, _REAP_TIMEOUT_S):
            raise BoardError(f"board {self.spec.device}: its process {process.pid} did not end")
