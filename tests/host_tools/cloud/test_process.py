"""The receiver as a program: kill -9 loses and doubles nothing, signals end it cleanly, errors are one sentence."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_tools.cli import run
from host_tools.cloud.server import listen
from host_tools.cloud.store_read import CloudReader
from tests.support import uplink
from tests.support.uplink import ReceiverProcess

KILLS = 6
ROWS = 50


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[ReceiverProcess]:
    with ReceiverProcess(tmp_path) as process:
        yield process


class Sender(threading.Thread):
    """Sends batches in order, each until it is answered 200, as a gateway does."""

    def __init__(self, receiver: ReceiverProcess) -> None:
        super().__init__()
        self.receiver = receiver
        self.up = threading.Event()
        self.stopping = threading.Event()
        self.answered: list[int] = []
        self.progress = threading.Condition()
        self.wrong: list[str] = []

    def run(self) -> None:
        number = 1
        while not self.stopping.is_set():
            self.up.wait()
            first = (number - 1) * ROWS + 1
            body = uplink.pack(uplink.document(number, list(range(first, first + ROWS))))
            try:
                status, reply = self.receiver.post(number, body)
            except (OSError, http.client.HTTPException, json.JSONDecodeError):
                continue  # killed under way: the same bytes again
            if status != 200 or reply["batch"] != number:
                self.wrong.append(f"{number}: {status} {reply}")
                return
            with self.progress:
                self.answered.append(number)
                self.progress.notify_all()
            number += 1

    def wait_answered(self, count: int) -> None:
        with self.progress:
            assert self.progress.wait_for(lambda: len(self.answered) >= count, timeout=30), self.wrong


def test_kill_9_loses_and_doubles_nothing(receiver: ReceiverProcess) -> None:
    sender = Sender(receiver)
    sender.start()
    try:
        for kill in range(KILLS):
            receiver.start()
            sender.up.set()
            # Each time after another number of answers, so that the cut falls at another place.
            sender.wait_answered(len(sender.answered) + 3 + 5 * kill)
            sender.up.clear()
            receiver.kill()
        receiver.start()
        sender.up.set()
        sender.wait_answered(len(sender.answered) + 1)
    finally:
        sender.stopping.set()
        sender.up.set()
        sender.join(timeout=20)
    assert sender.wrong == []
    assert receiver.stop() == 0
    with CloudReader(receiver.data) as reader:
        rows = [(row.boot, row.seq, row.value) for row in reader.readings("fridge-1")]
        counters = reader.counters()
    last = sender.answered[-1] * ROWS
    # All answered ones are there, once; at most the one under way may be there beside them.
    assert rows[:last] == [(1, seq, 4000 + seq) for seq in range(1, last + 1)]
    assert len(rows) in (last, last + ROWS)
    assert counters["rows_new"] == len(rows)
    assert counters.get("rows_conflicting", 0) == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGHUP, 0)])
def test_signals_end_it_cleanly(receiver: ReceiverProcess, number: int, code: int) -> None:
    receiver.start()
    idle = socket.create_connection(("127.0.0.1", receiver.port))  # an open connection does not hold it up
    body = uplink.pack(uplink.document(1, [1]))
    assert receiver.post(1, body)[0] == 200
    assert receiver.process is not None
    receiver.process.send_signal(number)
    assert receiver.process.wait(timeout=20) == code
    idle.close()
    log = receiver.log_path.read_text()
    assert "Traceback" not in log
    assert log.startswith(f"receiving at http://127.0.0.1:{receiver.port}")


def test_small_replies_are_not_held_back() -> None:
    """Accepted sockets must have Nagle off: asyncio only does that where the listener names its protocol."""
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_start_refused_in_one_sentence(
    receiver: ReceiverProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.start()
    token = tmp_path / "token"
    token.write_text("short\n")
    port = str(receiver.port)
    for arguments, code, says in (
        (["--data", str(tmp_path / "b"), "--port", port], 1, f"port {port} on 127.0.0.1 cannot be used"),
        (["--data", str(receiver.data), "--port", "0"], 1, "another receiver is using this folder"),
        (["--data", str(tmp_path / "b"), "--port", "0", "--host", "256.1.1.1"], 1, "no such address"),
        (["--data", str(tmp_path / "b"), "--token-file", str(token)], 2, "at least 16"),
        (["--data", str(tmp_path / "b"), "--token-file", str(tmp_path / "none")], 2, "cannot be read"),
        (["--data", str(tmp_path / "b"), "--port", "0", "--port-file", str(tmp_path / "x" / "p")], 2, "port file"),
    ):
        assert run(["cloud", "serve", *arguments]) == code
        said = capsys.readouterr().err
        assert says in said
        assert said.count("\n") == 1
