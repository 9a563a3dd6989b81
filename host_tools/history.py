"""What the trainer learns from: one channel's samples, from the receiver's store or from a trace, and their replay.

From a trace the samples are what a board with the fitting sensor would have read. From the store they are its reports,
each carried on until the next one as the receiver carries them, laid on the board's sampling grid: never further from
the truth than the error bound they were sent under. Replay runs the board's own filter over them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Protocol

from host_tools.cloud.store_read import DeviceInfo, StoredReading
from host_tools.reconstruct import Reconstruction, Report, value_after
from host_tools.sensing import DHT22_HUMIDITY_MILLI, DS18B20_TEMP_MILLI
from host_tools.traces import Trace
from isocore.filter import ChannelFilter
from isocore.record import FAULT, FAULT_CLEARED, FAULT_STUCK, is_alarm, is_report

Params = Any  # isocore.model.ChannelParams: it sets its attributes by name, which a type checker cannot follow
DAY_MS = 86_400_000
PERIOD_MS_MIN = 1000
PERIOD_MS_MAX = 3_600_000
SAMPLES_MAX = 1_000_000  # a channel's; longer histories are laid on a coarser grid
_ALARM_ON_KINDS = (3, 5, 7)


@dataclass
class Run:
    """Samples of one boot in order. `fault` is 0 for a sample, else the code of the fault that began there."""

    t_ms: array[int] = field(default_factory=lambda: array("q"))
    value: array[int] = field(default_factory=lambda: array("i"))
    fault: array[int] = field(default_factory=lambda: array("b"))

    def add(self, t_ms: int, value: int, fault: int = 0) -> None:
        """Append a sample, or a fault."""
        self.t_ms.append(t_ms)
        self.value.append(value)
        self.fault.append(fault)

    def since(self, t_ms: int) -> Run:
        """The entries from `t_ms` on."""
        at = bisect_left(self.t_ms, t_ms)
        return Run(self.t_ms[at:], self.value[at:], self.fault[at:])

    def steps(self) -> Iterator[int]:
        """By how much each sample is off the entry before it, where neither is a fault."""
        for i in range(len(self.value) - 1):
            if not self.fault[i] and not self.fault[i + 1]:
                yield abs(self.value[i + 1] - self.value[i])

    @property
    def duration_ms(self) -> int:
        """From the first entry to the last."""
        return self.t_ms[-1] - self.t_ms[0] if self.t_ms else 0


@dataclass
class History:
    """One channel of one device. exact: the samples are those of the board, not held reports."""

    device: str
    device_class: str | None
    channel: str
    runs: list[Run]
    period_ms: int
    exact: bool
    valid_milli: tuple[int, int]

    @property
    def days(self) -> float:
        """Time covered, without what lies between boots."""
        return sum(run.duration_ms for run in self.runs) / DAY_MS

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return sum(len(run.fault) - sum(map(bool, run.fault)) for run in self.runs)

    def recent(self, days: float) -> History:
        """What the last `days` days cover, without what lies between boots."""
        left_ms = round(days * DAY_MS)
        runs: list[Run] = []
        for run in reversed(self.runs):
            if left_ms <= 0:
                break
            runs.append(run if run.duration_ms <= left_ms else run.since(run.t_ms[-1] - left_ms))
            left_ms -= run.duration_ms
        return replace(self, runs=runs[::-1])

    def values(self) -> list[int]:
        """All samples' values, sorted."""
        return sorted(v for run in self.runs for v, fault in zip(run.value, run.fault, strict=True) if not fault)


@dataclass(frozen=True)
class Prediction:
    """What a board with some parameters makes of a history. `messages` are reports; alarms count their beginnings."""

    messages: int
    alarms: int
    faults: int
    samples: int
    max_error_milli: int
    days: float

    @property
    def messages_per_day(self) -> float:
        """Reports a sensor-day."""
        return self.messages / self.days if self.days else float(self.messages)

    @property
    def alarms_per_day(self) -> float:
        """Alarms a sensor-day."""
        return self.alarms / self.days if self.days else float(self.alarms)

    def __add__(self, other: Prediction) -> Prediction:
        return Prediction(
            self.messages + other.messages,
            self.alarms + other.alarms,
            self.faults + other.faults,
            self.samples + other.samples,
            max(self.max_error_milli, other.max_error_milli),
            self.days + other.days,
        )


NOTHING = Prediction(0, 0, 0, 0, 0, 0.0)


def replay(history: History, params: Params) -> Prediction:
    """Run the board's filter over a history."""
    total = NOTHING
    for run in history.runs:
        total += _replay_run(run, params)
    return total


@dataclass
class Replay:
    """What a board makes of one run. alarms: (ms, kind, value) of each beginning and end."""

    reports: list[Report] = field(default_factory=list)
    alarms: list[tuple[int, int, int]] = field(default_factory=list)
    samples: list[tuple[int, int]] = field(default_factory=list)
    faults: int = 0


