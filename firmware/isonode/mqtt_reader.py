"""Incoming MQTT packets from bytes in any portions: a parser in bounded memory, without I/O.

Follows MQTT 3.1.1 clauses 2.2 (fixed header) and 3.3 (PUBLISH). It takes what a client can be sent: CONNACK, PUBLISH,
PUBACK, SUBACK, UNSUBACK and PINGRESP; anything else, or a length longer than four bytes, is a ProtocolError. Packets up
to SMALL_BYTES share one buffer; a larger one, up to the limit, gets memory for as long as it lasts. What is larger
still, or finds no memory, is counted and skipped. It knows no topics of ours and no socket; runs on both interpreters.
"""

from micropython import const

CONNACK = 0x20
PUBLISH = 0x30
PUBACK = 0x40
SUBACK = 0x90
UNSUBACK = 0xB0
PINGRESP = 0xD0
_WANTED = (CONNACK, PUBLISH, PUBACK, SUBACK, UNSUBACK, PINGRESP)

_HEADER = const(0)
_LENGTH = const(1)
_BODY = const(2)
_SKIP = const(3)

SMALL_BYTES = 128  # acks, SUBACK and the like


# What a ProtocolError is raised with, and a number where it helps; `nonsense` says it in words.
NOT_FOR_CLIENT = 0
QOS_3 = 1
LENGTH = 2
NO_TOPIC = 3
CUT_SHORT = 4
NOT_YET = 5
OUT_OF_PLACE = 6
SUBACK_SIZE = 7


class ProtocolError(Exception):
    """Bytes that no MQTT server may send to us. args: one of the numbers above, and what was found."""


def nonsense(error):
    """A ProtocolError in words."""
    text = (
        "packet type 0x%02x is not for a client",
        "QoS 3 (MQTT 3.1.1 clause 3.3.1.2)",
        "remaining length of more than four bytes (MQTT 3.1.1 clause 2.2.3)",
        "PUBLISH without a topic",
        "PUBLISH cut short",
        "PUBLISH before CONNACK",
        "CONNACK out of place",
        "SUBACK of %d bytes",
    )[error.args[0]]
    return text % error.args[1] if len(error.args) > 1 else text


class Reader:
    """Feed it bytes; it calls on_packet(head, body) for each packet, `body` a memoryview valid until it returns."""

    def __init__(self, body_bytes_max, on_packet):
        self._small = memoryview(bytearray(SMALL_BYTES))
        self._body = self._small
        self._max = body_bytes_max
        self._on_packet = on_packet
        self.oversized = 0
        self.reset()

    def reset(self):
        """Forget a packet begun: a new connection starts here."""
        self.state = _HEADER  # 0: between packets
        self._body = self._small
        self._head = 0
        self._length = 0
        self._shift = 0
        self._have = 0

    def feed(self, data):
        """Take a memoryview of bytes as they came. Raises ProtocolError; the connection is then of no more use."""
        at = 0
        end = len(data)
        while at < end:
            if self.state == _HEADER:
                self._begin(data[at])
                at += 1
            elif self.state == _LENGTH:
                self._take_length(data[at])
                at += 1
            else:
                part = min(self._length - self._have, end - at)
                if self.state == _BODY:
                    self._body[self._have : self._have + part] = data[at : at + part]
                self._have += part
                at += part
                if self._have == self._length:
                    self._complete()

    def _begin(self, head):
        kind = head & 0xF0
        if kind not in _WANTED or (kind != PUBLISH and head & 0x0F):
            raise ProtocolError(NOT_FOR_CLIENT, head)
        if kind == PUBLISH and head & 6 == 6:
            raise ProtocolError(QOS_3)
        self._head = head
        self._length = 0
        self._shift = 0
        self._have = 0
        self.state = _LENGTH

    def _take_length(self, byte):
        self._length |= (byte & 0x7F) << self._shift
        if byte & 0x80:
            self._shift += 7
            if self._shift > 21:
                raise ProtocolError(LENGTH)
            return
        self.state = _BODY if self._find_room() else _SKIP
        if not self._length:
            self._complete()

    def _find_room(self):
        if self._length <= SMALL_BYTES:
            return True
        if self._length <= self._max:
            try:
                self._body = memoryview(bytearray(self._length))
                return True
            except MemoryError:
                pass  # counted as what it is: too large for now
        self.oversized += 1
        return False

    def _complete(self):
        skipped = self.state == _SKIP
        self.state = _HEADER
        body = self._body
        self._body = self._small
        if not skipped:
            self._on_packet(self._head, body[: self._length])


def split_publish(head, body):
    """Body of a PUBLISH into (topic, payload, packet id or 0). Raises ProtocolError.

    topic is bytes, payload a part of `body`.
    """
    size = len(body)
    if size < 2:
        raise ProtocolError(NO_TOPIC)
    start = 2 + (body[0] << 8 | body[1])
    packet_id = 0
    end = start + (2 if head & 6 else 0)
    if start == 2 or end > size:
        raise ProtocolError(CUT_SHORT)
    if head & 6:
        packet_id = body[start] << 8 | body[start + 1]
    return bytes(body[2:start]), body[end:], packet_id
