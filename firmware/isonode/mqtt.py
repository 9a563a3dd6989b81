"""One MQTT session: umqtt.simple's packets, sent in one write each and read without ever blocking.

The parent builds SUBSCRIBE and PUBLISH into a capturing sink that stands where it expects its socket; its reads are
never used, because they block for ever on boards (design section 7), and are left out of what is deployed
(overlays.toml). CONNECT is built here: the parent would read the answer at once, and older copies cannot encode a
length past 127. Works with umqtt.simple 1.3.4 and with
micropython-lib's newer interface. Whatever goes wrong with the connection leaves here as LinkError. It knows no topics
of ours, no records and no clock.
"""

from micropython import const
from umqtt.simple import MQTTClient

from isonode.errors import LinkError, LinkRefused
from isonode.mqtt_reader import (
    CONNACK,
    NOT_YET,
    OUT_OF_PLACE,
    PINGRESP,
    PUBLISH,
    SUBACK,
    SUBACK_SIZE,
    ProtocolError,
    Reader,
    nonsense,
    split_publish,
)

CHUNK_BYTES = 256
_OUT_BYTES = const(560)  # a tagged frame of 32 records with a topic of 50 bytes
_TLS_TIMEOUT = const(-0x6800)  # MBEDTLS_ERR_SSL_TIMEOUT, mbedtls/ssl.h
READS_MAX = 16  # chunks taken by one `receive`
_CONNACK_CODES = ("", "protocol version", "client id", "server unavailable", "user or password", "not authorised")


class _Sink:
    """Takes the place of the parent's socket: keeps what is written, and answers its SUBSCRIBE.

    The one buffer, for what is on its way out: a frame of the usual batch fits, and so in the long run it stays where
    it is, for many small ones would leave the heap in pieces. What is longer makes it grow for as long as that takes.
    """

    def __init__(self):
        self.data = bytearray(_OUT_BYTES)
        self.size = 0

    def write(self, data, size=None):
        if size is None:
            size = len(data)
        start = self.size
        end = start + size
        if end > len(self.data):
            self.data.extend(bytes(end - len(self.data)))
        view = memoryview(self.data)
        view[start:end] = data if size == len(data) else memoryview(data)[:size]
        self.size = end

    def clear(self):
        """Forget what was written, and what it took beyond the usual."""
        self.size = 0
        if len(self.data) > _OUT_BYTES:
            self.data = bytearray(_OUT_BYTES)

    def read(self, size):
        """The SUBACK body that the parent's subscribe() asks for: length, packet id as sent, granted QoS 0."""
        at = self.subscribed_at
        return bytes((3, self.data[at + 2], self.data[at + 3], 0))


