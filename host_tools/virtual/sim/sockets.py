"""The board's `socket` module: real sockets of the host behind lwIP's habits.

What differs from the unix port and matters (DESIGN section 7): `setblocking(True)` clears a time-out for ever; error
numbers are newlib's on ESP32; the number of open sockets is bounded; with the access point gone, a connection stays
open and silent and takes no more than a send buffer; a read that timed out under TLS ends the session for good.
Time-outs run on real time. Must not know who calls it.
"""

import io
import select
import socket as _real

from sim import clock

AF_INET = 2
SOCK_STREAM = 1
SOCK_DGRAM = 2
SOL_SOCKET = 1
SO_REUSEADDR = 2
SO_KEEPALIVE = 9
IPPROTO_TCP = 6
TCP_NODELAY = 1

SEND_BUFFER_BYTES = 5744  # CONFIG_LWIP_TCP_SND_BUF_DEFAULT
EAI_FAIL = -202  # getaddrinfo without a network on ESP32

EAGAIN = 11
EINPROGRESS = 119
EHOSTUNREACH = 118
ETIMEDOUT = 116
ENFILE = 23  # lwip_socket() when no socket is left
_LINUX_EINPROGRESS = 115
_LINUX_EISCONN = 106
_LINUX_ECONNABORTED = 103
_EBADF = 9

# host's number -> newlib's, where they differ (EPIPE does not exist in lwIP: a send after a reset is ECONNRESET)
_NEWLIB = {110: 116, 115: 119, 113: 118, 101: 114, 107: 128, 103: 113, 106: 127, 114: 120, 98: 112, 32: 104}

_POLLIN = select.POLLIN
_POLLOUT = select.POLLOUT
_POLL_GONE = select.POLLERR | select.POLLHUP
_MP_STREAM_POLL = 3
_MP_STREAM_CLOSE = 4
_MP_STREAM_GET_FILENO = 10

max_open = 16  # CONFIG_LWIP_MAX_SOCKETS of the ESP32 port
_errno_map = _NEWLIB
_open = []
_most_open = 0
_udp_ports = {}  # services of the board's network whose ports this host has not to give: port -> where it really is


def start(most_sockets, newlib_errno, udp_ports):
    global max_open, _errno_map, EINPROGRESS, EHOSTUNREACH, ETIMEDOUT
    max_open = most_sockets
    for port in udp_ports:
        _udp_ports[int(port)] = udp_ports[port]
    if not newlib_errno:
        _errno_map = {32: 104}
        EINPROGRESS, EHOSTUNREACH, ETIMEDOUT = 115, 113, 110


def open_count():
    return len(_open)


def tls_count():
    """Open sockets that carry a TLS session."""
    return sum(1 for one in _open if one.under_tls)


def most_open():
    return _most_open


def link_is_back():
    """The access point is there again: what lay in send buffers goes out."""
    for one in _open:
        one._send_held()


def _translated(error):
    return OSError(_errno_map.get(error.errno, error.errno))


def getaddrinfo(host, port, af=0, kind=0, proto=0, flags=0):
    if not clock.link_up:
        raise OSError(EAI_FAIL)
    try:
        found = _real.getaddrinfo(host, port, AF_INET, SOCK_STREAM)
    except OSError:
        raise OSError(EAI_FAIL) from None
    answers = []
    for item in found:
        raw = _real.sockaddr(item[-1])
        answers.append((AF_INET, SOCK_STREAM, 0, "", (_real.inet_ntop(AF_INET, raw[1]), raw[2])))
    return answers


