"""What is done about alarms: pins by gpiozero, webhooks by the HTTP owner, commands without a shell.

Pins follow the alarms that stand: an LED blinks by severity, a buzzer beeps until silenced or acknowledged, a relay
leaves its safe state while an alarm stands and is put back at the end. Each webhook and command has a thread and a
bounded queue of its own; past it the oldest is given up and counted. gpiozero is imported only when a pin is
configured. It knows no rule and no store.
"""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Protocol

from gateway.alarms import SEVERITIES, Change
from gateway.errors import ConfigError, SinkUnavailable
from gateway.messages import Alarm, Notice
from gateway.metrics import Metrics

log = logging.getLogger("isotherm.actuators")

_BLINK_S = {"info": (0.1, 1.9), "warning": (0.5, 0.5), "critical": (0.1, 0.1)}  # on, off
_BEEP_S = {"info": (0.1, 9.9), "warning": (0.2, 1.8), "critical": (0.3, 0.3)}
_BACKOFF_BASE_S = 0.5
_BOUNCE_S = 0.05


class Output(Protocol):
    """What is read of an output: gateway.config.rules.OutputConfig."""

    @property
    def type(self) -> str: ...
    @property
    def severity(self) -> str: ...
    @property
    def rule(self) -> str: ...
    @property
    def pin(self) -> int: ...
    @property
    def active_high(self) -> bool: ...
    @property
    def safe_on(self) -> bool: ...
    @property
    def url(self) -> str: ...
    @property
    def command(self) -> tuple[str, ...]: ...
    @property
    def timeout_s(self) -> float: ...
    @property
    def tries(self) -> int: ...
    @property
    def backoff_max_s(self) -> float: ...
    @property
    def queue_max(self) -> int: ...


def concerns(output: Output, alarm: Alarm) -> bool:
    """Whether an output acts on an alarm."""
    severe = SEVERITIES.index(alarm.severity) >= SEVERITIES.index(output.severity)
    return severe and fnmatchcase(alarm.rule, output.rule)


class Pins:
    """LEDs, buzzers, relays and buttons. `pressed` is called when a button is."""

    def __init__(self, outputs: Mapping[str, Output], pressed: Callable[[], None]) -> None:
        self._outputs = {name: output for name, output in outputs.items() if output.type in _DEVICES}
        self._pressed = pressed
        self._devices: dict[str, Any] = {}
        self._shown: dict[str, object] = {}
        self._lock = threading.Lock()
        self.silenced_at = 0  # number of the latest alarm when it was silenced

    def open(self) -> None:
        """Take the pins, relays in their safe state. Raises ConfigError naming the output."""
        for name, output in self._outputs.items():
            try:
                self._devices[name] = _open(output, self._pressed)
            except ImportError as exc:
                raise ConfigError(f"outputs.{name}: pins need the module gpiozero: install isotherm[pi]") from exc
            except Exception as exc:  # gpiozero's errors are several trees; all of them mean this pin cannot be had
                raise ConfigError(f"outputs.{name}: pin {output.pin} cannot be had: {exc}") from exc

    def show(self, standing: Sequence[Alarm]) -> None:
        """Let the pins follow the alarms that stand."""
        with self._lock:
            for name, device in self._devices.items():
                output = self._outputs[name]
                mine = [alarm for alarm in standing if concerns(output, alarm)]
                state = _state(output, mine, self.silenced_at)
                if output.type != "button" and self._shown.get(name, "") != state:
                    self._shown[name] = state
                    _set(output, device, state)

    def silence(self, standing: Sequence[Alarm]) -> None:
        """No beep until an alarm that is newer than all of these."""
        self.silenced_at = max((alarm.number for alarm in standing), default=self.silenced_at)
        self.show(standing)

    def close(self) -> None:
        """Relays to their safe state, the rest off."""
        with self._lock:
            for name, device in self._devices.items():
                if self._outputs[name].type == "relay":
                    _set(self._outputs[name], device, self._outputs[name].safe_on)
                device.close()
            self._devices.clear()


_DEVICES = ("led", "buzzer", "relay", "button")


def _open(output: Output, pressed: Callable[[], None]) -> Any:
    import gpiozero

    if output.type == "button":
        button = gpiozero.Button(output.pin, pull_up=True, bounce_time=_BOUNCE_S)
        button.when_pressed = pressed
        return button
    if output.type == "led":
        return gpiozero.LED(output.pin, active_high=output.active_high)
    if output.type == "buzzer":
        return gpiozero.Buzzer(output.pin, active_high=output.active_high)
    return gpiozero.DigitalOutputDevice(output.pin, active_high=output.active_high, initial_value=output.safe_on)


