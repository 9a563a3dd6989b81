"""What the daemon costs: resident memory idle and at its peak, processor share when idle.

Idle is: connected, 200 boards known, nothing published, a sink configured and answering. Peak: after full-rate ingest
with uploads. One idle spell per call, since it takes as long as it takes.
"""

from __future__ import annotations

import time

from tests.bench.common import Result, Settings, cpu_s, memory_mb
from tests.bench.load import BOARDS
from tests.bench.receiver import Server
from tests.bench.stack import broker, burst, check_stored, daemon, pid_of

READINGS = 100_000


def run(settings: Settings) -> list[Result]:
    """All three."""
    folder = settings.workdir("footprint")
    with broker(folder) as mqtt, Server(folder) as cloud, daemon(folder / "gateway", mqtt.port, cloud.url) as gateway:
        pid = pid_of(gateway)
        stored = burst(mqtt.port, 1, 1, BOARDS)["readings"]  # each board is known from one reading
        time.sleep(2.0)  # the upload of these is no idleness
        before_s, began_s = cpu_s(pid), time.monotonic()
        settings.say(f"  idle for {settings.idle_s:g} s ...")
        time.sleep(settings.idle_s)
        share = (cpu_s(pid) - before_s) / (time.monotonic() - began_s) * 100
        idle_mb, _ = memory_mb(pid)
        stored += burst(mqtt.port, 2, 10, READINGS)["readings"]
        stored += burst(mqtt.port, 3, 1, READINGS // 5)["readings"]
        check_stored(gateway, stored)
        _, peak_mb = memory_mb(pid)
    return [
        Result("gateway resident, idle", "MB", [idle_mb], aim="40", digits=1),
        Result("gateway resident, peak at full ingest with uploads", "MB", [peak_mb], aim="80", digits=1),
        Result(f"gateway processor share, idle over {settings.idle_s:g} s", "% of a core", [share], aim="1", digits=2),
    ]
