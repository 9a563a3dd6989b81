"""The life of an alarm, rules over a real store, pins by gpiozero's mock, and the whole in the daemon with a broker."""

from __future__ import annotations

import json
import random
import sys
import threading
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from gpiozero import Device
from gpiozero.pins.mock import MockFactory
from hypothesis import given
from hypothesis import strategies as st

from gateway.actuators import Pins, Teller, run_command
from gateway.alarms import ACKNOWLEDGED, CLEARED, RAISED, Book, Change, Key, Manner
from gateway.config import parse
from gateway.config.rules import OutputConfig, RuleConfig, rules
from gateway.errors import ConfigError, SinkUnavailable
from gateway.follow import Follower
from gateway.messages import Alarm, FrameIn, MetaIn, Notice
from gateway.metrics import Metrics
from gateway.rules import FOLLOWER, Rules
from gateway.store import AlarmReader, Reader
from isocore.record import DELTA, FAULT, FAULT_CLEARED, HIGH_OFF, HIGH_ON
from tests.gateway.conftest import START_UNIX_MS, Harness, frame_in
from tests.support.board_client import samples, wait_for

KEY = ("r", "a", "")
MANNER = Manner("warning", 10.0, 5.0)


def alarm(number: int, severity: str = "warning", acked: bool = False) -> Alarm:
    return Alarm(number, "r", "a", "", severity, "why", None, 1, 2 if acked else None)


def test_a_rule_and_an_output_must_say_what_they_are(tmp_path: Path) -> None:
    for table, wrong in (
        ("[rules.hot]\nabove = 8.0", r"rules\.hot\.type is missing"),
        ('[rules.hot]\ntype = "limit"', r"rules\.hot\.above and below are both missing"),
        ('[rules.hot]\ntype = "limt"', "did you mean limit"),
        ('[outputs.x]\ntype = "led"', r"outputs\.x\.pin is missing"),
        ('[outputs.x]\ntype = "command"', r"outputs\.x\.command is missing"),
        ('[upload.x]\nsend = ["row"]', "did you mean raw"),
        ("[windows]\nlengths_s = [60, 100]", "holds 100 after 60"),
    ):
        with pytest.raises(ConfigError, match=wrong):
            parse(tmp_path / "gateway.toml", tomllib.loads(table))


# -- the life


def test_raised_after_a_while_cleared_after_a_while() -> None:
    book = Book([], 7)
    book.note(KEY, True, "hot", 9000, MANNER, 0.0)
    assert book.look(9.9, 1) == []
    (raised,) = book.look(10.0, 2)
    assert (raised.event, raised.alarm.number, raised.alarm.value_milli) == (RAISED, 7, 9000)
    assert book.look(11.0, 3) == [], "once"
    book.note(KEY, False, "cool", 1, MANNER, 20.0)
    assert book.look(24.9, 4) == []
    book.note(KEY, True, "hot", 9000, MANNER, 24.95)
    book.note(KEY, False, "cool", 1, MANNER, 25.0)
    assert book.look(29.0, 5) == [], "the wait began anew"
    (cleared,) = book.look(30.0, 6)
    assert (cleared.event, cleared.alarm.cleared_unix_ms, book.standing) == (CLEARED, 6, [])


def test_a_condition_that_is_over_in_time_raises_nothing() -> None:
    book = Book([], 1)
    book.note(KEY, True, "hot", 1, MANNER, 0.0)
    book.note(KEY, False, "cool", 1, MANNER, 9.0)
    book.note(KEY, True, "hot", 1, MANNER, 9.5)
    assert book.look(12.0, 1) == []


def test_acknowledged_once_and_stands_until_it_clears() -> None:
    book = Book([alarm(3), alarm(4)._replace(rule="s")], 5)
    assert [c.event for c in book.acknowledge(3, 9)] == [ACKNOWLEDGED]
    assert book.acknowledge(3, 10) == []
    assert [c.alarm.number for c in book.acknowledge(None, 11)] == [4]
    assert [a.acked_unix_ms for a in book.standing] == [9, 11]


