"""A virtual board's serial port: a pty that any terminal program opens, and the wire from it to the board's process.

Two ptys: the user's, whose path is the port, and the board's, which is the console of its process and turns LF into
CR LF. A thread carries bytes between them, so that the port outlives resets, can be pulled out like a cable, and drops
what nobody reads, as a USB bridge does. Must not know what is said on the line, except Ctrl-C: of one that the board
has not read INTERRUPT_AFTER_S after it came, because it computes without ever waiting, the owner is told.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import selectors
import struct
import termios
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path

from host_tools.virtual.errors import BoardError

CTRL_C = 3
INTERRUPT_AFTER_S = 1.5
STALL_S = 0.5  # how long a reader may pause before output is dropped, as USB consoles do
LISTEN_PERIOD_S = 0.05  # between looks whether someone has opened the port
_READ_BYTES = 4096
_PENDING_BYTES_MAX = 16_384

_JOIN_S = 10.0


class SerialPort:
    """One port. Open from `open` to `close`; `unplug` and `plug` pull the cable and put it in again.

    link: a symbolic link that always leads to the port, whatever number the system gave it.
    on_output: called in the port's thread with what the board said.
    """

    def __init__(self, link: Path, on_output: Callable[[bytes], None] | None = None) -> None:
        self.link = link
        self.path = ""  # /dev/pts/N while it is plugged in
        self.dropped_bytes = 0
        self.to_board_bytes = 0
        self.from_board_bytes = 0
        self._on_output = on_output
        self._user = -1  # master of the user's pty
        self._board = -1  # master of the board's pty
        self._board_ends: tuple[int, int] = (-1, -1)
        self._wake: tuple[int, int] = (-1, -1)
        self._thread: threading.Thread | None = None
        self._interrupt: Callable[[], None] | None = None  # None while the board has no power
        self._unplug_at_bytes = -1
        self._flush_input = False
        self._flushed = threading.Event()
        self._unplugged = threading.Event()

    # ---- in any thread

    @property
    def plugged(self) -> bool:
        return self._user >= 0

    @property
    def board_ends(self) -> tuple[int, int]:
        """Descriptors for the board's process: its console, and the same for reading without waiting."""
        return self._board_ends

    def open(self) -> None:
        """Make the ptys and start carrying. Raises BoardError when the system has none left."""
        if self._thread is not None:
            return
        try:
            self._board, console = os.openpty()
            tty.setraw(console)
            attributes = termios.tcgetattr(console)
            attributes[1] |= termios.OPOST | termios.ONLCR
            termios.tcsetattr(console, termios.TCSANOW, attributes)
            reading = os.open(os.ttyname(console), os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            self._board_ends = (console, reading)
            os.set_blocking(self._board, False)
            self._wake = os.pipe()
            self.plug()
        except OSError as error:
            raise BoardError(f"{self.link}: the system gives no pseudo terminal ({error.strerror})") from error
        self._thread = threading.Thread(target=_Carrier(self).run, name=f"serial {self.link}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take the port away for good."""
        thread = self._thread
        if thread is None:
            return
        self.unplug()
        self._thread = None
        os.close(self._wake[1])
        thread.join(_JOIN_S)
        for descriptor in (self._wake[0], self._board, *self._board_ends):
            os.close(descriptor)

    def unplug(self) -> None:
        """Pull the cable: the port vanishes, whoever has it open sees a hang-up. The board keeps its power."""
        if not self.plugged:
            return
        self._unplugged.clear()
        self.unplug_after(0)
        if self._thread is None or not self._unplugged.wait(_JOIN_S):
            raise BoardError(f"{self.link}: the thread of the port does not answer")

    def unplug_after(self, received_bytes: int) -> None:
        """Pull the cable when so many more bytes have gone to the board."""
        self._unplug_at_bytes = self.to_board_bytes + received_bytes
        self._nudge()

    def plug(self) -> None:
        """Put the cable in (again); the path may be another one than before, the link leads to it."""
        if self.plugged:
            return
        user, port = os.openpty()
        tty.setraw(port)  # stays so while the master is open, for programs that do not set it themselves
        path = os.ttyname(port)
        os.close(port)
        os.set_blocking(user, False)
        self.link.parent.mkdir(parents=True, exist_ok=True)
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(path)
        self._unplug_at_bytes = -1
        self.path = path
        self._user = user
        self._nudge()

    def discard_input(self) -> None:
        """Forget what was sent to the board and not read: it was not meant for the process that starts next."""
        self._flushed.clear()
        self._flush_input = True
        self._nudge()
        if not self._flushed.wait(_JOIN_S):
            raise BoardError(f"{self.link}: the thread of the port does not answer")

    def board_started(self, interrupt: Callable[[], None]) -> None:
        """A process took the board's end.

        interrupt: called in the port's thread, every INTERRUPT_AFTER_S while a Ctrl-C lies there unread.
        """
        self._interrupt = interrupt
        self._nudge()

    def board_off(self) -> None:
        """The board has no power: it hears nothing."""
        self._interrupt = None

    def _nudge(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._wake[1], b"x")


class _Carrier:
    """What the thread of one port does."""

    def __init__(self, port: SerialPort) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self._watched: dict[int, int] = {}
        self._to_board = b""
        self._to_user = b""
        self._stalled_s: float | None = None  # since when the reader takes nothing
        self._interrupt_s: float | None = None  # when to look whether the board has read the last Ctrl-C

    def run(self) -> None:
        port = self._port
        self._selector.register(port._wake[0], selectors.EVENT_READ)
        try:
            while self._step():
                pass
        finally:
            self._selector.close()

    def _step(self) -> bool:
        port = self._port
        user = port._user
        listening = user >= 0 and self._has_listener(user)
        self._want(port._board, selectors.EVENT_READ if len(self._to_user) < _PENDING_BYTES_MAX else 0, self._to_board)
        if listening:
            can_take = len(self._to_board) < _PENDING_BYTES_MAX
            self._want(user, selectors.EVENT_READ if can_take else 0, self._to_user)
        else:
            self._forget(user)
        ready = {key.fd for key, _ in self._selector.select(self._timeout_s(user, listening))}
        if port._wake[0] in ready and not os.read(port._wake[0], _READ_BYTES):
            return False
        if port._board in ready:
            self._from_board()
        if listening:
            self._to_user = self._push(user, self._to_user)
        else:
            self._drop()
        self._check_stall()
        if user >= 0:
            self._from_user(user)
            if 0 <= port._unplug_at_bytes <= port.to_board_bytes:
                self._unplug(user)
        if port._flush_input:
            port._flush_input = False
            self._to_board = b""
            termios.tcflush(port._board_ends[1], termios.TCIFLUSH)
            port._flushed.set()
        self._to_board = self._push(port._board, self._to_board) if port._interrupt is not None else b""
        self._check_interrupt()
        return True

    def _unplug(self, user: int) -> None:
        port = self._port
        self._forget(user)
        port._unplug_at_bytes = -1
        port._user = -1
        port.path = ""
        port.link.unlink(missing_ok=True)
        os.close(user)
        port._unplugged.set()

    def _timeout_s(self, user: int, listening: bool) -> float | None:
        if user >= 0 and not listening:
            return LISTEN_PERIOD_S
        if self._stalled_s is not None or self._interrupt_s is not None:
            return LISTEN_PERIOD_S
        return None

    # ---- what to wait for

    def _has_listener(self, user: int) -> bool:
        """Whether a program has the port open; a pty's master hangs up while none has."""
        poller = select.poll()
        poller.register(user, select.POLLIN)
        events = dict(poller.poll(0)).get(user, 0)
        return not events & (select.POLLHUP | select.POLLNVAL)

    def _want(self, descriptor: int, events: int, pending: bytes) -> None:
        events |= selectors.EVENT_WRITE if pending else 0
        if self._watched.get(descriptor) == events:
            return
        self._forget(descriptor)
        if events:
            self._selector.register(descriptor, events)
            self._watched[descriptor] = events

    def _forget(self, descriptor: int) -> None:
        if self._watched.pop(descriptor, None) is not None:
            self._selector.unregister(descriptor)

    # ---- bytes

    def _from_board(self) -> None:
        data = _read(self._port._board)
        if data:
            self._port.from_board_bytes += len(data)
            self._to_user += data
            if self._port._on_output is not None:
                self._port._on_output(data)

    def _from_user(self, user: int) -> None:
        if len(self._to_board) >= _PENDING_BYTES_MAX:
            return
        port = self._port
        room = port._unplug_at_bytes - port.to_board_bytes if port._unplug_at_bytes >= 0 else _READ_BYTES
        data = _read(user, min(_READ_BYTES, max(0, room)))
        port.to_board_bytes += len(data)
        if CTRL_C in data:
            self._interrupt_s = time.monotonic() + INTERRUPT_AFTER_S
        self._to_board += data

    def _push(self, descriptor: int, data: bytes) -> bytes:
        """Write what fits; the rest."""
        if not data:
            return data
        try:
            return data[os.write(descriptor, data) :]
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return data
            if error.errno == errno.EIO:
                return b""
            raise

    def _drop(self) -> None:
        self._port.dropped_bytes += len(self._to_user)
        self._to_user = b""
        self._stalled_s = None

    def _check_stall(self) -> None:
        """A program that has the port open and does not read must not stop the board."""
        now_s = time.monotonic()
        if not self._to_user:
            self._stalled_s = None
        elif self._stalled_s is None:
            self._stalled_s = now_s
        elif now_s - self._stalled_s > STALL_S:
            self._drop()

    def _check_interrupt(self) -> None:
        if self._interrupt_s is None or time.monotonic() < self._interrupt_s:
            return
        self._interrupt_s = time.monotonic() + INTERRUPT_AFTER_S
        interrupt = self._port._interrupt
        if interrupt is not None and _unread_bytes(self._port._board_ends[1]):
            interrupt()
        else:
            self._interrupt_s = None


def _read(descriptor: int, most_bytes: int = _READ_BYTES) -> bytes:
    """What is there; nothing when there is nothing, or nobody on the other side."""
    try:
        return os.read(descriptor, most_bytes) if most_bytes else b""
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EIO):
            return b""
        raise


def _unread_bytes(descriptor: int) -> int:
    count: int = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0\0\0\0"))[0]
    return count
