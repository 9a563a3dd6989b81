"""The first reading of a board that the gateway has on its disk, seen at the broker: a frame and its acknowledgement.

The gateway acknowledges after its commit (docs/adr/0001), so a reading whose number is acknowledged has arrived. Must
not know the board's cable.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from host_tools.errors import DeadlineError
from host_tools.rollout import Link
from isocore import frame, record, topics
from isocore.errors import FrameError

UNITS = {"temperature": "°C", "humidity": "%RH"}
_PENDING_MAX = 1000


@dataclass(frozen=True)
class Reading:
    """One reading. value_milli: m°C or m%RH."""

    channel: str
    value_milli: int
    unit: str
    boot: int
    seq: int

    def __str__(self) -> str:
        return f"{self.channel} {self.value_milli / 1000:g} {self.unit}".rstrip()


class Arrival:
    """Listens from `__init__` on; `wait` returns the first reading that was acknowledged after that."""

    def __init__(self, link: Link, device: str, channels: list[tuple[str, str]]) -> None:
        """channels: (name, kind) by number."""
        self._link = link
        self._device = device
        self._channels = channels
        self._pending: list[Reading] = []
        self.faults: list[str] = []
        number = link.subscribe([topics.topic(device, leaf) for leaf in (topics.UP, topics.ACK, topics.STATUS)], 0)
        while link.until("subscribe", time.monotonic() + 10) != number:
            pass

    def wait(self, timeout_s: float, say: Callable[[str], None]) -> Reading:
        """Raises DeadlineError saying how far it came."""
        deadline = time.monotonic() + timeout_s
        online = acknowledged = False
        while event := self._link.next_event(deadline):
            if event[0] != "message":
                continue
            leaf = event[1].rpartition("/")[2]
            if leaf == topics.STATUS and event[2] == b"online" and not online:
                online = True
                say("it is online at the broker")
            elif leaf == topics.UP:
                self._take(event[2])
            elif leaf == topics.ACK and (found := self._acknowledged(event[2])):
                return found
            elif leaf == topics.ACK:
                acknowledged = True
        raise DeadlineError(
            f"no reading of {self._device} arrived within {timeout_s:g} s: {self._how_far(online, acknowledged)}"
        )

    def _how_far(self, online: bool, acknowledged: bool) -> str:
        if self.faults:
            return f"its sensor reports {self.faults[-1]}: check wiring, pin and supply"
        if self._pending:
            return "it sends, but no gateway acknowledges: is isotherm-gateway running at this broker?"
        if acknowledged:
            return "the gateway acknowledges, but no sensor has read anything yet"
        if online:
            return "it is online, but has sent nothing: `isotherm logs` shows what it does"
        return "it never came to the broker: check Wi-Fi, password and the gateway's address (`isotherm doctor`)"

    def _take(self, payload: bytes) -> None:
        try:
            got = frame.decode(payload)
        except FrameError:
            return  # not a frame of ours; the gateway counts those
        for seq, kind, channel, value, *_ in got.records:
            name, what = self._channels[channel] if channel < len(self._channels) else (f"channel {channel}", "")
            if kind == record.FAULT:
                self.faults.append(f"a fault on {name}")
            elif record.is_report(kind) and len(self._pending) < _PENDING_MAX:
                self._pending.append(Reading(name, value, UNITS.get(what, ""), got.boot, seq))

    def _acknowledged(self, payload: bytes) -> Reading | None:
        try:
            ack: dict[str, Any] = json.loads(payload)
            boot, seq = int(ack["boot"]), int(ack["seq"])
        except (ValueError, KeyError, TypeError):
            return None
        return next((one for one in self._pending if one.boot == boot and one.seq <= seq), None)


def channels_of(config: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, kind) by number, as the firmware numbers the channels of a configuration."""
    return [
        (str(sensor["channels"][kind]), kind)
        for sensor in config.get("sensors", [])
        for kind in ("temperature", "humidity", "pressure")
        if kind in sensor.get("channels", {})
    ]
