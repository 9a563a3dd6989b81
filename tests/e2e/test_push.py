"""A model pushed to many boards of which one is bad: it halts, and the former one comes back. All of it the real thing.

The bad board's sensor reads what the new model calls impossible, so the board takes the model back by itself.
`make test` runs a few boards, `make soak` fifty. A push that is killed goes on where it was.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from host_tools import cli, rollout
from host_tools.keys import fleet as fleets
from host_tools.keys import signing
from host_tools.rollout import BoardState
from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.fleet import VirtualFleet
from host_tools.virtual.image import BoardFiles, ImageBuilder
from host_tools.virtual.interpreter import find_micropython
from host_tools.virtual.spec import BoardSpec
from isocore import model as iso_model
from isocore import topics
from tests.support.board_client import wait_for
from tests.support.daemon import Daemon, environment
from tests.support.mosquitto import Mosquitto

pytestmark = [pytest.mark.micropython, pytest.mark.mosquitto, pytest.mark.e2e]
ROOT = Path(__file__).resolve().parents[2]
DECIDE_S = 60.0
SETS = topics.ROOT + "+/" + topics.MODEL_SET


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Site:
    """Boards with a reading a second of their time, at a broker, with a gateway that acknowledges."""

    def __init__(self, closing: ExitStack, folder: Path, count: int, bad: int) -> None:
        self.folder = folder
        self.fleet = fleets.create(folder / "keys", "home", None)
        self.broker = closing.enter_context(Mosquitto(folder / "mosquitto"))
        self.daemon = closing.enter_context(Daemon(folder / "gateway", self.broker.port))
        self.bad = f"b-{bad:02}"
        self.boards: dict[str, VirtualBoard] = {}
        virtual = closing.enter_context(VirtualFleet())
        interpreter = find_micropython(root=ROOT)
        builder = ImageBuilder(interpreter, ROOT / ".tools" / "images")
        master = builder.master(ROOT / "firmware", [ROOT / ".tools" / "umqtt"])
        for number in range(count):
            device = f"b-{number:02}"
            rows = folder / f"{device}.rows"
            base = 60_000 if device == self.bad else 5_000
            rows.write_text("".join(f"{t},{base + t % 7 * 125},,\n" for t in range(0, 20_000, 2)))
            spec = BoardSpec(device, self._config(device), rows=rows, speed=4)
            self.boards[device] = VirtualBoard(spec, folder / device, interpreter, virtual)
            closing.callback(self.boards[device].close)
        builder.make_boards(master, [BoardFiles(b.flash_path, b.spec.flash_files()) for b in self.boards.values()])

    def _config(self, device: str) -> dict[str, Any]:
        key = self.fleet.model_key().public_key
        return {
            "device": device,
            "class": "fridge",
            "fleet": "home",
            "gateway": {"host": "127.0.0.1", "port": self.broker.port},
            "clock": "gateway",
            "sampling": {"period_ms": 2000},
            "sensors": [{"type": "ds18b20", "pin": 5, "channels": {"temperature": "temperature"}}],
            "model_keys": [{"id": signing.key_id_hex(key), "key": key.hex()}],
            "trial_samples": 2,
            "link": {"ack_timeout_ms": 3000, "keepalive_s": 30, "backoff_max_ms": 2000},
        }

    def container(self, sequence: int, valid_max_milli: int) -> str:
        params: Any = iso_model.ChannelParams()
        params.valid_max_milli, params.error_milli = valid_max_milli, 500
        model = iso_model.Model("home", "class:fridge", sequence, channels={"temperature": params})
        path = self.folder / f"{sequence}.model"
        path.write_bytes(self.fleet.model_key().sign(iso_model.to_payload(model)))
        return str(path)

    def online(self, names: list[str]) -> None:
        for name in names:
            self.boards[name].start()
        for name in names:
            assert self.boards[name].wait_for(lambda b=self.boards[name]: b.counters.get("acked", 0) > 0, DECIDE_S), (
                name
            )

    def view(self) -> rollout.FleetView:
        with rollout.Link("127.0.0.1", self.broker.port) as link:
            return rollout.survey(link)

    def power_off(self, name: str) -> None:
        self.boards[name].power_cut()
        wait_for(lambda: not self.view().online[name], DECIDE_S, "the board's last will")

    def id(self, sequence: int) -> str:
        return rollout.container_id((self.folder / f"{sequence}.model").read_bytes())

    def words(self, *arguments: str) -> list[str]:
        where = ["--broker", f"127.0.0.1:{self.broker.port}", "--state", str(self.folder / "state")]
        return ["model", *arguments, *where, "--soak-s", "0", "--timeout-s", str(DECIDE_S)]

    def run(self, *arguments: str) -> int:
        return cli.run(self.words(*arguments, "--json"))


def states(capsys: pytest.CaptureFixture[str]) -> tuple[str, dict[str, str]]:
    """Why it halted, and each board's state."""
    document = json.loads(capsys.readouterr().out)
    return document["halted"], {name: board["state"] for name, board in document["boards"].items()}


