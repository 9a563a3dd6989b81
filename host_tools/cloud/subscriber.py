"""The receiver's MQTT side: batches from a broker into the same store, a reply to each (docs/uplink.md, "Over MQTT").

MQTT 5, QoS 1, a clean session: what was not answered the gateway sends again, so nothing is kept for us at the broker.
Reconnects for ever. It knows no HTTP; what a batch is and how it is stored is wire.py's and store.py's.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from host_tools.cloud.store import BusyError, DigestConflict, Store, Stored
from host_tools.cloud.store_quota import QuotaSpent
from host_tools.cloud.wire import BODY_BYTES_MAX, CONTENT_TYPE, WireError, decode, read_head
from host_tools.errors import HostError, InputError, StoreError

RETRY_AFTER_S = 1
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_PROPERTIES_BYTES_MAX = 4096
_RECONNECT_S_MAX = 30
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Source(NamedTuple):
    """The broker and the topic. login: "user:password" or None; ca: PEM file, None for the system's authorities."""

    url: str
    topic: str
    login: str | None
    ca: Path | None


class Subscriber:
    """Stores what gateways publish, until `close`."""

    def __init__(self, store: Store, source: Source) -> None:
        parts = urlsplit(source.url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise InputError(f"{source.url}: a broker is mqtts://HOST[:PORT], or mqtt:// on a loopback address")
        if parts.scheme == "mqtt" and parts.hostname not in _LOOPBACK:
            raise InputError(f"{source.url}: plain mqtt is for a loopback address only")
        self._store = store
        self._source = source
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id="isotherm-receiver", protocol=paho.MQTTv5
        )
        if source.login is not None:
            client.username_pw_set(*source.login.split(":", 1))
        if parts.scheme == "mqtts":
            try:
                client.tls_set_context(ssl.create_default_context(cafile=source.ca))
            except OSError as error:
                raise InputError(f"{source.ca}: no authorities in PEM form: {error}") from None
        client.reconnect_delay_set(1, _RECONNECT_S_MAX)
        client.on_connect = self._connected
        client.on_message = self._message
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = BODY_BYTES_MAX + _PROPERTIES_BYTES_MAX
        try:
            client.connect(parts.hostname, parts.port or _PORTS[parts.scheme], clean_start=True, properties=properties)
        except (OSError, ValueError) as error:
            raise HostError(f"{source.url}: cannot be reached: {error}") from None
        client.loop_start()

    def close(self) -> None:
        """Say goodbye; what is on its way into the store is stored all the same."""
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: paho.Client, *_: Any) -> None:
        client.subscribe(f"{self._source.topic}/+/batches", qos=1)

    def _message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        properties = message.properties
        headers = {str(name).lower(): str(value) for name, value in getattr(properties, "UserProperty", [])}
        headers["content-type"] = getattr(properties, "ContentType", CONTENT_TYPE)
        body = bytes(message.payload)
        try:
            head = read_head(headers)
            # Who may publish where is the broker's to say: so the topic tells which gateway it is.
            if message.topic != f"{self._source.topic}/{head.gateway}/batches":
                raise WireError(400, "header", "Isotherm-Gateway is not the gateway of the topic")
            batch = decode(head, body)
        except WireError as error:
            more = {"accept_encoding": "zstd, gzip"} if error.reason == "encoding" else {}
            self._reply(message, headers, {"code": error.status, "error": str(error), **more})
            return
        try:
            future = self._store.submit(batch, len(body))
        except BusyError as error:
            self._reply(message, headers, {"code": 503, "error": str(error), "retry_after_s": RETRY_AFTER_S})
            return
        future.add_done_callback(lambda done: self._stored(message, headers, done))

    def _stored(self, message: paho.MQTTMessage, headers: Mapping[str, str], done: Future[Stored]) -> None:
        """In the store's thread, after the commit."""
        try:
            stored = done.result()
        except DigestConflict as error:
            self._reply(message, headers, {"code": 409, "error": str(error)})
        except QuotaSpent as error:
            more = {"retry_after_s": error.retry_after_s}
            self._reply(message, headers, {"code": 429, "error": str(error), **more})
        except StoreError as error:
            self._reply(message, headers, {"code": 503, "error": str(error), "retry_after_s": RETRY_AFTER_S})
        else:
            said = {"code": 200, "status": stored.status, "rows": stored.rows, "new": stored.new}
            self._reply(message, headers, said)

    def _reply(self, message: paho.MQTTMessage, headers: Mapping[str, str], said: dict[str, Any]) -> None:
        topic = getattr(message.properties, "ResponseTopic", None)
        # Only to where a gateway of this topic listens: a response topic is the sender's to choose.
        if topic is None or topic != message.topic.removesuffix("/batches") + "/replies":
            return
        number = headers.get("isotherm-batch", "")
        known = number.isdecimal() and len(number) <= 16
        answer = {"gateway": headers.get("isotherm-gateway"), "batch": int(number) if known else None}
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        correlation = getattr(message.properties, "CorrelationData", None)
        if correlation is not None:
            properties.CorrelationData = correlation
        self._client.publish(topic, json.dumps(answer | said), qos=1, properties=properties)
