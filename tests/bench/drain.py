"""How fast a backlog goes up: a store filled long ago, a daemon started on it, a receiver that answers at once or late.

The rate is all rows by the time from the first request's arrival to the last reply, both seen by the receiver, which
opens every body afterwards and counts: each row once, no row missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.bench import stores
from tests.bench.common import BenchError, Result, Settings, memory_mb, until
from tests.bench.receiver import Server
from tests.bench.stack import broker, daemon, pid_of
from tests.support.daemon import Daemon
from tests.support.mosquitto import Mosquitto

ROWS = {0: 300_000, 600: 120_000}
AIMS = {0: "25,000", 600: "20,000"}


def run(settings: Settings) -> list[Result]:
    """At both delays."""
    folder = settings.workdir("drain")
    results = []
    peaks: list[float] = []
    with broker(folder) as mqtt:
        for delay_ms, aim in AIMS.items():
            rows = ROWS[delay_ms]
            source = folder / f"filled-{rows}" / "isotherm.db"
            stores.fill(source, rows)
            rates, sizes, ends = [], [], []
            with Server(folder, delay_ms) as cloud:
                for _ in range(settings.runs):
                    stats, peak_mb = _drain(folder / f"gateway-{delay_ms}", source, rows, mqtt, cloud)
                    took_s = (stats["last_ns"] - stats["first_ns"]) / 1e9
                    rates.append(rows / took_s)
                    sizes.append(stats["bytes_up"] / rows)
                    ends.append(stats["batches"])
                    peaks.append(peak_mb)
                    settings.say(f"  drain at {delay_ms} ms: {rates[-1]:,.0f}/s in {stats['batches']} batches")
            note = f"{rows:,} rows, {ends[-1]} batches, {sizes[-1]:.2f} B a row up, headers counted"
            results.append(Result(f"backlog drain, reply delay {delay_ms} ms", "readings/s", rates, note=note, aim=aim))
    results.append(Result("gateway resident, peak while draining", "MB", peaks, aim="80", digits=1))
    return results


def _drain(folder: Path, source: Path, rows: int, mqtt: Mosquitto, cloud: Server) -> tuple[dict[str, Any], float]:
    stores.copy(source, folder)
    cloud.ask("reset")
    with daemon(folder, mqtt.port, cloud.url) as gateway:
        until(lambda: _pending(gateway) == 0, "the drain", step_s=0.25)
        peak_mb = memory_mb(pid_of(gateway))[1]
        gateway.stop()
    stats = cloud.ask("stats")
    if not stats["rows"] == stats["identities"] == rows:
        raise BenchError(f"{rows} rows were to go up, {stats['rows']} came, {stats['identities']} different ones")
    return stats, peak_mb


def _pending(gateway: Daemon) -> int:
    """Rows the receiver has not confirmed yet."""
    sink = gateway.status().get("sinks", {}).get("cloud", {})
    return int(sink.get("rows_pending", 1))