NOTES = st.lists(
    st.tuples(st.sampled_from("abc"), st.booleans(), st.sampled_from([0.0, 2.0, 7.0]), st.sampled_from([0.0, 3.0])),
    max_size=4,
)


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, 5.0]), NOTES), max_size=40))
def test_a_look_by_deadlines_finds_what_a_look_at_all_would(moves: list[Any]) -> None:
    book = Book([], 1)
    seen: dict[Key, tuple[bool, float, Manner]] = {}  # on, since when, manner
    standing: set[Key] = set()
    now_s = 0.0
    for wait_s, notes in moves:
        now_s += wait_s
        for name, on, after_s, clear_after_s in notes:
            key, manner = ("hot", name, ""), Manner("warning", after_s, clear_after_s)
            book.note(key, on, "", None, manner, now_s)
            if key in seen or on or key in standing:
                before = seen.get(key)
                seen[key] = (on, before[1] if before and before[0] == on else now_s, manner)
        expected = set()
        for key, (on, since_s, manner) in list(seen.items()):
            if on and key not in standing and now_s - since_s >= manner.after_s:
                expected.add((RAISED, key))
                standing.add(key)
            elif not on and (key not in standing or now_s - since_s >= manner.clear_after_s):
                del seen[key]
                if key in standing:
                    standing.discard(key)
                    expected.add((CLEARED, key))
        changes = book.look(now_s, 1)
        assert {(c.event, (c.alarm.rule, c.alarm.device, c.alarm.channel)) for c in changes} == expected
        assert len(changes) == len(expected)
    assert {(a.rule, a.device, a.channel) for a in book.standing} == standing


# -- rules over a store


class Rig:
    """Rules behind a real store; clocks are ours. What is told is recorded; `restart` is a kill."""

    def __init__(self, path: Path, **tables: RuleConfig) -> None:
        self.path = path
        self.rules = rules(tables)
        self.now_s = 1000.0
        self.told: list[Change] = []
        self.harness = Harness(path).start()
        self.begin()

    def begin(self) -> None:
        self.reader, self.kept = Reader(self.path), AlarmReader(self.path)

        def info(device: int) -> Any:
            return self.reader.device_infos({device}).get(device)

        def keep(next_row: int, changes: Sequence[Change]) -> int:
            alarms = list({c.alarm.number: c.alarm for c in changes}.values())
            return len(changes) if self.harness.store.keep_alarms(FOLLOWER, next_row, alarms, [], None).wait(5) else 0

        metrics, harness = Metrics(), self.harness
        wall = lambda: harness.now_s  # noqa: E731
        self.engine = Rules(self.rules, self.kept, info, keep, self.told.extend, metrics, lambda: self.now_s, wall)
        self.engine.watch_store(lambda: self.harness.store.failing)
        start = self.kept.follower(FOLLOWER) or 1
        self.engine.stand_at(start)
        self.follower = Follower(FOLLOWER, self.reader, self.engine, start, self.harness.store.head_row)

    def restart(self) -> None:
        self.close()
        now_s = self.harness.now_s
        self.harness = Harness(self.path).start()
        self.harness.now_s = now_s
        self.begin()

    def close(self) -> None:
        self.harness.stop()
        self.reader.close()
        self.kept.close()

    def put(self, *frames: FrameIn) -> None:
        self.harness.put(*frames)
        for news in self.harness.news:
            self.follower.committed(news)
        while self.follower._step():
            pass

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.harness.now_s += seconds
        self.engine.tick()

    def events(self) -> list[tuple[str, str, str, str]]:
        return [(c.event, c.alarm.rule, c.alarm.device, c.alarm.channel) for c in self.told]


OFF = {name: RuleConfig(enabled=False) for name in rules({})}


def rig_of(tmp_path: Path, **tables: RuleConfig) -> Rig:
    return Rig(tmp_path / "store.db", **{**OFF, **tables})


