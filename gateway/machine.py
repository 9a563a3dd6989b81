"""Figures of this process and of the machine under it: memory, processor, temperature, throttling.

Read from /proc and /sys when a scrape asks; what a machine does not have is left out. It keeps nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from gateway import __version__
from gateway.metrics import COUNTER, GAUGE, Family

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# The firmware's flags on a Raspberry Pi (its documentation of `vcgencmd get_throttled`): now, and 16 bits above the
# same since the start of the machine. The kernel's raspberrypi-firmware driver shows them as hexadecimal digits.
_THROTTLED = "devices/platform/soc/soc:firmware/get_throttled"
OF_SOME_MACHINES = ("machine_temperature_celsius", "machine_condition", "machine_condition_since_start")
_CONDITIONS = ("under_voltage", "frequency_capped", "throttled", "soft_temperature_limit")


def families(born_unix_s: float, sys: Path = Path("/sys"), proc: Path = Path("/proc/self")) -> Iterator[Family]:
    """All of them, for one scrape."""
    yield Family("build_info", GAUGE, "1, with the version as label.", [({"version": __version__}, 1.0)])
    yield Family("start_time_seconds", GAUGE, "When this process started, in unix time.", [({}, born_unix_s)])
    yield Family("cpu_seconds_total", COUNTER, "Processor time of this process.", [({}, time.process_time())])
    resident = (proc / "statm").read_text(encoding="ascii").split()[1]  # proc(5): in pages
    yield Family(
        "resident_memory_bytes", GAUGE, "Memory of this process that is in RAM.", [({}, float(resident) * _PAGE_BYTES)]
    )
    temperatures = list(_temperatures(sys))
    text = "Temperature of a thermal zone of this machine; a Raspberry Pi's processor is cpu-thermal."
    yield Family(OF_SOME_MACHINES[0], GAUGE, text, temperatures)
    flags = throttled(sys)
    if flags is None:
        return
    for name, shift, text in (
        (OF_SOME_MACHINES[1], 0, "1 while the firmware reports this of the machine's power or heat."),
        (OF_SOME_MACHINES[2], 16, "1 if the firmware reported this since the machine started."),
    ):
        rows = [({"condition": what}, float(flags >> (bit + shift) & 1)) for bit, what in enumerate(_CONDITIONS)]
        yield Family(name, GAUGE, text, rows)


class Load:
    """How hard the machine works, look by look: the one place that controllers take its figures from."""

    def __init__(self, sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> None:
        self._sys = sys
        self._stat = proc / "stat"
        self._before: tuple[int, int] | None = None

    def cpu(self) -> float | None:
        """Share of all processors that was busy since the look before, 0 to 1; niced work is no load. None at first.

        proc(5), the first line of stat: user nice system idle iowait irq softirq steal, in ticks.
        """
        text = _read(self._stat)
        if text is None or not text.startswith("cpu "):
            return None
        user, nice, system, idle, iowait, irq, softirq, steal = (int(field) for field in text.split()[1:9])
        busy = user + system + irq + softirq + steal
        now = (busy, busy + nice + idle + iowait)
        before, self._before = self._before, now
        if before is None or now[1] <= before[1]:
            return None
        return max(0.0, (now[0] - before[0]) / (now[1] - before[1]))

    def soc_celsius(self) -> float | None:
        """The hottest thermal zone's."""
        return max((value for _, value in _temperatures(self._sys)), default=None)

    def throttled(self) -> int:
        """The firmware's flags; 0 where there is no such firmware."""
        return throttled(self._sys) or 0


def throttled(sys: Path = Path("/sys")) -> int | None:
    """The firmware's flags, or None where there is no such firmware."""
    text = _read(sys / _THROTTLED)
    try:
        return None if text is None else int(text, 16)
    except ValueError:
        return None


def _temperatures(sys: Path) -> Iterator[tuple[dict[str, str], float]]:
    """Each zone once; zones of one type are told apart by their number."""
    for zone in sorted((sys / "class" / "thermal").glob("thermal_zone*")):
        kind, milli = _read(zone / "type"), _read(zone / "temp")
        if kind and milli and milli.lstrip("-").isdigit():
            yield {"zone": zone.name.removeprefix("thermal_zone"), "type": kind}, int(milli) / 1000


def _read(path: Path) -> str | None:
    """A file of the kernel's; None when it is absent or its sensor does not answer now."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