def _state(output: Output, mine: Sequence[Alarm], silenced_at: int) -> object:
    """What an output shows: a severity or None; for a relay whether it is on."""
    if output.type == "relay":
        return bool(mine) != output.safe_on
    if output.type == "buzzer":
        mine = [alarm for alarm in mine if alarm.acked_unix_ms is None and alarm.number > silenced_at]
    return max((alarm.severity for alarm in mine), key=SEVERITIES.index, default=None)


def _set(output: Output, device: Any, state: object) -> None:
    if output.type == "relay":
        device.on() if state else device.off()
    elif state is None:
        device.off()
    elif output.type == "led":
        device.blink(*_BLINK_S[str(state)])
    else:
        device.beep(*_BEEP_S[str(state)])


class Teller:
    """One webhook or command: notices in order, each tried `tries` times, then given up."""

    def __init__(
        self,
        name: str,
        output: Output,
        send: Callable[[Notice], None],
        done: Callable[[int], object],
        metrics: Metrics,
        rng: random.Random,
    ) -> None:
        """send raises SinkUnavailable when it should be tried again; done(number) when it needs no more telling."""
        self.name = name
        self._output = output
        self._send = send
        self._done = done
        self._metrics = metrics
        self._rng = rng
        self._waiting: deque[Notice] = deque()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"tell-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, notice: Notice) -> None:
        """Never waits: past `queue_max` the oldest is given up."""
        dropped = None
        with self._changed:
            self._waiting.append(notice)
            if len(self._waiting) > self._output.queue_max:
                dropped = self._waiting.popleft()
            self._changed.notify()
        if dropped is not None:
            self._given_up(dropped, "queue_full")

    def stop(self, timeout_s: float) -> None:
        """What is not told is told after the next start."""
        self._stop.set()
        with self._changed:
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stop.is_set())
                if self._stop.is_set():
                    return
                notice = self._waiting.popleft()
            self._deliver(notice)

    def _deliver(self, notice: Notice) -> None:
        for attempt in range(self._output.tries):
            try:
                self._send(notice)
            except SinkUnavailable as exc:
                self._metrics.add("alarm_notice_retries_total", 1, output=self.name)
                if attempt + 1 == self._output.tries:
                    log.error("output %s: %s; given up after %d tries", self.name, exc, self._output.tries)
                    self._given_up(notice, "tries")
                    return
                ceiling_s = min(self._output.backoff_max_s, _BACKOFF_BASE_S * 2**attempt)
                if self._stop.wait(self._rng.uniform(0, ceiling_s)):
                    return
            else:
                self._metrics.add("alarm_notices_total", 1, output=self.name)
                self._done(notice.number)
                return

    def _given_up(self, notice: Notice, reason: str) -> None:
        self._metrics.add("alarm_notices_given_up_total", 1, output=self.name, reason=reason)
        self._done(notice.number)


def run_command(output: Output, notice: Notice) -> None:
    """The program with the alarm as JSON on its stdin and in ISOTHERM_ALARM_*. Raises SinkUnavailable."""
    event = json.loads(notice.event)
    named = {f"ISOTHERM_ALARM_{key.upper()}": "" if v is None else str(v) for key, v in event.items()}
    try:
        done = subprocess.run(
            output.command,
            input=notice.event.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=output.timeout_s,
            env={**os.environ, **named},
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise SinkUnavailable("timeout", f"{output.command[0]} ran longer than {output.timeout_s:g} s") from exc
    except (OSError, ValueError) as exc:
        raise SinkUnavailable("command", f"{output.command[0]} cannot be run: {exc}") from exc
    if done.returncode:
        said = done.stderr[-200:].decode(errors="replace").strip()
        raise SinkUnavailable("command", f"{output.command[0]} ended with {done.returncode}: {said}")


def notices(changes: Sequence[Change], outputs: Mapping[str, Output], gateway: str, next_number: int) -> list[Notice]:
    """What webhooks and commands have to be told. An event's `id` is the same however often it is told."""
    out: list[Notice] = []
    for change in changes:
        alarm = change.alarm
        event = {"id": f"{gateway}-{alarm.number}-{change.event}", "event": change.event, "gateway": gateway}
        text = json.dumps(event | alarm._asdict())
        for name, output in outputs.items():
            if output.type in ("webhook", "command") and concerns(output, alarm):
                out.append(Notice(next_number + len(out), name, text))
    return out
