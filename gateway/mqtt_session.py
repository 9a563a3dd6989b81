"""A second connection to the broker, whose session persists: what has QoS 1 waits there until it is durable here.

QoS 1, clean session off, a client id of its own. A message is acknowledged when its receipt is settled, in the order of
arrival (MQTT 3.1.1 clause 4.6), and only on the connection that it came by: packet ids belong to one. Everything else
comes again. Acknowledgements leave as soon as the store has committed, never in groups of a fixed size: a broker that
has its window of messages on the way (mosquitto: 20) sends no more until it hears of them.

What a receipt's `again` rests on: DUP on a connection for which the broker still had the session (CONNACK's Session
Present). Filters that are configured no more are unsubscribed; `forget` ends a session that nobody needs.
"""

from __future__ import annotations

import hashlib
import logging
import random
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from gateway.messages import Receipt
from gateway.metrics import Metrics
from gateway.mqtt import CONNECT_TIMEOUT_S, BrokerLink, Client, topic_of

log = logging.getLogger("isotherm.mqtt")

_DIGEST_BYTES = 16


class SessionLink(BrokerLink):
    """`on_taken(topic, payload, retained, receipt)` -> False to hang up; the receipt is None for QoS 0."""

    prefix = "mqtt_session"

    def __init__(
        self,
        host: str,
        port: int,
        client_id: str,
        keepalive_s: int,
        subscriptions: Sequence[str],
        unwanted: Sequence[str],
        on_taken: Callable[[str, bytes, bool, Receipt | None], bool],
        metrics: Metrics,
        *,
        tls: ssl.SSLContext | None = None,
        backoff_max_s: float = 10.0,
        rng: random.Random | None = None,
    ) -> None:
        """unwanted: filters that the broker's session may still hold from former starts."""
        super().__init__(
            host,
            port,
            client_id,
            keepalive_s,
            subscriptions,
            _never,
            metrics,
            tls=tls,
            backoff_max_s=backoff_max_s,
            rng=rng,
        )
        self._subscriptions = [(name, 1) for name in subscriptions]
        self._unwanted = list(unwanted)
        self._on_taken = on_taken
        self._connection = 0
        self._session_present = False
        self._unacknowledged: deque[int] = deque()  # packet ids in the order of arrival
        self._settled: deque[Receipt] = deque()
        self._durable: set[int] = set()

    def settle(self, receipts: Iterable[Receipt]) -> None:
        """These are durable, or of no interest: the broker may let go. Any thread."""
        self._settled.extend(receipts)
        self._wake()

    def _make_client(self) -> paho.Client:
        self._connection += 1
        self._unacknowledged.clear()
        self._durable.clear()
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=False,
            protocol=paho.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.on_connect = self._connected
        client.on_message = self._message
        client.on_subscribe = self._subscribed
        return client

    def _connected(self, client: paho.Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._session_present = bool(flags.session_present)
        if not reason.is_failure and self._unwanted and self._session_present:
            client.unsubscribe(self._unwanted)
        super()._connected(client, data, flags, reason, properties)

    def _message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if self._deaf or self._hung_up:
            return
        name = topic_of(message)
        payload = bytes(message.payload)
        receipt = None
        if message.qos:
            digest = hashlib.sha256(name.encode("utf-8", "surrogatepass") + b"\0" + payload).digest()[:_DIGEST_BYTES]
            again = bool(message.dup) and self._session_present
            receipt = Receipt(self._connection, message.mid, digest, again)
            self._unacknowledged.append(message.mid)
        if not self._on_taken(name, payload, message.retain, receipt):
            self._hung_up = True
            self._refusal = "the store's queue is full, so the broker has to keep what comes"

    def _send_queued(self, client: paho.Client) -> None:
        while self._settled:
            receipt = self._settled.popleft()
            if receipt.link == self._connection:
                self._durable.add(receipt.mid)
        while self._unacknowledged and self._unacknowledged[0] in self._durable:
            mid = self._unacknowledged.popleft()
            self._durable.discard(mid)
            client.ack(mid, 1)

    def _idle(self) -> bool:
        return not self._settled


def _never(_topic: str, _payload: bytes, _retained: bool) -> None:
    raise AssertionError("a session's messages go to on_taken")


def forget(
    host: str, port: int, client_id: str, tls: ssl.SSLContext | None = None, timeout_s: float = CONNECT_TIMEOUT_S
) -> bool:
    """End a session at the broker (clause 3.1.2.4): connect once without it. False when it does not answer."""
    answers: list[bool] = []
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=True,
        protocol=paho.MQTTv311,
        reconnect_on_failure=False,
    )
    client.connect_timeout = timeout_s
    if tls is not None:
        client.tls_set_context(tls)
    client.on_connect = lambda _client, _data, _flags, reason, _properties: answers.append(not reason.is_failure)
    try:
        client.connect(host, port, 10)
        deadline_s = time.monotonic() + timeout_s
        while not answers and time.monotonic() < deadline_s and client.loop(0.2) == paho.MQTT_ERR_SUCCESS:
            pass
    except OSError:
        return False
    finally:
        client.disconnect()
        if (sock := client.socket()) is not None:
            sock.close()
    return bool(answers and answers[0])
