"""From a board's socket to the cloud: alarms at random moments in a stream of 500 readings a second.

The clock starts when the client hands the frame to its socket and stops when the receiver's process has read the whole
request; both use the machine's monotonic clock. The way: client, mosquitto, daemon, commit, batch, commit, HTTP.
"""

from __future__ import annotations

from tests.bench.common import BenchError, Result, Settings, child_json, quantile
from tests.bench.receiver import Server
from tests.bench.stack import broker, check_stored, daemon

RATE = 500
SECONDS = 7.0


def run(settings: Settings) -> list[Result]:
    """p50 and p99 to the cloud, and the same to the acknowledgement."""
    folder = settings.workdir("alarm")
    cloud_ms: list[list[float]] = []
    ack_ms: list[list[float]] = []
    stored = 0
    with broker(folder) as mqtt, Server(folder) as cloud, daemon(folder / "gateway", mqtt.port, cloud.url) as gateway:
        for number in range(settings.runs):
            boot = number + 1
            done = child_json(
                "tests.bench.load", "steady", "--port", mqtt.port, "--boot", boot, "--rate", RATE, "--seconds", SECONDS
            )
            came = cloud.ask("stats")["alarms"]
            missing = [seq for seq in done["sent_ns"] if f"{boot}/{seq}" not in came]
            if missing or len(done["ack_ms"]) != done["alarms"]:
                raise BenchError(f"of {done['alarms']} alarms {len(missing)} did not reach the cloud")
            cloud_ms.append([(came[f"{boot}/{seq}"] - at_ns) / 1e6 for seq, at_ns in done["sent_ns"].items()])
            ack_ms.append(done["ack_ms"])
            stored += done["readings"] + done["alarms"]
            settings.say(f"  {done['alarms']} alarms: p50 {quantile(cloud_ms[-1], 0.5):.1f} ms to the cloud")
        check_stored(gateway, stored)
    count = sum(map(len, cloud_ms))
    note = f"{count} alarms in all; single frames, an upload of their own each"
    out = []
    for name, values, aims in (
        ("alarm, board to cloud", cloud_ms, ("25", "80")),
        ("alarm, board to acknowledgement", ack_ms, ("", "")),
    ):
        for share, aim in zip((0.5, 0.99), aims, strict=True):
            label = f"{name}, p{share * 100:.0f} at {RATE} readings/s"
            out.append(Result(label, "ms", [quantile(run, share) for run in values], note=note, aim=aim, digits=1))
    return out
