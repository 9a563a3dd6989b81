"""Batches to another MQTT broker or cluster (MQTT 5, QoS 1). The protocol is in docs/uplink.md, "Over MQTT".

A broker's PUBACK proves neither that anybody stored the batch nor that anybody was there (docs/adr/0009). So by
default only a receiver's reply that names the batch counts; `confirm = "puback"` takes the broker's word instead, and
then MQTT 5's reason codes are heeded: a PUBACK that says "not authorized" or "nobody is subscribed" is no success.

Bounds: `connect_timeout_s` to be connected and subscribed, `read_timeout_s` a batch, REPLY_BYTES_MAX a reply. A
connection is made when a batch needs one and never by itself; it does not outlive a batch that was not even
acknowledged in time. It knows no back-off and no store.
"""

from __future__ import annotations

import ssl
import threading
from typing import Any
from urllib.parse import urlsplit

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.errors import BatchRejected, BatchUnfit, SinkUnavailable
from gateway.messages import Batch
from gateway.sinks import replies
from gateway.sinks.base import Stored, Tuning
from gateway.wire import CONTENT_TYPE

CONFIRM = ("reply", "puback")
_KEEPALIVE_S = 30
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_HEADER_BYTES_MAX = 1024  # of a PUBLISH: its topic and properties
# Reason codes of a PUBACK (MQTT 5.0 section 3.4.2.1) and of a CONNACK (section 3.2.2.2).
_SUCCESS, _NO_SUBSCRIBERS, _TOO_LARGE, _FORMAT_INVALID = 0x00, 0x10, 0x95, 0x99
_REASONS = {0x10: "no_receiver", 0x86: "denied", 0x87: "denied", 0x8A: "denied", 0x97: "busy", 0x89: "busy"}


class _Wait:
    """For one batch: what came, whichever comes first."""

    def __init__(self) -> None:
        self.woken = threading.Event()
        self.settled = False  # there is a word that counts; else it was woken by the connection's end
        self.code: int | None = None  # of the PUBACK
        self.reply: dict[str, Any] | None = None

    def settle(self) -> None:
        self.settled = True
        self.woken.set()


class _Client(paho.Client):
    def _ssl_wrap_socket(self, tcp_sock: Any) -> ssl.SSLSocket:
        """As paho's, which leaves a socket open whose handshake fails."""
        assert self._ssl_context is not None
        secured = self._ssl_context.wrap_socket(tcp_sock, server_hostname=self._host, do_handshake_on_connect=False)
        try:
            secured.settimeout(self.connect_timeout)
            secured.do_handshake()
        except (OSError, ValueError):  # ssl.CertificateError is both
            secured.close()
            raise
        return secured


