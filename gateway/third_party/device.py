"""One third-party device: its channels, and the same filter for each that a board has.

Every reading is reported unless `error_milli` says otherwise. What is no reading (null, "unavailable", out of range) is
a fault record once, and one that it ended; never a temperature, never silence. It knows no topic and no broker.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.config.third_party import ThirdPartyConfig
from gateway.errors import MessageRejected
from gateway.messages import Made
from gateway.own import OwnDevice
from gateway.third_party.reading import CELSIUS, HUMIDITY, is_absent, milli, unit_of
from isocore.filter import ChannelFilter
from isocore.model import PREDICTOR_HOLD, PREDICTOR_NONE, ChannelParams
from isocore.record import FAULT_MISSING, FAULT_RANGE

CHANNELS_MAX = 64


class ThirdPartyDevice:
    """What comes in for it becomes records."""

    def __init__(self, own: OwnDevice, config: ThirdPartyConfig) -> None:
        self.own = own
        self._config = config
        self._filters: dict[str, tuple[int, ChannelFilter]] = {}

    def take(
        self, found: Iterable[tuple[str, Any, str]], uptime_ms: int
    ) -> tuple[list[Made], int, list[MessageRejected]]:
        """Records made of (channel, value, unit), how many readings there were, and what was refused."""
        made: list[Made] = []
        refused = []
        readings = 0
        for channel, value, unit in found:
            try:
                made += self._one(channel, value, unit, uptime_ms)
                readings += 1
            except MessageRejected as exc:
                refused.append(exc)
        return made, readings, refused

    def _one(self, channel: str, value: Any, unit: str, uptime_ms: int) -> list[Made]:
        absent = is_absent(value)
        held = None if absent else milli(value, unit)
        number, state = self._filter(channel, unit_of(unit))
        t_s, t_ms = divmod(uptime_ms, 1000)
        if absent:
            count = state.fault(FAULT_MISSING)
        elif held is None:
            count = state.fault(FAULT_RANGE)
        else:
            count = state.step(t_s, t_ms, held)
        return [
            (state.kinds[i], number, state.values[i], state.at_s(i, t_s) * 1000 + state.at_ms(i, t_ms), state.trend(i))
            for i in range(count)
        ]

    def _filter(self, channel: str, unit: str) -> tuple[int, ChannelFilter]:
        found = self._filters.get(channel)
        if found is None:
            if len(self._filters) >= CHANNELS_MAX:
                raise MessageRejected("channels", f"{self.own.name} has {CHANNELS_MAX} channels; {channel} is too many")
            number = self.own.channel(channel, unit)
            if number is None:
                raise MessageRejected("channels", f"{self.own.name} has no number left for {channel}")
            found = self._filters[channel] = (number, ChannelFilter(self._params(unit)))
        return found

    def _params(self, unit: str) -> ChannelParams:
        config = self._config
        wanted = {"stuck_s": config.stuck_s, "error_milli": config.error_milli}
        if unit == CELSIUS:
            wanted |= {"valid_min_milli": config.valid_min_milli, "valid_max_milli": config.valid_max_milli}
        elif unit == HUMIDITY:
            wanted |= {"valid_min_milli": 0, "valid_max_milli": 100_000}
        if config.error_milli:
            wanted["heartbeat_s"] = config.heartbeat_s
        params = ChannelParams()
        params.predictor = PREDICTOR_HOLD if config.error_milli else PREDICTOR_NONE
        for name, value in wanted.items():
            setattr(params, name, value)
        return params
