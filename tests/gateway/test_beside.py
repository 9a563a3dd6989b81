"""States of models from a device's word to the receiver's answer: real stores on both sides, kills and disorder
between. Windows, the other lane without rows, have test_windows.py.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import wire as up
from gateway.batcher import Batcher, Policy
from gateway.beside import ModelSource
from gateway.errors import StoreUnusable
from gateway.ingest import Ingest
from gateway.messages import LANE_MODELS, Batch, DeviceInfo, ModelState, NoteIn
from gateway.metrics import Metrics
from gateway.models import check_state
from gateway.remake import remake
from gateway.store import Reader
from gateway.store.models import STATES_MAX
from host_tools.cloud import models as down_models
from host_tools.cloud import wire as down
from host_tools.cloud.store import Store as CloudStore
from host_tools.cloud.store_models import HISTORY_MAX, DeviceModel
from tests.gateway.conftest import START_UNIX_MS, Harness
from tests.gateway.test_migrations import STEPS, make_store
from tests.support.board_client import wait_for


class Site:
    """One gateway's store and the lane of its models, stepped by the test; what is frozen waits in `frozen`."""

    def __init__(self, path: Path, name: str = "gw-1", live_age_s: float = 0.0) -> None:
        self.path = path
        self.name = name
        self.live_age_s = live_age_s
        self.clock_s = 50.0
        self.now_s = START_UNIX_MS / 1000
        self.frozen: list[Batch] = []
        self.begin()

    def begin(self) -> None:
        self.harness = Harness(self.path)
        self.harness.now_s = self.now_s
        self.harness.start()
        self.reader = Reader(self.path)
        self.batcher = Batcher(
            "cloud",
            self.name,
            self.reader,
            self.harness.store,
            Policy(1000, self.live_age_s, 1000, 1e9, {LANE_MODELS: 1000}),
            lambda: ("gzip", lambda data: gzip.compress(data, mtime=0)),
            self.frozen.append,
            head_row=0,
            beside=(ModelSource("cloud", self.name, self.reader),),
            clock_s=lambda: self.clock_s,
            wall_s=lambda: self.harness.now_s,
        )
        self.harness.on_commit = self.batcher.committed

    def restart(self) -> None:
        """As a kill: what was frozen and not answered comes from the store again."""
        self.close()
        self.begin()
        self.frozen[:] = self.reader.pending("cloud")

    def say(self, device: str, state: str, sequence: int, reason: str | None = None, *, retained: bool = False) -> None:
        """A device says so now, or its broker what it had retained."""
        self.now_s += 1
        self.harness.now_s = self.now_s
        text = check_state({"sequence": sequence, "state": state, "id": f"{sequence:016x}", "reason": reason})
        note = NoteIn(device, "model_state", text, 0 if retained else int(self.now_s * 1000))
        assert self.harness.store.put(note, 1, False, 1.0)
        self.harness.settle()
        self.harness.settle()  # the first may have been of the same commit, whose news is told after it

    def freeze(self) -> list[Batch]:
        """All that is due."""
        while self.batcher._step(LANE_MODELS):
            pass
        return self.frozen

    def close(self) -> None:
        self.harness.stop()
        self.reader.close()


def received(batch: Batch, gateway: str = "gw-1") -> down.Batch:
    return down.decode(down.Head(gateway, batch.batch, "gzip", hashlib.sha256(batch.body).digest()), batch.body)


def take(cloud: CloudStore, batches: list[Batch], gateway: str = "gw-1") -> None:
    for batch in batches:
        cloud.submit(received(batch, gateway), len(batch.body)).result(timeout=20)


def current(cloud: CloudStore, device: str | None = None) -> list[DeviceModel]:
    with cloud.question() as answers:
        return answers.models(device, None, "", 1000)


def changes(cloud: CloudStore, device: str | None = None) -> list[DeviceModel]:
    with cloud.question() as answers:
        return answers.model_changes(device, None, None, 1000)