def halts_at_the_bad_one(site: Site, count: int, wave: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Two good pushes are remembered; the third reverts on one board, which halts it; then the former comes back."""
    names = sorted(site.boards)
    away = names[-1]
    site.online(names)
    site.power_off(away)
    assert site.run("push", site.container(1, 125_000), "--wave", "100%") == 0
    why, said = states(capsys)
    assert not why and said.pop(away) == "away"
    assert set(said.values()) == {"committed"}
    site.boards[away].start()  # the broker kept the model for it
    wait_for(lambda: site.view().states[away] == BoardState("committed", 1, site.id(1)), DECIDE_S, "the model")
    capsys.readouterr()

    assert site.run("push", site.container(2, 50_000), "--canary", "1", "--wave", wave) == 1
    why, said = states(capsys)
    assert site.bad in why and "reverted (unhealthy)" in why
    assert said[site.bad] == "reverted"
    untouched = [name for name, state in said.items() if state == "waiting"]
    assert len(untouched) >= count // 3, said
    assert {site.view().states[name].sequence for name in untouched} == {1}
    with capsys.disabled():
        print(f"\n{count} boards: {dict(Counter(said.values()))}; halted: {why}")

    assert site.run("rollback", "--dir", str(site.folder / "keys"), "--wave", "100%") == 0
    why, said = states(capsys)
    assert not why and set(said.values()) == {"committed"}
    assert {state.sequence for state in site.view().states.values()} == {3}
    assert not any(board.restarts for board in site.boards.values())


@pytest.mark.timeout(240)
def test_one_bad_board_halts_it(closing: ExitStack, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    halts_at_the_bad_one(Site(closing, tmp_path, 8, bad=2), 8, "3", capsys)


@pytest.mark.timeout(240)
def test_a_push_that_is_killed_goes_on_where_it_was(
    closing: ExitStack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = Site(closing, tmp_path, 4, bad=99)
    site.online(sorted(site.boards))
    watcher = closing.enter_context(rollout.Link("127.0.0.1", site.broker.port))
    sent: Counter[str] = Counter()

    def hear() -> None:
        """All that went to boards before the broker's answer to this."""
        watcher.subscribe([SETS], 1)
        watcher.until("subscribe", time.monotonic() + DECIDE_S, lambda name, _: sent.update([topics.parse(name)[0]]))

    hear()
    command = [sys.executable, "-m", "host_tools.cli", *site.words("push", site.container(1, 125_000), "--wave", "1")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(), cwd=tmp_path) as pushing:
        assert pushing.stdout is not None
        before = []
        for line in pushing.stdout:
            before.append(line)
            if line.startswith("wave 3 of 4"):
                pushing.kill()
    decided = {name for name in site.boards if f"{name}: committed\n" in before}
    assert len(decided) == 2, before
    assert site.run("push", "--resume") == 0
    why, said = states(capsys)
    assert not why and said == dict.fromkeys(site.boards, "committed")
    assert {state.sequence for state in site.view().states.values()} == {1}
    sent.clear()  # a subscription repeated brings what is retained once more: once for each board
    hear()
    assert all(sent[name] == 1 for name in decided), "who had decided is not sent to again"
    assert site.run("push", "--resume") == 2, "it is over"


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_one_bad_board_of_fifty_halts_it(
    closing: ExitStack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    halts_at_the_bad_one(Site(closing, tmp_path, 50, bad=7), 50, "20%", capsys)
