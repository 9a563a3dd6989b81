"""Power cuts: at any moment of sealing, uploading, thinning and leaving, what was acknowledged is there, once, and
adds up.

One run of the store is recorded (tests/support/power.py); each cut rebuilds what might be left of it, and the stock
store opens that. Then boards send everything again, the gateway sends what is due, and all is counted. The same
cuts with the store's syncs left out of the log must find loss: that is what each test of the second half shows.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway import wire
from gateway.messages import LANE_ALARMS, LANE_LIVE, Batch, Record
from isocore.record import HIGH_ON
from tests.gateway.conftest import frame_in
from tests.gateway.test_store_segments import SMALL, Kept
from tests.support.board_client import samples
from tests.support.power import Event, Platter, Recording
from tests.support.traffic import Counts, note

CUTS = int(os.environ.get("ISOTHERM_CUTS", "200"))
LAST = 360
DEVICES = ("a", "b")
KEEP = SMALL._replace(segment_rows=120, uploaded_age_s=0.0, thin_window_s=20, reserve_bytes=0)


def records(first: int, last: int) -> list[Record]:
    return [(r[0], HIGH_ON if r[0] % 45 == 7 else r[1], *r[2:]) for r in samples(first, last)]


class Cloud:
    """Batches by number, as a receiver keeps them; a batch that comes again must be the same."""

    def __init__(self) -> None:
        self.batches: dict[int, str] = {}

    def take(self, number: int, body: str) -> None:
        assert self.batches.setdefault(number, body) == body, f"batch {number} came again with other content"

    def identities(self) -> list[tuple[str, int]]:
        return [(name, seq) for body in self.batches.values() for name, seq in json.loads(body)]


def freeze(kept: Kept, lane: str, limit: int) -> Batch | None:
    """The next batch of a lane; its body is what it holds, for the counting."""
    rows = kept.reader.lane_rows(lane, kept.reader.cursor("cloud", lane), 1 << 60, limit)
    if not rows:
        return None
    names = {d: info.name for d, info in kept.reader.device_infos({r.device for r in rows}).items()}
    body = json.dumps([(names[r.device], r.seq) for r in rows]).encode()
    number = kept.store.reserve_batches(1)
    assert number is not None
    batch = Batch("cloud", number, lane, rows[0].row, rows[-1].row, len(rows), wire.counts(rows), "gzip", "", body)
    assert kept.store.freeze(batch, rows[-1].row + 1, kept.reader.cuts)
    return batch


def work(kept: Kept, mark: Callable[[Any], None], squeeze: bool) -> None:
    """What a gateway does in a day, in small."""
    kept.harness.on_commit = lambda news: [mark(("ack", ack.device, ack.seq)) for ack in news.acks] and None
    kept.store._ask(lambda c: c.execute("PRAGMA wal_autocheckpoint = 24").fetchone()).wait()
    for first in range(1, LAST, 30):
        for device in DEVICES:
            kept.harness.put(frame_in(device, 1, records(first, first + 14)))
            kept.harness.put(frame_in(device, 1, records(max(1, first - 20), first + 29)))
        kept.keeper.step()
        for lane in (LANE_ALARMS, LANE_LIVE):
            batch = freeze(kept, lane, 4 if squeeze else 35)
            if batch is not None and first % 4:  # some stay on their way
                mark(("sent", batch.batch, batch.body.decode()))
                assert kept.store.uploaded("cloud", batch.batch)
        if squeeze and first % 4 == 3:
            kept.keeper._keep = KEEP._replace(max_bytes=1)
            while kept.keeper._empty_log():
                pass
            kept.keeper.step()
            kept.keeper._keep = KEEP
        kept.keeper.step()


def record(folder: Path, patch: pytest.MonkeyPatch, squeeze: bool = False) -> list[Event]:
    """The log of one run."""
    folder.mkdir()
    with patch.context() as during:
        recording = Recording(lambda name, value: during.setattr(name, value))
        kept = Kept(folder / "store.db", KEEP)
        work(kept, recording.recorder.mark, squeeze)
        kept.close()
        recording.end()
    return recording.recorder.events


def examine(folder: Path, marks: Sequence[Any], whole: bool) -> tuple[int, int]:
    """Open what a cut left, go on to the end, count: stored and arrived. `whole`: nothing was thinned or dropped."""
    kept = Kept(folder / "store.db", KEEP)
    try:
        assert kept.store.set_aside is None, "the main file is sound"
        for _ in range(12):
            kept.harness.clock_s += KEEP.check_every_s
            kept.keeper._check()
        assert kept.harness.metrics.value("store_segments_damaged_total") == 0, "every segment is whole"
        covered = {name: d["covered_seq"] or 0 for name, d in kept.snapshot()["devices"].items()}
        cloud = Cloud()
        for what, key, value in marks:
            if what == "ack":
                assert covered[key] >= value, f"{key} was acknowledged up to {value}, the store has {covered[key]}"
            else:
                cloud.take(key, value)
        finish(kept, cloud)
        entry = kept.totals()
        assert (entry["stored"], entry["conflicts"]) == (LAST * len(DEVICES), 0)
        arrived = cloud.identities()
        assert len(arrived) == len(set(arrived)), "nothing went up twice"
        if whole:
            assert set(arrived) == {(device, seq) for device in DEVICES for seq in range(1, LAST + 1)}
        return entry["stored"], len(arrived)
    finally:
        kept.close()


def finish(kept: Kept, cloud: Cloud) -> None:
    """Boards send all again, pending batches go again, the rest goes up."""
    for device in DEVICES:
        for first in range(1, LAST, 60):
            kept.store.put(frame_in(device, 1, records(first, first + 59)), 60, False, 5.0)
    kept.harness.settle()
    for batch in kept.reader.pending("cloud"):
        cloud.take(batch.batch, batch.body.decode())
        kept.store.uploaded("cloud", batch.batch)
    for lane in (LANE_ALARMS, LANE_LIVE):
        while (batch := freeze(kept, lane, 300)) is not None:
            cloud.take(batch.batch, batch.body.decode())
            kept.store.uploaded("cloud", batch.batch)
    for device in kept.snapshot()["ledger"]["devices"].values():
        assert device["sinks"]["cloud"]["pending"] == 0


def first_start(events: Sequence[Event]) -> int:
    """Where in the log the store was first open: before, there is nothing to lose."""
    return next(i for i, event in enumerate(events) if event.what == "mark")


def cuts(events: list[Event], tmp_path: Path, count: int, seed: int, whole: bool) -> tuple[int, int]:
    """Sums over all cuts of what was stored and what arrived in the end."""
    stored = arrived = 0
    rng = random.Random(seed)
    platter = Platter(events)
    for number, at in enumerate(sorted(rng.randint(0, len(events)) for _ in range(count))):
        platter.play(at)
        folder = tmp_path / f"cut-{number}"
        platter.cut(folder, rng)
        try:
            one = examine(folder, platter.marks, whole)
        except BaseException as exc:
            raise AssertionError(f"cut {number} before entry {at} of {len(events)} (seed {seed}): {exc}") from exc
        stored, arrived = stored + one[0], arrived + one[1]
        shutil.rmtree(folder)
    return stored, arrived


def test_cuts_while_sealing_and_uploading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = record(tmp_path / "run", monkeypatch)
    assert sum(e.what == "rename" for e in events) >= 4, "segments were written"
    assert sum(e.what == "remove" and ".seg-" in e.name for e in events) >= 1, "and some left"
    count = CUTS // 2
    stored, arrived = cuts(events, tmp_path, count, 1, whole=True)
    made = count * LAST * len(DEVICES)
    how = f"{count} cuts of a recorded run, unsynced writes dropped or torn; sums"
    note(Counts("power cut", how, made, stored, arrived, made - arrived, 0))


def test_cuts_while_thinning_and_dropping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = record(tmp_path / "run", monkeypatch, squeeze=True)
    assert any(e.what == "rename" and e.data.endswith("-1") for e in events), "segments were cut down"
    cuts(events, tmp_path, CUTS - CUTS // 2, 2, whole=False)


def inodes(events: list[Event], suffix: str) -> set[int]:
    return {event.file for event in events if event.what == "create" and event.name.endswith(suffix)}


def without(events: list[Event], what: str) -> list[Event]:
    """The log of a store that left out one kind of sync once it was running."""
    start = first_start(events)
    logs, segments = inodes(events, "-wal"), inodes(events, ".tmp")
    skipped: dict[str, Callable[[Event], bool]] = {
        "syncs of the log": lambda event: event.what == "sync" and event.file in logs,
        "syncs of segments": lambda event: event.what == "sync" and event.file in segments,
        "syncs of the folder": lambda event: event.what == "folder",
    }
    return [event for i, event in enumerate(events) if i < start or not skipped[what](event)]


@pytest.mark.parametrize("what", ["syncs of the log", "syncs of segments", "syncs of the folder"])
def test_the_cuts_find_a_store_that_leaves_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    events = without(record(tmp_path / "run", monkeypatch), what)
    with pytest.raises(AssertionError, match="cut "):
        cuts(events, tmp_path, 200, 3, whole=True)