def shown(models: list[DeviceModel]) -> list[tuple[str, str, int, int | None]]:
    return [(one.device, one.state, one.sequence, one.running) for one in models]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "store.db")
    yield made
    made.close()


NOW_UNIX_MS = START_UNIX_MS + 3_600_000


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudStore]:
    with CloudStore(tmp_path / "cloud", lambda: NOW_UNIX_MS) as opened:
        yield opened


def test_a_word_of_a_model_wakes_the_lane_without_any_reading(site: Site) -> None:
    site.batcher.start()
    try:
        site.say("a", "trial", 3)
        wait_for(lambda: site.frozen, what="the batch")
    finally:
        site.batcher.stop(5)
    (batch,) = site.frozen
    assert (batch.lane, batch.rows, batch.counts) == (LANE_MODELS, 1, ())
    document = json.loads(gzip.decompress(batch.body))
    (entry,) = document.pop("models")
    assert (document["rows"], document["devices"]) == (0, [{"id": "a", "class": None, "channels": None}])
    assert entry.keys() == set(down_models.COLUMNS)
    heard = START_UNIX_MS + 1000
    assert (entry["since_unix_ms"], entry["heard_unix_ms"], entry["id"]) == (heard, heard, f"{3:016x}")


def test_what_a_fleet_says_within_a_while_goes_together(tmp_path: Path) -> None:
    site = Site(tmp_path / "store.db", live_age_s=5.0)
    assert site.freeze() == []
    site.batcher.start()
    try:
        for device in ("a", "b"):
            site.clock_s += 3
            site.say(device, "trial", 3)
            assert site.batcher._due_in_s() == 5.0 - (site.clock_s - 53)
        assert site.frozen == []
        site.clock_s += 2
        site.batcher._wake.set()
        wait_for(lambda: site.frozen, what="the batch")
        assert [batch.rows for batch in site.frozen] == [2]
        site.say("c", "trial", 3)
        wait_for(lambda: site.batcher._due_in_s() == 5.0, what="the next while")
    finally:
        site.batcher.stop(5)
        site.close()


def test_what_a_broker_retained_is_news_once_and_a_device_s_own_word_whenever_it_comes(site: Site) -> None:
    site.say("a", "committed", 1, retained=True)
    site.say("a", "committed", 1, retained=True)
    assert [one.heard_unix_ms for one in site.reader.unfrozen_models("cloud", 9)] == [None]
    assert len(site.freeze()) == 1
    site.say("a", "committed", 1)
    site.say("a", "committed", 1)
    (again,) = site.reader.unfrozen_models("cloud", 9)
    assert (again.since_unix_ms, again.heard_unix_ms) == (START_UNIX_MS + 3000, START_UNIX_MS + 4000)
    assert again.began < again.revision
    site.say("a", "committed", 1, retained=True)
    assert site.reader.unfrozen_models("cloud", 9) == [again]


def test_the_course_of_a_push(site: Site, cloud: CloudStore) -> None:
    for state, sequence, reason in (
        ("committed", 1, None),
        ("trial", 2, None),
        ("reverted", 2, "samples"),
        ("refused", 1, "sequence"),
        ("trial", 3, None),
        ("committed", 3, None),
    ):
        site.say("a", state, sequence, reason)
        take(cloud, site.freeze())
        site.frozen.clear()
    assert shown(changes(cloud)) == [
        ("a", "committed", 3, 3),
        ("a", "trial", 3, 3),
        ("a", "refused", 1, 1),
        ("a", "reverted", 2, 1),
        ("a", "trial", 2, 2),
        ("a", "committed", 1, 1),
    ]
    assert shown(current(cloud)) == [("a", "committed", 3, 3)]
    assert [one.reason for one in changes(cloud)] == [None, None, "sequence", "samples", None, None]
    with cloud.question() as answers:
        assert answers.models_by_state() == {"trial": 0, "committed": 1, "reverted": 0, "refused": 0}
        assert shown(answers.models(None, "trial", "", 9)) == []
        assert shown(answers.model_changes("a", "trial", None, 1)) == [("a", "trial", 3, 3)]
        (last,) = answers.model_changes("a", "trial", None, 1)
        assert shown(answers.model_changes("a", "trial", ("a", last.began, "gw-1"), 9)) == [("a", "trial", 2, 2)]


