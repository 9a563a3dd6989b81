"""`isotherm cloud serve --lake`: the writer runs beside the receiver, ends with it however it ends, and may fail."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from host_tools.cli import run
from host_tools.cloud import lake_beside
from host_tools.cloud.lake_beside import LakeWriter
from host_tools.lake.snapshot import load
from host_tools.lake.storage import open_storage
from tests.support import uplink
from tests.support.lake import in_lake, stored
from tests.support.uplink import ReceiverProcess

DEADLINE_S = 120.0


def until(holds: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.05)


def writers(data: Path) -> list[int]:
    """Processes that write this store's lake."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue  # ended meanwhile
        if b"lake" in words and b"write" in words and os.fsencode(data) in words:
            found.append(int(path.parent.name))
    return found


def test_the_lake_follows_the_receiver_and_ends_with_it(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    storage = open_storage(str(lake))

    def position() -> int:
        snapshot = load(storage)
        return 0 if snapshot is None else snapshot.position

    with ReceiverProcess(tmp_path) as receiver:
        receiver.start("--lake", str(lake), "--lake-every", "1s")
        for number in (1, 2, 3):
            assert receiver.post(number, uplink.pack(uplink.document(number, [number])))[0] == 200
        until(lambda: position() == 3, receiver.log_path.read_text())
        (writer,) = writers(receiver.data)
        assert os.getpriority(os.PRIO_PROCESS, writer) >= lake_beside.NICENESS
        receiver.kill()
        until(lambda: not writers(receiver.data), "the writer outlives its receiver")
        receiver.start("--lake", str(lake), "--lake-every", "1s")
        assert receiver.post(4, uplink.pack(uplink.document(4, [4])))[0] == 200
        until(lambda: position() == 4, receiver.log_path.read_text())
        assert receiver.process is not None
        receiver.process.terminate()
        assert receiver.process.wait(DEADLINE_S) == 0
        assert writers(receiver.data) == []
    assert in_lake(storage) == stored(receiver.data)
    assert len(stored(receiver.data)) == 4


def test_a_writer_that_fails_is_told_of_and_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lake_beside, "AGAIN_S", 0.01)
    root = Path(__file__).resolve().parents[3]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(root), str(root / "firmware"))))
    said: list[str] = []
    writer = LakeWriter(tmp_path / "nowhere", str(tmp_path / "lake"), "1s", said.append)
    writer.start()
    try:
        until(lambda: len(said) >= 2, "it was not started again")
    finally:
        writer.stop()
    assert said[0] == "isotherm: the lake's writer ended with code 1; again in 0 s"


def test_without_the_extra_nothing_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lake_beside, "packages_missing", lambda: "pyarrow")
    assert run(["cloud", "serve", "--data", str(tmp_path / "data"), "--lake", "lake"]) == 1
    assert "needs the Python package 'pyarrow': make setup EXTRA=cloud" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
