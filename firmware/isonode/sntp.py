"""A small SNTP client (RFC 5905, section 14; RFC 4330, section 5): asks one server at a time, checks, never waits.

`step` is one bounded step: at most one datagram out, one in, no waiting; a server that is known by name is asked for
with isonode.resolver first, in the same way. A reply is good for `every_s`;
after a failure the next server is asked, with pauses from PAUSE_MIN_S (RFC 4330, section 10: never below 15 s) that
double up to `every_s`. All on the network's clock. Loaded only where it is configured. Must not know the board's clock.
"""

from micropython import const

from isonode import lazy
from isonode.errors import LinkError

PACKET_BYTES = 48
PAUSE_MIN_S = 15
_REPLY_MS = const(2000)
_ROUND_TRIP_MS_MAX = const(1000)  # half of it is the error of the time
_DISTANCE_MAX = const(98304)  # root delay / 2 + root dispersion, in 2^-16 s: 1.5 s, MAXDIST of RFC 5905
_EPOCH_2025_NTP_S = 3944678400  # 2025-01-01 in seconds since 1900; differences modulo 2^32 hold past 2036
_FOREVER_S = const(86400)


class Refused(Exception):
    """A reply that proves nothing; `.reason`: short, origin, mode, version, leap, stratum, distance, zero or kiss."""

    def __init__(self, reason):
        super().__init__(reason)
        self.reason = reason


def request(nonce):
    """A client's packet. nonce: 8 bytes that the server must echo, in place of a time that nobody needs to know."""
    packet = bytearray(PACKET_BYTES)
    packet[0] = 4 << 3 | 3  # leap 0, version 4, mode client
    packet[40:48] = nonce
    return packet


def check(reply, nonce):
    """(seconds since 2025-01-01 UTC, ms) at which the server sent the reply. Raises Refused."""
    if len(reply) < PACKET_BYTES:
        raise Refused("short")
    if bytes(reply[24:32]) != nonce:
        raise Refused("origin")  # not an answer to this question: late, doubled or forged
    if reply[0] & 7 != 4:
        raise Refused("mode")
    if not 3 <= reply[0] >> 3 & 7 <= 4:
        raise Refused("version")
    if reply[1] == 0:
        raise Refused("kiss")  # DENY, RSTR, RATE: go away
    if reply[1] > 15:
        raise Refused("stratum")
    if reply[0] >> 6 == 3:
        raise Refused("leap")  # the server's own clock is not set
    if _u32(reply, 4) // 2 + _u32(reply, 8) > _DISTANCE_MAX:
        raise Refused("distance")
    seconds = _u32(reply, 40)
    if not seconds:
        raise Refused("zero")
    return (seconds - _EPOCH_2025_NTP_S) & 0xFFFFFFFF, (reply[44] << 8 | reply[45]) * 1000 >> 16


def _u32(data, at):
    return int.from_bytes(data[at : at + 4], "big")


class Sntp:
    """`replies`, `refused`, `timeouts`: counters; `last_reason`: why the last try failed."""

    def __init__(self, port, poll, hosts, udp_port, every_s):
        """port: the hal; hosts: a function that returns the servers to try, in order; every_s: between good replies."""
        self._port = port
        self._poll = poll
        self._hosts = hosts
        self._udp_port = udp_port
        self._every_s = every_s
        self._sock = None
        self._resolver = None
        self._nonce = b""
        self._sent = 0
        self._next = port.net_ticks_ms()
        self._pause_s = PAUSE_MIN_S
        self._turn = 0
        self._host = ""
        self._addresses = {}
        self._banned = []
        self.replies = 0
        self.refused = 0
        self.timeouts = 0
        self.last_reason = ""

    def step(self):
        """None, or the wall time of now as (seconds since 2025, ms)."""
        port = self._port
        now = port.net_ticks_ms()
        if self._resolver is not None:
            self._step_resolver(now)
            return None
        if self._sock is None:
            if port.ticks_diff(now, self._next) >= 0 and port.wifi_up():
                self._ask(now)
            return None
        try:
            reply = self._sock.recv(PACKET_BYTES)
        except OSError as error:
            if not port.is_again(error):
                self._failed(now, "network")
            elif port.ticks_diff(now, self._sent) >= _REPLY_MS:
                self.timeouts += 1
                self._failed(now, "timeout")
            return None
        return self._judge(reply, now)

    def _ask(self, now):
        hosts = [host for host in self._hosts() if host and host not in self._banned]
        if not hosts:
            self._banned = []  # all said no; ask again tomorrow
            self._wait(now, _FOREVER_S)
            return
        self._host = hosts[self._turn % len(hosts)]
        self._nonce = bytes([self._port.random_below(256) for _ in range(8)])
        if self._host in self._addresses:
            self._send()
        elif self._host.rsplit(".", 1)[-1].isdigit():
            self._addresses[self._host] = self._port.socket_address(self._host, self._udp_port)
            self._send()
        else:
            from isonode.resolver import Resolver

            try:
                self._resolver = Resolver(self._port, self._poll, self._host)
            except LinkError:
                self._failed(now, "resolve")

    def _step_resolver(self, now):
        try:
            found = self._resolver.step(now)
        except LinkError:
            self._failed(now, "resolve")
            return
        if found is not None:
            self._drop_resolver()
            self._addresses[self._host] = self._port.socket_address(found, self._udp_port)
            self._send()

    def _drop_resolver(self):
        if self._resolver is not None:
            self._resolver.close()
            self._resolver = None
        lazy.forget("isonode.resolver")

    def _send(self):
        self._sent = self._port.net_ticks_ms()
        try:
            self._sock = self._port.open_datagram(self._addresses[self._host])
            self._poll.register(self._sock, self._port.POLLIN)
            self._sock.send(request(self._nonce))
        except OSError:
            self._failed(self._sent, "network")

    def _judge(self, reply, now):
        try:
            wall_s, wall_ms = check(reply, self._nonce)
            trip_ms = self._port.ticks_diff(now, self._sent)
            if trip_ms > _ROUND_TRIP_MS_MAX:
                raise Refused("slow")
        except Refused as refusal:
            if refusal.reason == "origin" or refusal.reason == "short":
                return None  # not from whom we asked; the answer may still come
            self.refused += 1
            if refusal.reason == "kiss":
                self._banned.append(self._host)
            self._failed(now, refusal.reason)
            return None
        self._close()
        self.replies += 1
        self.last_reason = ""
        self._pause_s = PAUSE_MIN_S
        self._wait(now, self._every_s)
        wall_ms += trip_ms // 2
        return wall_s + wall_ms // 1000, wall_ms % 1000

    def _failed(self, now, reason):
        self.last_reason = reason
        self._addresses.pop(self._host, None)
        self._drop_resolver()
        self._close()
        self._turn += 1
        self._wait(now, self._pause_s)
        self._pause_s = min(self._pause_s * 2, self._every_s)

    def _wait(self, now, pause_s):
        jitter_ms = self._port.random_below(1000)
        self._next = self._port.ticks_add(now, pause_s * 1000 + jitter_ms)

    def _close(self):
        if self._sock is not None:
            try:
                self._poll.unregister(self._sock)
            except (KeyError, OSError):
                pass  # never registered: nothing to undo
            self._sock.close()
            self._sock = None
