"""A stock paho client over TLS whose events are looked at in order. It must not know what anything means."""

from __future__ import annotations

import queue
import ssl

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

WAIT_S = 10.0


class Client:
    """A context manager; raises ConnectionRefusedError, or what the socket raises, when no session comes of it."""

    def __init__(self, where: tuple[str, int], tls: ssl.SSLContext | None, client_id: str = "") -> None:
        self.events: queue.Queue[tuple[str, object]] = queue.Queue()
        client = self.paho = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, reconnect_on_failure=False)
        if tls is not None:
            client.tls_set_context(tls)
        put = self.events.put
        client.on_connect = lambda _c, _u, _f, reason, _p: put(("connect", reason))
        client.on_disconnect = lambda _c, _u, _f, reason, _p: put(("disconnect", reason))
        client.on_message = lambda _c, _u, message: put(("message", (message.topic, bytes(message.payload))))
        client.on_subscribe = lambda _c, _u, _m, reasons, _p: put(("subscribe", reasons))
        self._where = where

    def __enter__(self) -> Client:
        self.paho.connect(*self._where, keepalive=30)
        self.paho.loop_start()
        try:
            kind, reason = self.next()
        except queue.Empty:
            kind, reason = "silence", None
        if kind != "connect" or reason.is_failure:  # type: ignore[union-attr]
            self.__exit__()
            raise ConnectionRefusedError(f"{kind}: {reason}")
        return self

    def __exit__(self, *_: object) -> None:
        self.paho.disconnect()
        self.paho.loop_stop()

    def next(self) -> tuple[str, object]:
        """The next event; queue.Empty when none comes."""
        return self.events.get(timeout=WAIT_S)

    def subscribe(self, *names: str) -> None:
        """Subscribe, each answered before the next."""
        for name in names:
            self.paho.subscribe(name, 0)
            assert self.next()[0] == "subscribe"

    def publish(self, name: str, payload: bytes, retain: bool = False) -> None:
        """Publish and wait until the broker has it, or has thrown it away: it says the same of both."""
        self.paho.publish(name, payload, qos=1, retain=retain).wait_for_publish(WAIT_S)

    def heard(self, marker: bytes) -> list[tuple[str, bytes]]:
        """Messages until the one with payload `marker`, which is left out."""
        found = []
        while True:
            kind, what = self.next()
            assert kind == "message", (kind, what)
            if what[1] == marker:  # type: ignore[index]
                return found
            found.append(what)  # type: ignore[arg-type]
