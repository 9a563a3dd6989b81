"""Pushes signed models to boards and hears what they make of them. The host tools' only importer of paho.

A container is published retained to `model/set`, so a board that is away gets it when it returns; the board answers in
its retained `model/state`. Retained messages of a QoS 0 subscription come before the broker's reply to
the next one (mosquitto writes them while it subscribes), which is how `survey` knows that it has seen them all; at
QoS 1 they would queue behind its 20 in flight and come later.

Signing is not here. TLS: give `tls` a context; without one the link is plaintext and only meant for loopback.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from host_tools.errors import BrokerError, InputError
from isocore import topics
from isocore.errors import TopicError

CONNECT_S = 10.0
FINAL_STATES = ("committed", "reverted", "refused")
MESSAGES_WAITING_MAX = 10000
_MESSAGE_BYTES_MAX = 16384
_REASON_MAX = 80


@dataclass(frozen=True)
class BoardState:
    """What a board says of its model. state: trial, committed, reverted, refused, or silent (nothing heard)."""

    state: str = "silent"
    sequence: int = 0
    id: str = ""
    reason: str = ""

    @property
    def final(self) -> bool:
        """True when the board has decided."""
        return self.state in FINAL_STATES


@dataclass
class FleetView:
    """What the broker's retained messages say."""

    meta: dict[str, dict[str, Any]] = field(default_factory=dict)
    states: dict[str, BoardState] = field(default_factory=dict)
    online: dict[str, bool] = field(default_factory=dict)

    def matching(self, target: str) -> list[str]:
        """Known devices a model's target means: "*", "class:NAME" or "device:NAME"."""
        scope, _, name = target.partition(":")
        if target == "*":
            return sorted(self.meta)
        if scope == "device":
            return [name]
        return sorted(device for device, meta in self.meta.items() if meta.get("class") == name)


