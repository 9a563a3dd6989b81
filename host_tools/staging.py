"""A staged rollout, decided: which boards next, when to wait, when to halt. Pure: no clock, no broker, no file.

It serves anything that boards try and then keep or take back: a threshold model now, firmware over the air later. The
caller hands it what happened (`apply`) and asks what to do (`decide`); times are the caller's monotonic seconds. The
same events applied again give the same standing, so a journal of them is all that a rollout needs to be resumed.

    waiting -> sent -> trial -> committed        what a board goes through
                  \\-> refused   \\-> reverted      and how it ends otherwise
    sent or trial past the time limit: silent. Not at the broker when the rollout began: away

Rules:
 1. The first wave is the canary. A wave begins when the one before has settled: every board of it decided or silent,
    and `soak_s` passed without a halt.
 2. It halts when more than `failures_max` boards reverted or refused, more than `silent_max` stayed silent, one raised
    more than `alarms_max` alarms since it was sent to, or a wave settled of which no board keeps what was sent.
 3. Boards that are away are sent to last, when every wave has settled, and nobody waits for them.
 4. What has halted or is done stays so; boards not sent to by then never are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import zip_longest

WAITING, SENT, TRIAL = "waiting", "sent", "trial"
COMMITTED, REVERTED, REFUSED = "committed", "reverted", "refused"
SILENT, AWAY = "silent", "away"
FAILED = (REVERTED, REFUSED)
DECIDED = (COMMITTED, *FAILED)
SAID = (TRIAL, *DECIDED)

# field of Policy: (lowest, highest)
RANGES: Mapping[str, tuple[float, float]] = {
    "timeout_s": (1, 604_800),
    "soak_s": (0, 604_800),
    "failures_max": (0, 10_000),
    "silent_max": (0, 10_000),
    "alarms_max": (0, 10_000),
}


@dataclass(frozen=True)
class Amount:
    """So many boards, or a share of them in percent; never less than one."""

    count: int = 0
    percent: float = 0.0

    def of(self, total: int) -> int:
        """How many of `total`: 1 to total, and 0 of none."""
        wanted = self.count if self.count else math.ceil(total * self.percent / 100 - 1e-9)
        return min(total, max(1, wanted))

    def __str__(self) -> str:
        return str(self.count) if self.count else f"{self.percent:g}%"


def amount(text: str) -> Amount:
    """ "3" or "10%". Raises ValueError."""
    if text.endswith("%"):
        percent = float(text[:-1])
        if 0 < percent <= 100:
            return Amount(percent=percent)
    elif text.isascii() and text.isdigit() and 0 < int(text) <= 10_000:
        return Amount(int(text))
    raise ValueError(f"{text!r} is neither a number of boards (1 to 10000) nor a share of them (above 0 to 100%)")


@dataclass(frozen=True)
class Policy:
    """How careful a rollout is. Raises ValueError for a value outside of RANGES."""

    canary: Amount = Amount(1)
    wave: Amount = Amount(percent=25)
    timeout_s: float = 900
    soak_s: float = 60
    failures_max: int = 0
    silent_max: int = 0
    alarms_max: int = 3

    def __post_init__(self) -> None:
        for name, (lowest, highest) in RANGES.items():
            value = getattr(self, name)
            if not lowest <= value <= highest:
                raise ValueError(f"{name} must lie between {lowest:g} and {highest:g}, not {value:g}")

    def plain(self) -> dict[str, str | float]:
        """For a journal."""
        return {
            one.name: str(value) if isinstance(value := getattr(self, one.name), Amount) else value
            for one in fields(self)
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, str | float]) -> Policy:
        """What `plain` gave. Raises ValueError and TypeError."""
        known = {one.name for one in fields(cls)}
        if unknown := set(plain) - known:
            raise ValueError(f"no such knobs: {', '.join(sorted(unknown))}")
        made: dict[str, object] = {
            name: amount(str(value)) if name in ("canary", "wave") else value for name, value in plain.items()
        }
        return cls(**made)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Event:
    """What happened.

    kind: "wave" (boards of wave `number` are about to be sent to), "away" (those that are away are), "said" (`device`
    is in the state `text`, for the reason `why`), "alarms" (`device` raised `number` more), "halt" (`why`), "done".
    """

    kind: str
    device: str = ""
    text: str = ""
    why: str = ""
    number: int = 0


@dataclass(frozen=True)
class Send:
    """Send to these boards, after `event` is in the journal."""

    devices: tuple[str, ...]
    event: Event


@dataclass(frozen=True)
class Wait:
    """Nothing to do before `until_s`, unless something happens."""

    until_s: float


@dataclass(frozen=True)
class End:
    """It is over; `event` is what to note, None when it is noted. why: the reason of a halt, empty when all is done."""

    why: str
    event: Event | None = None


Action = Send | Wait | End


def waves(devices: Sequence[str], policy: Policy) -> tuple[tuple[str, ...], ...]:
    """The canary and the waves after it: each device in one, in the order given."""
    out = []
    rest = list(devices)
    size = policy.canary.of(len(rest))
    while rest:
        out.append(tuple(rest[:size]))
        rest = rest[size:]
        size = min(len(rest), policy.wave.of(len(devices)))
    return tuple(out)


def mixed(classes: Mapping[str, str]) -> list[str]:
    """Devices by name, taking classes in turn, so that a canary of several boards holds several classes."""
    groups: dict[str, list[str]] = {}
    for device in sorted(classes):
        groups.setdefault(classes[device], []).append(device)
    turns = zip_longest(*(groups[name] for name in sorted(groups)))
    return [device for turn in turns for device in turn if device is not None]


@dataclass
class _Board:
    """Where one board stands."""

    state: str = WAITING
    why: str = ""
    alarms: int = 0


@dataclass
class Staging:
    """One rollout. `waves` and `away` share no device."""

    waves: tuple[tuple[str, ...], ...]
    away: tuple[str, ...] = ()
    policy: Policy = Policy()
    wave: int = -1
    away_sent: bool = False
    over: bool = False
    halted: str = ""
    _boards: dict[str, _Board] = field(default_factory=dict)
    _began_s: float = 0.0
    _settled_s: float | None = None

    def __post_init__(self) -> None:
        for device in (*(name for wave in self.waves for name in wave), *self.away):
            if device in self._boards:
                raise ValueError(f"{device} stands twice in the plan")
            self._boards[device] = _Board()
        for device in self.away:
            self._boards[device].state = AWAY

    # ---- what happened

    def apply(self, event: Event, now_s: float) -> bool:
        """Take an event in. Returns whether anything changed; what cannot be any more changes nothing."""
        if self.over:
            return False
        if event.kind == "wave":
            return self._begin(event.number, now_s)
        if event.kind == "away" and not self.away_sent:
            self.away_sent = True
            return True
        if event.kind == "said":
            return self._said(event)
        if event.kind == "alarms":
            return self._alarmed(event)
        if event.kind in ("halt", "done"):
            self._mark_silent()
            self.over, self.halted = True, event.why
            return True
        return False

    def _begin(self, number: int, now_s: float) -> bool:
        if number != self.wave + 1 or number >= len(self.waves):
            return False
        self._mark_silent()
        self.wave, self._began_s, self._settled_s = number, now_s, None
        for device in self.waves[number]:
            if self._boards[device].state == WAITING:
                self._boards[device].state = SENT
        return True

    def _said(self, event: Event) -> bool:
        board = self._boards.get(event.device)
        if board is None or event.text not in SAID or (board.state, board.why) == (event.text, event.why):
            return False
        board.state, board.why = event.text, event.why
        return True

    def _alarmed(self, event: Event) -> bool:
        board = self._boards.get(event.device)
        if board is None or board.state in (WAITING, AWAY) or event.number < 1:
            return False
        board.alarms += event.number
        return True

    def _mark_silent(self) -> None:
        for device in self._sent_to():
            if self._boards[device].state in (SENT, TRIAL):
                self._boards[device].why = f"{self._boards[device].state} and no more"
                self._boards[device].state = SILENT

    def restart_clock(self, now_s: float) -> None:
        """After an interruption: the present wave has its whole time again."""
        self._began_s, self._settled_s = now_s, None

    # ---- what to do

    def decide(self, now_s: float) -> Action:
        """The next step. Asking changes nothing but the moment at which a wave is seen to have settled."""
        if self.over:
            return End(self.halted)
        if why := self._why_halt(now_s):
            return End(why, Event("halt", why=why))
        if self.wave >= 0:
            undecided = self._undecided()
            if undecided and now_s < self._began_s + self.policy.timeout_s:
                return Wait(self._began_s + self.policy.timeout_s)
            if self._settled_s is None:
                self._settled_s = now_s
            if now_s < self._settled_s + self.policy.soak_s:
                return Wait(self._settled_s + self.policy.soak_s)
        if self.wave + 1 < len(self.waves):
            return Send(self._unsent(self.waves[self.wave + 1]), Event("wave", number=self.wave + 1))
        if self.away and not self.away_sent:
            return Send(self._unsent(self.away), Event("away"))
        return End("", Event("done"))

    def to_send_again(self) -> tuple[str, ...]:
        """After an interruption: boards that may not have been sent to, though the journal says it was begun."""
        again = [device for device in self._sent_to() if self._boards[device].state in (SENT, SILENT)]
        return (*again, *(self._unsent(self.away) if self.away_sent else ()))

    def _why_halt(self, now_s: float) -> str:
        policy, sent = self.policy, self._sent_to()
        failed = [device for device in sent if self._boards[device].state in FAILED]
        if len(failed) > policy.failures_max:
            last = self._boards[failed[-1]]
            return f"{_names(failed)} {last.state if len(failed) == 1 else 'reverted or refused'}" + (
                f" ({last.why})" if last.why and len(failed) == 1 else ""
            )
        loud = [device for device in sent if self._boards[device].alarms > policy.alarms_max]
        if loud:
            return f"{_names(loud)} raised {max(self._boards[name].alarms for name in loud)} alarms"
        if self.wave < 0:
            return ""
        mute = [device for device in sent if self._boards[device].state == SILENT]
        if now_s >= self._began_s + policy.timeout_s:
            mute += self._undecided()
        if len(mute) > policy.silent_max:
            return f"{_names(mute)} said nothing final within {policy.timeout_s:g} s"
        present = self.waves[self.wave]
        settled = all(self._boards[name].state in DECIDED or name in mute for name in present)
        if settled and not any(self._boards[name].state == COMMITTED for name in present):
            return f"no board of wave {self.wave + 1} keeps it"
        return ""

    def _undecided(self) -> list[str]:
        return [name for name in self.waves[self.wave] if self._boards[name].state in (SENT, TRIAL)]

    def _sent_to(self) -> list[str]:
        return [device for wave in self.waves[: self.wave + 1] for device in wave]

    def _unsent(self, devices: Iterable[str]) -> tuple[str, ...]:
        return tuple(name for name in devices if self._boards[name].state in (WAITING, AWAY))

    # ---- where it stands

    @property
    def standing(self) -> dict[str, tuple[str, str]]:
        """(state, reason) of each device."""
        return {device: (board.state, board.why) for device, board in self._boards.items()}


def _names(devices: Sequence[str]) -> str:
    shown = ", ".join(devices[:5])
    return shown if len(devices) <= 5 else f"{shown} and {len(devices) - 5} more"
