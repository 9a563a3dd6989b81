"""The smallest gateway a board can talk to: keeps frames in memory and acknowledges them as the contract says.

For tests of the board alone; the real one is in gateway/. It must not be cleverer than the contract: watermark per
boot, one ack for each frame that came, `got` for one out of order, `floor` from meta, an answer where it has none.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt

from isocore import frame, topics
from isocore.record import LOST


class AckGateway:
    """Subscribes to every board. Switch `answering` off to see a board wait, `drop` some frames to see it resend."""

    def __init__(self, port: int, client_id: str = "gateway") -> None:
        self.lock = threading.RLock()
        self.answering = True
        self.answering_questions = True
        self.drop: Callable[[frame.Frame], bool] = lambda _: False
        self.unix_s: Callable[[], int] = lambda: int(time.time())
        self.clocks: dict[str, Callable[[], int]] = {}  # by device, for those that are told another time
        self.frames: list[frame.Frame] = []
        self.rows: dict[tuple[str, int, int], tuple[int, int, int, int]] = {}
        self.duplicates = 0
        self.covered: dict[tuple[str, int], int] = {}
        self.retained: dict[tuple[str, str], list[bytes]] = {}
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port, keepalive=20)
        self._client.loop_start()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes | str, retain: bool = False, qos: int = 1) -> None:
        self._client.publish(topic, payload, qos=qos, retain=retain).wait_for_publish(5)

    def last(self, device: str, leaf: str) -> Any:
        """The last retained message of a board, decoded; None before there is one."""
        with self.lock:
            payloads = self.retained.get((device, leaf))
            if not payloads:
                return None
            return payloads[-1].decode() if leaf == topics.STATUS else json.loads(payloads[-1])

    def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Poll until `condition` holds; False when time is up."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def of_kind(self, kind: int) -> list[tuple[int, int, int, int]]:
        """(boot, seq, channel, value) of the rows of one kind, in order."""
        with self.lock:
            return [(b, s, r[1], r[2]) for (_, b, s), r in sorted(self.rows.items()) if r[0] == kind]

    def _on_connect(self, client: mqtt.Client, *_: object) -> None:
        client.subscribe("iso/1/+/#")

    def _on_message(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        device, leaf = topics.parse(message.topic)
        if leaf == topics.UP:
            self._take(device, frame.decode(message.payload))
        elif leaf not in (topics.ACK, topics.MODEL_SET):
            with self.lock:
                self.retained.setdefault((device, leaf), []).append(message.payload)
            if leaf == topics.META and message.payload:
                floor = json.loads(message.payload)["floor"]
                if floor is None:
                    self._answer(device)
                    return
                boot, seq = floor
                with self.lock:
                    self.covered[device, boot] = max(self.covered.get((device, boot), 0), seq - 1)

    def _answer(self, device: str) -> None:
        """Tell a board that cannot know its own number which boots are known."""
        if not self.answering_questions:
            return
        with self.lock:
            top = max((boot for name, boot, _ in self.rows if name == device), default=0)
        answer = {"boot": 0, "seq": 0, "t": self._now(device), "ms": 0, "top": top}
        self._client.publish(topics.topic(device, topics.ACK), json.dumps(answer))

    def _now(self, device: str) -> int:
        return self.clocks.get(device, self.unix_s)()

    def _take(self, device: str, got: frame.Frame) -> None:
        if not self.answering or self.drop(got):
            return
        with self.lock:
            self.frames.append(got)
            covered = self.covered.get((device, got.boot), 0)
            first = 0
            for seq, kind, channel, value, uptime_ms, _ in got.records:
                if (device, got.boot, seq) in self.rows:
                    self.duplicates += 1
                self.rows.setdefault((device, got.boot, seq), (kind, channel, value, uptime_ms))
                start = seq - value + 1 if kind == LOST else seq
                first = first or start
                if start <= covered + 1:
                    covered = max(covered, seq)
            self.covered[device, got.boot] = covered
        ack: dict[str, object] = {"boot": got.boot, "seq": covered, "t": self._now(device), "ms": 0}
        if got.last_seq > covered:
            ack["got"] = [first, got.last_seq]
        self._client.publish(topics.topic(device, topics.ACK), json.dumps(ack))
