"""The stage of the gateway's own sensors: rounds of readings through filters into records, under models as a board's.

One thread holds the rounds, filters and models; each sensor is read in a thread of its own (worker.py). A round waits
for its sensors `read_timeout_s` at most; one that does not answer by then is a fault (missing), is counted, and holds
nobody up. Records are handed to gateway.own, which never waits either. Rounds keep to their grid; those that could not
be held are counted.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from gateway import __version__
from gateway.config import Config
from gateway.guard import LOG_EVERY_S, RateLimitedLog
from gateway.local.model import Models
from gateway.local.sensors import Bounds, Reading, Sensor, make
from gateway.local.worker import Worker
from gateway.messages import Committed
from gateway.metrics import Metrics
from gateway.own import Own, OwnDevice
from isocore import topics
from isocore.filter import ChannelFilter
from isocore.model import ChannelParams
from isocore.record import FAULT_MISSING, FAULT_NAMES, FAULT_RANGE

log = logging.getLogger("isotherm.local")

CLASS = "gateway"
HEARTBEAT_S = 3600  # without a model
_CONTAINER_BYTES_MAX = 4096


class Link(Protocol):
    """The broker, as far as it is needed here: gateway.mqtt.BrokerLink."""

    connects: int

    def publish(self, messages: Sequence[tuple[str, bytes]], retain: bool = False) -> None: ...


class _Channel(NamedTuple):
    name: str
    number: int
    bounds: Bounds
    filter: ChannelFilter


class Local:
    """Made when there is a [local.sensors.NAME]. `start`, then `deafen` and `stop`."""

    def __init__(
        self,
        config: Config,
        own: Own,
        metrics: Metrics,
        link: Link,
        *,
        sensors: dict[str, Sensor] | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """sensors: instead of those of the configuration, by name."""
        local = config.local
        self._local = local
        self._own = own
        self._metrics = metrics
        self._link = link
        self._monotonic_s = monotonic_s
        self._log = RateLimitedLog(LOG_EVERY_S, monotonic_s)
        self._device: OwnDevice = own.device(config.device_id, CLASS)
        identity = (local.fleet, config.device_id, CLASS, tuple(int(part) for part in __version__.split(".")))
        self._models = Models(config.data_dir, local.model_keys, identity, local.trial_samples)
        if sensors is None:
            sensors = {name: make(local, sensor) for name, sensor in local.sensors.items()}
        self._workers = [Worker(name, sensor) for name, sensor in sensors.items()]
        self._channels: dict[str, list[_Channel]] = {}
        self._offered: bytes | None = None
        self._told = (-1, "")
        self._stopping = threading.Event()
        self._awake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="local", daemon=True)

    # -- life

    def start(self) -> None:
        """Open the models and begin; returns at once."""
        self.prepare()
        for worker in self._workers:
            worker.start()
        self._thread.start()

    def prepare(self) -> None:
        """Channels, models, and the first record: this start."""
        for worker in self._workers:
            made = []
            for suffix, unit, bounds in worker.sensor.channels:
                name = worker.name + suffix
                number = self._device.channel(name, unit)
                if number is None:
                    log.error("%s: no channel is left for it", name)
                else:
                    made.append(_Channel(name, number, bounds, ChannelFilter(ChannelParams())))
            self._channels[worker.name] = made
        self._models.open()
        self._configure()
        self._device.booted()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def tune(self, config: Config) -> None:
        """Nothing here changes while it runs."""

    def committed(self, news: Committed) -> None:
        """In the writer's thread: what a model on trial waits for."""
        if news.others or news.events:
            self._models.on_commit()

    def offer(self, device: str, container: bytes) -> None:
        """In the link's thread: a model came for a device of ours."""
        if device == self._device.name and len(container) <= _CONTAINER_BYTES_MAX:
            self._offered = container
            self._awake.set()

    def deafen(self) -> None:
        """No further reading."""
        self._stopping.set()
        self._awake.set()
        for worker in self._workers:
            worker.stop()

    def stop(self, flush_s: float) -> None:
        """End; a sensor that hangs is not waited for."""
        self.deafen()
        if self._thread.is_alive():
            self._thread.join(flush_s)
        self._log.flush()

    # -- the thread

    def _run(self) -> None:
        due_s = self._monotonic_s()
        while not self._stopping.is_set():
            wait_s = due_s - self._monotonic_s()
            if wait_s > 0 and self._offered is None:
                self._awake.wait(wait_s)
                self._awake.clear()
                continue
            self._take_offer()
            if wait_s <= 0:
                self.round()
                due_s += self._local.period_s
                late_s = self._monotonic_s() - due_s
                if late_s >= 0:
                    missed = int(late_s / self._local.period_s) + 1
                    self._metrics.add("local_rounds_missed_total", missed)
                    due_s += missed * self._local.period_s
            self._settle_models()

    def round(self) -> None:
        """One reading of each sensor, through the filters."""
        now_ms = self._own.clock.uptime_ms()
        asked = {worker.name for worker in self._workers if worker.ask()}
        ends_s = self._monotonic_s() + self._local.read_timeout_s
        for worker in self._workers:
            readings = None
            if worker.name in asked:
                readings = worker.answer(max(0.0, ends_s - self._monotonic_s()))
            if self._stopping.is_set():
                return
            self._take(worker, readings, now_ms)

    def _take(self, worker: Worker, readings: list[Reading] | None, now_ms: int) -> None:
        if readings is None:
            why = "hung" if worker.busy else "failed"
            text = "does not answer" if worker.busy else repr(worker.failure)
            self._metrics.add("local_failures_total", 1, sensor=worker.name, reason=why)
            self._log.warn(worker.name, f"sensor {worker.name} {text}")
            readings = [(0, FAULT_MISSING)] * len(worker.sensor.channels)
        for channel, (value, fault) in zip(self._channels[worker.name], readings, strict=False):
            if fault:
                self._metrics.add("local_failures_total", 1, sensor=worker.name, reason=FAULT_NAMES[fault])
                self._log.warn(worker.name, f"sensor {worker.name}: {FAULT_NAMES[fault]}: {worker.sensor.trouble}")
            self._step(channel, value, fault, now_ms)

    def _step(self, channel: _Channel, value: int, fault: int, now_ms: int) -> None:
        state = channel.filter
        t_s, t_ms = divmod(now_ms, 1000)
        count = state.fault(fault) if fault else state.step(t_s, t_ms, value)
        if state.sampled:
            self._metrics.add("local_samples_total", 1, channel=channel.name)
        if self._models.on_trial:
            if state.sampled:
                self._models.on_sample()
            elif state.fault_code == FAULT_RANGE and channel.name not in self._out_before:
                self._models.on_out_of_range()
        for i in range(count):
            at_ms = state.at_s(i, t_s) * 1000 + state.at_ms(i, t_ms)
            self._device.keep(state.kinds[i], channel.number, state.values[i], state.trend(i), at_ms)

    # -- models

    def _configure(self) -> None:
        model = self._models.current
        self._out_before: set[str] = set()
        for channel in (channel for made in self._channels.values() for channel in made):
            if channel.filter.fault_code == FAULT_RANGE:
                self._out_before.add(channel.name)
            channel.filter.configure(model.params(channel.name) if model else _built_in(channel.bounds))

    def _take_offer(self) -> None:
        container, self._offered = self._offered, None
        if container is None:
            return
        if self._models.offer(container, self._unix_s()):
            self._configure()
            for channel in (channel for made in self._channels.values() for channel in made):
                channel.filter.renew()
        log.info("model for the gateway's own sensors: %s", self._models.state)

    def _settle_models(self) -> None:
        try:
            if self._models.decide():
                log.warning("model for the gateway's own sensors: %s", self._models.state)
                self._configure()
        except OSError as exc:
            self._log.warn("model", f"the model cannot be noted, it stays on trial: {exc}")
        self._tell()

    def _tell(self) -> None:
        """Say at the broker, and keep in the store, what runs; again when it changed or the broker came back."""
        state = json.dumps(self._models.state)
        if self._told == (self._link.connects, state):
            return
        if self._told[1] == state or self._device.note("model_state", state):
            self._told = (self._link.connects, state)
            name = self._device.name
            self._link.publish(
                [
                    (topics.topic(name, topics.META), self._device.meta().encode("utf-8")),
                    (topics.topic(name, topics.MODEL_STATE), state.encode("ascii")),
                ],
                retain=True,
            )

    def _unix_s(self) -> int | None:
        clock = self._own.clock
        return None if clock.epoch_unix_ms() is None else clock.unix_ms() // 1000


def _built_in(bounds: Bounds) -> ChannelParams:
    """Without a model: the sensor's own range, a tenth of a degree, a heartbeat an hour."""
    params = ChannelParams()
    for name, value in (
        ("valid_min_milli", bounds[0]),
        ("valid_max_milli", bounds[1]),
        ("heartbeat_s", HEARTBEAT_S),
    ):
        setattr(params, name, value)
    return params