def test_after_a_revert_of_what_was_never_seen_nobody_knows_what_runs(site: Site, cloud: CloudStore) -> None:
    site.say("a", "reverted", 2, "crash")
    take(cloud, site.freeze())
    assert shown(current(cloud)) == [("a", "reverted", 2, None)]


@pytest.mark.parametrize("kills", [("said",), ("frozen",), ("sent",), ("said", "frozen", "sent")])
def test_a_kill_between_any_two_steps_neither_loses_nor_repeats(
    site: Site, cloud: CloudStore, kills: tuple[str, ...]
) -> None:
    told = [("trial", 1), ("committed", 1), ("trial", 2), ("committed", 2)]
    for state, sequence in told:
        site.say("a", state, sequence)
        if "said" in kills:
            site.restart()
        site.freeze()
        if "frozen" in kills:
            site.restart()
        take(cloud, site.frozen)
        if "sent" in kills:  # the receiver has it, and its reply is lost
            site.restart()
            take(cloud, site.frozen)
        for batch in site.frozen:
            site.harness.store.uploaded("cloud", batch.batch)
        site.frozen.clear()
    site.restart()
    assert site.freeze() == []
    assert [(one.state, one.sequence) for one in reversed(changes(cloud))] == told
    with cloud.question() as answers:
        counters = answers.counters()
    assert (counters["models_received"], counters["models_taken"]) == (4, 4)


def test_a_store_that_knew_states_before_tells_them_once(tmp_path: Path, cloud: CloudStore) -> None:
    path = tmp_path / "old.db"
    before = next(i for i, step in enumerate(STEPS) if step.name.endswith("_models.sql"))
    with make_store(path, before) as old:
        text = json.dumps({"sequence": 7, "state": "committed", "id": "", "reason": "as\nbefore"})
        old.execute("INSERT INTO devices (device, name, model_state) VALUES (1, 'a', ?), (2, 'b', NULL)", (text,))
    old.close()
    site = Site(path)
    take(cloud, site.freeze())
    site.say("a", "committed", 8)
    site.frozen.clear()
    take(cloud, site.freeze())
    site.close()
    assert shown(changes(cloud)) == [("a", "committed", 8, 8), ("a", "committed", 7, 7)]
    assert changes(cloud)[1][4:7] == (None, None, None), "no id, no reason, no time"


def test_what_the_gateway_says_of_its_own_sensors_goes_up_too(site: Site, cloud: CloudStore) -> None:
    text = json.dumps({"sequence": 0, "state": "committed", "id": ""})  # as gateway.local.model has it at first
    assert site.harness.store.put(NoteIn("gw-1", "model_state", text, START_UNIX_MS), 1, False, 1.0)
    site.harness.settle()
    take(cloud, site.freeze())
    assert shown(current(cloud)) == [("gw-1", "committed", 0, 0)]


def test_both_sides_keep_a_bounded_course(site: Site, cloud: CloudStore) -> None:
    for sequence in range(1, STATES_MAX + 5):
        site.say("a", "committed", sequence)
    kept = site.reader.unfrozen_models("cloud", 1000)
    assert [one.sequence for one in kept] == list(range(5, STATES_MAX + 5))
    rng = random.Random(5)
    states = [ModelState(1, n, n, n, n, n, "committed", None, None) for n in range(1, HISTORY_MAX + 41)]
    rng.shuffle(states)
    for number, state in enumerate(states, 1):
        body = up.model_document("gw-1", number, [state], {1: DeviceInfo(1, "a", None, None)})
        data, digest = up.encode(body, gzip.compress)
        take(cloud, [Batch("cloud", number, LANE_MODELS, 0, 0, 1, (), "gzip", digest, data)])
    assert [one.sequence for one in changes(cloud)] == list(range(HISTORY_MAX + 40, 40, -1))