class Session(MQTTClient):
    """Packets out through `put_*` and `flush`, packets in through `receive`."""

    def __init__(self, client_id, keepalive_s, body_bytes_max, user=None, password=None):
        MQTTClient.__init__(self, client_id, "", 1, user=user, password=password, keepalive=keepalive_s)
        self.sock = _Sink()
        self.cb = self._packet  # the parent's subscribe wants one; its reading, which would call it, is gone
        self.connection = None
        self.granted = 0  # SUBACKs since the connection
        self.accepted = False  # CONNACK came, and said yes
        self.on_message = None  # called with (topic, payload) of each PUBLISH
        self._out_at = 0
        self._chunk = memoryview(bytearray(CHUNK_BYTES))
        self.reader = Reader(body_bytes_max, self._packet)

    def attach(self, connection, close_former=True):
        """Start over on a connected non-blocking socket, which this session closes; or on TLS over the former one."""
        if close_former:
            self.close()
        self.connection = connection
        self.granted = 0
        self.accepted = False
        self.reader.reset()

    def close(self):
        """Close the socket; harmless when there is none."""
        connection = self.connection
        self.connection = None
        self._out_at = 0
        self.sock.clear()
        if connection is not None:
            try:
                connection.close()
            except OSError:
                pass  # the peer was faster: closed is what is wanted

    # ---- packets, each put behind what is already on its way; `flush` sends them -------------------------------------

    def put_connect(self):
        """CONNECT with a clean session, the will and the user, if any (MQTT 3.1.1 clause 3.1)."""
        flags = 2
        fields = [_bytes(self.client_id)]
        if self.lw_topic:
            flags |= 4 | self.lw_qos << 3 | (0x20 if self.lw_retain else 0)
            fields.append(_bytes(self.lw_topic))
            fields.append(_bytes(self.lw_msg))
        if self.user is not None:
            flags |= 0xC0
            fields.append(_bytes(self.user))
            fields.append(_bytes(self.pswd or ""))
        body = bytearray(b"\x00\x04MQTT\x04")
        body.extend(bytes((flags, self.keepalive >> 8, self.keepalive & 0xFF)))
        for field in fields:
            body.extend(bytes((len(field) >> 8, len(field) & 0xFF)))
            body.extend(field)
        head = bytearray(b"\x10")
        size = len(body)
        while size > 0x7F:
            head.append(size & 0x7F | 0x80)
            size >>= 7
        head.append(size)
        self.sock.write(head)
        self.sock.write(body)

    def put_subscribe(self, topic):
        """SUBSCRIBE to one topic at QoS 0."""
        if self.pid >= 65535:  # the parent's packet id never wraps
            self.pid = 0
        self.sock.subscribed_at = self.sock.size
        self.subscribe(_bytes(topic))

    def put_publish(self, topic, message, retain=False):
        """PUBLISH at QoS 0: the acknowledgement that counts is the gateway's."""
        self.publish(_bytes(topic), message, retain)

    def put_ping(self):
        """PINGREQ, with nothing else on its way: it is two bytes, for which no code is loaded."""
        self.sock.data[0] = 0xC0
        self.sock.data[1] = 0
        self.sock.size = 2

    def put_disconnect(self):
        """DISCONNECT: the broker then forgets the will (MQTT 3.1.1, clause 3.14.4)."""
        self.sock.write(b"\xe0\x00")

    def wait_msg(self):
        """Stands in for the parent's blocking read: tells its subscribe() that a SUBACK came."""
        return SUBACK

    # ---- bytes -----------------------------------------------------------------------------------------------------

    @property
    def sending(self):
        """True while not all is handed to the network."""
        return self.sock.size > 0

    def flush(self):
        """Go on sending, one non-blocking write. True when nothing is left. Raises LinkError."""
        end = self.sock.size
        if not end:
            return True
        if self.connection is None:
            raise LinkError("closed")
        try:
            count = self.connection.write(memoryview(self.sock.data)[self._out_at : end])
        except OSError as error:
            if _would_block(error):
                return False
            raise _link_error(error)
        except ValueError as error:  # TLS: certificate refused
            raise LinkError("tls", str(error).strip())
        if count:
            self._out_at += count
        if self._out_at < end:
            return False
        self._out_at = 0
        self.sock.clear()
        return True

    def receive(self):
        """Take what has come, READS_MAX chunks at most, and call `on_message` for each PUBLISH.

        Never blocks. Returns True if anything came. Raises LinkError on EOF, errors and nonsense.
        """
        came = False
        for _ in range(READS_MAX):
            if self.connection is None:
                break
            try:
                count = self.connection.readinto(self._chunk)
            except OSError as error:
                if _would_block(error):
                    break
                raise _link_error(error)
            except ValueError as error:
                raise LinkError("tls", str(error).strip())
            if count is None:
                break
            if count == 0:
                raise LinkError("closed", "by the broker")
            came = True
            if count != 2 or self._chunk[0] != PINGRESP or self._chunk[1] or self.reader.state:
                self._feed(count)  # else an answer to a ping: nearly all that comes, and not worth loading the parser
            if count < CHUNK_BYTES:
                break
        return came

    def _feed(self, count):
        try:
            self.reader.feed(self._chunk[:count])
        except ProtocolError as error:
            raise LinkError("protocol", nonsense(error))

    def _packet(self, head, body):
        kind = head & 0xF0
        if kind == PUBLISH:
            if not self.accepted:
                raise ProtocolError(NOT_YET)
            topic, payload, _ = split_publish(head, body)
            self.on_message(topic, payload)
        elif kind == CONNACK:
            if self.accepted or len(body) != 2:
                raise ProtocolError(OUT_OF_PLACE)
            if body[1]:
                code = body[1]
                raise LinkRefused("refused", _CONNACK_CODES[code] if code < len(_CONNACK_CODES) else str(code))
            self.accepted = True
        elif kind == SUBACK:
            if len(body) != 3:
                raise ProtocolError(SUBACK_SIZE, len(body))
            if body[2] & 0x80:
                raise LinkRefused("refused", "subscription")
            self.granted += 1


def _bytes(text):
    return text.encode() if isinstance(text, str) else text


def _link_error(error):
    """A time-out is 110 on unix, 116 in newlib and lwIP, negative from TLS, and mbedTLS has one of its own."""
    code = error.args[0] if error.args else 0
    if isinstance(code, int) and code in (110, 116, -110, -116, _TLS_TIMEOUT):
        return LinkError("timeout", "by the network")
    return LinkError("io", repr(error))


def _would_block(error):
    return bool(error.args) and error.args[0] == 11  # EAGAIN: 11 on Linux and in lwIP
