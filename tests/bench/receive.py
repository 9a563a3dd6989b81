"""The receiver of `isotherm cloud serve`: readings a second from gateways over HTTP into its store, all answered.

Three gateways of twenty boards, as fast as they are answered; the receiver's own processor time beside it, since
senders and receiver share one machine. A figure counts only if every row is in the store once.
"""

from __future__ import annotations

from host_tools.cloud.store_read import CloudReader
from tests.bench.common import BenchError, Result, Settings, child_json, cpu_s, memory_mb, quantile
from tests.support.uplink import ReceiverProcess

GATEWAYS = 3
ROWS = {1000: 60, 100: 150}  # rows of a batch, and how many batches of each gateway
AIM = "10,000"


def run(settings: Settings) -> list[Result]:
    """All of it."""
    results = []
    for rows, batches in ROWS.items():
        folder = settings.workdir(f"receive-{rows}")
        rates, costs_us, p99_ms = [], [], []
        sent = 0
        with ReceiverProcess(folder) as receiver:
            receiver.start()
            assert receiver.process is not None
            pid = receiver.process.pid
            for number in range(settings.runs):
                before_s = cpu_s(pid)
                done = child_json(
                    *("tests.bench.senders", "--port", receiver.port, "--run", number, "--gateways", GATEWAYS),
                    *("--batches", batches, "--rows", rows),
                )
                costs_us.append((cpu_s(pid) - before_s) / done["new"] * 1e6)
                rates.append(done["new"] / done["seconds"])
                p99_ms.append(quantile(done["waits_s"], 0.99) * 1000)
                sent += rows * batches * GATEWAYS
                settings.say(f"  batches of {rows}: {rates[-1]:,.0f}/s, sent again: {done['again']}")
            peak_mb = memory_mb(pid)[1]
            receiver.stop()
        with CloudReader(receiver.data) as reader:
            counters = reader.counters()
            stored = sum(count.identities for count in reader.counts_per_device().values())
        if not stored == counters["rows_new"] == sent:
            raise BenchError(f"sent {sent} readings, {stored} are stored, {counters['rows_new']} were counted")
        name = f"durable at the receiver, batches of {rows}"
        note = f"{GATEWAYS} gateways of 20 boards, WAL with synchronous=FULL"
        results += [
            Result(name, "readings/s", rates, note=note, aim=AIM),
            Result(f"receiver's processor time, batches of {rows}", "µs a reading", costs_us, digits=1),
            Result(f"from request to reply, p99, batches of {rows}", "ms", p99_ms, digits=1),
            Result(f"receiver resident, peak, batches of {rows}", "MB", [peak_mb], digits=1),
        ]
    return results
