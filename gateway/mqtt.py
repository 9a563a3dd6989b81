"""The broker's client: the only importer of paho. One thread connects, reads, writes, and reconnects for ever.

Back-pressure: `on_message` runs in the reading thread; while it waits, the socket is not read. Bounds: `_TURN_S` and
one message between two looks at the keep-alive; `OUT_MAX` outgoing messages (the oldest is dropped and counted: an ack
is repeated when its frame is); full-jitter back-off between connects. It knows no topic and no payload.
"""

from __future__ import annotations

import logging
import random
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from gateway.metrics import Metrics

log = logging.getLogger("isotherm.mqtt")

OUT_MAX = 10_000
CONNECT_TIMEOUT_S = 5.0
_BACKOFF_MIN_S = 0.2
_READ_BYTES = 65536
_READS_PER_TURN = 200
_QOS, _RETAIN = 0x06, 0x01  # flags of a PUBLISH
_TURN_S = 1.0  # a full queue holds each message up: look at the keep-alive in between


class _BufferedSocket:
    """A socket whose small reads come from one large one: paho asks for a packet's first bytes one by one."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._buffer = b""
        self._at = 0

    def recv(self, size: int) -> bytes:
        at = self._at
        if at >= len(self._buffer):
            if size >= _READ_BYTES:
                return bytes(self._inner.recv(size))
            self._buffer = self._inner.recv(_READ_BYTES)
            at = 0
        out = self._buffer[at : at + size]
        self._at = at + len(out)
        return out

    def pending(self) -> int:
        """Bytes that a select on the socket does not tell of; a TLS socket has some of its own."""
        inner = getattr(self._inner, "pending", None)
        return len(self._buffer) - self._at + (inner() if inner else 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Client(paho.Client):
    """paho's client with a buffered socket and, where `on_plain` is set, a short way for messages of QoS 0.

    on_plain: called with (topic, payload, retained) in the place of `on_message`.
    """

    on_plain: Callable[[str, bytes, bool], None] | None = None

    def _handle_publish(self) -> Any:
        """A PUBLISH (MQTT 3.1.1 section 3.3) without an object and a lock for each message.

        That is half of what paho spends on one. Whatever is not plain, malformed packets included, goes paho's own way.
        """
        header, packet = self._in_packet["command"], self._in_packet["packet"]
        if self.on_plain is not None and not header & _QOS and len(packet) >= 2:
            begin = 2 + (packet[0] << 8 | packet[1])
            try:
                name = str(packet[2:begin], "utf-8")
            except UnicodeDecodeError:
                name = ""
            if name and begin <= len(packet):
                self.on_plain(name, bytes(packet[begin:]), bool(header & _RETAIN))
                return paho.MQTT_ERR_SUCCESS
        return super()._handle_publish()  # type: ignore[no-untyped-call, unused-ignore]

    def _create_socket(self) -> Any:
        plain: Any = super()._create_socket()  # type: ignore[no-untyped-call, unused-ignore]
        # Acks are small and come in bursts: by RFC 896 (Nagle) each would wait for the broker to answer the one before.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _BufferedSocket(plain)


def topic_of(message: paho.MQTTMessage) -> str:
    """Its topic, as far as it is text."""
    try:
        return message.topic
    except UnicodeDecodeError:
        return "(not UTF-8)"


class BrokerLink:
    """Connection to one broker. `on_message(topic, payload, retained)` runs in the link's thread.

    mqtt_session.py has the one that acknowledges by itself what it took.
    """

    prefix = "mqtt"  # of the metrics' names

    def __init__(
        self,
        host: str,
        port: int,
        client_id: str,
        keepalive_s: int,
        subscriptions: Sequence[str],
        on_message: Callable[[str, bytes, bool], None],
        metrics: Metrics,
        *,
        tls: ssl.SSLContext | None = None,
        backoff_max_s: float = 10.0,
        rng: random.Random | None = None,
    ) -> None:
        self._tls = tls
        self._host = host
        self._port = port
        self._client_id = client_id
        self._keepalive_s = keepalive_s
        self._subscriptions = [(name, 0) for name in subscriptions]
        self._on_message = on_message
        self._metrics = metrics
        self._backoff_max_s = backoff_max_s
        self._rng = rng or random.Random()
        self._out: deque[tuple[str, bytes, int, bool]] = deque()
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_r.setblocking(False)
        self._wake_w.setblocking(False)
        self._awake = False
        self._deaf = False
        self._hung_up = False
        self._stop = threading.Event()
        self._flush_until_s = 0.0
        self._thread: threading.Thread | None = None
        self.connected = False
        self.connects = 0
        self._refusal = ""
        says = "1 while the broker answers and sends what is subscribed."
        metrics.gauge(f"{self.prefix}_connected", says, lambda: int(self.connected))

    def start(self) -> None:
        """Start connecting; returns at once, a broker that is away is no error."""
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """False when its thread ended, which it never should before `stop`."""
        return self._thread is not None and self._thread.is_alive()

    def publish(self, messages: Sequence[tuple[str, bytes]], retain: bool = False) -> None:
        """Queue messages (QoS 0); any thread. Dropped while there is no connection."""
        if not self.connected:
            return
        out = self._out
        for name, payload in messages:
            if len(out) >= OUT_MAX:
                out.popleft()
                self._metrics.add("mqtt_outgoing_dropped_total", 1)
            out.append((name, payload, 0, retain))
        self._wake()

    def deafen(self) -> None:
        """Take no further message; what was taken may still be answered."""
        self._deaf = True

    def stop(self, flush_s: float = 1.0) -> None:
        """Send what is queued, say goodbye, end the thread."""
        self._deaf = True
        self._flush_until_s = time.monotonic() + flush_s
        self._stop.set()
        self._wake()
        if self._thread is not None:
            self._thread.join(flush_s + CONNECT_TIMEOUT_S + 1)
        if self._thread is None or not self._thread.is_alive():
            self._wake_r.close()
            self._wake_w.close()

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            try:
                self._wake_w.send(b"x")
            except (BlockingIOError, OSError):
                self._awake = False  # full: the reader will wake; closed: there is none

    # -- the thread

    def _run(self) -> None:
        attempt = 0
        silent = False
        while not self._stop.is_set():
            client = self._make_client()
            self._refusal = ""
            self._hung_up = False
            try:
                client.connect(self._host, self._port, self._keepalive_s)
                self._serve(client)
            except (OSError, ValueError) as exc:
                reason = str(exc) or type(exc).__name__
            else:
                reason = self._refusal or "connection lost"
            was_connected, self.connected = self.connected, False
            self._close(client)
            self._out.clear()
            if self._stop.is_set():
                return
            self._metrics.add(f"{self.prefix}_disconnects_total", 1)
            if was_connected:
                attempt, silent = 0, False
            if not silent:
                log.warning("broker %s:%d: %s; trying again for ever", self._host, self._port, reason)
                silent = True
            # Full jitter: many clients of a restarted broker do not come in step.
            self._stop.wait(self._rng.uniform(0, min(self._backoff_max_s, _BACKOFF_MIN_S * 2 ** min(attempt, 16))))
            attempt += 1

    def _make_client(self) -> paho.Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=True,  # frames are QoS 0, boards repeat what is not acknowledged: nothing to keep for us
            protocol=paho.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_message = self._message
        client.on_plain = self._plain
        return client

    def _connected(self, client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._refusal = f"refused: {reason}"
            return
        client.subscribe(self._subscriptions)

    def _subscribed(self, _client: paho.Client, _data: Any, _mid: int, reasons: Any, _properties: Any) -> None:
        """Only now does it hear: what is published between CONNACK and SUBACK is nobody's."""
        denied = [name for (name, _), reason in zip(self._subscriptions, reasons, strict=False) if reason.is_failure]
        if denied:
            log.error(
                "the broker refuses to send %s: check its access rules for %s", ", ".join(denied), self._client_id
            )
        self.connected = True
        self.connects += 1
        self._metrics.add(f"{self.prefix}_connects_total", 1)
        log.info("connected to broker %s:%d as %s", self._host, self._port, self._client_id)

    def _plain(self, name: str, payload: bytes, retained: bool) -> None:
        if not self._deaf:
            self._on_message(name, payload, retained)

    def _message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        self._plain(topic_of(message), bytes(message.payload), message.retain)

    def _serve(self, client: paho.Client) -> None:
        """Read and write until the connection ends or `stop`."""
        ok = paho.MQTT_ERR_SUCCESS
        while True:
            sock = client.socket()
            if sock is None:
                return
            writing = [sock] if client.want_write() else []
            pending = getattr(sock, "pending", int)()
            readable, writable, _ = select.select([sock, self._wake_r], writing, [], 0 if pending else 1.0)
            if self._wake_r in readable:
                self._drain_wake()
                self._awake = False  # after the drain and before the queue is read, so no message is left asleep
            self._send_queued(client)
            if sock in readable or pending:
                turn_ends_s = time.monotonic() + _TURN_S
                for _ in range(_READS_PER_TURN):
                    if client.loop_read() != ok or self._hung_up:
                        return
                    if getattr(sock, "pending", int)() == 0 or time.monotonic() > turn_ends_s:
                        break
            if (writable or client.want_write()) and client.loop_write() != ok:
                return
            if client.loop_misc() != ok:
                return
            if self._stop.is_set():
                flushed = self._idle() and not client.want_write()
                if flushed or time.monotonic() > self._flush_until_s:
                    return

    def _idle(self) -> bool:
        """Nothing waits to be sent."""
        return not self._out

    def _drain_wake(self) -> None:
        try:
            while self._wake_r.recv(4096):
                pass
        except BlockingIOError:
            pass

    def _send_queued(self, client: paho.Client) -> None:
        if not self.connected:
            return
        while self._out:
            name, payload, qos, retain = self._out.popleft()
            client.publish(name, payload, qos, retain)

    @staticmethod
    def _close(client: paho.Client) -> None:
        client.disconnect()
        sock = client.socket()
        if sock is not None:
            sock.close()
