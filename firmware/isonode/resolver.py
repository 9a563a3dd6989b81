"""A name to an IPv4 address without waiting: one DNS question (RFC 1035), or multicast DNS for `.local` (RFC 6762).

The boards' own resolvers block the application: ESP32 waits 5 s for a `.local` name (MDNS_QUERY_TIMEOUT_MS in
MicroPython's ports/esp32/modsocket.c); lwIP asks a silent server at 0, 1, 2 and 4 s and gives it up at 7 s
(DNS_MAX_RETRIES 4 in opt.h, DNS_TMR_INTERVAL 1000 ms in dns.h), then asks the next one: with two of them a Pico W's
watchdog of 8.4 s is faster. So the question goes out from here, the same way on every port. For `.local` it is a
one-shot question (RFC 6762, section 5.1), which is answered to the port that it came from. Loaded while there is a
question. Knows no gateway.
"""

from micropython import const

from isonode.errors import LinkError

DNS_PORT = 53
MDNS = ("224.0.0.251", 5353)  # RFC 6762, section 3
TRIES_MS = (1000, 1000, 2000)  # the question goes out again after each but the last
REPLY_BYTES_MAX = 512  # RFC 1035, section 2.3.4
_NAME_ERROR = const(3)  # RFC 1035, section 4.1.1: RCODE


def query(name, number):
    """The question for the A record of `name` (labels of 1 to 63 bytes). number: 16 bits that an answer must repeat."""
    data = bytearray((number >> 8, number & 0xFF, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0))  # recursion desired, one question
    for label in name.split("."):
        data.append(len(label))
        data.extend(label.encode())
    data.extend(b"\x00\x00\x01\x00\x01")
    return bytes(data)


def address_in(reply, question):
    """Dotted address in a reply, or None for what is no answer to the question. Raises LinkError for a no."""
    if len(reply) < len(question) or reply[:2] != question[:2] or not reply[2] & 0x80:
        return None
    if reply[12 : len(question)].lower() != question[12:].lower():
        return None
    code = reply[3] & 0x0F
    if code:
        raise LinkError("resolve", "no such name" if code == _NAME_ERROR else "name server says %d" % code)
    at = len(question)
    for _ in range(reply[6] << 8 | reply[7]):
        at = _behind_name(reply, at)
        if at + 10 > len(reply):
            break
        size = reply[at + 8] << 8 | reply[at + 9]
        is_a = reply[at] == 0 and reply[at + 1] == 1 and reply[at + 2] & 0x7F == 0 and reply[at + 3] == 1
        at += 10
        if is_a and size == 4 and at + 4 <= len(reply) and 0 < reply[at] < 224:  # class A to C: one machine
            return "%d.%d.%d.%d" % (reply[at], reply[at + 1], reply[at + 2], reply[at + 3])
        at += size
    raise LinkError("resolve", "the name has no address")


def _behind_name(data, at):
    """Offset behind a name, compressed or not (RFC 1035, section 4.1.4)."""
    while at < len(data) and data[at]:
        if data[at] & 0xC0:
            return at + 2
        at += data[at] + 1
    return at + 1


class Resolver:
    """One question, from the constructor to `close`. Raises LinkError with reason `resolve`."""

    def __init__(self, port, poll, name):
        """port: the hal; poll: where the socket is registered, so that an answer ends the application's wait."""
        self._port = port
        self._poll = poll
        self._name = name
        self._local = name.lower().endswith(".local")
        server = MDNS if self._local else (port.neighbour(port.NAME_SERVER), DNS_PORT)
        if not server[0]:
            raise LinkError("resolve", name + ": no name server known")
        self._server = port.socket_address(server[0], server[1])
        self._question = query(name, port.random_below(65536))
        self._tries = 0
        self._until = port.net_ticks_ms()
        try:
            self._sock = port.open_datagram(None if self._local else self._server)  # mDNS: the machine itself answers
        except OSError as error:
            raise LinkError("resolve", name + " " + repr(error))
        poll.register(self._sock, port.POLLIN)

    def step(self, now):
        """The address, or None as long as there is hope: 4 s. One datagram out, one in, no waiting."""
        try:
            reply = self._sock.recv(REPLY_BYTES_MAX)
        except OSError as error:
            if not self._port.is_again(error):
                raise LinkError("resolve", self._name + " " + repr(error))
        else:
            found = address_in(reply, self._question)
            if found is not None:
                return found
        if self._port.ticks_diff(now, self._until) >= 0:
            self._ask(now)
        return None

    def _ask(self, now):
        if self._tries == len(TRIES_MS):
            raise LinkError("resolve", self._name + ": no answer")
        self._until = self._port.ticks_add(now, TRIES_MS[self._tries])
        self._tries += 1
        try:
            if self._local:
                self._sock.sendto(self._question, self._server)
            else:
                self._sock.send(self._question)
        except OSError as error:
            if not self._port.is_again(error):
                raise LinkError("resolve", self._name + " " + repr(error))

    def close(self):
        """Let go of the socket."""
        try:
            self._poll.unregister(self._sock)
        except (KeyError, OSError):
            pass  # never registered: nothing to undo
        self._sock.close()