class socket(io.IOBase):
    def __init__(self, af=AF_INET, kind=SOCK_STREAM, proto=0):
        global _most_open
        if len(_open) >= max_open:
            raise OSError(ENFILE)
        self.native = _real.socket(af, kind)
        self.native.setblocking(False)
        self._timeout_ms = -1  # -1 waits for ever, 0 not at all
        self._poller = None
        self._held = b""  # sent while the access point was away
        self.under_tls = False
        self._poisoned = False
        self._is_udp = kind == SOCK_DGRAM
        _open.append(self)
        _most_open = max(_most_open, len(_open))

    # ---- modes

    def setblocking(self, flag):
        self._timeout_ms = -1 if flag else 0

    def settimeout(self, timeout_s):
        self._timeout_ms = -1 if timeout_s is None else int(timeout_s * 1000)

    def setsockopt(self, level, option, value):
        if level == IPPROTO_TCP or option != SO_REUSEADDR:
            return  # the host's own defaults stand in for lwIP's
        self.native.setsockopt(level, option, value)

    def fileno(self):
        return self.native.fileno()

    def close(self):
        if self in _open:
            _open.remove(self)
            self.native.close()

    def makefile(self, mode="rb", buffering=0):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    # ---- waiting

    def _wait(self, mask):
        """Wait as this socket's mode says; OSError when it may not, or not any longer."""
        if self._timeout_ms == 0:
            raise OSError(EAGAIN)
        if self._poller is None:
            self._poller = clock.control_poll()
        self._poller.register(self.native, mask)
        try:
            if not clock.block(self._poller, self._timeout_ms):
                self._poisoned = self.under_tls  # mbedTLS does not go on after a failed read
                raise OSError(ETIMEDOUT)
        finally:
            self._poller.unregister(self.native)

    def connect(self, address):
        if not clock.link_up:
            raise OSError(EHOSTUNREACH)
        address = self._native_address(address)
        try:
            self.native.connect(address)
        except OSError as error:
            if error.errno != _LINUX_EINPROGRESS:
                raise _translated(error) from None
            if self._timeout_ms == 0:
                raise OSError(EINPROGRESS) from None
            self._wait(_POLLOUT)
            self._finish_connect(address)

    def _native_address(self, address):
        """As the host wants it; the network's own services, multicast ones included, are on this host."""
        if not isinstance(address, tuple):
            return address
        host, port = address
        if self._is_udp and port in _udp_ports:
            host, port = "127.0.0.1", _udp_ports[port]
        return _real.getaddrinfo(host, port, AF_INET, SOCK_STREAM)[0][-1]

    def sendto(self, data, address):
        if not clock.link_up:
            raise OSError(EHOSTUNREACH)
        try:
            return self.native.sendto(data, self._native_address(address))
        except OSError as error:
            raise _translated(error) from None

    def _finish_connect(self, address):
        """Linux tells the outcome of a connect in progress to whoever connects again."""
        try:
            self.native.connect(address)
        except OSError as error:
            if error.errno != _LINUX_EISCONN:
                raise _translated(error) from None

    # ---- receiving

    def recv(self, count):
        while True:
            if clock.link_up:
                try:
                    return self.native.recv(count)
                except OSError as error:
                    if error.errno != EAGAIN:
                        raise _translated(error) from None
            self._wait(_POLLIN)

    def _some_into(self, view):
        """One receive into a buffer; None when nothing is there and this socket does not wait."""
        while True:
            if self._poisoned:
                raise OSError(_translated(OSError(_LINUX_ECONNABORTED)).errno)
            if clock.link_up:
                try:
                    got = self.native.readinto(view)
                except OSError as error:
                    raise _translated(error) from None
                if got is not None:
                    return got
            if self._timeout_ms == 0:
                return None
            self._wait(_POLLIN)

    def readinto(self, buf, count=-1):
        """As MicroPython's streams: until full, end of data or nothing there; None for nothing at all."""
        view = memoryview(buf)
        if count >= 0:
            view = view[:count]
        done = 0
        while done < len(view):
            got = self._some_into(view[done:])
            if got is None:
                return done if done else None
            if not got:
                break
            done += got
        return done

    def read(self, count=-1):
        if count < 0:
            parts = []
            while True:
                part = self.recv(256)
                if not part:
                    return b"".join(parts)
                parts.append(part)
        buf = bytearray(count)
        got = self.readinto(buf)
        return None if got is None else bytes(memoryview(buf)[:got])

    def readline(self):
        line = bytearray()
        one = bytearray(1)
        while True:
            got = self._some_into(one)
            if got is None:
                return bytes(line) if line else None
            if not got:
                return bytes(line)
            line.append(one[0])
            if one[0] == 10:
                return bytes(line)

    # ---- sending

    def send(self, data):
        while True:
            if not clock.link_up:
                taken = SEND_BUFFER_BYTES - len(self._held)
                if taken > 0:
                    self._held += bytes(memoryview(data)[:taken])
                    return min(taken, len(data))
            elif not self._held:
                try:
                    return self.native.send(data)
                except OSError as error:
                    if error.errno != EAGAIN:
                        raise _translated(error) from None
            else:
                self._send_held()
                if not self._held:
                    continue
            self._wait(_POLLOUT)

    def sendall(self, data):
        self.write(data)

    def write(self, buf, count=-1, offset=0):
        """As MicroPython's streams: all of it, or what went before it would have had to wait."""
        view = memoryview(buf)
        if count >= 0:
            view = view[:count] if not offset else view[offset : offset + count]
        done = 0
        while done < len(view):
            try:
                done += self.send(view[done:] if done else view)
            except OSError as error:
                if error.errno != EAGAIN:
                    raise
                return done if done else None
        return done

    def _send_held(self):
        if self._held:
            try:
                gone = self.native.send(self._held)
            except OSError as error:
                if error.errno == EAGAIN:
                    return
                gone = len(self._held)  # the other side gave up: the next call on this socket will say so
            self._held = self._held[gone:]

    # ---- as a stream under TLS

    def ioctl(self, request, argument):
        if request == _MP_STREAM_POLL:
            return self._ready(argument)
        if request == _MP_STREAM_CLOSE:
            self.close()
            return 0
        if request == _MP_STREAM_GET_FILENO:
            return self.native.fileno()
        return -22

    def _ready(self, mask):
        if not clock.link_up:
            return self.room_while_down(mask)
        poller = select.poll()
        poller.register(self.native, mask)
        for item in poller.ipoll(0):
            return item[1]
        return 0

    def room_while_down(self, mask):
        return _POLLOUT if mask & _POLLOUT and len(self._held) < SEND_BUFFER_BYTES else 0