def replay_run(run: Run, params: Params) -> Replay:
    """Run the board's filter over one run."""
    channel = ChannelFilter(params)
    found = Replay()
    for t_ms, value, code in zip(run.t_ms, run.value, run.fault, strict=True):
        t_s, rest_ms = divmod(t_ms, 1000)
        for i in range(channel.fault(code) if code else channel.step(t_s, rest_ms, value)):
            kind = channel.kinds[i]
            if is_report(kind):
                found.reports.append(_report(channel, i, t_s, rest_ms, len(found.reports)))
            elif is_alarm(kind):
                found.alarms.append((t_ms, kind, channel.values[i]))
            elif kind == FAULT:
                found.faults += 1
        if channel.sampled:
            found.samples.append((t_ms, value))
    for i in range(channel.flush()):
        found.reports.append(_report(channel, i, 0, 0, len(found.reports)))
    return found


def _replay_run(run: Run, params: Params) -> Prediction:
    found = replay_run(run, params)
    signal = Reconstruction(found.reports)
    max_error = max((abs(value - signal.at(t_ms)) for t_ms, value in found.samples), default=0)
    alarms = sum(kind in _ALARM_ON_KINDS for _, kind, _ in found.alarms)
    days = run.duration_ms / DAY_MS
    return Prediction(len(found.reports), alarms, found.faults, len(found.samples), max_error, days)


def _report(channel: Any, i: int, t_s: int, t_ms: int, seq: int) -> Report:
    return channel.at_s(i, t_s) * 1000 + channel.at_ms(i, t_ms), seq, channel.values[i], channel.trend(i)


def from_traces(traces: Iterable[Trace]) -> list[History]:
    """Histories of recordings, quantised as the fitting sensor does."""
    found = []
    for trace in traces:
        sensing = trace.sensing
        steps = sorted(b - a for a, b in pairwise(trace.t_ms))
        period_ms = steps[len(steps) // 2] if steps else PERIOD_MS_MIN
        columns = [("temperature", [sensing.quantise_temp(v) for v in trace.temp_milli])]
        if trace.humidity_milli:
            columns.append(("humidity", [sensing.quantise_humidity(v) for v in trace.humidity_milli]))
        for channel, values in columns:
            run = Run(trace.t_ms, array("i", values), array("b", bytes(len(values))))
            found.append(History(trace.board, None, channel, [run], period_ms, True, sensing.valid_milli[channel]))
    return found


class Reader(Protocol):
    """Where reports are read from: the receiver's store, or the lake."""

    def devices(self) -> list[DeviceInfo]: ...
    def channel_history(self, device: str, channel: int) -> Iterator[StoredReading]: ...


def from_store(reader: Reader, periods_ms: Mapping[str, int | None] | None = None) -> list[History]:
    """Histories of all devices and channels in the store. periods_ms: sampling periods, as far as they are known."""
    found = []
    for device in reader.devices():
        period_ms = (periods_ms or {}).get(device.name)
        for number, name, unit in device.channels:
            history = _from_rows(device, name, unit, list(reader.channel_history(device.name, number)), period_ms)
            if history is not None:
                found.append(history)
    return found


def _from_rows(
    device: DeviceInfo, channel: str, unit: str | None, rows: list[StoredReading], period_ms: int | None
) -> History | None:
    boots: dict[int, list[StoredReading]] = {}
    for row in rows:
        boots.setdefault(row.boot, []).append(row)
    if not boots:
        return None
    if period_ms is None:
        period_ms = _guess_period_ms(boots.values())
    span_ms = sum(boot[-1].uptime_ms - boot[0].uptime_ms for boot in boots.values())
    period_ms = max(period_ms, PERIOD_MS_MIN, span_ms // SAMPLES_MAX)
    runs = [_held(boot, period_ms) for boot in boots.values()]
    return History(device.name, device.device_class, channel, runs, period_ms, False, _valid_milli(channel, unit))


def _guess_period_ms(boots: Iterable[list[StoredReading]]) -> int:
    """Reports lie on the sampling grid, so the short steps between them show it: their lowest twentieth."""
    steps = sorted(b.uptime_ms - a.uptime_ms for boot in boots for a, b in pairwise(boot) if b.uptime_ms > a.uptime_ms)
    if not steps:
        return PERIOD_MS_MAX
    return min(PERIOD_MS_MAX, max(PERIOD_MS_MIN, steps[len(steps) // 20]))


def _held(rows: list[StoredReading], period_ms: int) -> Run:
    """One boot's reports as samples on the grid: each report is carried on until the next entry."""
    run = Run()
    report: StoredReading | None = None
    at_ms = 0
    for row in sorted(rows, key=lambda row: (row.uptime_ms, row.seq)):  # a delayed report is older than its neighbours
        if report is not None:
            at_ms += period_ms
            while at_ms < row.uptime_ms - period_ms // 2:
                run.add(at_ms, value_after(report.value, report.trend, report.uptime_ms, at_ms))
                at_ms += period_ms
        if row.kind == FAULT:
            if row.value != FAULT_STUCK:  # a stuck sensor is still sampled
                run.add(row.uptime_ms, 0, row.value)
                report = None
            elif report is not None:
                at_ms -= period_ms
        elif row.kind == FAULT_CLEARED:
            # The reading that ended the fault is reported next, at the same time; of `stuck`, it is a change like any.
            if report is not None:
                at_ms -= period_ms
        else:
            run.add(row.uptime_ms, row.value)
            report, at_ms = row, row.uptime_ms
    return run


def _valid_milli(channel: str, unit: str | None) -> tuple[int, int]:
    """The store does not say which sensor it was: the widest range of those there are."""
    if unit == "%RH" or "humidity" in channel:
        return DHT22_HUMIDITY_MILLI
    return DS18B20_TEMP_MILLI
