"""A board as the gateway sees it: frames up, acks down, over a real broker, from CPython.

It keeps records until they are acknowledged, as a board's outbox does, and counts what it made. Knows isocore and MQTT;
it must not know how the gateway stores anything.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import paho.mqtt.client as mqtt

from isocore import frame as frames
from isocore import topics
from isocore.record import BOOT, SAMPLE

Record = tuple[int, int, int, int, int, int]


def wait_for(condition: Any, timeout_s: float = 20.0, what: str = "condition") -> Any:
    """Poll until `condition()` is true and return it; fails the test at the deadline."""
    deadline = time.monotonic() + timeout_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come within {timeout_s} s")
        time.sleep(0.01)


class BoardClient:
    """One or more boards behind one connection."""

    def __init__(self, port: int, client_id: str = "boards") -> None:
        self.port = port
        self.lock = threading.Lock()
        self.acks: list[tuple[str, dict[str, Any]]] = []
        self.watermark: dict[tuple[str, int], int] = {}
        self.at_ack: Callable[[], object] = lambda: None
        self.connected = threading.Event()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(0.05, 0.2)  # type: ignore[arg-type]  # seconds, slept as they are
        self._client.connect_async("127.0.0.1", port, keepalive=20)
        self._client.loop_start()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> BoardClient:
        assert self.connected.wait(10)
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _on_connect(self, client: mqtt.Client, *_: object) -> None:
        client.subscribe(topics.ROOT + "+/" + topics.ACK, qos=0)
        self.connected.set()

    def _on_disconnect(self, *_: object) -> None:
        self.connected.clear()

    def _on_message(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        device, _ = topics.parse(message.topic)
        self.at_ack()
        ack = json.loads(message.payload)
        with self.lock:
            self.acks.append((device, ack))
            key = (device, ack["boot"])
            self.watermark[key] = max(self.watermark.get(key, 0), ack["seq"])

    def publish(self, device: str, leaf: str, payload: bytes | str, retain: bool = False) -> None:
        self._client.publish(topics.topic(device, leaf), payload, qos=0, retain=retain)

    def publish_raw(self, topic: str, payload: bytes, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=0, retain=retain)

    def send(self, device: str, boot: int, records: Iterable[Record], epoch_s: int = 0) -> None:
        """One frame."""
        self.publish(device, topics.UP, frames.encode(boot, epoch_s, 0, list(records)))

    def meta(self, device: str, boot: int, floor: tuple[int, int], **more: Any) -> None:
        channels = [{"name": "temperature", "unit": "degC", "kind": "temperature"}]
        document = {"v": 1, "board": "virtual", "class": "room", "boot": boot, "floor": floor, "channels": channels}
        self.publish(device, topics.META, json.dumps({**document, **more}), retain=True)

    def acked(self, device: str, boot: int) -> int:
        """Highest seq acknowledged."""
        with self.lock:
            return self.watermark.get((device, boot), 0)

    def last_ack(self, device: str) -> dict[str, Any]:
        with self.lock:
            return next((ack for name, ack in reversed(self.acks) if name == device), {})

    def deliver(
        self,
        device: str,
        boot: int,
        records: list[Record],
        timeout_s: float = 30.0,
        size: int = 10,
        epoch_s: int = 0,
        again_s: float = 0.5,
    ) -> None:
        """Send records in frames of `size` and repeat from the watermark until all are acknowledged."""
        last = records[-1][0]
        deadline = time.monotonic() + timeout_s
        while (done := self.acked(device, boot)) < last:
            if time.monotonic() > deadline:
                raise AssertionError(f"{device}: acked {done} of {last} within {timeout_s} s")
            if self.connected.is_set():
                left = [r for r in records if r[0] > done][: size * 20]
                for start in range(0, len(left), size):
                    self.send(device, boot, left[start : start + size], epoch_s)
                target = left[-1][0]
                patience = time.monotonic() + again_s
                while self.acked(device, boot) < target and time.monotonic() < patience:
                    time.sleep(0.002)
            else:
                time.sleep(0.01)


def samples(first: int, last: int, value: int = 20_000, step_ms: int = 1000, kind: int = SAMPLE) -> list[Record]:
    """Records first..last with values that differ from one another."""
    return [(seq, kind, 0, value + seq * 7 % 997, seq * step_ms, 0) for seq in range(first, last + 1)]


def boot_record() -> Record:
    return (1, BOOT, 255, 1, 0, 0)
