"""`isotherm fleet` against a real gateway, and against documents that no sound gateway gives."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host_tools import cli, fleet_view
from host_tools.demo.processes import free_port
from isocore import topics
from tests.support.board_client import wait_for
from tests.support.daemon import Daemon, environment
from tests.support.model_board import boards_at
from tests.support.mosquitto import Mosquitto

pytestmark = pytest.mark.mosquitto


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A gateway that knows three boards: two fridges, of which one refused a model, and a room that is offline."""
    folder = tmp_path_factory.mktemp("fleet")
    with (
        Mosquitto(folder / "mosquitto") as broker,
        Daemon(folder / "gateway", broker.port) as running,
        boards_at(broker.port) as make,
    ):
        made = [make("fridge-1", []), make("fridge-2", []), make("hall", [], "room", online=False)]
        for number, board in enumerate(made):
            meta = {"v": 1, "class": "room" if board.device == "hall" else "fridge", "firmware": "0.1.0"}
            meta |= {"board": "pico_w", "fleet": "home", "mode": "normal"}
            meta["channels"] = [{"name": "temperature", "unit": "°C", "kind": "temperature"}]
            board.retain(topics.META, json.dumps(meta).encode())
            board.retain(topics.HEALTH, json.dumps({"v": 1, "uptime_s": 60, "outbox": number}).encode())
            state = {"sequence": 7, "state": "refused" if number == 1 else "committed", "id": "ab", "reason": "fleet"}
            board.retain(topics.MODEL_STATE, json.dumps(state).encode())
        wait_for(lambda: sum(map(complete, running.status()["devices"].values())) == 3, what="boards at the gateway")
        yield running


def complete(said: dict[str, Any]) -> bool:
    """Whether the gateway has all that a board said of itself."""
    return bool(said["model_state"] and said["health"] and (said["meta"] or {}).get("firmware"))


@pytest.fixture
def where(daemon: Daemon) -> list[str]:
    address = (daemon.workdir / "data" / "status.address").read_text(encoding="ascii").strip()
    return ["--gateway", f"http://{address}"]


def test_status(where: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["fleet", "status", *where]) == 0
    shown = capsys.readouterr().out
    assert "3 boards, 1 offline, 0 with alarms" in shown
    assert "model refused fleet" in shown
    assert cli.run(["fleet", "status", *where, "--check"]) == 3
    assert cli.run(["fleet", "status", "fridge-1", *where, "--check"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ([], ["fridge-1", "fridge-2", "hall"]),
        (["fridge-*"], ["fridge-1", "fridge-2"]),
        (["class:room", "fridge-2"], ["fridge-2", "hall"]),
        (["--offline"], ["hall"]),
        (["--alarm"], []),
        (["--model-sequence", "7"], ["fridge-1", "fridge-2", "hall"]),
        (["--model-sequence", "8"], []),
    ],
)
def test_filters(where: list[str], filters: list[str], names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["fleet", "status", *filters, *where, "--json"]) == 0
    assert [board["device"] for board in json.loads(capsys.readouterr().out)] == names


def test_json_says_what_the_boards_said(where: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["fleet", "status", "fridge-2", *where, "--json"]) == 0
    (board,) = json.loads(capsys.readouterr().out)
    assert (board["firmware"], board["board"], board["outbox"], board["uptime_s"]) == ("0.1.0", "pico_w", 1, 60)
    assert board["channels"] == "temperature" and board["model_sequence"] == 7 and board["online"]
    assert board["last_seen_unix_ms"] > 1_700_000_000_000
    assert board["needs_care"] == ["model refused fleet"]


def test_inventory_counts(where: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["fleet", "inventory", *where]) == 0
    shown = capsys.readouterr().out
    assert "firmware: 3 of 0.1.0" in shown and "model: 3 of 7" in shown and "board: 3 of pico_w" in shown
    assert cli.run(["fleet", "inventory", *where, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)[0]) == set(fleet_view.INVENTORY)


def test_export_is_what_is_shown(where: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "fleet.csv"
    assert cli.run(["fleet", "export", *where, "--out", str(out)]) == 0
    rows = list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8"))))
    assert tuple(rows[0]) == fleet_view.COLUMNS
    assert [row["device"] for row in rows] == ["fridge-1", "fridge-2", "hall"]
    capsys.readouterr()
    assert cli.run(["fleet", "export", *where, "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3


def test_watch_without_a_terminal_ends_and_is_plain(where: list[str]) -> None:
    command = [sys.executable, "-m", "host_tools.cli", "fleet", "watch", *where, "--count", "2", "--every-s", "0.2"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("3 boards, 1 offline") == 2 and "\x1b" not in done.stdout


def test_watch_on_a_terminal(where: list[str]) -> None:
    """A real one, a pty; NO_COLOR takes the colours."""
    import pty

    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "host_tools.cli", "fleet", "watch", *where, "--count", "1"]
    plain = {**environment(), "NO_COLOR": "1", "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(command, env=plain, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        while piece := _read(controller):
            shown += piece
        assert process.wait(60) == 0
    os.close(controller)
    assert b"fridge-1" in shown and b"last seen" in shown and b"\x1b[31m" not in shown and b"\x1b[33m" not in shown


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # EIO: the other side has gone
        return b""


def test_a_saved_document(daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "status.json"
    document = daemon.status()
    document["alarms"] = [{"rule": "warm", "device": "fridge-1", "channel": "temperature", "severity": "critical"}]
    saved.write_text(json.dumps(document), encoding="utf-8")
    assert cli.run(["fleet", "status", "--alarm", "--from", str(saved)]) == 0
    assert "alarm warm temperature" in capsys.readouterr().out
    assert cli.run(["fleet", "watch", "--from", str(saved)]) == 2


def test_no_gateway_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["fleet", "status", "--gateway", f"http://127.0.0.1:{free_port()}"]) == 1
    assert "no gateway answers at" in capsys.readouterr().err
    assert cli.run(["fleet", "status", "--gateway", "ftp://x"]) == 2
    assert cli.run(["fleet", "status", "Bad!"]) == 2
    assert "'Bad!'" in capsys.readouterr().err


@pytest.mark.parametrize("junk", [b"", b"[]", b"{}", b'{"devices":[]}', b"\xff", b"[" * 100_000])
def test_what_is_no_document_is_said(junk: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(junk)
    assert cli.run(["fleet", "status", "--from", str(path)]) == 1
    assert "is no status document" in capsys.readouterr().err


@pytest.mark.parametrize("said", [None, 7, {"meta": [], "health": "x", "model_state": 3}, {"meta": {"channels": 3}}])
def test_odd_devices_are_shown_as_unknown(said: Any) -> None:
    (board,) = fleet_view.boards({"devices": {"odd": said}, "alarms": [7]})
    assert board.firmware is None and not board.online and board.complaints == ["offline"]


def test_a_boards_words_move_no_cursor() -> None:
    (board,) = fleet_view.boards({"devices": {"odd": {"meta": {"firmware": "\x1b[2Jhi"}}}})
    assert board.firmware == "?[2Jhi"