def test_of_two_gateways_the_one_that_heard_it_last_counts(tmp_path: Path, cloud: CloudStore) -> None:
    east, west = Site(tmp_path / "east.db", "east"), Site(tmp_path / "west.db", "west")
    east.say("a", "committed", 1)
    west.now_s = east.now_s + 60
    west.say("a", "committed", 2)
    take(cloud, west.freeze(), "west")
    take(cloud, east.freeze(), "east")
    assert [(one.gateway, one.sequence) for one in current(cloud)] == [("west", 2)]
    # A new store at the first gateway hears from its broker what that has kept: of any age, so it is no news.
    east.close()
    east = Site(tmp_path / "new.db", "east")
    east.now_s = west.now_s + 60
    east.say("a", "committed", 1, retained=True)
    take(cloud, east.freeze(), "east")
    assert [(one.gateway, one.sequence) for one in current(cloud)] == [("west", 2)]
    # The board was wiped, and comes back there with what it had before.
    east.frozen.clear()
    east.say("a", "committed", 1)
    take(cloud, east.freeze(), "east")
    assert [(one.gateway, one.sequence) for one in current(cloud)] == [("east", 1)]
    east.close()
    west.close()


@pytest.mark.parametrize("years", [2, 200])
def test_a_gateway_whose_clock_ran_ahead_does_not_count_for_good(tmp_path: Path, cloud: CloudStore, years: int) -> None:
    east, west = Site(tmp_path / "east.db", "east"), Site(tmp_path / "west.db", "west")
    east.now_s += years * 365 * 86_400
    east.say("a", "committed", 1)
    west.say("a", "committed", 2)
    take(cloud, east.freeze(), "east")
    take(cloud, west.freeze(), "west")
    assert [(one.gateway, one.sequence) for one in current(cloud)] == [("west", 2)]
    assert [one.heard_unix_ms for one in changes(cloud) if one.gateway == "east"] == [None]
    east.close()
    west.close()


