"""What all benchmarks share: results, the run's settings, child processes and what /proc says of them.

It must not know any single benchmark, and it judges no figure: a slow machine is no error.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.daemon import ROOT, environment

CHILD_S_MAX = 300.0


class BenchError(Exception):
    """A figure could not be taken, or the run lost or doubled a reading: no figure is better than that one."""


@dataclass(frozen=True)
class Result:
    """One figure. `values`: one per run. `beside`: the baseline's values of the same runs; `aim`: DESIGN section 8."""

    name: str
    unit: str
    values: Sequence[float]
    note: str = ""
    beside_name: str = ""
    beside: Sequence[float] = ()
    aim: str = ""
    digits: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def ratio(self) -> float | None:
        """Ours to the baseline."""
        base = statistics.median(self.beside) if self.beside else 0
        return self.median / base if base else None

    def document(self) -> dict[str, Any]:
        """As it stands in the JSON file."""
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "runs": list(self.values),
            "note": self.note,
            "baseline": self.beside_name or None,
            "baseline_runs": list(self.beside),
            "ratio": self.ratio,
            "aim": self.aim or None,
        }


@dataclass
class Settings:
    """One call of the program. Each benchmark makes its own folder under `folder`."""

    folder: Path
    runs: int
    rows_million: float
    idle_s: float
    plot: Path | None = None
    say: Callable[[str], None] = field(default=lambda text: print(text, file=sys.stderr, flush=True))

    def workdir(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir(parents=True)
        return path


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed."""
    ordered = sorted(values)
    if not ordered:
        raise BenchError("no values to take a quantile of")
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def child_json(module: str, *arguments: object) -> dict[str, Any]:
    """Run a module of ours in a process of its own; what it prints is one JSON document."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=CHILD_S_MAX,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"{module} failed: {(done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]}")
    return dict(json.loads(done.stdout))


def until(condition: Callable[[], bool], what: str, timeout_s: float = 120.0, step_s: float = 0.05) -> None:
    """Poll until it is so. Raises BenchError at the deadline."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise BenchError(f"{what} did not come within {timeout_s:g} s")
        time.sleep(step_s)


def memory_mb(pid: int) -> tuple[float, float]:
    """(resident now, highest so far) in MB of 10^6 bytes."""
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, rest = line.partition(":")
        if name in ("VmRSS", "VmHWM"):
            found[name] = int(rest.split()[0]) * 1024 / 1e6
    return found["VmRSS"], found["VmHWM"]


def cpu_s(pid: int) -> float:
    """Processor time all its living threads have used, from the scheduler's own count in ns, finer than ticks."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(path.read_text(encoding="ascii").split()[0]) for path in threads) / 1e9
