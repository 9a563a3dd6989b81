"""A fleet of boards under random faults, and the books that must balance at its end.

Everything random comes from one seed. Faults come at random board times: Wi-Fi lost and found, the broker killed and
started, the gateway killed and started, a board's power cut, faulty sensors (in the rows that they see), steps of the
time server's clock by up to ten years. Boards, broker, gateway and store are the real ones.

What balances, for each board and boot: records made (the tap sees each as it enters the outbox) = stored + accounted
for as lost or gap + the tail that a power cut took out of RAM. Nothing is stored that was not made, or made otherwise.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.store import Reader
from host_tools.keys import signing
from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.tap import read_tap
from isocore import model
from isocore.record import FAULT_CLEARED, HIGH_ON, LOST
from tests.support.daemon import Daemon
from tests.support.mosquitto import Mosquitto
from tests.support.ntp_server import NtpServer, reply

START_UNIX_S = 1_800_000_000
TEN_YEARS_S = 10 * 365 * 86_400
MINUTE_MS = 60_000
OUTBOX = {"ram_records": 32, "spill_records": 8, "capacity_bytes": 131_072}
SENSOR_FAULTS = ("crc", "zero", "missing", "85", "short")
DRAIN_S = 120.0

Row = tuple[int, int, int | None, str]


def rows_of(rng: random.Random, count: int, injected: Counter[str]) -> list[Row]:
    """A fridge, a row a minute: a slow wave, doors left open, a sensor that fails for a while now and then."""
    rows: list[Row] = []
    phase = rng.uniform(0, 6)
    left, name = 0, ""
    warm = 0
    for minute in range(count):
        if not left and rng.random() < 0.004:
            left, name = rng.randrange(1, 6), rng.choice(SENSOR_FAULTS)
            injected[f"sensor {name}"] += 1
        if not warm and rng.random() < 0.003:
            warm = rng.randrange(3, 20)
        value = 4000 + int(1500 * math.sin(phase + minute / 35)) + rng.randrange(-60, 60) + (5000 if warm else 0)
        rows.append((minute * MINUTE_MS, value, None, name if left else ""))
        left, warm = max(0, left - 1), max(0, warm - 1)
    return rows


def provisioned(key: signing.SigningKey) -> bytes:
    """The model that all boards run from the start."""
    limits = model.ChannelParams()
    limits.high_on_milli, limits.high_off_milli, limits.error_milli = 8000, 7000, 150
    return key.sign(model.to_payload(model.Model("demo", "*", 1, channels={"temperature": limits})))


@dataclass
class Fault:
    """One thing that happens once its board (or the first, for what concerns all) has come to `at_s` of run time."""

    at_s: float
    board: int
    name: str
    act: Callable[[], None]


@dataclass
class Books:
    """What became of the records of one campaign."""

    made: int = 0
    stored: int = 0
    accounted: int = 0
    tails: int = 0
    duplicates: int = 0
    boots: int = 0
    problems: list[str] = field(default_factory=list)


class Campaign:
    """Runs `boards` (made, off) to the end of their rows while faults come."""

    def __init__(
        self, rng: random.Random, boards: list[VirtualBoard], broker: Mosquitto, daemon: Daemon, ntp: NtpServer
    ) -> None:
        self.rng = rng
        self.boards = boards
        self.broker = broker
        self.daemon = daemon
        self.ntp = ntp
        self.injected: Counter[str] = Counter()
        self.cut_boots: dict[str, set[int]] = {board.spec.device: set() for board in boards}
        self._faults: list[Fault] = []
        ntp.answer = self._answer

    def _answer(self, question: bytes) -> bytes:
        """The time server keeps the boards' pace."""
        return reply(question, START_UNIX_S + self.run_s(self.boards[0]) + self.ntp.offset_s)

    @staticmethod
    def run_s(board: VirtualBoard) -> float:
        return float(board.counters.get("run_ms", 0)) / 1000

    # ---- faults

    def plan(self, span_s: float, per_board: int, common: int) -> None:
        """Draw the faults: so many of each kind for each board, and so many that concern all."""
        for number, board in enumerate(self.boards):
            for _ in range(per_board):
                at_s = self.rng.uniform(0.02, 0.9) * span_s
                self._add(at_s, number, "wifi lost", board.drop_wifi)
                self._add(at_s + self.rng.uniform(60, 5000), number, "wifi found", board.restore_wifi)
                self._add(self.rng.uniform(0.02, 0.97) * span_s, number, "power cut", lambda b=board: self._cut(b))
        for _ in range(common):
            self._add(self.rng.uniform(0.02, 0.97) * span_s, 0, "broker restart", self._restart_broker)
            self._add(self.rng.uniform(0.02, 0.97) * span_s, 0, "gateway kill", self._restart_gateway)
            self._add(self.rng.uniform(0.02, 0.97) * span_s, 0, "clock step", self._step_clock)
        self._faults.sort(key=lambda fault: fault.at_s)

    def _add(self, at_s: float, board: int, name: str, act: Callable[[], None]) -> None:
        self._faults.append(Fault(at_s, board, name, act))

    def _cut(self, board: VirtualBoard) -> None:
        board.power_cut()
        self.cut_boots[board.spec.device].add(last_boot(board))
        board.start()

    def _restart_broker(self) -> None:
        self.broker.kill()
        self.broker.start()

    def _restart_gateway(self) -> None:
        self.daemon.kill()
        self.daemon.start(wait=False)

    def _step_clock(self) -> None:
        self.ntp.offset_s = self.rng.choice((0, 3, -3, 3600, TEN_YEARS_S))

    # ---- the run

    def run(self, bound_s: float) -> None:
        """Inject until every board has seen all its rows and everything is delivered. Fails at the bound."""
        for board in self.boards:
            board.start()
        deadline = time.monotonic() + bound_s
        while self._faults or not all(board.trace_done for board in self.boards):
            assert time.monotonic() < deadline, f"not at the end after {bound_s:g} s: {self._where()}"
            for fault in [one for one in self._faults if self._due(one)]:
                self._faults.remove(fault)
                fault.act()
                self.injected[fault.name] += 1
            time.sleep(0.01)
        for board in self.boards:
            board.restore_wifi()
        deadline = time.monotonic() + DRAIN_S
        while not all(self._drained(board) for board in self.boards):
            assert time.monotonic() < deadline, f"not drained after {DRAIN_S:g} s: {self._where()}"
            time.sleep(0.05)
        for board in self.boards:
            board.stop()

    def _due(self, fault: Fault) -> bool:
        board = self.boards[fault.board]
        return board.trace_done or self.run_s(board) >= fault.at_s

    @staticmethod
    def _drained(board: VirtualBoard) -> bool:
        return board.counters.get("outbox") == 0 and bool(board.counters.get("events_acked"))

    def _where(self) -> list[tuple[str, Any, Any]]:
        return [(b.spec.device, b.counters.get("run_ms"), b.counters.get("outbox")) for b in self.boards]

    # ---- the books

    def balance(self) -> Books:
        """Compare what was made with what is stored, record by record."""
        books = Books()
        ledger = self.daemon.ledger()["ledger"]
        if not ledger["balanced"]:
            books.problems.append("the gateway's ledger does not balance")
        reader = Reader(self.daemon.workdir / "data" / "isotherm.db")
        try:
            rows = [*reader.lane_rows("live", 1, 1 << 40, 1 << 30), *reader.lane_rows("alarms", 1, 1 << 40, 1 << 30)]
            names = {device: info.name for device, info in reader.device_infos({row.device for row in rows}).items()}
        finally:
            reader.close()
        stored: dict[str, dict[tuple[int, int], tuple[int, int, int]]] = {b.spec.device: {} for b in self.boards}
        for row in rows:
            if names[row.device] not in stored:
                continue  # alarms that the gateway itself raised: of a device of its own
            stored[names[row.device]][row.boot, row.seq] = (row.kind, row.channel, row.value)
        for board in self.boards:
            entry = ledger["devices"][board.spec.device]
            if entry["conflicts"]:
                books.problems.append(f"{board.spec.device}: {entry['conflicts']} conflicts")
            books.duplicates += entry["duplicates"]
            self._balance_board(board, stored[board.spec.device], entry["lost"] + entry["gap"], books)
        return books

    def _balance_board(
        self, board: VirtualBoard, stored: dict[tuple[int, int], tuple[int, int, int]], accounted: int, books: Books
    ) -> None:
        device = board.spec.device
        made = [row for row in read_tap(board.tap_path) if row.kind]
        of_boot: dict[int, list[Any]] = {}
        for row in made:
            of_boot.setdefault(row.boot, []).append(row)
        missing = 0
        real = {identity: said for identity, said in stored.items() if said[0] != LOST}
        for boot, records in of_boot.items():
            if [row.seq for row in records] != list(range(1, len(records) + 1)):
                books.problems.append(f"{device}: boot {boot} was used twice, or seq has a hole")
            top = max((seq for number, seq in stored if number == boot), default=0)
            tail = [row for row in records if row.seq > top]
            if tail and (boot not in self.cut_boots[device] or len(tail) >= OUTBOX["ram_records"]):
                books.problems.append(f"{device}: boot {boot} lost its last {len(tail)} records")
            last = records[-1]
            for row in tail:  # an alarm is on flash before the next turn: only the very last round may lack it
                if HIGH_ON <= row.kind <= FAULT_CLEARED and (row.t_s, row.t_ms) != (last.t_s, last.t_ms):
                    books.problems.append(f"{device}: alarm or fault {boot}/{row.seq} was lost")
            books.tails += len(tail)
            for row in records[: len(records) - len(tail)]:
                said = real.pop((boot, row.seq), None)
                if said is None:
                    missing += 1
                elif said != (row.kind, row.channel, row.value):
                    books.problems.append(f"{device}: {boot}/{row.seq} is stored as {said}")
        if real:
            books.problems.append(f"{device}: {len(real)} records are stored that it never made")
        if missing != accounted:
            books.problems.append(f"{device}: {missing} records are missing, {accounted} are accounted for")
        books.made += len(made)
        books.stored += sum(said[0] != LOST for said in stored.values())
        books.accounted += accounted
        books.boots += len(of_boot)


def last_boot(board: VirtualBoard) -> int:
    """The boot of the last record that a board made, 0 before the first."""
    boot = 0
    for row in read_tap(board.tap_path):
        if row.kind:
            boot = row.boot
    return boot
