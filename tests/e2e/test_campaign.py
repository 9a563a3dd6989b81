"""Boards, broker and gateway under random faults: what was made is stored or accounted for, to the last record.

`make soak` runs 20 boards for seven days of their time, `make test` a few for hours. SOAK_SEED repeats a run.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from host_tools.keys import signing
from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.fleet import VirtualFleet
from host_tools.virtual.image import BoardFiles, ImageBuilder
from host_tools.virtual.interpreter import find_micropython
from host_tools.virtual.spec import BoardSpec
from tests.support.campaign import OUTBOX, Campaign, provisioned, rows_of
from tests.support.daemon import Daemon
from tests.support.mosquitto import Mosquitto
from tests.support.ntp_server import NtpServer

pytestmark = [pytest.mark.micropython, pytest.mark.mosquitto, pytest.mark.e2e]
ROOT = Path(__file__).resolve().parents[2]
WIFI = {"ssid": "lab", "password": "correct horse"}
MINUTE_S = 60


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as closing:
        yield closing


def run(stack: ExitStack, folder: Path, boards: int, minutes: int, speed: float, bound_s: float, faults: int) -> None:
    """One campaign: `faults` of each kind a board, and as many that concern all."""
    seed = int(os.environ.get("SOAK_SEED", random.SystemRandom().randrange(1 << 30)))
    print(f"\nseed {seed}: {boards} boards, {minutes} minutes of their time (SOAK_SEED={seed} repeats it)")
    rng = random.Random(seed)
    broker = stack.enter_context(Mosquitto(folder / "mosquitto"))
    daemon = stack.enter_context(Daemon(folder / "gateway", broker.port))
    ntp = NtpServer()
    stack.callback(ntp.close)
    fleet = stack.enter_context(VirtualFleet())
    interpreter = find_micropython(root=ROOT)
    builder = ImageBuilder(interpreter, folder / "images")
    master = builder.master(ROOT / "firmware", [ROOT / ".tools" / "umqtt"])
    key = signing.generate()
    made: list[VirtualBoard] = []
    sensor_faults: Counter[str] = Counter()
    for number in range(boards):
        device = f"soak-{number}"
        config = {
            "device": device,
            "class": "fridge",
            "fleet": "demo",
            "gateway": {"host": "127.0.0.1", "port": broker.port},
            "wifi": WIFI,
            "clock": ("sntp", "gateway")[number % 2],
            "ntp": {"host": "127.0.0.1", "port": ntp.port, "every_s": 15},
            "sampling": {"strobe_pin": 27},
            "sensors": [{"type": "ds18b20", "pin": 5, "channels": {"temperature": "temperature"}}],
            "model_keys": [{"id": "ops", "key": key.public_key.hex()}],
            "outbox": OUTBOX,
            "link": {"ack_timeout_ms": 1000, "keepalive_s": 5, "backoff_max_ms": 1000, "linger_ms": 100},
        }
        rows = folder / f"{device}.rows"
        lines = [f"{t},{v},,{fault}\n" for t, v, _, fault in rows_of(rng, minutes, sensor_faults)]
        rows.write_text("".join(lines), encoding="utf-8")
        spec = BoardSpec(
            device,
            config,
            files={"/model/a.bin": provisioned(key)},
            rows=rows,
            strobe_pin=27,
            speed=speed,
            wifi=WIFI,
            ticks_start_ms=(1 << 30) - rng.randrange(minutes * MINUTE_S * 1000),  # the ticks wrap somewhere in the run
        )
        made.append(VirtualBoard(spec, folder / device, interpreter, fleet))
        stack.callback(made[-1].close)
    builder.make_boards(master, [BoardFiles(board.flash_path, board.spec.flash_files()) for board in made])
    campaign = Campaign(rng, made, broker, daemon, ntp)
    campaign.injected.update(sensor_faults)
    campaign.plan(minutes * MINUTE_S, faults, faults)
    campaign.run(bound_s)
    books = campaign.balance()
    print("injected: " + ", ".join(f"{name} {count}" for name, count in sorted(campaign.injected.items())))
    print(
        f"ledger: made {books.made} in {books.boots} boots = stored {books.stored} + accounted for {books.accounted}"
        f" + taken from RAM by power cuts {books.tails}; sent twice {books.duplicates}"
    )
    assert books.problems == [], books.problems
    assert books.made == books.stored + books.accounted + books.tails
    for name in ("wifi lost", "power cut", "broker restart", "gateway kill", "clock step"):
        assert campaign.injected[name], name


@pytest.mark.timeout(240)
def test_hours_of_a_few_boards(stack: ExitStack, tmp_path: Path) -> None:
    run(stack, tmp_path, boards=3, minutes=360, speed=1200, bound_s=150, faults=2)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_week_of_twenty_boards(stack: ExitStack, tmp_path: Path) -> None:
    run(stack, tmp_path, boards=20, minutes=7 * 24 * 60, speed=1000, bound_s=6000, faults=12)
