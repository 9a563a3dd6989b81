"""What the receiver asks of a store (host_tools/cloud/ports.py), of every store there is: add a factory to STORES.

A store is closed and opened again, batches come in any order and number of times; what it said to be stored is there,
once. How it keeps that is its own business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from host_tools.cloud.answers import Ack, Acked
from host_tools.cloud.ports import BatchStore
from host_tools.cloud.store import BusyError, DigestConflict, Store, Stored
from host_tools.cloud.store_quota import Quota, QuotaSpent
from host_tools.cloud.windows import Window
from host_tools.cloud.wire import Batch, Device, Reading
from isocore.record import DELTA, HIGH_OFF, HIGH_ON, SAMPLE

NOW_UNIX_MS = 1_800_000_000_000
EPOCH_UNIX_MS = NOW_UNIX_MS - 3_600_000
Factory = Callable[[Path, Quota], BatchStore]

STORES: dict[str, Factory] = {
    "sqlite": lambda folder, quota: Store(folder, lambda: NOW_UNIX_MS, quota=quota),
}


@pytest.fixture(params=sorted(STORES))
def factory(request: pytest.FixtureRequest) -> Factory:
    return STORES[request.param]


@pytest.fixture
def store(factory: Factory, tmp_path: Path) -> Iterator[BatchStore]:
    opened = factory(tmp_path, Quota())
    yield opened
    opened.close()


def row(seq: int, value: int = 4000, kind: int = DELTA, boot: int = 1) -> Reading:
    return Reading(0, boot, seq, kind, 0, value, 0, seq * 1000, EPOCH_UNIX_MS, 1)


def batch(number: int, *rows: Reading, gateway: str = "gw-1", device: str = "fridge", lane: str = "live") -> Batch:
    digest = hashlib.sha256(repr((number, gateway, device, rows)).encode()).digest()
    return Batch(gateway, number, digest, lane, (Device(device, "room", (("temperature", "degC"),)),), list(rows))


def send(store: BatchStore, item: Batch) -> Stored:
    return store.submit(item, 100).result(timeout=30)


def contents(store: BatchStore, device: str = "fridge") -> list[tuple[int, int, int]]:
    with store.question() as answers:
        return [(r.boot, r.seq, r.value) for r in answers.page(device, None, None, None, (0, 0), 10_000)]


def test_a_batch_is_stored_once_however_often_it_comes(store: BatchStore) -> None:
    first = batch(1, row(1), row(2))
    assert send(store, first) == Stored("stored", 2, 2)
    assert send(store, first) == Stored("duplicate", 2, 0)
    assert contents(store) == [(1, 1, 4000), (1, 2, 4000)]


def test_a_number_belongs_to_its_gateway_and_digest(store: BatchStore) -> None:
    send(store, batch(1, row(1)))
    with pytest.raises(DigestConflict):
        send(store, batch(1, row(2)))
    assert send(store, batch(1, row(2), gateway="gw-2")).new == 1
    assert contents(store) == [(1, 1, 4000), (1, 2, 4000)]


def test_what_was_answered_is_there_after_it_was_closed(factory: Factory, tmp_path: Path) -> None:
    store = factory(tmp_path, Quota())
    item = batch(1, row(1), row(2))
    send(store, item)
    store.close()
    store = factory(tmp_path, Quota())
    assert send(store, item) == Stored("duplicate", 2, 0)
    assert contents(store) == [(1, 1, 4000), (1, 2, 4000)]
    store.close()


def test_closing_stores_what_waits(factory: Factory, tmp_path: Path) -> None:
    store = factory(tmp_path, Quota())
    futures = [store.submit(batch(n, row(n)), 100) for n in range(1, 30)]
    store.close()
    assert [future.result(timeout=0).new for future in futures] == [1] * 29
    store = factory(tmp_path, Quota())
    assert len(contents(store)) == 29
    store.close()


def test_a_full_queue_says_so(store: BatchStore) -> None:
    """However fast it stores, a caller is never held up, and what was taken is stored."""
    taken: list[Future[Stored]] = []
    for number in range(1, 3000):
        try:
            taken.append(store.submit(batch(number, row(number)), 100))
        except BusyError:
            break
    assert sum(future.result(timeout=60).new for future in taken) == len(taken) == len(contents(store))


def test_who_gives_up_waiting_stops_nobody(store: BatchStore) -> None:
    given_up = store.submit(batch(1, row(1)), 100)
    given_up.cancel()
    assert send(store, batch(2, row(2))).new == 1
    assert given_up.result(timeout=30).new == 1
    assert len(contents(store)) == 2


def test_an_acknowledged_alarm_stands_until_it_is_raised_again(store: BatchStore) -> None:
    def standing() -> list[int]:
        with store.question() as answers:
            return [alarm.times for alarm in answers.alarm_page(True, 0, (), 100, NOW_UNIX_MS)[0]]

    send(store, batch(1, row(1)))
    send(store, batch(2, row(1, 9000)))
    assert store.acknowledge(Ack("other", "conflict", None, None, "ada", "why")).result(timeout=30) == []
    ack = Ack("fridge", "conflict", None, None, "ada", "why")
    assert store.acknowledge(ack).result(timeout=30) == [Acked("fridge", "conflict", "gw-1", 1, True)]
    assert store.acknowledge(ack).result(timeout=30) == [Acked("fridge", "conflict", "gw-1", 1, False)]
    assert standing() == []
    send(store, batch(3, row(1, 9001)))
    assert standing() == [2]
    with store.question() as answers:
        assert answers.identity_alarms() == {"conflict": 1}


def test_many_gateways_at_once(store: BatchStore) -> None:
    """The same readings by four gateways, each with rows of its own as well."""

    def gateway(name: str, own: int) -> int:
        new = 0
        for number in range(1, 21):
            item = batch(number, row(number), row(own + number), gateway=name)
            while True:
                try:
                    new += send(store, item).new
                    break
                except BusyError:
                    continue
        return new

    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(gateway, f"gw-{n}", 1000 * n) for n in range(1, 5)]
        assert sum(job.result(timeout=60) for job in jobs) == 20 + 4 * 20
    assert len(contents(store)) == 100
    with store.question() as answers:
        counters = answers.counters()
    assert (counters["rows_new"], counters["rows_duplicate"], counters.get("rows_conflicting", 0)) == (100, 60, 0)


def test_a_contradiction_keeps_the_first_and_is_told(store: BatchStore) -> None:
    send(store, batch(1, row(1)))
    assert send(store, batch(1, row(1, 9000), gateway="gw-2")).new == 0
    assert contents(store) == [(1, 1, 4000)]
    with store.question() as answers:
        (alarm,), following = answers.alarm_page(True, 0, (), 100, NOW_UNIX_MS)
        assert (alarm.kind, alarm.reason, alarm.device, alarm.gateway) == ("identity", "conflict", "fridge", "gw-2")
        assert following is None
        assert answers.counters()["rows_conflicting"] == 1


def test_a_spent_quota_stores_nothing(factory: Factory, tmp_path: Path) -> None:
    store = factory(tmp_path, Quota(rows_a_day=1))
    send(store, batch(1, row(1)))
    with pytest.raises(QuotaSpent):
        send(store, batch(2, row(2)))
    assert send(store, batch(1, row(1))).status == "duplicate"
    assert contents(store) == [(1, 1, 4000)]
    store.close()


def test_the_highest_revision_of_a_window_counts(store: BatchStore) -> None:
    def windows(number: int, revision: int, mean: int) -> Batch:
        window = Window(0, 0, 60, 1_799_999_940, revision, mean, mean, mean, mean, 1, 60_000, 0, 0)
        device = Device("fridge", None, None)
        return Batch("gw-1", number, bytes([number]) * 32, "windows", (device,), [], (window,))

    for number, revision in ((1, 2), (2, 3), (3, 1)):
        send(store, windows(number, revision, 1000 * revision))
    with store.question() as answers:
        (window,) = answers.windows("fridge", None, None, 0, 1 << 40, 10)
    assert (window.revision, window.mean) == (3, 3000)


def test_a_question_sees_one_state(store: BatchStore) -> None:
    send(store, batch(1, row(1, kind=HIGH_ON), row(2, kind=SAMPLE), row(3, kind=HIGH_OFF)))
    with store.question() as answers:
        (state,) = answers.device_states("", 10)
        assert answers.device_states("fridge", 10) == []
        assert [point.seq for point in answers.points(state.number, 0, (0, 1 << 42), (-1, 0, 0), 10)] == [2]
        assert [record[1] for record in answers.records(state.number, 0, (0, 1 << 42), 10)] == [1, 2, 3]
        assert [record[1] for record in answers.events_before(state.number, 0, 1, 3)] == [1]
        assert [latest.seq for latest in answers.latest(state.number, {0})] == [2]
        assert answers.standing(state.number, 0) == []
        send(store, batch(2, row(4, kind=HIGH_ON)))
        assert answers.standing(state.number, 0) == []
        assert len(answers.page("fridge", None, None, None, (0, 0), 10)) == 3
    with store.question() as answers:
        assert len(answers.standing(state.number, 0)) == 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrivals=st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["gw-1", "gw-2"])), min_size=1, max_size=12),
    restarts=st.sets(st.integers(0, 11)),
)
def test_any_order_of_arrival_gives_the_same_rows(
    factory: Factory, tmp_path_factory: pytest.TempPathFactory, arrivals: list[tuple[int, str]], restarts: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("order")
    store = factory(folder, Quota())
    for at, (number, gateway) in enumerate(arrivals):
        if at in restarts:
            store.close()
            store = factory(folder, Quota())
        rows = [row(seq, 4000 + seq) for seq in range(number * 2, number * 2 + 3)]  # neighbours share a row
        send(store, batch(number, *rows, gateway=gateway))
    wanted = sorted({seq for number, _ in arrivals for seq in range(number * 2, number * 2 + 3)})
    assert contents(store) == [(1, seq, 4000 + seq) for seq in wanted]
    with store.question() as answers:
        assert answers.counters()["rows_new"] == len(wanted)
        assert answers.alarms() == []
    store.close()
