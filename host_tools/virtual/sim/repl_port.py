"""The board's serial port, as its Python sees it: `sys.stdin`, `sys.stdout`, `micropython.kbd_intr` and Ctrl-C.

Output goes to file descriptor 1, the board's end of a pty that the supervisor holds; its line discipline turns LF into
CR LF, as a board's console does, except for `sys.stdout.buffer`. Input comes on a non-blocking descriptor of its own
and is held in a buffer as small as a UART's. Ctrl-C is noticed wherever the board waits, and raises KeyboardInterrupt
there unless `kbd_intr(-1)` switched that off. Must not know what is said on the line: repl.py does.
"""

import io
import sys
import termios
import time

import machine as _chip  # the unix port's, for its mem32
import micropython as _micropython
from sim import clock

CTRL_C = 3
HELD_BYTES_MAX = 260  # as the boards' own: MICROPY_HW_UART_RXBUF and stdin_ringbuf are 256 to 260 bytes
_MP_STREAM_POLL = 3
_POLLIN = 1
_POLLOUT = 4
_EINVAL = -22
_OPOST = 1  # termios(3), the same bit on Linux and BSD
_OFLAG_AT = 1  # its place in termios.tcgetattr's list

pending = False  # Ctrl-C came and has not been raised yet
dropped_bytes = 0  # came while the buffer was full

_held = b""
_woken = False
_interrupt_char = -1
_in = None
_in_fd = -1
_out = None
_cooked = None
_raw = None
_flag_file = None  # one byte for the supervisor: whether Ctrl-C may interrupt


def start(input_fd, flag_path, platform):
    """Take the line over; from here on `import sys` and `import micropython` give a board's."""
    global _in, _in_fd, _out, _cooked, _raw, _flag_file
    _in_fd = input_fd
    _in = open(input_fd, "rb")
    _out = open(1, "wb")
    _cooked = termios.tcgetattr(1)
    _raw = list(_cooked)
    _raw[_OFLAG_AT] &= ~_OPOST
    _flag_file = open(flag_path, "r+b")
    clock.watch_port(sys.modules[__name__], input_fd)
    _Sys.platform = platform
    sys.modules["sys"] = _Sys()
    sys.modules["micropython"] = _MicroPython()


# ---- input


def arrived():
    """Bytes came: hold them, and look for Ctrl-C. Called by the clock where the board waits."""
    global _held, _woken, pending, dropped_bytes
    room = HELD_BYTES_MAX - len(_held)
    if _interrupt_char < 0:
        if not room:
            time.sleep_ms(1)  # nobody reads: the sender waits, as on USB
            return
        data = _in.read(room)
    else:
        data = _in.read(HELD_BYTES_MAX)
    if not data:
        return
    if _interrupt_char >= 0:
        char = bytes((_interrupt_char,))
        if char in data:
            pending = True
            data = data.replace(char, b"")
        if len(data) > room:  # a UART without a reader
            dropped_bytes += len(data) - room
            data = data[:room]
    _held += data
    _woken = True


def take_woken():
    """Whether something came since this was last asked."""
    global _woken
    was = _woken
    _woken = False
    return was


class _Waiter:
    """A poller for the clock that is ready when bytes are held."""

    def __init__(self):
        self.native = clock.control_poll()

    def check(self):
        return [(self, _POLLIN)] if _held else ()

    def add(self, found, thing, event):
        return found


_waiter = None


def read(most_bytes):
    """At least one byte, at most as many as asked for; waits as long as it takes."""
    global _held, _waiter
    if not _held:
        _held = (_in.read(most_bytes) if _interrupt_char < 0 else None) or b""
    if not _held:
        if _waiter is None:
            _waiter = _Waiter()
        while not _held:
            clock.wait(_waiter, clock.FOREVER, clock.FOREVER)
    data = _held[:most_bytes]
    _held = _held[most_bytes:]
    return data


def read_byte():
    return read(1)[0]


# ---- output


def write(text):
    """Text: the line discipline makes CR LF of each LF."""
    _out.write(text)


def write_raw(data):
    """Bytes as they are."""
    data = bytes(data)
    if b"\n" not in data:
        _out.write(data)
        return
    termios.tcsetattr(1, termios.TCSANOW, _raw)
    try:
        _out.write(data)
    finally:
        termios.tcsetattr(1, termios.TCSANOW, _cooked)


# ---- what `sys` and `micropython` offer on a board


def kbd_intr(char):
    """`micropython.kbd_intr`: which byte interrupts, -1 for none."""
    global _interrupt_char, pending
    _interrupt_char = char
    pending = False
    _flag_file.seek(0)
    _flag_file.write(b"0" if char < 0 else b"1")


class _Stream(io.IOBase):
    def ioctl(self, request, argument):
        if request == _MP_STREAM_POLL:
            return argument & (_POLLOUT | (_POLLIN if _held else 0))
        return _EINVAL


class _StdinBuffer(_Stream):
    def readinto(self, buf, most_bytes=-1):
        view = memoryview(buf)
        data = read(len(view) if most_bytes < 0 else min(most_bytes, len(view)))
        view[: len(data)] = data
        return len(data)

    def read(self, most_bytes=-1):
        """`most_bytes` of them, and as many as a board's buffer holds when none are given."""
        if most_bytes < 0:
            return read(HELD_BYTES_MAX)
        data = b""
        while len(data) < most_bytes:
            data += read(most_bytes - len(data))
        return data


class _Stdin(_Stream):
    """Text: the Enter key's CR reads as LF."""

    buffer = _StdinBuffer()

    def readinto(self, buf):
        data = read(len(buf)).replace(b"\r", b"\n")
        buf[: len(data)] = data
        return len(data)

    def read(self, most=-1):
        return self.buffer.read(most).replace(b"\r", b"\n").decode()

    def readline(self):
        line = b""
        while not line.endswith(b"\n"):
            line += read(1).replace(b"\r", b"\n")
        return line.decode()


class _StdoutBuffer(_Stream):
    def write(self, data, most_bytes=-1):
        if isinstance(data, str):  # streams take text as its bytes; mpremote 1.25's mount relies on it
            data = data.encode()
        if most_bytes >= 0:
            data = memoryview(data)[:most_bytes]
        write_raw(data)
        return len(data)


class _Stdout(_Stream):
    buffer = _StdoutBuffer()

    def write(self, text):
        write(text)
        return len(text)


class _Sys:
    """The interpreter's `sys` with the streams of a board's console."""

    platform = ""
    stdin = _Stdin()
    stdout = _Stdout()
    stderr = stdout

    def __getattr__(self, name):
        return getattr(sys, name)


class _MicroPython:
    kbd_intr = staticmethod(kbd_intr)

    def __getattr__(self, name):
        return getattr(_micropython, name)


mem32 = _chip.mem32
