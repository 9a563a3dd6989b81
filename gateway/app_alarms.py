"""The part of app.py for alarms: rules behind the store, what they leave in it, and the outputs that act on them.

An alarm is kept first and told then; when the disk does not answer in time it is told all the same.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gateway.actuators import Pins, Teller, notices, run_command
from gateway.alarms import CLEARED, RAISED, SEVERITIES, Change, described
from gateway.config import Config
from gateway.config.rules import rules as complete
from gateway.errors import GatewayError
from gateway.follow import Follower, again
from gateway.messages import Committed, DeviceInfo, Finding, Notice, StoreState
from gateway.metrics import GAUGE, Family, Metrics
from gateway.own import Own, OwnDevice
from gateway.rules import DURABLE_WAIT_S, FOLLOWER, Rules
from gateway.store import AlarmReader, Reader, Store
from isocore.record import HIGH_OFF, HIGH_ON

_PRIME_ROWS = 20_000
_STOP_S = 0.5
_NAME_CHARS = 64
_SHOWN_MAX = 100
_RECORDS = {RAISED: HIGH_ON, CLEARED: HIGH_OFF}


class Alarms:
    """`open` once the store is open and `own` has begun, `start` once it works; `committed` in the writer's thread."""

    def __init__(self, config: Config, store: Store, own: Own, metrics: Metrics, wall_s: Callable[[], float]) -> None:
        self._config = config
        self._store = store
        self._own = own
        self._metrics = metrics
        self._wall_s = wall_s
        self._pins = Pins(config.outputs, self._pressed)
        self._tellers: dict[str, Teller] = {}
        self._made: dict[tuple[int, str], list[Notice]] = {}  # until a change is both kept and told
        self._halfway: set[tuple[int, str]] = set()
        self._next_notice = 1
        self._under_way: tuple[Any, list[Change]] | None = None
        self._follower: Follower | None = None
        self._state: StoreState | None = None
        self._rows: Reader
        self._kept: AlarmReader
        self._rules: Rules
        self._device: OwnDevice

    # -- life

    def open(self, head_row: int) -> None:
        """Load what stands. Raises ConfigError for a pin that cannot be had."""
        config = self._config
        self._pins.open()
        self._rows = Reader(config.store_path)
        self._kept = AlarmReader(config.store_path)
        self._device = self._own.device(f"{config.gateway.id[:26]}-rules", "gateway-rules")
        self._next_notice = self._kept.next_numbers()[1]
        self._rules = Rules(
            complete(config.rules),
            self._kept,
            self._info,
            self._keep,
            self._tell,
            self._metrics,
            time.monotonic,
            self._wall_s,
            skip=self._device.name,
        )
        self._rules.watch_store(lambda: self._store.failing)
        if self._state is not None:
            self._rules.store_state(self._state)
        place = self._kept.follower(FOLLOWER)
        start_row = head_row + 1 if place is None else place
        if place is None:
            self._store.begin_follower(FOLLOWER, start_row)
        self._rules.stand_at(start_row)
        for rows in again(self._rows, max(1, start_row - _PRIME_ROWS), start_row - 1 if place is not None else 0):
            self._rules.prime(rows)
        self._make_tellers()
        self._follower = Follower(FOLLOWER, self._rows, self._rules, start_row, head_row)
        self._metrics.source(self._families)

    def _make_tellers(self) -> None:
        for name, output in self._config.outputs.items():
            if output.type == "webhook":
                from gateway.sinks.https import post_json  # the HTTP client costs memory: only where it is wanted

                send = lambda notice, o=output: post_json(o.url, notice.event.encode(), o.timeout_s)  # noqa: E731
            elif output.type == "command":
                send = lambda notice, o=output: run_command(o, notice)  # noqa: E731
            else:
                continue
            self._tellers[name] = Teller(name, output, send, self._store.told, self._metrics, random.Random())

    def start(self) -> None:
        for notice in self._kept.untold():
            if notice.output in self._tellers:
                self._tellers[notice.output].put(notice)
            else:
                self._store.told(notice.number)  # its output is no more
        for teller in self._tellers.values():
            teller.start()
        self._rules.tune(complete(self._config.rules))  # what a rule that is no more had raised ends here
        self._pins.show(self._rules.standing)
        if self._follower is not None:
            self._follower.start()

    def stop(self) -> None:
        """End after the step under way; call it while the store still commits. Relays go to their safe state."""
        if self._follower is not None:
            self._follower.stop(_STOP_S)
        for teller in self._tellers.values():
            teller.stop(_STOP_S)
        self._pins.close()

    def close(self) -> None:
        if self._follower is not None:
            self._rows.close()
            self._kept.close()

    @property
    def alive(self) -> bool:
        return self._follower is None or self._follower.alive

    def committed(self, news: Committed) -> None:
        """Returns at once."""
        if self._follower is not None:
            self._follower.committed(news)

    @property
    def behind_rows(self) -> int:
        """Rows that the rules have not seen yet."""
        return self._follower.behind_rows if self._follower is not None else 0

    def judged(self, analysis: str, findings: Sequence[Finding]) -> None:
        """What an analysis found; waits for the disk as any alarm does."""
        self._rules.judged(analysis, findings)

    def store_state(self, state: StoreState) -> None:
        """In the store's threads, also before `open`; returns at once."""
        self._state = state
        if self._follower is not None:
            self._rules.store_state(state)

    def tune(self, config: Config) -> None:
        """Other rules; outputs wait for a restart."""
        self._rules.tune(complete(config.rules))

    # -- what happens

    def _keep(self, next_row: int, changes: Sequence[Change]) -> int:
        """How many of the first changes are durable. One transaction is under way at most."""
        if self._under_way is None:
            told = [notice for change in changes for notice in self._notices(change)]
            alarms = list({change.alarm.number: change.alarm for change in changes}.values())
            ticket = self._store.keep_alarms(FOLLOWER, next_row, alarms, told, self._records(changes))
            self._under_way = (ticket, list(changes))
        ticket, kept = self._under_way
        durable = ticket.wait(0.0 if self._store.failing else DURABLE_WAIT_S)
        if durable or ticket.settled:
            self._under_way = None
        if not durable:
            return 0
        for change in kept:
            self._half(change)
        return len(kept)

    def _half(self, change: Change) -> None:
        """Kept or told: after the second of the two nobody asks for its notices again."""
        key = (change.alarm.number, change.event)
        if key in self._halfway:
            self._halfway.discard(key)
            self._made.pop(key, None)
        else:
            self._halfway.add(key)

    def _notices(self, change: Change) -> list[Notice]:
        """Made once for each change, however often it has to be kept."""
        key = (change.alarm.number, change.event)
        if key not in self._made:
            self._made[key] = notices([change], self._config.outputs, self._config.gateway.id, self._next_notice)
            self._next_notice += len(self._made[key])
        return self._made[key]

    def _records(self, changes: Sequence[Change]) -> Any:
        """What goes up: alarms of rules made here. Those of boards went up as the boards' own records."""
        rules = complete(self._config.rules)
        made = []
        for change in changes:
            rule = rules.get(change.alarm.rule)
            if change.event not in _RECORDS or (rule is not None and rule.type == "board"):
                continue
            alarm = change.alarm
            subject = "/".join(part for part in (alarm.device, alarm.channel) if part)
            channel = self._device.channel(f"{alarm.rule} {subject}".strip()[:_NAME_CHARS], "alarm")
            if channel is None:
                channel = self._device.channel(alarm.rule, "alarm") or 0
            value = 1 if alarm.value_milli is None else alarm.value_milli
            made.append((_RECORDS[change.event], channel, value, self._own.clock.uptime_ms(), 0))
        return self._device.item(made) if made else None

    def _tell(self, changes: Sequence[Change]) -> None:
        for change in changes:
            for notice in self._notices(change):
                self._tellers[notice.output].put(notice)
            self._half(change)
        self._pins.show(self._rules.standing)

    def _pressed(self) -> None:
        """The button, in a thread of gpiozero's: quiet, and all is acknowledged."""
        self._pins.silence(self._rules.standing)
        self._rules.acknowledge(None)

    def _info(self, device: int) -> DeviceInfo | None:
        return self._rows.device_infos({device}).get(device)

    # -- for people

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """In the control socket's thread: `ack` or `silence`. Raises GatewayError."""
        if request.get("do") == "silence":
            standing = self._rules.standing
            self._pins.silence(standing)
            return {"done": len(standing)}
        number = request.get("alarm")
        if number is not None and not isinstance(number, int):
            raise GatewayError("unknown request: do gateway and command have one version?")
        if number is not None and all(alarm.number != number for alarm in self._rules.standing):
            raise GatewayError(f"no alarm {number} stands; `isotherm-gateway alarms list` shows those that do")
        return {"done": self._rules.acknowledge(number)}

    def status(self) -> list[dict[str, Any]]:
        """Alarms that stand, the latest first, within a bound."""
        return [described(alarm) for alarm in reversed(self._rules.standing[-_SHOWN_MAX:])]

    def _families(self) -> Iterable[Family]:
        names = complete(self._config.rules)
        tally = {
            (rule, severity, state): 0.0
            for rule in names
            for severity in SEVERITIES
            for state in ("raised", "acknowledged")
        }
        for alarm in self._rules.standing:
            key = (alarm.rule, alarm.severity, "acknowledged" if alarm.acked_unix_ms else "raised")
            tally[key] = tally.get(key, 0.0) + 1
        rows = [({"rule": r, "severity": s, "state": st}, n) for (r, s, st), n in sorted(tally.items())]
        yield Family("alarms", GAUGE, "Alarms that stand, by rule, severity and state.", rows)
