"""`isotherm virtual run` as a newcomer meets it: a port for mpremote, a folder that keeps the board, plain errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_tools import cli
from host_tools.device import Device
from tests.support.serial_board import DEADLINE_S, ROOT, wait_until

pytestmark = pytest.mark.micropython


class Running:
    """The command in a process of its own, its output read as it comes."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        command = [sys.executable, "-u", "-m", "host_tools.cli", "virtual", "run", *arguments]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'firmware'}"}
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def until(self, text: str) -> str:
        """The first line with this text in it."""
        wait_until(lambda: any(text in line for line in self.lines) or self.process.poll() is not None, text)
        assert any(text in line for line in self.lines), self.lines
        return next(line for line in self.lines if text in line)

    def end(self, number: signal.Signals) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture
def running(tmp_path: Path) -> Iterator[list[Running]]:
    made: list[Running] = []
    yield made
    for each in made:
        each.end(signal.SIGKILL)


def start(running: list[Running], folder: Path, *arguments: str) -> Running:
    running.append(Running(folder, *arguments))
    return running[-1]


def test_a_new_board_waits_to_be_provisioned_and_is_kept(running: list[Running], tmp_path: Path) -> None:
    first = start(running, tmp_path, "--name", "fridge")
    port = first.until("fridge is on: ").split()[3].rstrip(",")
    link = tmp_path / "virtual-boards" / "fridge" / "port"
    assert os.readlink(link) == port
    first.until("ConfigError: config.json: file: is missing: provision the board")
    Device(port, timeout_s=DEADLINE_S).write({"/mark": b"kept"})
    first.until("its prompt is taken")
    assert first.end(signal.SIGINT) == 130
    assert not os.path.lexists(link)
    second = start(running, tmp_path, "--dir", "virtual-boards/fridge", "--name", "fridge")
    second.until("is on: ")
    assert Device(str(link), timeout_s=DEADLINE_S).read("/mark") == b"kept"
    assert second.end(signal.SIGTERM) == 0


def test_it_poses_as_another_board(running: list[Running], tmp_path: Path) -> None:
    """Bare, so that nothing is linked for it: the chip is what is looked at."""
    pico = start(running, tmp_path, "--board", "pico_w", "--name", "pico", "--bare")
    port = pico.until("pico is on: ").split()[3].rstrip(",")
    script = "import os, sys\nprint((sys.platform, os.statvfs('/')[2] * 4096))"
    assert Device(port, timeout_s=DEADLINE_S).evaluate(script) == [("rp2", 868_352)]
    assert pico.end(signal.SIGTERM) == 0
    assert cli.run(["virtual", "run", "--board", "pico"]) == 2, "the board files there are, are named"


def test_a_provisioned_board_runs_and_two_do_not_share_a_folder(running: list[Running], tmp_path: Path) -> None:
    config = {
        "device": "freezer",
        "gateway": {"host": "127.0.0.1", "port": 1},
        "sampling": {"period_ms": 1000},
        "sensors": [{"type": "ds18b20", "pin": 18, "channels": {"temperature": "temperature"}}],
        "actuators": [{"type": "relay", "pin": 16, "channel": "temperature"}],
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    first = start(running, tmp_path, "--config", "config.json", "--speed", "5", "--dir", "drawer")
    first.until("freezer is on: ")
    first.until("-- pin 16 is 0")
    second = start(running, tmp_path, "--dir", "drawer")
    assert second.process.wait(DEADLINE_S) == 1
    second.until("isotherm: drawer: a virtual board runs there already: stop it or choose another --dir")
    assert first.end(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--name", "No Name"], "--name: 'No Name' does not match [a-z0-9-]{1,32}"),
        (["--speed", "0"], "--speed: 0 is not above 0"),
        (["--config", "none.json"], "--config: none.json: cannot be read"),
        (["--config", "bad.json"], "--config: bad.json: is not JSON"),
        (["--config", "list.json"], "--config: list.json: must hold one JSON object"),
        (["--rows", "none.csv"], "--rows: none.csv: no such file"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    assert cli.run(["virtual", "run", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not (tmp_path / "virtual-boards").exists()
