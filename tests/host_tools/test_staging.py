"""The planner of staged rollouts: what it may never do, whatever boards say and in whatever order."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_tools import staging
from host_tools.staging import COMMITTED, RANGES, SILENT, WAITING, Amount, End, Event, Policy, Send, Staging, Wait

POLICIES = st.builds(
    Policy,
    canary=st.builds(Amount, count=st.integers(1, 5)) | st.builds(Amount, percent=st.sampled_from((1, 10, 50, 100))),
    wave=st.builds(Amount, count=st.integers(1, 8)) | st.builds(Amount, percent=st.sampled_from((1, 25, 100))),
    timeout_s=st.just(100),
    soak_s=st.sampled_from((0, 10)),
    failures_max=st.integers(0, 2),
    silent_max=st.integers(0, 2),
    alarms_max=st.integers(0, 3),
)
NAMES = st.integers(0, 12).map(lambda n: [f"b{i}" for i in range(n)])
# What each board does once it is sent to: its last state, and alarms it raises.
FATES = st.lists(
    st.tuples(st.sampled_from(("committed", "committed", "reverted", "refused", "trial", "mute")), st.integers(0, 4)),
    min_size=12,
    max_size=12,
)


class World:
    """Boards that live out their fates, and a caller that does as it is told. Records all that was sent."""

    def __init__(self, names: list[str], away: tuple[str, ...], policy: Policy, fates: list[tuple[str, int]]) -> None:
        self.plan = staging.waves([name for name in names if name not in away], policy)
        self.fates = dict(zip(names, fates, strict=False))
        self.staging = Staging(self.plan, away, policy)
        self.now_s = 0.0
        self.events: list[Event] = []
        self.sent: list[tuple[str, ...]] = []

    def note(self, event: Event) -> None:
        if self.staging.apply(event, self.now_s):
            self.events.append(event)

    def step(self) -> End | None:
        action = self.staging.decide(self.now_s)
        if isinstance(action, End):
            assert action.event is not None
            self.note(action.event)
            return action
        if isinstance(action, Wait):
            assert action.until_s > self.now_s, "a wait that never ends"
            self.now_s = action.until_s
            return None
        assert isinstance(action, Send)
        self.note(action.event)
        self.sent.append(action.devices)
        for device in action.devices if action.event.kind == "wave" else ():
            self.live(device)
        return None

    def live(self, device: str) -> None:
        fate, alarms = self.fates[device]
        if fate != "mute":
            self.note(Event("said", device, "trial"))
        if alarms:
            self.note(Event("alarms", device, number=alarms))
        if fate in ("committed", "reverted", "refused"):
            self.note(Event("said", device, fate))

    def run(self) -> End:
        for _ in range(200):
            if end := self.step():
                return end
        raise AssertionError("it does not end")


@given(names=NAMES, policy=POLICIES, fates=FATES, away=st.sets(st.integers(0, 11), max_size=3))
def test_it_ends_and_keeps_its_rules(
    names: list[str], policy: Policy, fates: list[tuple[str, int]], away: set[int]
) -> None:
    gone = tuple(name for i, name in enumerate(names) if i in away)
    world = World(names, gone, policy, fates)
    end = world.run()
    flat = [device for devices in world.sent for device in devices]
    assert len(flat) == len(set(flat)), "a board was sent to twice"
    bad = [d for d in flat if d not in gone and fates[int(d[1:])][0] in ("reverted", "refused")]
    mute = [d for d in flat if d not in gone and fates[int(d[1:])][0] in ("trial", "mute")]
    loud = [d for d in flat if d not in gone and fates[int(d[1:])][1] > policy.alarms_max]
    over = len(bad) > policy.failures_max or len(mute) > policy.silent_max or bool(loud)
    if not end.why:
        assert not over
        assert set(flat) == set(names), "done, but not everyone was sent to"
    elif not over:
        assert "keeps it" in end.why
    # Harm is bounded: before the last wave nothing was beyond a limit, so no wave follows a bad one.
    before = {d for devices in world.sent[:-1] for d in devices}
    assert not [d for d in loud if d in before]
    assert len([d for d in bad if d in before]) <= policy.failures_max
    assert len([d for d in mute if d in before]) <= policy.silent_max
    standing = world.staging.standing
    assert all(standing[d][0] == SILENT for d in mute)
    assert all(standing[name][0] == WAITING for name in names if name not in flat and name not in gone)


@given(names=NAMES, policy=POLICIES, fates=FATES, cut=st.integers(0, 60))
def test_a_journal_is_all_it_takes_to_go_on(
    names: list[str], policy: Policy, fates: list[tuple[str, int]], cut: int
) -> None:
    whole = World(names, (), policy, fates)
    end = whole.run()
    # Cut off after any event, go on from the events alone; boards go on saying what they say.
    again = World(names, (), Policy.from_plain(json.loads(json.dumps(policy.plain()))), fates)
    again.now_s = 5000.0
    for event in whole.events[:cut]:
        again.note(event)
    again.staging.restart_clock(again.now_s)
    if not again.staging.over:
        for device in again.staging.to_send_again():
            fate, _ = fates[int(device[1:])]
            if fate in ("committed", "reverted", "refused"):
                again.note(Event("said", device, fate))
        for device, (state, _) in again.staging.standing.items():
            if state == "trial" and fates[int(device[1:])][0] in ("committed", "reverted"):
                again.note(Event("said", device, fates[int(device[1:])][0]))
        again.run()
    assert bool(again.staging.halted) == bool(end.why)
    sent = [device for devices in again.sent for device in devices]
    assert len(sent) == len(set(sent))


@given(names=NAMES, policy=POLICIES)
def test_waves_hold_everyone_once_and_the_canary_first(names: list[str], policy: Policy) -> None:
    plan = staging.waves(names, policy)
    assert [name for wave in plan for name in wave] == names
    assert all(plan)
    if names:
        assert len(plan[0]) == policy.canary.of(len(names))


def test_shares_round_up_and_never_to_none() -> None:
    assert [staging.amount("10%").of(n) for n in (0, 1, 10, 11, 50)] == [0, 1, 1, 2, 5]
    assert [staging.amount("3").of(n) for n in (0, 2, 10)] == [0, 2, 3]


@pytest.mark.parametrize("text", ["", "0", "-1", "0%", "101%", "x%", "1.5", "nan%", "inf%", "10001"])
def test_amounts_refused(text: str) -> None:
    with pytest.raises(ValueError):
        staging.amount(text)


@pytest.mark.parametrize("name", RANGES)
def test_knobs_have_ranges(name: str) -> None:
    lowest, highest = RANGES[name]
    for value in (lowest - 1, highest + 1):
        with pytest.raises(ValueError, match=name):
            Policy(**{name: value})  # type: ignore[arg-type]
    Policy(**{name: lowest})  # type: ignore[arg-type]
    Policy(**{name: highest})  # type: ignore[arg-type]


def test_the_canary_holds_several_classes() -> None:
    kinds = {"f1": "fridge", "f2": "fridge", "f3": "fridge", "r1": "room"}
    assert staging.mixed(kinds) == ["f1", "r1", "f2", "f3"]


def test_one_that_reverts_halts_and_is_named() -> None:
    plan = Staging((("a",), ("b", "c")), policy=Policy(soak_s=0))
    assert plan.decide(0) == Send(("a",), Event("wave", number=0))
    plan.apply(Event("wave", number=0), 0)
    assert plan.decide(1) == Wait(900)
    plan.apply(Event("said", "a", "reverted", "unhealthy"), 2)
    action = plan.decide(2)
    assert isinstance(action, End) and action.why == "a reverted (unhealthy)"
    assert action.event is not None
    plan.apply(action.event, 2)
    assert plan.standing["b"] == (WAITING, "")
    assert not plan.apply(Event("said", "b", COMMITTED), 3), "what is over stays as it is"


def test_alarms_before_it_was_sent_do_not_count() -> None:
    plan = Staging((("a",), ("b",)), policy=Policy(soak_s=0, alarms_max=0))
    plan.apply(Event("wave", number=0), 0)
    assert not plan.apply(Event("alarms", "b", number=9), 0)
    plan.apply(Event("said", "a", COMMITTED), 0)
    assert isinstance(plan.decide(0), Send)
