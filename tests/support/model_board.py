"""Boards as far as models go, at a real broker: they answer what comes to model/set with the states they are given.

Fast stand-ins for what needs many boards or odd ones; the real firmware is asked in tests/e2e/test_push.py.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import paho.mqtt.client as mqtt

from host_tools import rollout
from isocore import frame, record, topics


class Board:
    """A board as far as models go: takes what comes to model/set and answers with the given states."""

    def __init__(
        self,
        port: int,
        device: str,
        answers: list[str],
        device_class: str = "fridge",
        alarms: int = 0,
        online: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """alarms: so many alarm records it sends at once when a model comes."""
        self.device = device
        self.open = True
        self.taken: list[bytes] = []
        self.withdrawn = threading.Event()
        self.on_model: Callable[[], None] = lambda: None
        self._answers = answers
        self._alarms = alarms
        self._ready = threading.Event()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, device)
        self._client.on_connect = lambda client, *_: client.subscribe(topics.topic(device, topics.MODEL_SET), 1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = lambda _client, _user, message: self._take(bytes(message.payload))
        if tls is not None:
            self._client.tls_set_context(tls)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._ready.wait(10)
        self.retain(topics.META, json.dumps({"v": 1, "class": device_class}).encode())
        self.retain(topics.STATUS, b"online" if online else b"offline")

    def retain(self, leaf: str, payload: bytes) -> None:
        self._client.publish(topics.topic(self.device, leaf), payload, qos=1, retain=True)

    def _take(self, container: bytes) -> None:
        if not container:
            self.withdrawn.set()  # the retained one was taken back
            return
        self.taken.append(container)
        self.on_model()
        if self._alarms:
            records = [(n + 1, record.HIGH_ON, 0, 9000, 0, 0) for n in range(self._alarms)]
            self._client.publish(topics.topic(self.device, topics.UP), frame.encode(1, 0, 0, records), qos=1)
        for answer in self._answers:
            state = {"sequence": 1, "state": answer, "id": rollout.container_id(container), "reason": None}
            self.retain(topics.MODEL_STATE, json.dumps(state).encode())

    def close(self) -> None:
        self.open = False
        self._client.disconnect()
        self._client.loop_stop()
        # paho closes its inner sockets when it is freed: leave no cycle to keep it.
        self._client.on_connect = self._client.on_subscribe = self._client.on_message = None


BoardMaker = Callable[..., Board]


@contextmanager
def boards_at(port: int, tls: ssl.SSLContext | None = None) -> Iterator[BoardMaker]:
    """Makes boards at a broker; their retained messages are gone afterwards."""
    boards: list[Board] = []

    def make(device: str, answers: list[str], *more: Any, **options: Any) -> Board:
        boards.append(Board(port, device, answers, *more, tls=tls, **options))
        return boards[-1]

    yield make
    for made in boards:
        if made.open:
            for leaf in (topics.META, topics.MODEL_STATE, topics.MODEL_SET, topics.STATUS):
                made._client.publish(topics.topic(made.device, leaf), b"", qos=1, retain=True).wait_for_publish(10)
            made.close()