def reading(seq: int, value: int, kind: int = DELTA, channel: int = 0, boot: int = 1, device: str = "a") -> FrameIn:
    return frame_in(device, boot, [(seq, kind, channel, value, seq * 1000, 0)])


def test_a_limit_with_delay_and_hysteresis(tmp_path: Path) -> None:
    rig = rig_of(tmp_path, hot=RuleConfig(type="limit", above=8.0, hysteresis=0.5, after_s=60, clear_after_s=30))
    rig.put(reading(1, 8100))
    rig.wait(59)
    assert rig.events() == []
    rig.wait(1)
    assert rig.events() == [(RAISED, "hot", "a", "0")]
    rig.put(reading(2, 7600))
    rig.wait(1000)
    assert len(rig.told) == 1, "within the hysteresis"
    rig.put(reading(3, 7400))
    rig.wait(29)
    assert len(rig.told) == 1
    rig.wait(1)
    assert rig.events()[1:] == [(CLEARED, "hot", "a", "0")]
    rig.close()


@pytest.mark.parametrize(("combine", "raised_by"), [("any", 1), ("average", 2), ("all", 3)])
def test_a_limit_over_several_channels(tmp_path: Path, combine: str, raised_by: int) -> None:
    rig = rig_of(tmp_path, hot=RuleConfig(type="limit", above=8.0, combine=combine, after_s=0.0))
    rig.put(
        *(reading(1, 7500, channel=channel) for channel in ()),
        frame_in("a", 1, [(i, DELTA, i, 7500, i, 0) for i in (1, 2, 3)]),
    )
    for number in (1, 2, 3):
        assert bool(rig.told) == (number > raised_by), (combine, number)
        rig.put(reading(10 + number, 8300, channel=number))
    assert rig.events() == [(RAISED, "hot", "", "")]
    rig.close()


def test_absent_by_the_monotonic_clock_whatever_the_wall_clock_does(tmp_path: Path) -> None:
    rig = rig_of(tmp_path, absent=RuleConfig(after_s=3600.0))
    rig.put(reading(1, 1))
    rig.wait(100)
    rig.harness.now_s += 10 * 365 * 86400
    rig.engine.tick()
    rig.harness.now_s -= 20 * 365 * 86400
    rig.engine.tick()
    assert rig.told == [], "ten years ahead or back is no silence"
    rig.wait(3600)
    assert rig.events() == [(RAISED, "absent", "a", "")]
    rig.put(frame_in("a", 1, [(2, DELTA, 0, 5, 2000, 0)], recv_unix_ms=START_UNIX_MS + 5000))
    rig.wait(1)
    assert rig.events()[1:] == [(CLEARED, "absent", "a", "")]
    rig.close()


def test_a_fault_that_stays_a_clone_and_a_gap(tmp_path: Path) -> None:
    rig = rig_of(tmp_path, fault=RuleConfig(after_s=600.0), clone=RuleConfig(), gap=RuleConfig())
    rig.put(reading(1, 2, FAULT))
    rig.wait(599)
    rig.put(reading(2, 2, FAULT_CLEARED))
    rig.put(reading(3, 6, FAULT))
    rig.wait(599)
    assert rig.told == []
    rig.wait(1)
    assert rig.events() == [(RAISED, "fault", "a", "0")]
    rig.put(reading(1, 77, FAULT))
    rig.wait(1)
    assert rig.events()[1:] == [(RAISED, "clone", "a", "")]
    rig.put(reading(9, 1))
    meta = MetaIn("a", '{"v":1}', "room", (1, 9), None, None, START_UNIX_MS)
    assert rig.harness.store.put(meta, 1, True, 1.0)
    rig.harness.settle()
    rig.wait(1)
    assert rig.events()[2:] == [(RAISED, "gap", "a", "")]
    rig.wait(3601)
    rig.wait(3601)
    assert {event[1] for event in rig.events()[3:] if event[0] == CLEARED} == {"clone", "gap"}
    rig.close()


