"""What offload saves and costs: one gateway under load with its analyses here, and in the cloud; real processes.

A real broker, gateway and receiver; forty boards send without a pause while as many processes as there are processors
keep them busy. The same stretch is run with the analyses pinned here, left to the controller, and without any, which
is the base that costs are counted from. With `plot`, queue lag and processor share go into a PNG.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from host_tools.cloud.store_read import CloudReader
from tests.bench.common import BenchError, Result, Settings, child_json, cpu_s
from tests.bench.stack import broker, check_stored, pid_of
from tests.support.board_client import wait_for
from tests.support.daemon import Daemon
from tests.support.uplink import ReceiverProcess

BOARDS = 40
RATE = 500  # readings a second
CALM_S, LOAD_S, AFTER_S = 12.0, 25.0, 20.0
LENGTH_S = 5  # windows, and so a run every five seconds: 180 times as often as by default
CPU_HIGH, CPU_LOW = 0.85, 0.6
RISE, FALL = 3, 6
LOOK_S = 0.5
EXTRA = f"""
[windows]
lengths_s = [{LENGTH_S}]
hold_s = 60
grace_s = 3
[upload.all]
send = ["raw", "windows", "alarms"]
[offload]
cpu_high = {CPU_HIGH}
cpu_low = {CPU_LOW}
rise = {RISE}
fall = {FALL}
"""
ANALYSIS = '[analyses.site]\nlength_s = {length_s}\nhigh = 60.0\nplace = "{place}"\n'
_SPIN = "while True: sum(range(10000))"


class Look(NamedTuple):
    """One look from outside, through /status: the controller's own figures."""

    at_s: float
    lag_rows: int
    cpu: float
    away: bool
    due: int


class Stretch(NamedTuple):
    """One run. cpu_s: the gateway's, its children's included, while load lasted."""

    looks: list[Look]
    cpu_s: float
    bytes_up: int
    runs: dict[str, int]
    readings: int
    ack_ms: list[float]


def run(settings: Settings, plot: Path | None = None) -> list[Result]:
    """All of it."""
    stretches: dict[str, list[Stretch]] = {"none": [], "here": [], "auto": []}
    for number in range(settings.runs):
        for place, found in stretches.items():
            found.append(_stretch(settings, place, number))
            last = found[-1]
            settings.say(f"  {place}: {last.cpu_s:.2f} s of processor, {last.bytes_up:,} bytes up, runs {last.runs}")
    if plot is not None:
        draw(plot, stretches["here"][-1], stretches["auto"][-1])
        settings.say(f"  plot: {plot}")
    base, here, auto = stretches["none"], stretches["here"], stretches["auto"]
    note = f"{BOARDS} boards, {RATE} readings/s, a run every {LENGTH_S} s, all processors busy for {LOAD_S:g} s"
    return [
        Result(
            *("gateway's processor time for analyses, offload on", "s"),
            [b.cpu_s - a.cpu_s for a, b in zip(base, auto, strict=True)],
            *(note, "always here", [b.cpu_s - a.cpu_s for a, b in zip(base, here, strict=True)]),
            digits=2,
        ),
        Result(
            *("rows waiting, most, offload on", "rows"),
            [max(look.lag_rows for look in one.looks) for one in auto],
            *("the controller's own figure", "always here", [max(x.lag_rows for x in one.looks) for one in here]),
        ),
        Result(
            *("analyses due and not done, most, offload on", "runs"),
            [max(look.due for look in one.looks) for one in auto],
            *("", "always here", [max(x.due for x in one.looks) for one in here]),
        ),
        Result(
            *("bytes up, offload on", "kB"),
            [one.bytes_up / 1000 for one in auto],
            *("requests for runs in the cloud, results of runs here", "always here", [x.bytes_up / 1000 for x in here]),
        ),
        Result("bytes up without any analysis", "kB", [one.bytes_up / 1000 for one in base]),
        Result("runs in the cloud", "runs", [one.runs.get("cloud", 0) for one in auto]),
    ]