class _Link:
    """One connection, from its CONNECT to its end; used by several threads."""

    def __init__(self, client: paho.Client, where: str, replies_topic: str | None) -> None:
        self._client = client
        self._where = where
        self._replies_topic = replies_topic
        self._ready = threading.Event()
        self._refusal: tuple[str, str] | None = None
        # By batch, by packet id, and acknowledgements that came before the packet id was known. Each step is one
        # operation on a dictionary: paho holds a lock of its own in callbacks, so none of ours may be held around it.
        self._waits: dict[int, _Wait] = {}
        self._mids: dict[int, _Wait] = {}
        self._early: dict[int, int] = {}
        self._retired = False
        self.ended: str | None = None
        self.packet_bytes_max = 1 << 28
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_disconnect = self._disconnected
        client.on_publish = self._acknowledged
        client.on_message = self._replied

    def open(self, host: str, port: int, timeout_s: float) -> None:
        """Connect, and subscribe to the replies. Raises SinkUnavailable."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = replies.REPLY_BYTES_MAX + _HEADER_BYTES_MAX
        self._client.connect_timeout = timeout_s
        try:
            self._client.connect(host, port, _KEEPALIVE_S, clean_start=True, properties=properties)
        except (OSError, ValueError) as exc:
            self.close()
            reason = "tls" if "CERTIFICATE" in str(exc) or "SSL" in type(exc).__name__ else "unreachable"
            raise SinkUnavailable(reason, f"{self._where} cannot be reached: {str(exc)[:160]}") from exc
        self._client.loop_start()
        if not self._ready.wait(timeout_s) or self.ended or self._refusal:
            self.close()
            reason, text = self._refusal or ("unreachable", self.ended or "no answer in time")
            raise SinkUnavailable(reason, f"{self._where}: {text}")

    def deliver(self, batch: Batch, topic: str, properties: Properties, timeout_s: float) -> _Wait:
        """Publish, and wait for what comes back. Raises SinkUnavailable when nothing does."""
        wait = self._waits[batch.batch] = _Wait()
        mid = None
        try:
            info = self._client.publish(topic, batch.body, qos=1, properties=properties)
            mid = info.mid
            self._mids[mid] = wait
            if mid in self._early:
                self._take(wait, self._early.pop(mid))
            if info.rc != paho.MQTT_ERR_SUCCESS or self.ended:
                raise SinkUnavailable("broken", f"connection to {self._where} broke: {self.ended or info.rc}")
            woken = wait.woken.wait(timeout_s)
            if wait.settled:
                return wait
            if woken:
                raise SinkUnavailable("broken", f"connection to {self._where} broke: {self.ended}")
            if wait.code is None:
                self.close()  # not even acknowledged: the other end may be gone without a word
            raise SinkUnavailable("timeout", f"{self._where} did not answer in time")
        finally:
            self._waits.pop(batch.batch, None)
            if mid is not None:
                self._mids.pop(mid, None)
                self._early.pop(mid, None)
            if self._retired and not self._waits:
                self.close()

    def retire(self) -> None:
        """Take no further batch; end with the last one under way."""
        self._retired = True
        if not self._waits:
            self.close()

    def close(self) -> None:
        """End the connection; who waits is told."""
        self._client.disconnect()
        self._client.loop_stop()
        left = self._client.socket()
        if left is not None:  # paho leaves it open when TLS ends it
            left.close()
        self._end("closed")

    # -- in paho's thread

    def _connected(self, client: paho.Client, _data: Any, _flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._refusal = (_REASONS.get(reason.value, "refused"), f"refused: {reason}")
            self._ready.set()
            return
        self.packet_bytes_max = getattr(properties, "MaximumPacketSize", self.packet_bytes_max)
        if self._replies_topic is None:
            self._ready.set()
        else:
            client.subscribe(self._replies_topic, qos=1)

    def _subscribed(self, _client: Any, _data: Any, _mid: int, reasons: Any, _properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self._refusal = ("denied", f"may not subscribe to {self._replies_topic}: {reasons[0]}")
        self._ready.set()

    def _disconnected(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._end(str(reason))

    def _end(self, why: str) -> None:
        self.ended = self.ended or why
        self._ready.set()
        for wait in list(self._waits.values()):
            wait.woken.set()

    def _acknowledged(self, _client: Any, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        code = int(reason.value)
        self._early[mid] = code
        wait = self._mids.get(mid)
        if wait is not None:
            self._early.pop(mid, None)
            self._take(wait, code)

    def _take(self, wait: _Wait, code: int) -> None:
        """A PUBACK: the last word only where it was chosen to be, or when it is a refusal."""
        wait.code = code
        if self._replies_topic is None or code != _SUCCESS:
            wait.settle()

    def _replied(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        reply = replies.parse(bytes(message.payload))
        number = reply.get("batch")
        wait = self._waits.get(number) if type(number) is int else None
        if wait is not None:
            wait.reply = reply
            wait.settle()


class MqttSink:
    """Publishes batches to TOPIC/GATEWAY/batches."""

    def __init__(
        self,
        url: str,
        gateway: str,
        name: str,
        tuning: Tuning,
        *,
        topic: str = "isotherm",
        confirm: str = "reply",
        username: str = "",
    ) -> None:
        parts = urlsplit(url)
        self._url = url
        self._host = parts.hostname or ""
        self._port = parts.port or _PORTS[parts.scheme]
        self._gateway = gateway
        self._client_id = f"isotherm-{gateway}-{name}"
        self._topic = f"{topic}/{gateway}/batches"
        self._replies_topic = f"{topic}/{gateway}/replies" if confirm == "reply" else None
        self._username = username
        self._tuning = tuning
        self._lock = threading.Lock()
        self._current: _Link | None = None
        self.accepts: frozenset[str] | None = None

    def __repr__(self) -> str:
        return f"MqttSink({self._url!r}, token={'***' if self._tuning.token else None})"

    def tune(self, tuning: Tuning) -> None:
        """From the next batch on, over a new connection where that is needed."""
        with self._lock:
            before, self._tuning = self._tuning, tuning
            if tuning.token == before.token and tuning.ssl_context is None:
                return
            link, self._current = self._current, None
        if link is not None:
            link.retire()

    def close(self) -> None:
        """Say goodbye."""
        with self._lock:
            link, self._current = self._current, None
        if link is not None:
            link.close()

    def send(self, batch: Batch) -> Stored:
        """Publish one batch and wait for the word that counts."""
        link = self._link()
        if len(batch.body) + _HEADER_BYTES_MAX > link.packet_bytes_max:
            self._too_large(batch, f"{self._url} takes packets of {link.packet_bytes_max} bytes")
        wait = link.deliver(batch, self._topic, self._properties(batch), self._tuning.read_timeout_s)
        if wait.reply is not None:
            return self._judge(batch, wait.reply)
        code = wait.code
        if code == _SUCCESS:
            return Stored(False, None)
        if code == _TOO_LARGE:
            self._too_large(batch, f"{self._url} finds it too large")
        if code == _FORMAT_INVALID:
            raise BatchRejected("format", f"{self._url} finds its format invalid")
        text = "nobody is subscribed" if code == _NO_SUBSCRIBERS else f"PUBACK says 0x{code or 0:02x}"
        raise SinkUnavailable(_REASONS.get(code or 0, "refused"), f"{self._url}: {text}")

    def _judge(self, batch: Batch, reply: dict[str, Any]) -> Stored:
        accepts = reply.get("accept_encoding")
        self.accepts = replies.accepted(accepts if isinstance(accepts, str) else None) or self.accepts
        after = reply.get("retry_after_s")
        after_s = None
        if isinstance(after, int | float) and not isinstance(after, bool):
            after_s = min(max(0.0, float(after)), replies.RETRY_AFTER_MAX_S)  # JSON has no NaN, Python reads one: 0
        code = reply.get("code")
        status = code if type(code) is int and reply.get("gateway") == self._gateway else 0
        return replies.judge(self._url, self._gateway, batch, status, reply, after_s, self.accepts)

    @staticmethod
    def _too_large(batch: Batch, text: str) -> None:
        if batch.rows > 1:
            raise BatchUnfit("too_large", text)
        raise BatchRejected("too_large", text)

    def _link(self) -> _Link:
        """The connection; one thread makes it while the others wait."""
        with self._lock:
            if self._current is not None and not self._current.ended:
                return self._current
            client = _Client(
                CallbackAPIVersion.VERSION2,
                client_id=self._client_id,
                protocol=paho.MQTTv5,
                reconnect_on_failure=False,
            )
            if self._username:
                client.username_pw_set(self._username, self._tuning.token)
            if self._tuning.ssl_context is not None:
                client.tls_set_context(self._tuning.ssl_context)
            link = _Link(client, self._url, self._replies_topic)
            link.open(self._host, self._port, self._tuning.connect_timeout_s)
            self._current = link
            return link

    def _properties(self, batch: Batch) -> Properties:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ContentType = CONTENT_TYPE
        properties.UserProperty = [
            ("Content-Encoding", batch.encoding),
            ("Isotherm-Gateway", self._gateway),
            ("Isotherm-Batch", str(batch.batch)),
            ("Isotherm-Digest", f"sha-256={batch.digest}"),
        ]
        if self._replies_topic is not None:
            properties.ResponseTopic = self._replies_topic
            properties.CorrelationData = f"{self._gateway}/{batch.batch}".encode("ascii")
        return properties