def test_a_boards_alarm_is_mirrored_and_ends_with_its_boot(tmp_path: Path) -> None:
    rig = rig_of(tmp_path, board=RuleConfig())
    rig.wait(1)
    rig.put(reading(1, 9000, HIGH_ON))
    rig.wait(1)
    rig.put(reading(2, 7000, HIGH_OFF))
    rig.put(reading(3, 9000, HIGH_ON))
    rig.wait(1)
    rig.put(reading(1, 20, boot=2))
    rig.wait(1)
    assert [event[0] for event in rig.events()] == [RAISED, CLEARED, RAISED, CLEARED]
    rig.close()


def test_a_clock_that_runs_ahead(tmp_path: Path) -> None:
    rig = rig_of(tmp_path, skew=RuleConfig(skew_s=120.0))
    rig.put(frame_in("a", 1, samples(1, 2), epoch_unix_ms=START_UNIX_MS))
    rig.wait(1)
    assert rig.told == []
    rig.put(frame_in("a", 1, samples(3, 4), epoch_unix_ms=START_UNIX_MS + 300_000))
    assert rig.events() == [(RAISED, "skew", "a", "")]
    rig.close()


def test_after_a_kill_what_stands_stands_and_nothing_is_raised_twice(tmp_path: Path) -> None:
    rig = rig_of(tmp_path, hot=RuleConfig(type="limit", above=8.0), board=RuleConfig())
    rig.put(reading(1, 9000))
    rig.put(reading(2, 9100, HIGH_ON))
    assert [event[0] for event in rig.events()] == [RAISED, RAISED]
    for _ in range(3):
        rig.restart()
        rig.wait(5)
        rig.put(reading(10 + len(rig.told), 9200))
    assert len(rig.told) == 2
    assert [a.number for a in rig.engine.standing] == [1, 2]
    rig.harness.put(reading(50, 5000))  # committed, and the gateway is killed before its rules see it
    rig.restart()
    rig.put(reading(51, 5000))
    assert rig.events()[2:] == [(CLEARED, "hot", "a", "0")]
    assert [a.number for a in rig.kept.history(9)] == [1]
    rig.close()


def test_a_disk_that_fails_holds_no_alarm_up_and_has_it_in_the_end(tmp_path: Path) -> None:
    rig = rig_of(tmp_path, store=RuleConfig(), hot=RuleConfig(type="limit", above=8.0))
    keep, failing = rig.engine._keep, ["full"]
    rig.engine._keep = lambda next_row, changes: 0 if failing else keep(next_row, changes)
    rig.engine.watch_store(lambda: failing[0] if failing else None)
    rig.put(reading(1, 9000))
    rig.wait(1)
    assert {event[1] for event in rig.events()} == {"hot", "store"}, "told, although nothing can be kept"
    assert rig.kept.standing() == []
    failing.clear()
    rig.wait(1)
    assert [a.rule for a in rig.kept.standing()] == ["hot", "store"]
    rig.wait(60)
    rig.wait(60)
    assert rig.events()[2:] == [(CLEARED, "store", "", "")]
    rig.restart()
    assert [a.rule for a in rig.engine.standing] == ["hot"]
    rig.close()


def test_a_rule_that_is_gone_clears_what_it_raised(tmp_path: Path) -> None:
    rig = rig_of(tmp_path, hot=RuleConfig(type="limit", above=8.0))
    rig.put(reading(1, 9000))
    rig.engine.tune(rules(OFF))
    assert [event[0] for event in rig.events()] == [RAISED, CLEARED]
    rig.close()


# -- outputs


@pytest.fixture
def factory() -> Iterator[MockFactory]:
    Device.pin_factory = MockFactory()
    yield Device.pin_factory
    Device.pin_factory.reset()
    Device.pin_factory = None


