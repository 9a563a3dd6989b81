"""The process under a virtual board: its way out, its watchdog timer, its control lines and its event lines.

Standard input carries control lines and, by its end, the loss of power; standard output carries one JSON object a
line. Must not know the clock, the pins or the firmware: other modules register what a control line does.
"""

import json
import struct
import sys

EXIT_OFF = 0
EXIT_RESET_BASE = 100  # exit code of a board that resets: this plus the reset cause; board.py knows the same number
POWER_ON, HARD, WATCHDOG, DEEP_SLEEP, SOFT = range(1, 6)  # reset causes, as board.py numbers them for every chip
EXIT_AT_PROMPT = 10  # and this, when whoever is at the serial prompt asked for it

_PR_SET_PDEATHSIG = 1  # prctl(2)
_SIGKILL = 9
_ITIMER_REAL = 0  # setitimer(2): its expiry raises SIGALRM, which ends the process even when the firmware hangs

commands = {}  # word -> function(list of words)
events_dropped = 0
at_prompt = False  # set by repl

_stdin = open(0)
_out = None

try:
    import ffi

    _libc = ffi.open(None)
except (ImportError, OSError):
    _libc = None


def _function(result, name, arguments):
    if _libc is None:
        return None
    try:
        return _libc.func(result, name, arguments)
    except OSError:
        return None


_exit = _function("v", "_exit", "i")
_prctl = _function("i", "prctl", "iiiii")
_setitimer = _function("i", "setitimer", "iPP")


def start(event_fd):
    """Open the event line and ask the kernel to end this process together with its supervisor (where it can)."""
    global _out
    _out = open(event_fd, "w")
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)


def leave(code):
    """End the process now: no `finally` of the firmware runs, as on a chip that loses power or resets."""
    if _exit is not None:
        _exit(code)
    sys.exit(code)


def emit(name, fields):
    """Write one event. The name comes first so that the supervisor finds it behind an unfinished print."""
    global events_dropped
    try:
        text = json.dumps(fields, separators=(",", ":"))
        _out.write('{"event":"' + name + ('"}\n' if text == "{}" else '",' + text[1:] + "\n"))
    except MemoryError:
        events_dropped += 1  # the firmware filled its heap: its problem must not end it sooner than on a chip


def control():
    """Carry out one control line; the end of the input means that the power is gone."""
    line = _stdin.readline()
    if not line:
        leave(EXIT_OFF)
    words = line.split()
    if not words:
        return
    action = commands.get(words[0])
    if action is None:
        emit("error", {"text": "unknown control line: " + line.strip()})
    else:
        action(words[1:])


class Watchdog:
    """A hardware watchdog in real time: an interval timer of the kernel that is pushed back by each feed."""

    def __init__(self, timeout_ms):
        self._value = struct.pack("llll", 0, 0, timeout_ms // 1000, timeout_ms % 1000 * 1000)
        self.feed()

    def feed(self):
        if _setitimer is not None:
            _setitimer(_ITIMER_REAL, self._value, None)


def watchdog_left_ms():
    """Stop the watchdog's timer; how long it would still have waited, 0 when none is armed."""
    if _setitimer is None:
        return 0
    left = bytearray(struct.calcsize("llll"))
    _setitimer(_ITIMER_REAL, bytes(len(left)), left)
    _, _, seconds, microseconds = struct.unpack("llll", left)
    return seconds * 1000 + microseconds // 1000
