"""Ingest rate and start-up with millions of stored rows that were never uploaded, against an empty store.

The two take turns, so that whatever else the machine does hits both. The cloud is away for both: its port is closed.
"""

from __future__ import annotations

import time

from host_tools.demo.processes import free_port
from tests.bench import stores
from tests.bench.common import Result, Settings
from tests.bench.load import BOARDS
from tests.bench.stack import broker, burst, check_stored, daemon
from tests.support.daemon import Daemon
from tests.support.mosquitto import Mosquitto

READINGS = 200_000
SIZE = 10


def run(settings: Settings) -> list[Result]:
    """Both ratios."""
    folder = settings.workdir("backlog")
    rows = int(settings.rows_million * 1_000_000)
    source = folder / "filled" / "isotherm.db"
    settings.say(f"  filling a store with {rows:,} rows ...")
    stores.fill(source, rows)
    size_mb = stores.size_bytes(source) / 1e6
    stores.copy(source, folder / "full")
    stores.remove(source)
    label = f"{settings.rows_million:g} million stored rows"
    ingest: dict[str, list[float]] = {"full": [], "empty": []}
    start: dict[str, list[float]] = {"full": [], "empty": []}
    held = {"full": rows - rows % BOARDS, "empty": 0}
    with broker(folder) as mqtt:
        gateways = {name: daemon(folder / name, mqtt.port, f"http://127.0.0.1:{free_port()}") for name in ingest}
        for name in gateways:  # once unmeasured: files are read into the page cache, byte code is written
            _start_and_stop(gateways[name])
        for number in range(settings.runs):
            for name in ("empty", "full") if number % 2 else ("full", "empty"):
                start[name].append(_start_and_stop(gateways[name]))
        for number in range(settings.runs):
            for name in ("empty", "full") if number % 2 else ("full", "empty"):
                rate, done = _ingest(gateways[name], mqtt, number + 2, held[name])
                held[name] += done
                ingest[name].append(rate)
            settings.say(f"  ingest: {ingest['full'][-1]:,.0f}/s full, {ingest['empty'][-1]:,.0f}/s empty")
    return [
        Result(
            f"durable ingest with {label} ({size_mb:,.0f} MB), 10 readings a frame", "readings/s", ingest["full"],
            beside_name="empty store", beside=ingest["empty"], aim="0.9 of an empty store, at 10 million",
        ),
        Result(
            f"start-up with {label}: from exec to connected", "ms", start["full"],
            beside_name="empty store", beside=start["empty"], aim="1.2 of an empty store, at 10 million",
        ),
    ]  # fmt: skip


def _start_and_stop(gateway: Daemon) -> float:
    """Milliseconds from exec until its status page says that the broker has it."""
    started_s = time.monotonic()
    gateway.start()
    took_ms = (time.monotonic() - started_s) * 1000
    gateway.stop()
    return took_ms


def _ingest(gateway: Daemon, mqtt: Mosquitto, boot: int, held: int) -> tuple[float, int]:
    with gateway:
        done = burst(mqtt.port, boot, SIZE, READINGS)
        check_stored(gateway, held + done["readings"])
        gateway.stop()
    return done["readings"] / done["seconds"], done["readings"]