def _stretch(settings: Settings, place: str, number: int) -> Stretch:
    folder = settings.workdir(f"offload-{place}-{number}")
    extra = EXTRA + (ANALYSIS.format(length_s=LENGTH_S, place=place) if place != "none" else "")
    with broker(folder) as running_broker, ReceiverProcess(folder) as receiver:
        receiver.start()
        url = f"http://127.0.0.1:{receiver.port}"
        with Daemon(folder / "gw", running_broker.port, url, extra=extra, read_timeout_s=10.0) as gateway:
            looks: list[Look] = []
            done = threading.Event()
            watcher = threading.Thread(target=_watch, args=(gateway, looks, done))
            watcher.start()
            try:
                sent, spent_s = _course(gateway, running_broker.port)
            finally:
                done.set()
                watcher.join()
            sent["rows"] = sent["readings"] + sent["alarms"]
            rows = sent["rows"]
            wait_for(lambda: gateway.status()["ledger"]["totals"]["stored"] >= rows, 60, "all that was sent")
            check_stored(gateway, rows)
            wait_for(lambda: gateway.status()["sinks"]["cloud"]["rows_pending"] == 0, 60, "all of it at the receiver")
            if place != "none":
                wait_for(lambda: gateway.status()["offload"]["due"] == 0, 60, "all runs")
            runs = {
                where: int(gateway.figure(f'analysis_runs_total{{analysis="site",place="{where}"}}'))
                for where in (("here", "cloud") if place == "auto" else (place,) if place == "here" else ())
            }
        with CloudReader(receiver.data) as reader:
            counters, bytes_up = reader.counters(), sum(reader.bytes_per_gateway().values())
        if counters["rows_new"] != sent["rows"]:
            raise BenchError(f"sent {sent['rows']} rows, {counters['rows_new']} are at the receiver")
        if counters.get("analyses_conflicting") or counters.get("analyses_other_windows"):
            raise BenchError(f"results differ: {counters}")
        receiver.stop()
    return Stretch(looks, spent_s, bytes_up, runs, sent["readings"], sent["ack_ms"])


def _course(gateway: Daemon, port: int) -> tuple[dict[str, Any], float]:
    """Calm, load, calm again, while boards send. Returns what they sent, and processor time under load."""
    result: dict[str, Any] = {}
    total_s = CALM_S + LOAD_S + AFTER_S
    command = ("tests.bench.load", "steady", "--port", port, "--boot", 1, "--boards", BOARDS, "--rate", RATE)
    sender = threading.Thread(
        target=lambda: result.update(child_json(*command, "--size", 10, "--seconds", total_s, "--alarms-per-s", 0.5))
    )
    sender.start()
    time.sleep(CALM_S)
    busy = [subprocess.Popen([sys.executable, "-c", _SPIN]) for _ in range(os.cpu_count() or 1)]
    before_s = _whole_cpu_s(gateway)
    try:
        time.sleep(LOAD_S)
        spent_s = _whole_cpu_s(gateway) - before_s
    finally:
        for process in busy:
            process.kill()
            process.wait()
    sender.join()
    if not result:
        raise BenchError("the sender ended without a word")
    return result, spent_s


def _whole_cpu_s(gateway: Daemon) -> float:
    """The daemon's and that of its children that have ended: proc(5), stat, fields 14 to 17."""
    pid = pid_of(gateway)
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return cpu_s(pid) + (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def _watch(gateway: Daemon, looks: list[Look], done: threading.Event) -> None:
    began_s = time.monotonic()
    while not done.wait(LOOK_S):
        state = gateway.status().get("offload", {})
        figures = state.get("figures") or {}
        looks.append(
            Look(
                time.monotonic() - began_s,
                figures.get("lag_rows", 0),
                figures.get("cpu") or 0.0,
                state.get("place") == "cloud",
                state.get("due", 0),
            )
        )


def draw(path: Path, here: Stretch, auto: Stretch) -> None:
    """Queue lag and processor share over time, with and without offload, and where runs went."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(3, 1, figsize=(9, 8), sharex=True, constrained_layout=True)
    for name, one, colour in (("always here", here, "tab:orange"), ("offload", auto, "tab:blue")):
        times = [look.at_s for look in one.looks]
        axes[0].plot(times, [100 * look.cpu for look in one.looks], color=colour, label=name)
        axes[1].plot(times, [look.lag_rows for look in one.looks], color=colour, label=name)
        axes[2].step(times, [look.due for look in one.looks], color=colour, label=name, where="post")
    axes[0].axhspan(100 * CPU_LOW, 100 * CPU_HIGH, color="grey", alpha=0.2, label="decision band")
    axes[0].set(ylabel="processors busy, %", ylim=(0, 105), title=f"{BOARDS} boards, {RATE} readings/s")
    axes[1].set(ylabel="rows waiting")
    axes[2].set(ylabel="analyses due", xlabel="s; all processors are kept busy from 12 s to 37 s")
    for axis in axes:
        _shade(axis, auto.looks)
        axis.legend(loc="upper right")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _shade(axis: Any, looks: list[Look]) -> None:
    """Where runs went to the cloud."""
    name: str | None = "runs in the cloud"
    for look, after in pairwise(looks):
        if look.away:
            axis.axvspan(look.at_s, after.at_s, color="tab:blue", alpha=0.12, linewidth=0, label=name)
            name = None
