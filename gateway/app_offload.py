"""The part of app.py for analyses: what the runner is asked with and told through, and the process that a run is.

It opens a connection of its own for each thread, so that neither batchers nor rules wait for a run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gateway.analyses import Analyses, AnalysisError, Outgoing, Plan, Ports
from gateway.config import Config
from gateway.machine import Load
from gateway.messages import Finding
from gateway.metrics import GAUGE, Family, Metrics
from gateway.offload import Figures
from gateway.store import AnalysisReader, Reader, Store

_STOP_S = 2.0
_POLL_S = 0.2


class Rest(NamedTuple):
    """What the rest of the gateway tells and is told."""

    closed_ms: Callable[[], int]
    behind_rows: Callable[[], int]
    reachable: Callable[[], bool]
    found: Callable[[str, Sequence[Finding]], None]
    ready: Callable[[], None]


class Offload:
    """`outgoing` for the batcher of the sink that runs analyses; `open`, then `start` once the store works."""

    def __init__(self, config: Config, store: Store, metrics: Metrics, load: Load | None = None) -> None:
        self._config = config
        self._store = store
        self._metrics = metrics
        self._load = load or Load()
        self._readers: list[AnalysisReader | Reader] = []
        self._rows: Reader
        self._rest: Rest
        self._runner: Analyses | None = None

    def outgoing(self, sink: str) -> Outgoing | None:
        """What goes beside the windows of a sink; None: nothing."""
        if sink != self._config.offload_sink:
            return None
        return Outgoing(self._reader(), self._store.runs_sent)

    def open(self, rest: Rest) -> None:
        self._rest = rest
        self._rows = Reader(self._config.store_path)
        self._readers.append(self._rows)
        ports = Ports(
            self._reader(),
            self._store.keep_run,
            rest.closed_ms,
            self._figures,
            self._crunch,
            rest.found,
            rest.ready,
            self._rows.device_infos,
        )
        self._runner = Analyses(ports, self._plan(), self._metrics)
        self._metrics.source(self._families)

    def start(self) -> None:
        if self._runner is not None:
            self._runner.start()

    def stop(self) -> None:
        """End; a run under way is ended and made again after the next start."""
        if self._runner is not None:
            self._runner.stop(_STOP_S)

    def close(self) -> None:
        for reader in self._readers:
            reader.close()

    @property
    def alive(self) -> bool:
        return self._runner is None or self._runner.alive

    def tune(self, config: Config) -> None:
        """Other analyses and bounds; another sink waits for a restart."""
        self._config = config
        if self._runner is not None:
            self._runner.tune(self._plan())

    def status(self) -> dict[str, Any]:
        return self._runner.status() if self._runner is not None else {}

    # -- what the runner asks

    def _reader(self) -> AnalysisReader:
        reader = AnalysisReader(self._config.store_path)
        self._readers.append(reader)
        return reader

    def _plan(self) -> Plan:
        return Plan(self._config.analyses, self._config.offload.limits, self._config.offload_sink is not None)

    def _figures(self) -> Figures:
        offload, sink = self._config.offload, self._config.offload_sink
        metered = offload.metered or time.localtime().tm_hour in offload.metered_hours
        return Figures(
            self._store.waiting_rows + self._rest.behind_rows(),
            self._load.cpu(),
            self._load.soc_celsius(),
            self._load.throttled(),
            self._backlog_rows(sink) if sink else 0,
            sink is not None and self._rest.reachable(),
            metered,
        )

    def _backlog_rows(self, sink: str) -> int:
        live = max(0, self._store.head_row + 1 - self._rows.cursor(sink, "live"))
        left = self._rows.backfill_range(sink)
        return live + (left[1] - left[0] + 1 if left else 0)

    def _crunch(self, request: str) -> tuple[str, float]:
        """One run in a process of its own. Raises AnalysisError."""
        command = [sys.executable, "-m", "gateway.analyst", str(self._config.store_path)]
        where = {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(part).absolute()) for part in sys.path)}
        limit_s = time.monotonic() + self._config.offload.run_s
        try:
            child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=where
            )
        except OSError as exc:
            raise AnalysisError(f"no process can be started ({exc.strerror})") from exc
        with child:
            told: str | None = request
            while True:
                try:
                    out, err = child.communicate(told, _POLL_S)
                    break
                except subprocess.TimeoutExpired:
                    told = None
                    if time.monotonic() < limit_s and not (self._runner and self._runner.stopping):
                        continue
                    child.kill()
                    child.communicate()
                    raise AnalysisError(f"no result within {self._config.offload.run_s:g} s, or ending") from None
        lines = out.splitlines()
        if child.returncode or len(lines) != 2:
            last = err.strip().splitlines()[-1:] or ["nothing said"]
            raise AnalysisError(f"its process ended with {child.returncode}: {last[0]}")
        return lines[0], float(lines[1])

    def _families(self) -> Iterable[Family]:
        runner = self._runner
        if runner is None or not self._config.analyses:
            return
        status = runner.status()
        away = float(runner.away)
        yield Family("offload_away", GAUGE, "1 while load sends analyses to the cloud.", [({}, away)])
        yield Family("analysis_due", GAUGE, "Runs of analyses that are due and not done.", [({}, float(runner.due))])
        rows = [({"reason": reason}, 1.0) for reason in status["load"]]
        yield Family("offload_load", GAUGE, "1 for each figure that is load now.", rows)
        rows = [({"reason": reason}, 1.0) for reason in status["objections"]]
        yield Family(
            "offload_objection", GAUGE, "1 for each thing that speaks against the link to the cloud now.", rows
        )
        figures = status["figures"] or {}
        rows = [({"figure": name}, float(value)) for name, value in figures.items() if value is not None]
        yield Family("offload_figure", GAUGE, "What the controller saw at its last look, by figure.", rows)
