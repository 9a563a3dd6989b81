"""Runs of analyses: which windows are due, where each run goes, and what becomes of its result.

    windows closed -> due -> decide (offload.py) -> here:  a process of its own (analyst.py) -> kept -> rules
                                                 -> cloud: kept -> beside the next batch of windows -> run there

One thread, one run at a time, never in the writer's way. A result is derived: what a kill takes is made again, and
what is made twice is the same bytes under one identity. Bounds: CATCH_UP windows of each analysis after an outage,
older ones are skipped and counted; a request that cannot be sent for PATIENCE_S is run here; a run that fails
TRIES times is the cloud's, or given up without one. It knows neither SQL nor rules.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from gateway.errors import GatewayError, StoreUnusable
from gateway.messages import DeviceInfo, Finding, Run, WindowPrint
from gateway.metrics import Metrics
from gateway.offload import AUTO, CLOUD, HERE, Decision, Figures, Limits, State, decide, loads, look, objections
from gateway.policy import Pattern, channel_name

log = logging.getLogger("isotherm.analyses")

LOOK_S = 1.0
CATCH_UP = 24
PATIENCE_S = 300.0
TRIES = 3
UNSENT_MAX = 64  # in one batch
_TROUBLE_S = 5.0


class AnalysisError(GatewayError):
    """A run ended without a result; the next one may have one."""


class Analysis(Protocol):
    """What is read of an analysis: gateway.config.offload.AnalysisConfig."""

    @property
    def length_s(self) -> int: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def place(self) -> str: ...
    @property
    def across(self) -> bool: ...
    @property
    def pattern(self) -> Pattern: ...
    @property
    def look_back_s(self) -> int: ...


class Plan(NamedTuple):
    """What a reload may change."""

    analyses: Mapping[str, Analysis]
    limits: Limits
    has_cloud: bool


class Kept(Protocol):
    """What is asked of the store: gateway.store.AnalysisReader."""

    def last_start_s(self, name: str, length_s: int) -> int | None: ...
    def unsent(self, limit: int) -> list[Run]: ...
    def latest_outcome(self, name: str) -> Run | None: ...
    def settled(self, length_s: int, start_s: int, before_s: int) -> bool: ...
    def places(self, length_s: int, start_s: int, before_s: int) -> list[tuple[int, int]]: ...
    def head_revision(self) -> int: ...
    def print_of(
        self, sensors: Iterable[tuple[int, int]], length_s: int, start_s: int, before_s: int
    ) -> WindowPrint: ...
    def numbers(self, names: Sequence[str]) -> dict[str, int]: ...
    def begin(self) -> None: ...
    def end(self) -> None: ...


class Ports(NamedTuple):
    """Whom the runner asks and tells."""

    kept: Kept
    keep: Callable[[Run, int], bool]  # (run, forget those of windows before) -> durable
    closed_ms: Callable[[], int]
    figures: Callable[[], Figures]
    crunch: Callable[[str], tuple[str, float]]  # request -> outcome and processor time in s; raises AnalysisError
    found: Callable[[str, Sequence[Finding]], None]
    ready: Callable[[], None]  # something waits to be sent
    infos: Callable[[set[int]], dict[int, DeviceInfo]]


class Analyses:
    """`start` once the store works; `tune` at any time."""

    def __init__(
        self, ports: Ports, plan: Plan, metrics: Metrics, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._ports = ports
        self._plan = plan
        self._metrics = metrics
        self._clock_s = clock_s
        self._state = State()
        self._figures: Figures | None = None
        self._latest: dict[str, dict[str, Any]] = {}
        self._waiting: dict[tuple[str, int, int], float] = {}  # unsent requests, since when
        self._failed: dict[tuple[str, int, int], int] = {}  # runs that gave nothing, and how often
        self._due = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="analyses", daemon=True)

    def start(self) -> None:
        """What was found last still holds: say it again, then work."""
        for name in self._plan.analyses:
            run = self._ports.kept.latest_outcome(name)
            if run is not None:
                self._tell(run)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def tune(self, plan: Plan) -> None:
        """Other analyses and bounds, from the next look on."""
        self._plan = plan

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            try:
                self.step()
            except StoreUnusable as exc:
                log.error("analyses: %s", exc)
                self._stop.wait(_TROUBLE_S)

    # -- one look

    def step(self) -> None:
        """Look at the figures, and do what is due. In the runner's thread, or a test's."""
        plan = self._plan
        if not plan.analyses:
            return
        self._look(plan)
        due = [*self._taken_back(plan), *self._due_runs(plan)]
        self._due = len(due)
        for place, name, start_s in due:
            if self._stop.is_set():
                return
            if not self._one(plan, place, name, start_s):
                self._stop.wait(_TROUBLE_S)  # the disk, or the run itself: what is left is due again at the next look
                return
            self._due -= 1
            self._look(plan)

    def _look(self, plan: Plan) -> None:
        self._figures = figures = self._ports.figures()
        before = self._state
        self._state = look(before, figures, plan.limits)
        if self._state.away != before.away:
            place = CLOUD if self._state.away else HERE
            self._metrics.add("offload_changes_total", 1, to=place)
            why = ", ".join(loads(figures, plan.limits)) or "calm"
            log.warning("analyses: from now on %s (%s)", "in the cloud" if self._state.away else "here", why)

    def _due_runs(self, plan: Plan) -> list[tuple[str, str, int]]:
        """(pin, name, start_s) of windows that are closed and not judged, oldest first."""
        due = []
        closed_s = self._ports.closed_ms() // 1000
        for name, analysis in plan.analyses.items():
            length_s = analysis.length_s
            newest_s = closed_s // length_s * length_s - length_s
            if newest_s < 0:
                continue
            last_s = self._ports.kept.last_start_s(name, length_s)
            next_s = newest_s if last_s is None else last_s + length_s
            oldest_s = newest_s - (CATCH_UP - 1) * length_s
            if next_s < oldest_s:
                self._metrics.add("analysis_skipped_total", (oldest_s - next_s) // length_s, analysis=name)
                next_s = oldest_s
            due += [(analysis.place, name, at_s) for at_s in range(next_s, newest_s + 1, length_s)]
        return sorted(due, key=lambda run: run[2])

    def _taken_back(self, plan: Plan) -> list[tuple[str, str, int]]:
        """Requests that wait to be sent and need not: it is calm again, the link objects, or it takes too long."""
        assert self._figures is not None
        now_s = self._clock_s()
        home = not self._state.away or bool(objections(self._state, self._figures))
        waiting = {}
        back = []
        for run in self._ports.kept.unsent(UNSENT_MAX):
            analysis = plan.analyses.get(run.name)
            key = run[:3]
            if run.place != CLOUD or run.outcome is not None or analysis is None or analysis.place != AUTO:
                continue
            if key in self._failed:
                continue
            waiting[key] = self._waiting.get(key, now_s)
            if home or now_s - waiting[key] >= PATIENCE_S:
                back.append((HERE, run.name, run.start_s))
        self._waiting = waiting
        return back

    def _one(self, plan: Plan, pin: str, name: str, start_s: int) -> bool:
        """Decide, run or hand over, keep. True when that is durable."""
        analysis = plan.analyses[name]
        assert self._figures is not None
        decision = decide(pin, self._state, self._figures, plan.limits)
        if decision.place == CLOUD and not plan.has_cloud:
            decision = Decision(HERE, ("no_cloud",))
        request = self.request(name, analysis, start_s)
        text = None
        if decision.place == HERE:
            text = self._crunch(name, analysis.length_s, start_s, request)
            if text is None:
                if self._failed[name, analysis.length_s, start_s] < TRIES or self._stop.is_set():
                    return False
                decision = Decision(CLOUD if plan.has_cloud else HERE, ("failed_here",))
        run = Run(name, analysis.length_s, start_s, decision.place, request, text)
        if not self._ports.keep(run, start_s - analysis.look_back_s):
            return False
        self._metrics.add("analysis_runs_total", 1, analysis=name, place=decision.place)
        for reason in decision.reasons:
            self._metrics.add("offload_reasons_total", 1, place=decision.place, reason=reason)
        self._latest[name] = {"start_s": start_s, "place": decision.place, "reasons": list(decision.reasons)}
        self._tell(run)
        self._ports.ready()
        return True

    def _crunch(self, name: str, length_s: int, start_s: int, request: str) -> str | None:
        """The outcome; None when there is none."""
        try:
            text, cpu_s = self._ports.crunch(request)
        except AnalysisError as exc:
            key = (name, length_s, start_s)
            if len(self._failed) >= UNSENT_MAX and key not in self._failed:
                del self._failed[min(self._failed, key=lambda failed: failed[2])]
            self._failed[key] = self._failed.get(key, 0) + 1
            self._metrics.add("analysis_failed_total", 1, analysis=name)
            log.error("analysis %s of the window at %d: %s", name, start_s, exc)
            return None
        self._metrics.add("analysis_cpu_seconds_total", cpu_s)
        return text

    def request(self, name: str, analysis: Analysis, start_s: int) -> str:
        """What has to be run, as JSON: docs/uplink.md, "Analyses"."""
        first_s = start_s - analysis.look_back_s
        body: dict[str, Any] = {
            "name": name,
            "length_s": analysis.length_s,
            "start_s": start_s,
            "first_s": first_s,
            "low_milli": _milli(analysis.low),
            "high_milli": _milli(analysis.high),
        }
        if analysis.across:
            body["across"] = dict(zip(("device", "class", "channel"), analysis.pattern, strict=True))
        else:
            places = self._ports.kept.places(analysis.length_s, first_s, start_s + 1)
            infos = self._ports.infos({device for device, _ in places})
            body["sensors"] = sorted(
                [infos[device].name, channel]
                for device, channel in places
                if device in infos and analysis.pattern.fits(infos[device], channel_name(infos[device], channel))
            )
        return json.dumps(body, separators=(",", ":"))

    def _tell(self, run: Run) -> None:
        """Hand what was found here to the rules."""
        if run.outcome is None:
            return
        _, _, _, rows = json.loads(json.loads(run.outcome)["result"])
        places = [row[0].rpartition("/") for row in rows]
        numbers = self._ports.kept.numbers([device for device, _, _ in places])
        infos = self._ports.infos(set(numbers.values()))
        findings = []
        for (device, _, channel), row in zip(places, rows, strict=True):
            info = infos.get(numbers.get(device, -1))
            if info is not None and row[1] is not None:  # a silent sensor is not judged: what stands goes on standing
                findings.append(Finding(info, int(channel), row[1], row[2], row[3], row[5], row[6]))
        self._ports.found(run.name, findings)

    # -- for people

    @property
    def due(self) -> int:
        """Runs that are due and not done, at the last look."""
        return self._due

    @property
    def away(self) -> bool:
        return self._state.away

    def status(self) -> dict[str, Any]:
        """Where runs go now and why, and where the latest of each analysis went."""
        figures, limits = self._figures, self._plan.limits
        return {
            "place": CLOUD if self._state.away else HERE,
            "load": list(loads(figures, limits)) if figures else [],
            "objections": list(objections(self._state, figures)) if figures else [],
            "figures": figures._asdict() if figures else None,
            "due": self._due,
            "analyses": dict(self._latest),
        }


class Outgoing:
    """What goes up beside windows: requests, and results made here. Asked in a batcher's thread."""

    def __init__(self, kept: Kept, sent: Callable[[Sequence[Run]], None]) -> None:
        self._kept = kept
        self.sent = sent

    def ready(self, last_revision: int) -> tuple[list[dict[str, Any]], list[Run]]:
        """Documents for a batch after which the receiver has all windows up to `last_revision`, and their runs.

        A request goes only when those are all that are closed and none of them is being folded anew: so both sides
        have the same windows when it arrives, which its print proves.
        """
        documents: list[dict[str, Any]] = []
        runs = []
        self._kept.begin()
        try:
            whole = self._kept.head_revision() <= last_revision
            for run in self._kept.unsent(UNSENT_MAX):
                document = json.loads(run.request)
                if run.outcome is not None:
                    document |= json.loads(run.outcome)
                elif not whole or not self._settled(document):
                    continue
                elif "sensors" in document:
                    document["windows"] = list(self._print(document))
                documents.append(document)
                runs.append(run)
        finally:
            self._kept.end()
        return documents, runs

    def _settled(self, request: dict[str, Any]) -> bool:
        return self._kept.settled(request["length_s"], request["first_s"], request["start_s"] + 1)

    def _print(self, request: dict[str, Any]) -> WindowPrint:
        numbers = self._kept.numbers([device for device, _ in request["sensors"]])
        places = [(numbers[device], channel) for device, channel in request["sensors"] if device in numbers]
        return self._kept.print_of(places, request["length_s"], request["first_s"], request["start_s"] + 1)


def _milli(limit: float) -> int | None:
    return None if math.isinf(limit) else round(limit * 1000)
