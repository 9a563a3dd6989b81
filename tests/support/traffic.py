"""Boards that keep sending through a fault, and the three counts that must agree afterwards: boards', store's, cloud's.

`reconcile` asserts them and, when ISOTHERM_FAULTS names a file, adds a line to it: docs/reliability.md is made of those
(`python -m tests.reliability`).
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gateway.store import Reader
from isocore.record import HIGH_ON
from tests.support.board_client import BoardClient, Record, samples, wait_for
from tests.support.daemon import Daemon, FakeCloud

DEVICES = ("a", "b", "c")
FAULTS = (
    "kill -9 of gateway, broker, both",
    "SIGTERM under load",
    "broker restarted with its persistence",
    "broker restarted without its persistence",
    "half-open TCP, gateway to broker",
    "half-open TCP, gateway to cloud",
    "upstream refused at boot",
    "upstream silent",
    "upstream slow",
    "upstream answers 500",
    "lost replies",
    "truncated requests",
    "duplicated replies",
    "broker away at boot",
    "disk full",
    "clock 10 years forward",
    "clock 10 years back",
    "30 days of backlog",
    "reload under load",
    "power cut",
)
_TIMEOUT_S = 90.0


class Counts(NamedTuple):
    """One fault's outcome. `lost` and `doubled` are of the cloud's rows against the boards'."""

    fault: str
    how: str
    boards: int
    store: int
    cloud: int
    lost: int
    doubled: int


class Traffic:
    """Boards that send until told to stop; `made` says how far each got. Now and then a record is an alarm."""

    def __init__(self, board: BoardClient, devices: Sequence[str] = DEVICES, step: int = 30, seed: int = 1) -> None:
        self.board = board
        self.stop = threading.Event()
        self.made = dict.fromkeys(devices, 0)
        self.failure: BaseException | None = None
        self._step = step
        self._rng = random.Random(seed)
        self.thread = threading.Thread(target=self._run, name="traffic")
        self.thread.start()

    def _records(self, first: int, last: int) -> list[Record]:
        out = samples(first, last)
        if self._rng.random() < 0.1:
            seq, _, channel, value, uptime_ms, trend = out[-1]
            out[-1] = (seq, HIGH_ON, channel, value, uptime_ms, trend)
        return out

    def _run(self) -> None:
        try:
            while not self.stop.is_set():
                for device in self.made:
                    first = self.made[device] + 1
                    last = first + self._step - 1
                    self.board.deliver(device, 1, self._records(first, last), timeout_s=_TIMEOUT_S, again_s=0.2)
                    self.made[device] = last
        except BaseException as exc:
            self.failure = exc

    @property
    def sent(self) -> int:
        """Records made and acknowledged."""
        return sum(self.made.values())

    def more(self, count: int) -> None:
        """Wait until so many more were acknowledged, or the traffic failed."""
        target = self.sent + count
        wait_for(lambda: self.sent >= target or self.failure, timeout_s=_TIMEOUT_S, what=f"{count} more records")
        assert self.failure is None, self.failure

    def finish(self) -> dict[str, int]:
        """No more records; those under way are delivered first."""
        self.stop.set()
        self.thread.join(_TIMEOUT_S)
        assert self.failure is None, self.failure
        return self.made

    def __enter__(self) -> Traffic:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop.set()
        self.thread.join(_TIMEOUT_S)


def stored(path: Path) -> dict[str, set[int]]:
    """Seqs in the store by device; reads beside a daemon that runs."""
    reader = Reader(path)
    try:
        out: dict[str, set[int]] = {name: set() for name in DEVICES}
        names: dict[int, str] = {}
        for lane in ("live", "alarms"):
            for row in reader.lane_rows(lane, 1, 1 << 60, 1 << 30):
                if row.device not in names:
                    names[row.device] = reader.device_infos({row.device})[row.device].name
                seqs = out.setdefault(names[row.device], set())  # the gateway's own alarms are there too
                assert row.seq not in seqs, "stored twice"
                seqs.add(row.seq)
        return out
    finally:
        reader.close()


def assert_acks_are_stored(board: BoardClient, daemon: Daemon) -> None:
    """Whatever a board was told is durable is in the store's files by now."""
    with board.lock:
        acked = dict(board.watermark)
    held = stored(daemon.workdir / "data" / "isotherm.db")
    for (device, _), seq in acked.items():
        assert set(range(1, seq + 1)) <= held[device], f"{device}: acknowledged up to {seq}, not all stored"


RULES_DEVICE = "gw-test-rules"


def reconcile(fault: str, how: str, made: dict[str, int], daemon: Daemon, cloud: FakeCloud) -> Counts:
    """Wait for the uploads, end the daemon, count all three sides, and hold them against each other."""
    wait_for(lambda: _pending(daemon) == 0, timeout_s=_TIMEOUT_S, what="the uploads")
    assert daemon.stop() == 0
    ledger = daemon.ledger()
    assert ledger["differences"] == []
    totals = ledger["ledger"]["totals"]
    assert (totals["conflicts"], totals["lost"], totals["gap"]) == (0, 0, 0)
    assert sum(entry["identities"] for entry in ledger["rows"].values()) == totals["stored"]
    # Some faults raise alarms of the gateway's rules, which go up as records of its own device.
    identities = sum(entry["identities"] for name, entry in ledger["rows"].items() if name != RULES_DEVICE)
    boards = sum(made.values())
    rows = [row for row in cloud.rows() if row[0] != RULES_DEVICE]
    expected = {(device, 1, seq) for device, last in made.items() for seq in range(1, last + 1)}
    assert set(rows) <= expected, "the cloud has what no board made"
    lost, doubled = len(expected - set(rows)), len(rows) - len(set(rows))
    counts = Counts(fault, how, boards, identities, len(set(rows)), lost, doubled)
    sent: dict[int, set[bytes]] = {}
    for seen in cloud.seen:
        sent.setdefault(seen.batch, set()).add(seen.body)
    assert all(len(bodies) == 1 for bodies in sent.values()), "what was sent again was the same"
    note(counts)
    assert (counts.store, counts.lost, counts.doubled) == (boards, 0, 0), counts
    return counts


def note(counts: Counts) -> None:
    """Add a line for docs/reliability.md, if one is wanted."""
    path = os.environ.get("ISOTHERM_FAULTS")
    assert counts.fault in FAULTS
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(counts._asdict()) + "\n")


def _pending(daemon: Daemon) -> Any:
    return daemon.status().get("sinks", {}).get("cloud", {}).get("rows_pending")
