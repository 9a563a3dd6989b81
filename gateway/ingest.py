"""What comes from the broker, checked and handed on: frames, metas, states. Hostile until proven otherwise.

`handle` never raises: what is not valid is counted by reason, and logged at a bounded rate. It knows neither the
broker's client nor the store: messages come by call, valid ones leave by call, and the callee says whether there was
room. Waiting for room is what stops the caller from reading its socket.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import Any

from gateway.describe import channels_of
from gateway.errors import MessageRejected
from gateway.guard import LOG_EVERY_S, RateLimitedLog, parse_json
from gateway.messages import EVENT_FIRST, EVENT_LAST, LOST, Ack, FrameIn, MetaIn, NoteIn
from gateway.metrics import Metrics
from gateway.models import check_state
from isocore import frame as frames
from isocore import topics
from isocore.errors import FrameError, TopicError

SUBSCRIPTIONS = tuple(
    f"{topics.ROOT}+/{leaf}" for leaf in (topics.UP, topics.META, topics.STATUS, topics.HEALTH, topics.MODEL_STATE)
)
_SEQ_MAX = (1 << 30) - 1
_TOPICS_CACHED = 4096
_META_ROWS = 1

Out = FrameIn | MetaIn | NoteIn
Put = Callable[[Out, int, bool], bool]


class Ingest:
    """Turns one MQTT message into what the store takes."""

    def __init__(
        self,
        put: Put,
        metrics: Metrics,
        *,
        json_bytes_max: int,
        devices_max: int = 5000,
        ours: Callable[[str], bool] = lambda device: False,
        on_model: Callable[[str, bytes], None] = lambda device, container: None,
        wall_s: Callable[[], float] = time.time,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """put: (item, rows, urgent) -> False when there stayed no room; ours: is a device the gateway's own?"""
        self._put = put
        self._metrics = metrics
        self._json_bytes_max = json_bytes_max
        self._ours = ours
        self._on_model = on_model
        self._wall_s = wall_s
        self._log = RateLimitedLog(LOG_EVERY_S, clock_s)
        self._topics: dict[str, tuple[str, str]] = {}
        self._devices: set[str] = set()
        self._devices_max = devices_max

    def stop(self) -> None:
        """Tell what was not told yet."""
        self._log.flush()

    def begin(self, devices: Iterable[str]) -> None:
        """Devices that the store knows already: they are let in whatever the bound."""
        self._devices.update(devices)

    def tune(self, json_bytes_max: int, devices_max: int) -> None:
        """Other bounds, from the next message on."""
        self._json_bytes_max = json_bytes_max
        self._devices_max = devices_max

    def handle(self, name: str, payload: bytes, retained: bool) -> None:
        """Take one message."""
        try:
            device, leaf = self._parse_topic(name)
            if self._ours(device):
                self._to_ourselves(device, leaf, payload)
                return
            if device not in self._devices and len(self._devices) >= self._devices_max:
                raise MessageRejected("devices", f"{device} is one device more than ingest.devices_max")
            item: Out
            if leaf == topics.UP:
                if retained:
                    raise MessageRejected("retained", "a frame was retained at the broker")
                item = self._frame(device, payload)
                rows = len(item.records)
                self._metrics.add("ingest_records_total", rows)
                taken = self._put(item, rows, item.urgent)
            else:
                item = self._other(device, leaf, payload, retained)
                taken = self._put(item, _META_ROWS, isinstance(item, MetaIn))
        except FrameError as exc:
            self._reject(f"frame_{exc.reason}", name, str(exc))
            return
        except MessageRejected as exc:
            self._reject(exc.reason, name, str(exc))
            return
        self._devices.add(device)
        self._metrics.add("ingest_messages_total", 1, leaf=leaf)
        if not taken:
            self._metrics.add("ingest_dropped_total", 1, leaf=leaf)
            self._log.warn(
                "queue_full", "the store's queue stayed full; messages are dropped, boards send frames again"
            )

    def _to_ourselves(self, device: str, leaf: str, payload: bytes) -> None:
        """What comes under the name of a device that the gateway speaks for: a model for it, or an impostor's.

        What it says of itself at the broker comes back here, and is passed over.
        """
        if leaf == topics.MODEL_SET:
            self._on_model(device, payload)
        elif leaf == topics.UP:
            raise MessageRejected("own_id", f"{device} is a device of the gateway's own: nobody else may be it")

    def _reject(self, reason: str, name: str, text: str) -> None:
        self._metrics.add("ingest_rejected_total", 1, reason=reason)
        device = self._topics[name][0] if name in self._topics else None
        self._log.warn(reason, f"refused a message on {name[:80]!r}: {text[:200]}", device=device)

    def _parse_topic(self, name: str) -> tuple[str, str]:
        known = self._topics.get(name)
        if known is None:
            try:
                known = topics.parse(name)
            except TopicError as exc:
                raise MessageRejected("topic", str(exc)) from exc
            if len(self._topics) >= _TOPICS_CACHED:
                self._topics.clear()
            self._topics[name] = known
        return known

    def _frame(self, device: str, payload: bytes) -> FrameIn:
        frame = frames.decode(payload)
        records = frame.records
        urgent = False
        lost = False
        for record in records:
            kind = record[1]
            if EVENT_FIRST <= kind <= EVENT_LAST:
                urgent = True
                if kind == LOST:
                    lost = True
                    if not 1 <= record[3] <= record[0]:
                        raise MessageRejected("frame_lost", f"LOST record of {record[3]} at seq {record[0]}")
        plain = not lost and records[-1][0] - records[0][0] == len(records) - 1
        return FrameIn(
            device,
            frame.boot,
            records,
            frame.epoch_unix_ms(),
            frame.tag,
            int(self._wall_s() * 1000),
            urgent,
            plain,
        )

    def _other(self, device: str, leaf: str, payload: bytes, retained: bool) -> MetaIn | NoteIn:
        # What the broker kept, or says of a board that is gone, is no sign of life: 0 leaves `last seen` as it is.
        dead = retained or payload == b"offline"
        recv_unix_ms = 0 if dead else int(self._wall_s() * 1000)
        if leaf == topics.STATUS:
            if payload not in (b"online", b"offline"):
                raise MessageRejected("status", "status is neither online nor offline")
            return NoteIn(device, "status", payload.decode("ascii"), recv_unix_ms)
        document = parse_json(payload, self._json_bytes_max, leaf)
        if leaf == topics.MODEL_STATE:
            return NoteIn(device, "model_state", check_state(document), recv_unix_ms)
        if leaf == topics.HEALTH:
            if not isinstance(document, dict):
                raise MessageRejected("health", "health is no JSON object")
            return NoteIn(device, "health", json.dumps(document), recv_unix_ms)
        if leaf == topics.META:
            return self._meta(device, document, retained, recv_unix_ms)
        raise MessageRejected("topic", f"{leaf} is not for a gateway")

    def _meta(self, device: str, document: Any, retained: bool, recv_unix_ms: int) -> MetaIn:
        """A meta; channels that no receiver would take are left out, so that its floor still counts."""
        checked = _meta(device, document, retained, recv_unix_ms)
        if document.get("channels") is None or channels_of(document) is not None:
            return checked
        self._metrics.add("ingest_meta_cleaned_total", 1)
        text = f"unusable names or units in the meta of {device}; its channels stay unnamed"
        self._log.warn("meta_channels", text, device=device)
        return checked._replace(text=json.dumps({**document, "channels": None}))


