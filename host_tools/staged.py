"""Carries out a staged rollout of signed models at a broker: sends, listens, keeps the journal. Decides nothing.

Alarms are seen in the boards' own frames, so that a storm is noticed whoever else listens. What to do is
host_tools/staging.py's to say; the connection is host_tools/rollout.py's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from host_tools import rollout
from host_tools.errors import BrokerError
from host_tools.journal import Journal
from host_tools.staging import SAID, SILENT, End, Event, Send, Staging, Wait
from isocore import frame, record, topics
from isocore.errors import FrameError

_ALARMS_ON = (record.HIGH_ON, record.LOW_ON, record.RATE_ON)
_SEEN_MAX = 100_000  # identities of alarm records kept to tell a repeat; more and repeats may count


class Rollout:
    """One rollout under way. `containers`: what each device is sent.

    say: told of each step in a sentence. now_s: monotonic seconds.
    """

    def __init__(
        self,
        journal: Journal,
        containers: Mapping[str, bytes],
        say: Callable[[str], None],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._staging: Staging = journal.head.staging
        self._containers = containers
        self._ids = journal.head.ids
        self._say = say
        self._now_s = now_s
        self._view = rollout.FleetView()
        self._seen: set[tuple[str, int, int]] = set()

    def run(self, link: rollout.Link) -> Staging:
        """To its end. Returns where every board stands. Raises BrokerError when the broker goes away."""
        for event in self._journal.events:
            self._staging.apply(event, self._now_s())
        self._staging.restart_clock(self._now_s())
        self._view = rollout.survey(link)
        for device in self._ids:
            self._heard(device)
        self._listen(link)
        if self._journal.events and (again := self._staging.to_send_again()):
            self._publish(link, again)
        while True:
            action = self._staging.decide(self._now_s())
            if isinstance(action, End):
                self._end(link, action)
                return self._staging
            if isinstance(action, Send):
                self._note(action.event)
                self._announce(action)
                self._publish(link, action.devices)
                continue
            self._wait(link, action)

    def _listen(self, link: rollout.Link) -> None:
        states = [topics.topic(device, topics.MODEL_STATE) for device in self._ids]
        if states:
            link.subscribe(states, 1)
            link.subscribe([topics.topic(device, topics.UP) for device in self._ids], 0)

    def _wait(self, link: rollout.Link, action: Wait) -> None:
        event = link.next_event(time.monotonic() + max(0.0, action.until_s - self._now_s()))
        if event is not None and event[0] == "message":
            self._take(event[1], event[2])

    # ---- what comes

    def _take(self, name: str, payload: bytes) -> None:
        device, _, leaf = name.removeprefix(topics.ROOT).partition("/")
        if device not in self._ids:
            return
        if leaf == topics.UP:
            self._alarms(device, payload)
        elif rollout.note(self._view, name, payload) and leaf == topics.MODEL_STATE:
            self._heard(device)

    def _heard(self, device: str) -> None:
        """A board's word on what it was sent; on anything else it says nothing of this rollout."""
        state = self._view.states.get(device)
        if state is None or state.id != self._ids[device] or state.state not in SAID:
            return
        was = self._staging.standing.get(device)
        if was == (state.state, state.reason):
            return
        self._note(Event("said", device, state.state, state.reason))
        self._say(f"{device}: {state.state} {state.reason}".rstrip())

    def _alarms(self, device: str, payload: bytes) -> None:
        try:
            got = frame.decode(payload)
        except FrameError:
            return  # not a frame; the gateway counts those
        number = 0
        for entry in got.records:
            identity = device, got.boot, entry[0]
            if entry[1] in _ALARMS_ON and identity not in self._seen:
                number += 1
                if len(self._seen) < _SEEN_MAX:
                    self._seen.add(identity)
        if number:
            self._note(Event("alarms", device, number=number))

    def _note(self, event: Event) -> None:
        if self._staging.apply(event, self._now_s()):
            self._journal.note(event)

    # ---- what is done

    def _announce(self, action: Send) -> None:
        if action.event.kind == "away":
            self._say(f"{len(action.devices)} boards are away: the broker keeps it for them")
            return
        what = "canary" if action.event.number == 0 else f"wave {action.event.number + 1}"
        self._say(f"{what} of {len(self._staging.waves)} waves: {len(action.devices)} boards")

    def _publish(self, link: rollout.Link, devices: Sequence[str]) -> None:
        """Retained, and acknowledged by the broker when this returns."""
        self._hand_over(link, {device: self._containers[device] for device in devices})

    def _hand_over(self, link: rollout.Link, payloads: Mapping[str, bytes]) -> None:
        waiting = {link.publish(topics.topic(device, topics.MODEL_SET), data) for device, data in payloads.items()}
        deadline_s = time.monotonic() + rollout.CONNECT_S
        while waiting:
            number, reason = link.until("publish", deadline_s, self._take)
            if reason.is_failure:
                raise BrokerError(f"the broker refuses a model: {reason}")
            waiting.discard(number)

    def _end(self, link: rollout.Link, action: End) -> None:
        if action.event is None:
            return
        self._note(action.event)
        if not action.why:
            return
        # Who is away and said nothing would take, when it returns, what was just found to be bad.
        gone = [
            device
            for device, (state, _) in self._staging.standing.items()
            if state == SILENT and not self._view.online.get(device)
        ]
        self._hand_over(link, dict.fromkeys(gone, b""))
        if gone:
            self._say(f"taken back at the broker from {', '.join(gone)}: away, and silent")