def test_pins_follow_the_alarms_that_stand(factory: MockFactory) -> None:
    pressed: list[int] = []
    outputs = {
        "led": OutputConfig(type="led", pin=2),
        "buzzer": OutputConfig(type="buzzer", pin=3, severity="warning"),
        "siren": OutputConfig(type="relay", pin=4, active_high=False, severity="critical"),
        "pump": OutputConfig(type="relay", pin=5, safe_on=True),
        "quiet": OutputConfig(type="button", pin=6),
    }
    pins = Pins(outputs, lambda: pressed.append(1))
    pins.open()
    level = lambda pin: bool(factory.pin(pin).state)  # noqa: E731
    assert (level(4), level(5)) == (True, True), "the siren is low for on; the pump is safe when on"
    pins.show([alarm(1, "critical")])
    assert (level(4), level(5)) == (False, False)
    wait_for(lambda: level(2), what="the LED's blink")
    wait_for(lambda: level(3), what="the buzzer's beep")
    pins.silence([alarm(1, "critical")])
    assert pins._shown["buzzer"] is None
    assert pins._shown["led"] == "critical", "silence is for ears"
    pins.show([alarm(1, "critical"), alarm(2)])
    assert pins._shown["buzzer"] == "warning", "a new alarm ends the silence"
    pins.show([alarm(1, "critical", acked=True), alarm(2, acked=True)])
    assert pins._shown["buzzer"] is None
    factory.pin(6).drive_low()
    wait_for(lambda: pressed, what="the button")
    pins.close()
    assert (pins._devices, pins._shown["pump"]) == ({}, False)


def test_a_pin_that_cannot_be_had_is_named(factory: MockFactory) -> None:
    pins = Pins({"one": OutputConfig(type="led", pin=2), "two": OutputConfig(type="buzzer", pin=2)}, lambda: None)
    with pytest.raises(ConfigError, match=r"outputs\.two: pin 2"):
        pins.open()
    pins.close()


def test_a_teller_tries_gives_up_and_keeps_its_bound() -> None:
    metrics, done, sent = Metrics(), [], []
    gate = threading.Event()

    def send(notice: Notice) -> None:
        gate.wait(10)
        sent.append(notice.number)
        if notice.number == 3:
            raise SinkUnavailable("webhook", "no")

    output = OutputConfig(type="webhook", url="https://x.example", tries=3, queue_max=2, backoff_max_s=0.01)
    teller = Teller("hook", output, send, done.append, metrics, random.Random(1))
    for number in (1, 2, 3):
        teller.put(Notice(number, "hook", "{}"))
    assert done == [1], "the oldest is given up when the queue is full"
    teller.start()
    gate.set()
    wait_for(lambda: done == [1, 2, 3], what="all fates")
    assert sent == [2, 3, 3, 3]
    assert metrics.by_label("alarm_notices_given_up_total", "reason") == {"queue_full": 1, "tries": 1}
    teller.stop(5)


def test_a_command_gets_the_alarm_without_a_shell(tmp_path: Path) -> None:
    script = "import os,sys,json; open(sys.argv[1],'w').write(os.environ['ISOTHERM_ALARM_TEXT']+sys.stdin.read())"
    event = json.dumps({"text": "$(false); `x`", "number": 4})
    target = tmp_path / "told"
    command = (sys.executable, "-c", script, str(target))
    run_command(OutputConfig(type="command", command=command), Notice(1, "c", event))
    assert target.read_text() == "$(false); `x`" + event
    for wrong in ((sys.executable, "-c", "raise SystemExit(3)"), ("/no/such/program",)):
        with pytest.raises(SinkUnavailable):
            run_command(OutputConfig(type="command", command=wrong), Notice(1, "c", event))
    slow = OutputConfig(type="command", command=(sys.executable, "-c", "input(); input()"), timeout_s=0.1)
    with pytest.raises(SinkUnavailable):
        run_command(slow, Notice(1, "c", event + "\n"))


def test_a_gateway_without_new_rows_keeps_the_place_it_had(tmp_path: Path) -> None:
    rig = rig_of(tmp_path)
    rig.put(reading(1, 5), reading(2, 6))
    rig.wait(31)
    assert rig.kept.follower(FOLLOWER) == 3
    rig.restart()
    rig.wait(31)
    assert rig.kept.follower(FOLLOWER) == 3, "not the first row of all"
    rig.close()
