"""The machine and the conditions of a run: processor, kernel, versions, what a commit to this disk costs, the load.

It looks and measures fsync; it knows no benchmark.
"""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from host_tools.demo.processes import find_mosquitto
from host_tools.virtual.interpreter import find_micropython

_FSYNCS = 100


def describe(folder: Path) -> dict[str, Any]:
    """Everything that belongs beside a figure. `folder` is where the stores of the run lie."""
    interpreter = find_micropython()
    fsync_ms = _fsync_ms(folder)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1_000_000,
        "kernel": platform.release(),
        "system": _system_name(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "mosquitto": _mosquitto_version(),
        "micropython": ".".join(map(str, interpreter.version)) + f", {interpreter.bits} bits, unix port",
        "zstandard": _package("zstandard"),
        "disk": _file_system(folder),
        "fsync_ms_median": round(statistics.median(fsync_ms), 3),
        "fsync_ms_p99": round(sorted(fsync_ms)[-2], 3),
        "load_average_at_start": [round(load, 2) for load in os.getloadavg()],
    }


def lines(facts: dict[str, Any]) -> list[str]:
    """The same for people."""
    return [
        f"{facts['date']}; {facts['cpu']}, {facts['cores']} cores, {facts['memory_mb']} MB; "
        f"{facts['system']}, Linux {facts['kernel']}",
        f"Python {facts['python']}, SQLite {facts['sqlite']}, mosquitto {facts['mosquitto']}, "
        f"zstandard {facts['zstandard']}, MicroPython {facts['micropython']}",
        f"disk {facts['disk']}; write and fsync of 4 KiB: median {facts['fsync_ms_median']} ms, "
        f"p99 {facts['fsync_ms_p99']} ms",
        f"load average (1, 5, 15 min) before the run: {', '.join(map(str, facts['load_average_at_start']))}",
    ]


def _fsync_ms(folder: Path) -> list[float]:
    path = folder / "fsync.probe"
    took = []
    with path.open("wb", buffering=0) as out:
        for _ in range(_FSYNCS):
            started_s = time.perf_counter()
            out.write(bytes(4096))
            os.fsync(out.fileno())
            took.append((time.perf_counter() - started_s) * 1000)
    path.unlink()
    return took


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model", "Hardware"):
                return " ".join(value.split())
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _system_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return platform.system()


def _mosquitto_version() -> str:
    done = subprocess.run([find_mosquitto(), "-h"], capture_output=True, text=True, timeout=10, check=False)
    first = (done.stdout or done.stderr).splitlines()[:1]
    return first[0].removeprefix("mosquitto version ").strip() if first else "?"


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent, gzip serves"


def _file_system(folder: Path) -> str:
    """Kind of file system under `folder`, from the longest mount point that holds it, and whether its disk turns."""
    best = ("", "?", 0)
    try:
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
            left, _, right = line.partition(" - ")
            device, mount = left.split()[2], left.split()[4]
            inside = folder.resolve().is_relative_to(mount)
            if inside and len(mount) >= len(best[0]):
                major, minor = map(int, device.split(":"))
                best = (mount, right.split()[0], os.makedev(major, minor))
    except (OSError, ValueError, IndexError):
        return best[1]
    rotational = Path(f"/sys/dev/block/{os.major(best[2])}:{os.minor(best[2])}/queue/rotational")
    try:
        turns = rotational.read_text(encoding="ascii").strip() == "1"
    except OSError:
        return best[1]
    return f"{best[1]}, {'said to rotate' if turns else 'solid state'}"
