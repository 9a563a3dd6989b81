"""Connects the stages: broker -> ingest -> store -> batchers -> uploaders -> sinks. With app_*.py, which are its parts,
the only place that sees more than one.

Order of life: storage opens first and never waits for broker or cloud; at the end reading stops first, then what is
queued is committed and acknowledged, then the rest is closed, within seconds whatever the cloud does.
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

from gateway import app_sinks
from gateway.access import AccessStage
from gateway.app_alarms import Alarms
from gateway.app_offload import Offload, Rest
from gateway.app_own import OwnInputs
from gateway.app_sinks import SinkLane
from gateway.app_status import StatusPages
from gateway.app_watch import Watch, policies
from gateway.config import Config, load
from gateway.control import ControlServer
from gateway.errors import ConfigError, FatalError, GatewayError, StoreBusy
from gateway.ingest import SUBSCRIPTIONS, Ingest, Out, ack_message
from gateway.keeping import keep_of
from gateway.messages import LANE_WINDOWS, Committed, StoreState
from gateway.metrics import Metrics
from gateway.mqtt import BrokerLink
from gateway.notify import Notifier
from gateway.overview import overview
from gateway.own import Clock, Own
from gateway.quarantine import apply
from gateway.reload import plan
from gateway.sinks.make import make_tuning
from gateway.store import Reader, Store
from gateway.tls import broker_context
from isocore import topics

log = logging.getLogger("isotherm")

_STORE_STOP_S = 4.0
_ENROL_S = 10.0
_FLUSH_S = 1.0
_WORKERS_STOP_S = 0.5
_AGAIN_MAX = 64  # batches of one sink on their way, past which none is taken out of quarantine


class Gateway:
    """The daemon. `run` blocks until `request_stop`."""

    def __init__(
        self, config: Config, wall_s: Callable[[], float] = time.time, notifier: Notifier | None = None
    ) -> None:
        self._config = config
        self._wall_s = wall_s
        self._started_s = time.monotonic()
        self._notifier = notifier or Notifier(None)
        # Flags and a pipe: a signal handler may do no more, since a lock it needs may be held by what it interrupts.
        self._stopping = False
        self._reloading = False
        self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._fatal: FatalError | None = None
        self.metrics = Metrics()
        self._lanes: dict[str, SinkLane] = {}
        store = config.store
        self._store = Store(
            config.store_path,
            self.metrics,
            queue_rows=store.queue_rows,
            commit_rows=store.commit_rows,
            commit_ms=store.commit_ms,
            check_ms=store.check_ms,
            on_commit=self._committed,
            on_fatal=self._broken,
            keep=keep_of(store),
            on_state=self._store_state,
            wall_s=wall_s,
        )
        self._own = Own(self._store.put, Clock(wall_s))
        self._ingest = Ingest(
            self._take,
            self.metrics,
            json_bytes_max=config.ingest.json_bytes_max,
            devices_max=config.ingest.devices_max,
            ours=lambda device: self._own.speaks_for(device),
            on_model=lambda device, container: self._own_inputs.offer(device, container),
            wall_s=wall_s,
        )
        self._access = AccessStage(config, lambda name, said: self._link.publish([(name, said)], True), self.metrics)
        self._link = BrokerLink(
            config.mqtt.host,
            config.mqtt.port,
            config.client_id,
            config.mqtt.keepalive_s,
            (*SUBSCRIPTIONS, topics.topic(config.device_id, topics.MODEL_SET), *self._access.subscriptions),
            self._heard,
            self.metrics,
            tls=broker_context(config, config.mqtt),
            backoff_max_s=config.mqtt.backoff_max_s,
        )
        self._own_inputs = OwnInputs(config, self._own, self.metrics, self._link)
        self._watch = Watch(config, self._store, self.metrics, wall_s)
        self._alarms = Alarms(config, self._store, self._own, self.metrics, wall_s)
        self._offload = Offload(config, self._store, self.metrics)
        self._status_pages = StatusPages(config, self.metrics, self._status, wall_s(), wall_s)
        self._control = ControlServer(config.control_path, self._change)

    # -- life

    def request_stop(self) -> None:
        """Ask for an orderly end; safe in a signal handler."""
        self._stopping = True
        self._wake()

    def request_reload(self) -> None:
        """Ask for the configuration file to be read anew; safe in a signal handler."""
        self._reloading = True
        self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._wake_w, b"x")
        except BlockingIOError:
            return  # full: it will wake

    def run(self) -> None:
        """Work until asked to stop. Raises FatalError."""
        try:
            self._config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
        except OSError as exc:
            raise ConfigError(
                f"{self._config.path}: gateway.data_dir {self._config.data_dir} cannot be made ({exc.strerror})"
            ) from exc
        self._store.open()
        head_row = self._store.head_row
        started = False
        try:
            for name in self._config.sinks:
                self._lanes[name] = app_sinks.build(
                    *(name, self._config, self._store, self.metrics, head_row, self._wall_s),
                    self._offload.outgoing(name),
                )
            self._watch.open(head_row, self._windows_closed)
            self._own_inputs.open(self._ingest)
            self._alarms.open(head_row)
            self._open_offload()
            self._status_pages.start()  # once there is all that it tells of
            self._store.start()
            started = True
            self._enrol()
            for lane in self._lanes.values():
                lane.uploader.start()
                lane.batcher.start()
            self._watch.start()
            self._alarms.start()
            self._offload.start()
            self._control.start()
            self._access.start()
            self._link.start()
            self._own_inputs.inputs.start()
            log.info("gateway %s runs; store %s", self._config.gateway.id, self._config.store_path)
            self._notifier.ready(self._summary())
            self._attend()
        finally:
            self._notifier.stopping()
            self._shut_down(started)
        if self._fatal is not None:
            raise self._fatal

    def _enrol(self) -> None:
        """Tell the store which sinks there are. One that is new while the disk fails waits for the next start."""
        with closing(Reader(self._config.store_path)) as reader:
            known = reader.sinks()
        starts = {name: sink.start for name, sink in self._config.sinks.items()}
        if self._store.enrol(starts, _ENROL_S) is not None:
            return
        for name in [name for name in self._lanes if name not in known]:
            log.error(
                "sink %s is new and cannot be noted now (%s): it begins at the next start", name, self._store.failing
            )
            self._lanes.pop(name).close()

    def _open_offload(self) -> None:
        lane = self._lanes.get(self._config.offload_sink or "")
        self._offload.open(
            Rest(
                lambda: self._watch.closed_ms,
                lambda: self._alarms.behind_rows,
                lambda: lane is not None and lane.uploader.failures == 0,
                self._alarms.judged,
                (lambda: lane.batcher.due(LANE_WINDOWS)) if lane is not None else lambda: None,
            )
        )

    def _shut_down(self, started: bool) -> None:
        self._control.stop()
        self._link.deafen()
        self._own_inputs.inputs.deafen()
        self._own.flush()
        self._offload.stop()
        self._watch.stop(_WORKERS_STOP_S)
        self._alarms.stop()
        if not self._store.stop(_STORE_STOP_S) and started:
            log.error("the store could not commit what was queued; it was not acknowledged, boards send it again")
        self._access.stop(_FLUSH_S)
        self._link.stop(_FLUSH_S)
        self._ingest.stop()
        self._own_inputs.inputs.stop(_FLUSH_S)
        self._own_inputs.close()
        for lane in self._lanes.values():
            lane.batcher.stop(_WORKERS_STOP_S)
            lane.uploader.stop(_WORKERS_STOP_S)
            lane.close()
        self._watch.close()
        self._alarms.close()
        self._offload.close()
        self._status_pages.stop()

    # -- while it runs

    def _attend(self) -> None:
        """Until asked to stop: reload when asked to, feed the watchdog as long as there is progress."""
        patience_s = self._notifier.watchdog_s
        turns = -1
        while not self._stopping:
            select.select([self._wake_r], [], [], patience_s / 4 if patience_s else None)
            with suppress(BlockingIOError):  # nothing to drain: it was the time that woke us
                os.read(self._wake_r, 4096)
            if patience_s and self._store.turns != turns and self._threads_live():
                turns = self._store.turns
                self._notifier.feed()
            if self._reloading:
                self._reloading = False
                self._reload()

    def _threads_live(self) -> bool:
        main = (self._store, self._link, self._watch, self._alarms, self._offload, self._own_inputs.inputs)
        return all(part.alive for part in main) and all(lane.batcher.alive for lane in self._lanes.values())

    def _summary(self) -> str:
        sinks = ", ".join(self._config.sinks) or "none"
        return f"gateway {self._config.gateway.id}, sinks: {sinks}"

    def _reload(self) -> None:
        """Read the file again: all of it is good and taken, or nothing changes."""
        self._notifier.reloading()
        try:
            decided = plan(self._config, load(self._config.path))
            tunings = {name: make_tuning(decided.config, name) for name in decided.config.sinks}
        except ConfigError as exc:
            for line in str(exc).splitlines():
                log.error("the configuration stays as it was: %s", line)
        else:
            self._config = decided.config
            logging.getLogger().setLevel(decided.config.log.level.upper())
            self._ingest.tune(decided.config.ingest.json_bytes_max, decided.config.ingest.devices_max)
            self._own_inputs.inputs.tune(decided.config)
            self._watch.tune(decided.config)
            self._alarms.tune(decided.config)
            self._offload.tune(decided.config)
            for name, lane in self._lanes.items():
                sink = decided.config.sinks[name]
                lane.batcher.tune(app_sinks.policy(sink), policies(decided.config))
                lane.uploader.tune(tunings[name], app_sinks.backoff(sink))
            log.warning("configuration read again; changed: %s", ", ".join(decided.changed) or "nothing")
            if decided.waiting:
                log.warning("changed in the file, but only a restart takes it up: %s", ", ".join(decided.waiting))
        self._notifier.ready(self._summary())

    def _change(self, request: dict[str, Any]) -> dict[str, Any]:
        """In the control socket's thread: what a command asks for."""
        if request.get("do") in ("ack", "silence"):
            return self._alarms.answer(request)
        operation, sink, number = request.get("do"), request.get("sink"), request.get("batch")
        if operation not in ("retry", "drop") or not isinstance(sink, str) or not isinstance(number, int):
            raise GatewayError("unknown request: do gateway and command have one version?")
        if self._store.failing:
            raise StoreBusy(self._store.failing, f"the store cannot be written now ({self._store.failing}); try later")
        lane = self._lanes.get(sink)
        if operation == "retry":
            if lane is None:
                raise GatewayError(f"the running gateway has no sink {sink}: restart it with one, or drop the batch")
            if lane.batcher.in_flight >= _AGAIN_MAX:
                raise GatewayError(f"{_AGAIN_MAX} batches are on their way to sink {sink}: try the rest later")
        apply(self._store, operation, sink, number, lane.batcher.again if lane else lambda batch: None)
        log.warning("sink %s: batch %d, %s of quarantine by hand", sink, number, operation)
        return {"done": True}

    # -- between the stages

    def _heard(self, name: str, payload: bytes, retained: bool) -> None:
        if not self._access.offer(name, payload):
            self._ingest.handle(name, payload, retained)

    def _take(self, item: Out, rows: int, urgent: bool) -> bool:
        return self._store.put(item, rows, urgent, self._config.ingest.full_wait_s)

    def _committed(self, news: Committed) -> None:
        """In the writer's thread, after each commit."""
        if news.acks:
            now_s = self._wall_s()
            # Oldest boot first: a board frees a boot's records only by that boot's own ack.
            messages = [ack_message(ack, now_s) for ack in sorted(news.acks, key=lambda a: a.boot)]
            self._link.publish(messages)
            self.metrics.add("ingest_acks_total", len(messages))
        self._own_inputs.inputs.committed(news)
        for lane in self._lanes.values():
            lane.batcher.committed(news)
        self._watch.committed(news)
        self._alarms.committed(news)
        self._own.flush()

    def _store_state(self, state: StoreState) -> None:
        """In the keeper's thread, when the store's state changes: what an alarm can hang on."""
        log.info("store: %s", state)
        self._alarms.store_state(state)

    def _windows_closed(self) -> None:
        for lane in self._lanes.values():
            lane.batcher.due(LANE_WINDOWS)

    def _broken(self, exc: FatalError) -> None:
        self._fatal = exc
        self.request_stop()

    # -- for people

    def _status(self, reader: Reader) -> dict[str, Any]:
        """What /status shows."""
        return overview(
            self._config,
            self.metrics,
            reader,
            {name: lane.uploader for name, lane in self._lanes.items()},
            uptime_s=time.monotonic() - self._started_s,
            connected=self._link.connected,
            failing=self._store.failing,
            alarms=self._alarms.status(),
            offload=self._offload.status(),
        )