def test_a_store_that_cannot_be_read_for_a_moment_loses_no_word(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    real = site.reader.unfrozen_models
    failures = iter([StoreUnusable("as the test wants it")])

    def unfrozen(sink: str, limit: int) -> list[ModelState]:
        error = next(failures, None)
        if error is not None:
            raise error
        return real(sink, limit)

    monkeypatch.setattr(site.reader, "unfrozen_models", unfrozen)
    site.say("a", "trial", 3)
    site.batcher.start()
    try:
        wait_for(lambda: site.frozen, what="the batch")
    finally:
        site.batcher.stop(5)


_SAID = st.tuples(
    st.sampled_from(["east", "west"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["trial", "committed", "reverted", "refused"]),
    st.integers(0, 2),
    st.booleans(),
)


@settings(max_examples=15, deadline=None)
@given(said=st.lists(_SAID, min_size=1, max_size=12), seed=st.integers(0, 1 << 30))
def test_any_order_and_number_of_arrivals_gives_one_answer(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[str, str, str, int, bool]], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("order")
    sites = {name: Site(folder / f"{name}.db", name) for name in ("east", "west")}
    for gateway, device, state, sequence, retained in said:
        sites[gateway].now_s = max(site.now_s for site in sites.values())
        sites[gateway].say(device, state, sequence, retained=retained)
        sites[gateway].freeze()
    batches = [(name, batch) for name, site in sites.items() for batch in site.frozen]
    rng = random.Random(seed)
    found = []
    for nth in range(2):
        with CloudStore(folder / f"cloud-{nth}", lambda: NOW_UNIX_MS) as cloud:
            arrivals = batches if nth == 0 else [*batches, *rng.choices(batches, k=5)]
            if nth:
                rng.shuffle(arrivals)
            for name, batch in arrivals:
                take(cloud, [batch], name)
            found.append((current(cloud), changes(cloud)))
    assert found[0] == found[1]
    for device in {one[1] for one in said}:
        live = [one for one in said if one[1] == device and not one[4]]
        if live:
            (one,) = [model for model in found[0][0] if model.device == device]
            assert (one.gateway, one.heard_unix_ms is None) == (live[-1][0], False)
    for site in sites.values():
        site.close()


def test_a_batch_too_large_for_its_receiver_is_halved(site: Site, cloud: CloudStore) -> None:
    for device in ("a", "b", "c"):
        site.say(device, "committed", 4)
    (batch,) = site.freeze()
    codec = ("gzip", lambda data: gzip.compress(data, mtime=0))
    halves = remake("gw-1", batch, [91, 92], codec)
    assert [half.rows for half in halves] == [1, 2]
    take(cloud, [*halves, batch])
    assert shown(current(cloud)) == [(device, "committed", 4, 4) for device in ("a", "b", "c")]
    assert len(changes(cloud)) == 3
    with pytest.raises(ValueError, match="single model"):
        remake("gw-1", halves[0], [93, 94], codec)


@pytest.mark.parametrize("text", ["", "a\nb", "\ud800", "\u202e", "x" * 200, "ok"])
def test_whatever_a_board_gives_as_its_reason_the_receiver_takes_the_batch(
    site: Site, cloud: CloudStore, text: str
) -> None:
    taken: list[Any] = []
    ingest = Ingest(lambda item, rows, urgent: taken.append(item) is None, Metrics(), json_bytes_max=8192)
    said = {"sequence": 1, "state": "refused", "id": text, "reason": text}
    ingest.handle("iso/1/a/model/state", json.dumps(said).encode("utf-8", "surrogatepass"), False)
    assert site.harness.store.put(taken[0], 1, False, 1.0)
    site.harness.settle()
    take(cloud, site.freeze())
    (model,) = current(cloud)
    assert model.reason == model.id == (text[:128] if text.isprintable() and text else None)


def entry(**other: Any) -> dict[str, Any]:
    sound = ModelState(0, 1, 2, None, 3, 4, "trial", "ab", None)._asdict()
    return {name: value for name, value in (sound | other).items() if value != "absent"}


@pytest.mark.parametrize(
    "models",
    [
        [],
        {},
        [7],
        [entry(more=1)],
        [entry(reason="absent")],
        [entry(device=1)],
        [entry(began=3)],
        [entry(began=0)],
        [entry(revision=True)],
        [entry(revision=1 << 53)],
        [entry(sequence=-1)],
        [entry(sequence=1 << 30)],
        [entry(state="good")],
        [entry(state=["trial"])],
        [entry(id="")],
        [entry(reason="a\n")],
        [entry(reason="x" * 129)],
        [entry(heard_unix_ms=-1)],
        [entry(since_unix_ms="1")],
    ],
)
def test_what_is_no_state_of_a_model_is_refused(models: Any) -> None:
    document = up.model_document("gw-1", 1, [], {}) | {"devices": [{"id": "a", "class": None, "channels": None}]}
    data, digest = up.encode(document | {"models": [entry()]}, gzip.compress)
    head = down.Head("gw-1", 1, "gzip", bytes.fromhex(digest))
    assert down.decode(head, data).models == (down_models.ModelState(0, 1, 2, None, 3, 4, "trial", "ab", None),)
    data, digest = up.encode(document | {"models": models}, gzip.compress)
    with pytest.raises(down.WireError) as refused:
        down.decode(down.Head("gw-1", 1, "gzip", bytes.fromhex(digest)), data)
    assert (refused.value.status, refused.value.reason) == (400, "models")


def test_a_disk_that_fails_loses_no_word(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that was rolled back is tried again, and counts once."""
    real = site.harness.store._table.finish
    failures = iter([sqlite3.OperationalError("disk I/O error")])

    def finish() -> None:
        error = next(failures, None)
        if error is not None:
            raise error
        real()

    monkeypatch.setattr(site.harness.store._table, "finish", finish)
    site.say("a", "trial", 9)
    assert [(one.sequence, one.began) for one in site.reader.unfrozen_models("cloud", 9)] == [(9, START_UNIX_MS + 1000)]
