"""A receiver over MQTT for tests: stores by batch number and answers as docs/uplink.md says, or as a script does."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.board_client import wait_for

Reply = dict[str, Any] | None
TOPIC = "isotherm/+/batches"


class MqttReceiver:
    """script(batch number, headers, body) -> reply without gateway and batch, or None for silence."""

    def __init__(self, port: int) -> None:
        self.stored: dict[int, bytes] = {}
        self.seen: list[tuple[int, dict[str, str], bytes]] = []
        self.script: Callable[[int, dict[str, str], bytes], Reply] = self.store
        self._subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="receiver", protocol=paho.MQTTv5)
        self._client.on_connect = lambda client, *rest: client.subscribe(TOPIC, qos=1)
        self._client.on_subscribe = lambda *rest: self._subscribed.set()
        self._client.on_message = self._message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        wait_for(self._subscribed.is_set, what="the receiver at the broker")

    def store(self, number: int, headers: dict[str, str], body: bytes) -> Reply:
        """Store once by number, refuse other content."""
        known = self.stored.get(number)
        if known is not None and known != body:
            return {"code": 409, "error": "another batch had this number"}
        self.stored[number] = body
        return {"code": 200, "status": "stored" if known is None else "duplicate"}

    def _message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        headers = dict(message.properties.UserProperty)
        number = int(headers["Isotherm-Batch"])
        body = bytes(message.payload)
        assert headers["Isotherm-Digest"] == "sha-256=" + hashlib.sha256(body).hexdigest()
        self.seen.append((number, headers, body))
        reply = self.script(number, headers, body)
        topic = getattr(message.properties, "ResponseTopic", None)
        if reply is None or topic is None:
            return
        answer = {"gateway": headers["Isotherm-Gateway"], "batch": number} | reply
        properties = Properties(PacketTypes.PUBLISH)
        properties.CorrelationData = message.properties.CorrelationData
        self._client.publish(topic, reply.get("raw") or json.dumps(answer), qos=1, properties=properties)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> MqttReceiver:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