def _seq(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _SEQ_MAX


def _meta(device: str, document: Any, retained: bool, recv_unix_ms: int) -> MetaIn:
    if not isinstance(document, dict):
        raise MessageRejected("meta", "meta is no JSON object")
    if document.get("v") != 1:
        raise MessageRejected("meta", "meta: v must be 1")
    floor = document.get("floor")
    if floor is not None:
        if not isinstance(floor, list) or len(floor) != 2 or not _seq(floor[0]) or not _seq(floor[1]):
            raise MessageRejected("meta", "meta: floor must be [boot, seq]")
        floor = (floor[0], floor[1])
    boot = document.get("boot")
    if boot is not None and not _seq(boot):
        raise MessageRejected("meta", "meta: boot must be an integer of 30 bits")
    device_class = document.get("class")
    if device_class is not None and not topics.is_device_id(device_class):
        raise MessageRejected("meta", "meta: class must match [a-z0-9-]{1,32}")
    uptime_s = document.get("uptime_s")
    document.pop("own", None)  # what the gateway says of devices that it speaks for; of a board it means nothing
    uptime_ms = uptime_s * 1000 if isinstance(uptime_s, int) and _seq(uptime_s) and not retained else None
    return MetaIn(device, json.dumps(document), device_class, floor, boot, uptime_ms, recv_unix_ms)


def ack_message(ack: Ack, wall_s: float) -> tuple[str, bytes]:
    """Topic and payload that tell a board what is durable, and what time it is."""
    unix_ms = int(wall_s * 1000)
    got = f',"got":[{ack.got[0]},{ack.got[1]}]' if ack.got else ""
    top = "" if ack.top is None else f',"top":{ack.top}'
    text = f'{{"boot":{ack.boot},"seq":{ack.seq},"t":{unix_ms // 1000},"ms":{unix_ms % 1000}{got}{top}}}'
    return f"{topics.ROOT}{ack.device}/{topics.ACK}", text.encode("ascii")
