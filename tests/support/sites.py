"""Sites, each a broker, a gateway and virtual boards, that send to one receiver while parts of them are killed.

Everything random comes from one seed; faults come at shares of the run, by the boards' own time. Boards, brokers,
gateways and the receiver are the real ones. `Sites.books` holds what boards made (the tap sees each record as it enters
the outbox) against what the receiver's store has, by identity and content.
"""

from __future__ import annotations

import random
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from host_tools.cloud.store_read import CloudReader
from host_tools.keys import signing
from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.fleet import VirtualFleet
from host_tools.virtual.image import BoardFiles, ImageBuilder
from host_tools.virtual.interpreter import find_micropython
from host_tools.virtual.spec import BoardSpec
from host_tools.virtual.tap import read_tap
from isocore.record import LOST
from tests.support.campaign import OUTBOX, START_UNIX_S, provisioned, rows_of
from tests.support.daemon import Daemon
from tests.support.mosquitto import Mosquitto
from tests.support.uplink import ROOT, ReceiverProcess

WIFI = {"ssid": "lab", "password": "correct horse"}
MINUTE_S = 60
Content = tuple[int, int, int]  # kind, channel, value
Identity = tuple[int, int]  # boot, seq


class SiteBooks(NamedTuple):
    """What became of all boards' records. missing: made, and neither stored nor told to be evicted."""

    made: int
    stored: int
    evicted: int
    missing: int
    altered: int
    invented: int
    counted_new: int
    rows: int
    repeated: int
    duplicate_rows: int
    conflicting: int
    alarms: int


