"""[windows] and [upload.NAME]: what is made of readings here, and what of them goes up. Declarations only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.config.keys import key, one_of
from gateway.policy import SENDABLE, Pattern, UploadPolicy

INTRO = """\
What goes up of which channels, to every sink: the first table that fits decides, in the order of this file. Without one
that fits, raw and alarms go up. Only minutes, quarters and hours of the freezers, and every alarm:

    [upload.freezers]
    device_class = "freezer"
    send = ["windows", "alarms"]
"""


@dataclass(frozen=True)
class WindowsConfig:
    """[windows]"""

    lengths_s: tuple[int, ...] = key(
        (60, 900, 3600), "lengths of windows; each a multiple of the one before", 1, 86400, unit="s", several_max=6
    )
    hold_s: int = key(7500, "how long after its last record a channel's value is carried on", 1, 864000)
    grace_s: int = key(60, "how long after its end a window waits for records that are on their way", 0, 86400)
    keep_days: int = key(7, "how long windows are kept here after they went up", 1, 3650)

    def wrong(self, beside: Callable[[str], Path]) -> Iterator[tuple[str, str]]:
        if not self.lengths_s:
            yield "lengths_s", "is empty: give one length or more"
        for shorter, longer in zip(self.lengths_s, self.lengths_s[1:], strict=False):
            if longer % shorter or longer == shorter:
                yield "lengths_s", f"holds {longer} after {shorter}, of which it is no multiple"


@dataclass(frozen=True)
class UploadConfig:
    """[upload.NAME]"""

    device: str = key("*", "which devices, by id; *, ? and [abc] as in file names")
    device_class: str = key("*", "which classes of devices")
    channel: str = key("*", "which channels, by name")
    send: tuple[str, ...] = key(
        ("raw", "alarms"),
        "what goes up of them: raw reports, windows, alarms; [] is nothing",
        check=one_of(SENDABLE),
        several_max=len(SENDABLE),
    )

    def policy(self) -> UploadPolicy:
        return UploadPolicy(Pattern(self.device, self.device_class, self.channel), frozenset(self.send))
