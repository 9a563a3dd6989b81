"""The file sink's files: every record as one line, whole or not at all, and a daemon that writes them."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import wire
from gateway.errors import BatchRejected, SinkUnavailable
from gateway.messages import LANE_MODELS, Batch, DeviceInfo, ModelState, Row
from gateway.sinks.file import FileSink, _readings
from isocore.record import KIND_LAST, KIND_NAMES
from tests.contract.test_sinks import real_batch
from tests.support.board_client import BoardClient, samples, wait_for
from tests.support.daemon import Daemon
from tests.support.mosquitto import Mosquitto

NUMBER = st.integers(0, 1 << 30)
EPOCH = st.one_of(st.none(), st.integers(0, wire.UNIX_MS_MAX))
INFOS = {
    1: DeviceInfo(1, "a", "fridge", (("temperature", "degC"),)),
    2: DeviceInfo(2, "b", None, None),
}
ROW = st.builds(
    Row,
    device=st.sampled_from([1, 2]),
    boot=st.integers(1, 3),
    seq=st.integers(1, 1 << 30),
    kind=st.integers(1, KIND_LAST),
    channel=st.sampled_from([0, 1, 255]),
    value=st.integers(-(1 << 29), 1 << 29),
    trend=st.sampled_from([0, -5]),
    uptime_ms=NUMBER,
    epoch_unix_ms=EPOCH,
    trusted=st.integers(0, 1),
    recv_unix_ms=NUMBER,
    row=NUMBER,
)


def line_of(row: Row) -> dict[str, Any]:
    info = INFOS[row.device]
    named = info.channels[0] if info.channels and row.channel == 0 else (None, None)
    return {
        "device": info.name,
        "class": info.device_class,
        "boot": row.boot,
        "seq": row.seq,
        "kind": KIND_NAMES[row.kind],
        "channel": row.channel,
        "name": named[0],
        "unit": named[1],
        "value": row.value,
        "trend": row.trend,
        "uptime_ms": row.uptime_ms,
        "unix_ms": None if row.epoch_unix_ms is None else row.epoch_unix_ms + row.uptime_ms,
        "trusted": bool(row.trusted),
    }


@given(st.lists(ROW, min_size=1, max_size=30, unique_by=lambda row: (row.device, row.boot, row.seq)))
def test_a_batch_unfolds_to_its_rows(rows: list[Row]) -> None:
    document = wire.document("gw", 1, "live", 1, 9, rows, INFOS)
    assert list(_readings(json.loads(json.dumps(document)))) == [line_of(row) for row in sorted(rows)]


def test_both_encodings_and_what_is_neither(tmp_path: Path) -> None:
    rows = [Row(1, 1, 1, 1, 0, 4000, 0, 1000, None, 0, 5, 1)]
    sink = FileSink(tmp_path, "gw")
    for number, choice in enumerate(("gzip", "zstd"), 1):
        encoding, compress = wire.compressor(choice)
        body, digest = wire.encode(wire.document("gw", number, "live", 1, 1, rows, INFOS), compress)
        batch = Batch("s", number, "live", 1, 1, 1, (), encoding, digest, body)
        assert sink.send(batch).new_rows == 1
        hostile = (b"", b"no such thing", body[:-9], compress(b"[]"), compress(b"{}"), compress(b'{"series":[[0]]}'))
        for bad in hostile:
            with pytest.raises(BatchRejected) as caught:
                sink.send(batch._replace(batch=9, body=bad))
            assert caught.value.reason == "undecodable"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["gw-0000000000000001.ndjson", "gw-0000000000000002.ndjson"]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = FileSink(tmp_path, "gw")

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SinkUnavailable) as caught:
            sink.send(real_batch())
    assert caught.value.reason == "full"
    assert list(tmp_path.iterdir()) == []
    assert not sink.send(real_batch()).duplicate


def test_leavings_of_a_power_cut_are_written_anew(tmp_path: Path) -> None:
    sink = FileSink(tmp_path, "gw")
    sink.send(real_batch())
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.with_suffix(".part").write_bytes(b"half")
    path.write_bytes(b"\0" * 100)  # a medium that lost what it said it had
    assert not sink.send(real_batch()).duplicate
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == whole


@pytest.mark.mosquitto
def test_a_daemon_without_a_network(tmp_path: Path, broker: Mosquitto) -> None:
    extra = '[sinks.stick]\ntype = "file"\nfolder = "stick"\nlive_age_s = 0.05\nbackoff_max_s = 0.2\n'
    stick = tmp_path / "gw" / "stick"
    with Daemon(tmp_path / "gw", broker.port, extra=extra) as daemon, BoardClient(broker.port) as board:
        board.deliver("a", 1, samples(1, 50))
        wait_for(lambda: daemon.status()["sinks"]["stick"]["failures_in_a_row"] > 1, what="a stick that is not there")
        assert "there is no folder" in daemon.status()["sinks"]["stick"]["last_error"]
        stick.mkdir()
        board.deliver("a", 1, samples(51, 100))
        wait_for(lambda: daemon.status()["sinks"]["stick"]["rows_pending"] == 0, what="the files")
        lines = [json.loads(line) for path in stick.glob("*.ndjson") for line in path.read_text().splitlines()]
        assert sorted(line["seq"] for line in lines if "device" in line) == list(range(1, 101))
        assert daemon.ledger()["differences"] == []


def test_a_state_of_a_model_is_a_line(tmp_path: Path) -> None:
    state = ModelState(1, 5, 7, None, 9, 3, "reverted", "ab", "samples")
    data, digest = wire.encode(wire.model_document("gw-1", 1, [state], INFOS), wire.compressor("gzip")[1])
    FileSink(tmp_path, "gw-1").send(Batch("files", 1, LANE_MODELS, 0, 0, 1, (), "gzip", digest, data))
    _, line = (tmp_path / f"gw-1-{1:016d}.ndjson").read_text().splitlines()
    assert json.loads(line) == {**state._asdict(), "device": "a", "class": "fridge", "kind": "model"}