class Sites:
    """`gateways` sites with `boards` in all. A context manager's ExitStack ends them."""

    def __init__(self, stack: ExitStack, folder: Path, rng: random.Random, *, gateways: int, boards: int) -> None:
        self.rng = rng
        self.injected: Counter[str] = Counter()
        self.receiver = stack.enter_context(ReceiverProcess(folder))
        self._port = _free_port()
        self.start_receiver()
        url = f"http://127.0.0.1:{self._port}"
        self.brokers = [stack.enter_context(Mosquitto(folder / f"mosquitto-{n}")) for n in range(gateways)]
        self.gateways = [
            stack.enter_context(Daemon(folder / f"gateway-{n}", broker.port, url, name=f"gw-{n}", read_timeout_s=5.0))
            for n, broker in enumerate(self.brokers)
        ]
        self._fleet = stack.enter_context(VirtualFleet())
        self._folder = folder
        self._stack = stack
        self.boards: list[VirtualBoard] = []
        self._count = boards

    def start_receiver(self) -> None:
        """On the same port as before, as a service manager would."""
        self.receiver.start("--port", str(self._port))

    def make_boards(self, minutes: int, speed: float) -> None:
        """A board for each place, in turn at each gateway; none is powered on yet."""
        interpreter = find_micropython(root=ROOT)
        builder = ImageBuilder(interpreter, ROOT / ".tools" / "images")
        master = builder.master(ROOT / "firmware", [ROOT / ".tools" / "umqtt"])
        key = signing.generate()
        model = provisioned(key)
        faults: Counter[str] = Counter()
        for number in range(self._count):
            device = f"site-{number}"
            config = {
                "device": device,
                "class": "fridge",
                "fleet": "demo",
                "gateway": {"host": "127.0.0.1", "port": self.brokers[number % len(self.brokers)].port},
                "wifi": WIFI,
                "clock": "rtc",
                "sampling": {"strobe_pin": 27},
                "sensors": [{"type": "ds18b20", "pin": 5, "channels": {"temperature": "temperature"}}],
                "model_keys": [{"id": "ops", "key": key.public_key.hex()}],
                "outbox": OUTBOX,
                "link": {"ack_timeout_ms": 1000, "keepalive_s": 5, "backoff_max_ms": 1000, "linger_ms": 100},
            }
            rows = self._folder / f"{device}.rows"
            lines = [f"{t},{v},,{fault}\n" for t, v, _, fault in rows_of(self.rng, minutes, faults)]
            rows.write_text("".join(lines), encoding="utf-8")
            spec = BoardSpec(
                device,
                config,
                files={"/model/a.bin": model},
                rows=rows,
                strobe_pin=27,
                speed=speed,
                wifi=WIFI,
                epoch_s=START_UNIX_S,
            )
            self.boards.append(VirtualBoard(spec, self._folder / device, interpreter, self._fleet))
            self._stack.callback(self.boards[-1].close)
        builder.make_boards(master, [BoardFiles(board.flash_path, board.spec.flash_files()) for board in self.boards])

    # ---- faults

    def run(self, minutes: int, faults: int, bound_s: float) -> None:
        """Power on, inject `faults` of each kind, wait until the receiver has all. Fails at the bound."""
        plan = self._plan(faults)
        deadline_s = time.monotonic() + bound_s
        for board in self.boards:
            board.start()
        while plan or not all(board.trace_done for board in self.boards):
            assert time.monotonic() < deadline_s, f"not at the end after {bound_s:g} s: {self._where()}"
            share = min(board.counters.get("run_ms", 0) for board in self.boards) / (minutes * MINUTE_S * 1000)
            if all(board.trace_done for board in self.boards):
                share = 1.0
            while plan and plan[0][0] <= share:
                _, name, act = plan.pop(0)
                act()
                self.injected[name] += 1
            time.sleep(0.01)
        while not all(board.counters.get("outbox") == 0 for board in self.boards):
            assert time.monotonic() < deadline_s, f"boards not empty after {bound_s:g} s: {self._where()}"
            time.sleep(0.05)
        made = sum(len(made_by(board)) for board in self.boards)
        while (stored := self._stored()) < made:
            assert time.monotonic() < deadline_s, f"{stored} of {made} records at the receiver after {bound_s:g} s"
            time.sleep(0.1)
        for board in self.boards:
            board.stop()

    def _plan(self, faults: int) -> list[tuple[float, str, Callable[[], None]]]:
        plan: list[tuple[float, str, Callable[[], None]]] = []
        for _ in range(faults):
            plan.append((self._share(), "receiver killed", self._restart_receiver))
            down = self._share()
            plan.append((down, "receiver away", self.receiver.kill))
            plan.append((down + 0.04, "receiver back", self._restart_receiver))
            plan.append((self._share(), "gateway killed", self._restart_gateway))
            plan.append((self._share(), "broker killed", self._restart_broker))
            plan.append((self._share(), "gateway and receiver killed", self._restart_both))
        return sorted(plan, key=lambda fault: fault[0])

    def _share(self) -> float:
        return self.rng.uniform(0.03, 0.93)

    def _restart_receiver(self) -> None:
        self.receiver.kill()
        self.start_receiver()

    def _restart_gateway(self) -> None:
        gateway = self.rng.choice(self.gateways)
        gateway.kill()
        gateway.start(wait=False)

    def _restart_broker(self) -> None:
        broker = self.rng.choice(self.brokers)
        broker.kill()
        broker.start()

    def _restart_both(self) -> None:
        gateway = self.rng.choice(self.gateways)
        gateway.kill()
        self.receiver.kill()
        gateway.start(wait=False)
        self.start_receiver()

    def _where(self) -> list[tuple[str, object, object]]:
        return [(b.spec.device, b.counters.get("run_ms"), b.counters.get("outbox")) for b in self.boards]

    def _stored(self) -> int:
        """Records of the boards at the receiver, those that it was told of as evicted included."""
        with CloudReader(self.receiver.data) as reader:
            counts = reader.counts_per_device()
            ours = [(name, count.rows) for name, count in counts.items() if name.startswith("site-")]
            return sum(
                rows + reader.lost_identities(name) - sum(1 for _ in reader.readings(name, [LOST]))
                for name, rows in ours
            )

    # ---- the books

    def books(self) -> SiteBooks:
        """Compare, record by record. The receiver has stopped."""
        made = stored = evicted = missing = altered = invented = 0
        with CloudReader(self.receiver.data) as reader:
            for board in self.boards:
                rows = {(r.boot, r.seq): (r.kind, r.channel, r.value) for r in reader.readings(board.spec.device)}
                covered = {
                    (boot, seq - back)
                    for (boot, seq), (kind, _, value) in rows.items()
                    if kind == LOST
                    for back in range(value)
                }
                records = made_by(board)
                made += len(records)
                stored += sum(kind != LOST for kind, _, _ in rows.values())
                for identity, content in records.items():
                    if identity in covered:
                        evicted += 1
                    elif identity not in rows:
                        missing += 1
                    elif rows[identity] != content:
                        altered += 1
                invented += len(rows.keys() - records.keys() - covered)
            counters = reader.counters()
            every = sum(count.rows for count in reader.counts_per_device().values())
            return SiteBooks(
                made,
                stored,
                evicted,
                missing,
                altered,
                invented,
                counters["rows_new"],
                every,
                counters.get("batches_repeated", 0),
                counters["rows_duplicate"],
                counters["rows_conflicting"],
                len(reader.alarms()),
            )


def made_by(board: VirtualBoard) -> dict[Identity, Content]:
    """Every record that a board made."""
    return {(row.boot, row.seq): (row.kind, row.channel, row.value) for row in read_tap(board.tap_path) if row.kind}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
