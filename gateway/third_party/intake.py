"""One message of a third-party device to records of a device that the gateway speaks for. Hostile until proven good.

`handle` never raises. What may be let go at once (refused, retained, of no interest) is released at once; what makes
records is let go after their commit. Without room in the store's queue it says so, keeps the records, and offers them
again before it looks at another message: the caller then hangs up, and the broker keeps the rest.

It knows neither the broker's client nor the store.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from gateway.config.third_party import ThirdPartyConfig
from gateway.errors import MessageRejected
from gateway.guard import LOG_EVERY_S, RateLimitedLog, parse_json
from gateway.messages import Made, Receipt
from gateway.metrics import Metrics
from gateway.own import Own, OwnDevice
from gateway.third_party.device import ThirdPartyDevice
from gateway.third_party.names import Names
from gateway.third_party.pattern import Match, Pattern
from gateway.third_party.pointer import MISSING, resolve
from gateway.third_party.preset import PRESETS, Wanted
from gateway.third_party.stamp import unix_ms

PLAIN_BYTES_MAX = 64  # one value as text
_OLD_MS = 30 * 86_400_000  # a stamp further back is a device whose clock is wrong ...
_AHEAD_MS = 120_000  # ... and so is one further ahead
_STATES = {"online": "online", "offline": "offline"}

Known = Mapping[str, Mapping[str, Any]]  # device id -> its meta, of devices that the gateway speaks for


class _Held(NamedTuple):
    """Records that found no room."""

    device: OwnDevice
    made: tuple[Made, ...]
    epoch_unix_ms: int | None
    receipt: Receipt | None


class Source:
    """One [third_party.NAME]: its patterns and the devices that came by them."""

    def __init__(self, name: str, config: ThirdPartyConfig, known: Known, taken: Callable[[str], bool]) -> None:
        self.name = name
        self.config = config
        self.preset = PRESETS[config.preset]
        self.topic = Pattern(config.topic or self.preset.topic)
        availability = config.availability or self.preset.availability
        self.availability = Pattern(availability) if availability else None
        self.wanted = Wanted(config.values, config.units)
        self.time = config.time or self.preset.time
        self.zone = ZoneInfo(config.time_zone) if config.time_zone else None
        ids = {meta["name"]: device for device, meta in known.items() if meta.get("source") == name and _named(meta)}
        self.names = Names(ids, config.names, taken, config.devices_max)
        self._devices: dict[str, ThirdPartyDevice] = {}

    def device(self, own: Own, name: str) -> ThirdPartyDevice:
        """The device of that name, made when it is new. Raises MessageRejected when there are too many."""
        identity = self.names.id_of(name)
        found = self._devices.get(identity)
        if found is None:
            made = own.device(identity, self.config.device_class, more={"source": self.name, "name": name})
            found = self._devices[identity] = ThirdPartyDevice(made, self.config)
        return found

    def read(self, payload: bytes, bytes_max: int) -> Any:
        """What a payload holds: a document, or the text of one value. Raises MessageRejected."""
        if not self.preset.plain:
            return parse_json(payload, bytes_max, "a payload", Decimal)
        if len(payload) > PLAIN_BYTES_MAX:
            raise MessageRejected("size", f"a value of {len(payload)} bytes")
        try:
            return payload.decode("utf-8")
        except UnicodeDecodeError:
            raise MessageRejected("value", "a value that is no UTF-8") from None


def _named(meta: Mapping[str, Any]) -> bool:
    return isinstance(meta.get("name"), str)


class Intake:
    """Turns messages into what the store takes."""

    def __init__(
        self,
        sources: Mapping[str, ThirdPartyConfig],
        own: Own,
        metrics: Metrics,
        *,
        known: Known,
        taken: Callable[[str], bool],
        release: Callable[[Receipt], None],
        json_bytes_max: int,
        full_wait_s: float,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """taken: a device id is used already; release: the broker may let go of a message."""
        self._own = own
        self._metrics = metrics
        self._release = release
        self._log = RateLimitedLog(LOG_EVERY_S, clock_s)
        self._sources = [Source(name, config, known, taken) for name, config in sources.items()]
        self._held: _Held | None = None
        self.tune(json_bytes_max, full_wait_s)

    def tune(self, json_bytes_max: int, full_wait_s: float) -> None:
        """Other bounds, from the next message on."""
        self._json_bytes_max = json_bytes_max
        self._full_wait_s = full_wait_s

    @property
    def subscriptions(self) -> list[str]:
        """Topic filters to ask the broker for."""
        patterns = [p for source in self._sources for p in (source.topic, source.availability) if p is not None]
        return sorted({pattern.subscription for pattern in patterns})

    def handle(self, topic: str, payload: bytes, retained: bool, receipt: Receipt | None) -> bool:
        """Take one message. False when there was no room: hang up, so that the broker sends it again."""
        if not self._offer_held():
            return False
        outcome = "refused"
        try:
            outcome = self._take(topic, payload, retained, receipt)
        except MessageRejected as exc:
            self._reject(exc, topic)
        self._metrics.add("third_party_messages_total", 1, outcome=outcome)
        if outcome in ("taken", "full"):
            return outcome == "taken"
        if receipt is not None:
            self._release(receipt)
        return True

    def stop(self) -> None:
        """Tell what was not told yet."""
        self._log.flush()

    def _offer_held(self) -> bool:
        held = self._held
        if held is not None:
            if not held.device.offer(held.made, 0.0, epoch_unix_ms=held.epoch_unix_ms, receipt=held.receipt):
                return False
            self._held = None
        return True

    def _take(self, topic: str, payload: bytes, retained: bool, receipt: Receipt | None) -> str:
        for source in self._sources:
            match = source.topic.match(topic)
            if match is not None:
                # What was retained is old, and stands for no reading of now.
                return "retained" if retained else self._readings(source, match, topic, payload, receipt)
            match = source.availability.match(topic) if source.availability else None
            if match is not None and source.names.known(match.device) is not None:
                return self._status(source, match, payload, retained)
        raise MessageRejected("topic", "a topic of no known device")

    def _readings(self, source: Source, match: Match, topic: str, payload: bytes, receipt: Receipt | None) -> str:
        document = source.read(payload, self._json_bytes_max)
        found = list(source.preset.read(document, match.channel, source.wanted))
        if not found:
            return "ignored"
        device = source.device(self._own, match.device)
        uptime_ms = self._own.clock.uptime_ms()
        made, readings, refused = device.take(found, uptime_ms)
        for exc in refused:
            self._reject(exc, topic)
        if not readings:
            return "refused"
        self._metrics.add("third_party_readings_total", readings)
        if not made and receipt is None:
            return "ignored"
        epoch_unix_ms, shift_ms = self._moment(source, document, uptime_ms)
        shifted = tuple((k, c, v, at_ms + shift_ms, trend) for k, c, v, at_ms, trend in made)
        held = _Held(device.own, shifted, epoch_unix_ms, receipt)
        if device.own.offer(shifted, self._full_wait_s, epoch_unix_ms=epoch_unix_ms, receipt=receipt):
            return "taken"
        self._held = held
        self._log.warn("queue_full", "the store's queue stayed full; the broker keeps what it has, as far as it can")
        return "full"

    def _moment(self, source: Source, document: Any, uptime_ms: int) -> tuple[int | None, int]:
        """By the payload's stamp: unix time at uptime 0, or None for the gateway's own, and what to add to uptimes.

        A stamp of before this start begins an uptime of its own, at 0: uptimes are never negative.
        """
        said = resolve(document, source.time) if source.time else MISSING
        stamp = None if said is MISSING else unix_ms(said, source.zone)
        if stamp is None:
            return None, 0
        clock = self._own.clock
        epoch_unix_ms = clock.epoch_unix_ms()
        if epoch_unix_ms is None:
            return stamp - uptime_ms, 0
        if not -_OLD_MS <= stamp - (epoch_unix_ms + uptime_ms) <= _AHEAD_MS:
            self._metrics.add("third_party_stamps_ignored_total", 1)
            return None, 0
        if stamp >= epoch_unix_ms:
            return epoch_unix_ms, stamp - epoch_unix_ms - uptime_ms
        return stamp, -uptime_ms

    def _status(self, source: Source, match: Match, payload: bytes, retained: bool) -> str:
        text = payload[: PLAIN_BYTES_MAX + 1].decode("utf-8", "replace").strip().lower()
        if text.startswith("{"):
            document = parse_json(payload, self._json_bytes_max, "availability")
            state = document.get("state") if isinstance(document, dict) else None
            text = state if isinstance(state, str) else ""
        if text not in _STATES:
            raise MessageRejected("status", "availability is neither online nor offline")
        device = source.device(self._own, match.device)
        device.own.note("status", text, self._full_wait_s, fresh=not retained and text == "online")
        return "status"

    def _reject(self, exc: MessageRejected, topic: str) -> None:
        self._metrics.add("ingest_rejected_total", 1, reason=exc.reason)
        self._log.warn(exc.reason, f"refused a message on {topic[:80]!r}: {str(exc)[:200]}")