def container_id(container: bytes) -> str:
    """What boards call a container: the first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(container).hexdigest()[:16]


def broker_address(text: str, default_port: int = 1883) -> tuple[str, int]:
    """HOST:PORT, HOST, or [V6]:PORT into its parts."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(default_port)
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise InputError(f"--broker: {text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


class _Inbox:
    """What paho's thread hands over: bounded. No part of Link, so that a dropped client is freed and closed at once."""

    def __init__(self) -> None:
        self.events: queue.Queue[tuple[str, Any, bytes]] = queue.Queue(MESSAGES_WAITING_MAX)
        self.dropped = 0  # messages that found the queue full

    def put(self, kind: str, what: Any, payload: bytes = b"") -> None:
        """Take an event, or count it as dropped."""
        try:
            self.events.put_nowait((kind, what, payload))
        except queue.Full:
            self.dropped += 1


class Link:
    """One connection to the broker. Use as a context manager. Callbacks only fill a bounded queue."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._address = (host, port)
        inbox = self._inbox = _Inbox()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"isotherm-rollout-{os.getpid()}-{os.urandom(4).hex()}",
            reconnect_on_failure=False,
        )
        if tls is not None:
            self._client.tls_set_context(tls)
        self._client.on_connect = lambda _c, _u, _f, reason, _p: inbox.put("connect", reason)
        self._client.on_disconnect = lambda _c, _u, _f, reason, _p: inbox.put("disconnect", reason)
        self._client.on_subscribe = lambda _c, _u, mid, reasons, _p: inbox.put("subscribe", mid)
        self._client.on_publish = lambda _c, _u, mid, reason, _p: inbox.put("publish", (mid, reason))
        self._client.on_message = lambda _c, _u, message: inbox.put("message", message.topic, bytes(message.payload))

    def __enter__(self) -> Link:
        host, port = self._address
        try:
            self._client.connect(host, port, keepalive=30)
        except (OSError, ValueError) as error:
            raise BrokerError(f"no broker at {host}:{port}: {error}; is mosquitto running there?") from None
        self._client.loop_start()
        try:
            reason = self.until("connect", time.monotonic() + CONNECT_S)
            if reason.is_failure:
                raise BrokerError(f"the broker at {host}:{port} refuses us: {reason}")
        except BaseException:
            self._client.loop_stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def subscribe(self, names: list[str], qos: int) -> int:
        """Ask for topics. Returns the number the broker's reply will carry."""
        result, number = self._client.subscribe([(name, qos) for name in names])
        if result != mqtt.MQTT_ERR_SUCCESS or number is None:
            raise BrokerError(f"the broker at {self._where} went away")
        return number

    def publish(self, topic: str, payload: bytes) -> int:
        """Publish retained with QoS 1. Returns the number the broker's reply will carry."""
        info = self._client.publish(topic, payload, qos=1, retain=True)
        if info.rc != mqtt.MQTT_ERR_SUCCESS:
            raise BrokerError(f"the broker at {self._where} went away")
        return info.mid

    def next_event(self, deadline: float) -> tuple[str, Any, bytes] | None:
        """The next event, or None at the deadline (monotonic). Raises BrokerError when the link is lost."""
        try:
            event = self._inbox.events.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return None
        if event[0] == "disconnect":
            raise BrokerError(f"the broker at {self._where} went away: {event[1]}")
        return event

    def until(self, kind: str, deadline: float, take: Callable[[str, bytes], object] | None = None) -> Any:
        """Wait for an event of `kind`; messages on the way go to `take`."""
        while True:
            event = self.next_event(deadline)
            if event is None:
                raise BrokerError(f"the broker at {self._where} does not answer")
            if event[0] == "message" and take is not None:
                take(event[1], event[2])
            if event[0] == kind:
                return event[1]

    @property
    def _where(self) -> str:
        return f"{self._address[0]}:{self._address[1]}"


def survey(link: Link) -> FleetView:
    """All that is retained of the boards: who there is, what each runs. Stays subscribed to it."""
    view = FleetView()
    deadline = time.monotonic() + CONNECT_S
    # The last one matches nothing: when it is answered, all retained messages of the others have come.
    names = [topics.ROOT + "+/" + leaf for leaf in (topics.META, topics.STATUS, topics.MODEL_STATE)]
    for name in (*names, topics.topic("none", topics.ACK)):
        number = link.subscribe([name], 0)
        while link.until("subscribe", deadline, lambda topic, payload: note(view, topic, payload)) != number:
            pass
    return view


def note(view: FleetView, name: str, payload: bytes) -> str | None:
    """Take one message into the view. Returns the device, or None for what is not ours or not sound."""
    try:
        device, leaf = topics.parse(name)
    except TopicError:
        return None
    if leaf == topics.STATUS:
        view.online[device] = payload == b"online"
        return str(device)
    data = _object(payload)
    if data is None:
        return None
    if leaf == topics.META:
        view.meta[device] = data
    elif leaf == topics.MODEL_STATE:
        sequence = data.get("sequence")
        reason = data.get("reason")
        view.states[device] = BoardState(
            str(data.get("state", ""))[:_REASON_MAX],
            sequence if type(sequence) is int else 0,
            str(data.get("id", ""))[:_REASON_MAX],
            "" if reason is None else str(reason)[:_REASON_MAX],
        )
    return str(device)


def _object(payload: bytes) -> dict[str, Any] | None:
    if len(payload) > _MESSAGE_BYTES_MAX:
        return None
    try:
        data = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def push(
    host: str,
    port: int,
    containers: Mapping[str, bytes],
    timeout_s: float,
    changed: Callable[[str, BoardState], None] = lambda device, state: None,
    tls: ssl.SSLContext | None = None,
) -> dict[str, BoardState]:
    """Publish each device's container and wait until every board has decided on it, or for `timeout_s`.

    changed: told of each board's steps. Returns the last state of each board, `silent` for one not heard; a state of
    another container is not one of this push. Boards that are away keep the retained container to come.
    """
    states = {device: BoardState() for device in containers}
    wanted = {device: container_id(container) for device, container in containers.items()}
    view = FleetView()

    def take(name: str, payload: bytes) -> None:
        device = note(view, name, payload)
        if device not in wanted or not name.endswith(topics.MODEL_STATE):
            return
        state = view.states[device]
        if state.id == wanted[device] and state != states[device]:
            states[device] = state
            changed(device, state)

    deadline = time.monotonic() + timeout_s
    with Link(host, port, tls) as link:
        link.subscribe([topics.topic(device, topics.MODEL_STATE) for device in wanted], 1)
        waiting = {link.publish(topics.topic(device, topics.MODEL_SET), data) for device, data in containers.items()}
        acknowledge_by = max(deadline, time.monotonic() + CONNECT_S)
        while waiting:
            number, reason = link.until("publish", acknowledge_by, take)
            if reason.is_failure:
                raise BrokerError(f"the broker refuses a model: {reason}")
            waiting.discard(number)
        while not all(state.final for state in states.values()):
            event = link.next_event(deadline)
            if event is None:
                break
            if event[0] == "message":
                take(event[1], event[2])
    return states
