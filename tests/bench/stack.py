"""A real broker and a real gateway process for a benchmark, and what must hold of its ledger afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.common import BenchError, child_json
from tests.support.daemon import Daemon
from tests.support.mosquitto import Mosquitto

# The broker's own limit must not be what is measured: 800 frames are in flight at most, so this is never reached.
BROKER_EXTRA = "max_queued_messages 20000\n"
READ_TIMEOUT_S = 10.0


@contextmanager
def broker(folder: Path, extra: str = BROKER_EXTRA) -> Iterator[Mosquitto]:
    """A mosquitto on a free port."""
    with Mosquitto(folder / "broker", extra=extra) as running:
        yield running


def daemon(folder: Path, port: int, url: str | None = None, sink: str = "") -> Daemon:
    """`isotherm-gateway run`, not started yet. Its folder may hold a store already, as data/isotherm.db."""
    return Daemon(folder, port, url, sink=sink, read_timeout_s=READ_TIMEOUT_S)


def pid_of(running: Daemon) -> int:
    if running.process is None or running.process.poll() is not None:
        raise BenchError(f"the gateway has ended: {running.log.read_text(encoding='utf-8', errors='replace')[-400:]}")
    return running.process.pid


def check_stored(running: Daemon, stored: int) -> None:
    """The ledger knows exactly what the clients had acknowledged. A figure for a lossy run is worth nothing."""
    ledger = running.status()["ledger"]
    if ledger["totals"]["stored"] != stored or not ledger["balanced"]:
        raise BenchError(f"{stored} readings were acknowledged, the ledger holds {ledger['totals']}")


def burst(port: int, boot: int, size: int, readings: int) -> dict[str, Any]:
    """The client process sends `readings` of all boards in frames of `size` and waits until all are acknowledged."""
    options = ("--port", port, "--boot", boot, "--size", size, "--readings", readings)
    return child_json("tests.bench.load", "burst", *options)
