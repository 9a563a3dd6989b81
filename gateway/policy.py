"""What of a channel goes up: the first policy whose patterns fit its device, class and name; else raw and alarms.

    raw      reports, and the windows that a board makes itself
    windows  windows made here (gateway.windows), and those that a board makes itself
    alarms   alarms, faults and their ends

What belongs to a board as a whole (its boots, its LOST records) always goes: else the cloud could not account for it.
Pure. It knows neither rows' origin nor sinks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from gateway.messages import EVENT_FIRST, EVENT_LAST, Counts, DeviceInfo, Row, Unsent
from isocore.record import BOARD_CHANNEL

RAW, WINDOWS, ALARMS = "raw", "windows", "alarms"
SENDABLE = (RAW, WINDOWS, ALARMS)
DEFAULT = frozenset((RAW, ALARMS))


class Pattern(NamedTuple):
    """Shell patterns (`*`, `?`, `[abc]`) over a device's id, its class and a channel's name."""

    device: str = "*"
    device_class: str = "*"
    channel: str = "*"

    def fits(self, info: DeviceInfo, channel: str) -> bool:
        return (
            fnmatchcase(info.name, self.device)
            and fnmatchcase(info.device_class or "", self.device_class)
            and fnmatchcase(channel, self.channel)
        )


class UploadPolicy(NamedTuple):
    """What goes up of the channels that `pattern` fits."""

    pattern: Pattern
    send: frozenset[str]


def channel_name(info: DeviceInfo, channel: int) -> str:
    """What the board calls a channel; its number while nobody knows."""
    known = info.channels or ()
    return known[channel][0] if channel < len(known) else str(channel)


class Selector:
    """Applies policies. `infos` tells of a device by its number, None when it is unknown."""

    def __init__(self, policies: Sequence[UploadPolicy], infos: Callable[[int], DeviceInfo | None]) -> None:
        self._policies = tuple(policies)
        self._infos = infos
        self._cache: dict[tuple[int, int], frozenset[str]] = {}

    @property
    def plain(self) -> bool:
        """True when everything goes by default: nothing needs to be looked at."""
        return not self._policies

    @property
    def any_windows(self) -> bool:
        return any(WINDOWS in policy.send for policy in self._policies)

    def forget(self) -> None:
        """Names or classes may have changed: what is known holds for one batch or one step of a follower."""
        self._cache.clear()

    def send(self, device: int, channel: int) -> frozenset[str]:
        """What goes up of a channel."""
        found = self._cache.get((device, channel))
        if found is None:
            found = self._cache[device, channel] = self._decide(device, channel)
        return found

    def _decide(self, device: int, channel: int) -> frozenset[str]:
        info = self._infos(device)
        if info is None or channel == BOARD_CHANNEL:
            return DEFAULT
        name = channel_name(info, channel)
        return next((policy.send for policy in self._policies if policy.pattern.fits(info, name)), DEFAULT)

    def sift(self, rows: list[Row]) -> tuple[list[Row], Unsent]:
        """Rows that go up, and an account of those that do not."""
        if self.plain:
            return rows, Unsent()
        self.forget()
        kept: list[Row] = []
        withheld: dict[int, list[int]] = {}
        aggregated: dict[int, int] = {}
        for row in rows:
            send = self.send(row.device, row.channel)
            if row.kind < EVENT_FIRST:
                if RAW in send:
                    kept.append(row)
                elif WINDOWS in send:
                    aggregated[row.device] = aggregated.get(row.device, 0) + 1
                else:
                    withheld.setdefault(row.device, [0, 0, 0])[0] += 1
            elif row.kind <= EVENT_LAST:
                if row.channel == BOARD_CHANNEL or ALARMS in send:
                    kept.append(row)
                else:
                    withheld.setdefault(row.device, [0, 0, 0])[1] += 1
            elif RAW in send or WINDOWS in send:
                kept.append(row)
            else:
                withheld.setdefault(row.device, [0, 0, 0])[2] += 1
        return kept, Unsent(
            tuple(Counts(device, *counts) for device, counts in sorted(withheld.items())),
            tuple(Counts(device, count, 0, 0) for device, count in sorted(aggregated.items())),
        )
