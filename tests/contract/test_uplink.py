"""The uplink from end to end: what the gateway encodes, the receiver decodes to the same rows (docs/uplink.md)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import wire as up
from gateway.messages import DeviceInfo, Row
from host_tools.cloud import wire as down
from isocore.record import BOOT, KIND_LAST, SMALL_INT_MAX

DOC = Path(__file__).resolve().parents[2] / "docs" / "uplink.md"
NAMES = {1: "fridge-1", 2: "room-2", 3: "x"}
UPTIME_MS_MAX = SMALL_INT_MAX * 1000 + 999
EPOCH = 1_800_000_000_000

identities = st.tuples(st.sampled_from(sorted(NAMES)), st.integers(1, 3), st.integers(1, SMALL_INT_MAX))


@st.composite
def row_lists(draw: st.DrawFn) -> list[Row]:
    keys = draw(st.lists(identities, min_size=1, max_size=40, unique=True))
    epochs = st.sampled_from([(EPOCH, 1), (EPOCH + 5, 0), (0, 0)])
    rows = []
    for number, (device, boot, seq) in enumerate(keys):
        epoch, trusted = draw(epochs)
        rows.append(
            Row(
                device,
                boot,
                seq,
                draw(st.integers(1, KIND_LAST)),
                draw(st.integers(0, 255)),
                draw(st.integers(-SMALL_INT_MAX, SMALL_INT_MAX)),
                draw(st.sampled_from([0, 0, -32768, 32767])),
                draw(st.integers(0, UPTIME_MS_MAX)),
                epoch,
                trusted,
                EPOCH,
                100 + number,
            )
        )
    return rows


def infos(rows: list[Row]) -> dict[int, DeviceInfo]:
    named = {1: ("fridge", (("temperature", "degC"), ("humidity", "%RH"))), 2: (None, None), 3: ("room", ())}
    return {d: DeviceInfo(d, NAMES[d], *named[d]) for d in {r.device for r in rows}}  # type: ignore[arg-type]


def send(rows: list[Row], encoding: str = "gzip", batch: int = 42) -> tuple[dict[str, str], bytes]:
    """Headers, in lower case, and body as the gateway makes them."""
    name, compress = up.compressor(encoding)
    ids = [r.row for r in rows]
    document = up.document("gw-1", batch, "live", min(ids), max(ids), rows, infos(rows))
    body, digest = up.encode(document, compress)
    headers = {
        "content-type": up.CONTENT_TYPE,
        "content-encoding": name,
        "isotherm-gateway": "gw-1",
        "isotherm-batch": str(batch),
        "isotherm-digest": f"sha-256={digest}",
    }
    return headers, body


def receive(headers: Mapping[str, str], body: bytes) -> down.Batch:
    return down.decode(down.read_head(headers), body)


def as_sent(row: Row) -> tuple[Any, ...]:
    return (NAMES[row.device], *row[1:10])


def as_received(batch: down.Batch) -> list[tuple[Any, ...]]:
    return [
        (
            batch.devices[r.device].id,
            r.boot,
            r.seq,
            r.kind,
            r.channel,
            r.value,
            r.trend,
            r.uptime_ms,
            r.epoch_unix_ms,
            r.trusted,
        )
        for r in batch.readings
    ]


@settings(max_examples=150, deadline=None)
@given(row_lists(), st.sampled_from(["gzip", "zstd"]))
def test_what_is_encoded_is_decoded(rows: list[Row], encoding: str) -> None:
    batch = receive(*send(rows, encoding))
    assert sorted(as_received(batch)) == sorted(as_sent(r) for r in rows)
    assert (batch.gateway, batch.number, batch.lane) == ("gw-1", 42, "live")


def test_order_of_arrival_does_not_change_the_bytes() -> None:
    rows = [Row(1, 1, s, 1, 0, s * 10, 0, s * 1000, EPOCH, 1, EPOCH, s) for s in range(1, 50)]
    assert send(rows)[1] == send(rows[::-1])[1]


def test_the_dictionary_carries_classes_and_channels() -> None:
    rows = [Row(d, 1, 1, 1, 0, 5, 0, 0, EPOCH, 1, EPOCH, d) for d in NAMES]
    devices = {d.id: d for d in receive(*send(rows)).devices}
    assert devices["fridge-1"].device_class == "fridge"
    assert devices["fridge-1"].channels == (("temperature", "degC"), ("humidity", "%RH"))
    assert devices["room-2"].device_class is None
    assert devices["room-2"].channels is None


def test_an_epoch_outside_sense_goes_up_as_unknown() -> None:
    rows = [Row(1, 1, s, 1, 0, 5, 0, 0, epoch, 0, EPOCH, s) for s, epoch in ((1, -5), (2, up.UNIX_MS_MAX + 1))]
    assert {r.epoch_unix_ms for r in receive(*send(rows)).readings} == {None}


def test_columns_stand_as_documented() -> None:
    rows = [
        Row(1, 4, 7, 1, 0, 5000, 0, 1000, EPOCH, 1, EPOCH, 1),
        Row(1, 4, 8, 2, 1, 40000, 0, 2000, EPOCH, 1, EPOCH, 2),
        Row(1, 4, 10, 2, 0, 5100, 0, 3500, EPOCH, 1, EPOCH, 3),
        Row(1, 5, 1, BOOT, 255, 1, 0, 0, EPOCH, 0, EPOCH, 4),
    ]
    document = up.document("gw-1", 1, "live", 1, 4, rows, infos(rows))
    assert document["series"] == [[0, 4, 3, EPOCH, 1], [0, 5, 1, EPOCH, 0]]
    assert document["seq"] == [7, 1, 2, 1]
    assert document["uptime_ms"] == [1000, 1000, 500, 0]
    assert document["value"] == [5000, 40000, 100, 1]
    assert document["kind"] == [1, 2, 2, BOOT]
    assert document["channel"] == [0, 1, 0, 255]
    assert "trend" not in document


@pytest.mark.parametrize("header", ["content-type", "content-encoding", "isotherm-gateway", "isotherm-digest"])
def test_every_header_matters(header: str) -> None:
    headers, body = send([Row(1, 1, 1, 1, 0, 5, 0, 0, EPOCH, 1, EPOCH, 1)])
    with pytest.raises(down.WireError):
        receive({**headers, header: "x"}, body)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 7), st.booleans())
def test_a_flipped_bit_is_never_stored(position: int, bit: int, forge_digest: bool) -> None:
    rows = [Row(1, 1, s, 1, 0, s * 10, 0, s * 1000, EPOCH, 1, EPOCH, s) for s in range(1, 20)]
    headers, body = send(rows)
    data = bytearray(body)
    data[position % len(data)] ^= 1 << bit
    if forge_digest:
        headers["isotherm-digest"] = "sha-256=" + hashlib.sha256(data).hexdigest()
        try:
            assert as_received(receive(headers, bytes(data))) is not None
        except down.WireError:
            return  # refused with a reason, which is the usual outcome
    else:
        with pytest.raises(down.WireError):
            receive(headers, bytes(data))


def test_the_example_of_the_documentation_means_what_it_says() -> None:
    text = DOC.read_text(encoding="utf-8").partition("```json\n")[2].partition("```")[0]
    body, digest = up.encode(json.loads(text), up.compressor("gzip")[1])
    headers, _ = send([Row(1, 1, 1, 1, 0, 5, 0, 0, EPOCH, 1, EPOCH, 1)])
    batch = receive({**headers, "isotherm-digest": f"sha-256={digest}"}, body)
    assert [(r.seq, r.uptime_ms, r.value) for r in batch.readings] == [
        (7, 60_000, 5000),
        (8, 120_000, 5100),
        (10, 180_000, 4850),
    ]


def test_a_minute_of_samples_is_small() -> None:
    """About what design section 8 asks for: bytes a reading of a long live batch, headers not counted."""
    rows = [Row(1 + s % 3, 1, s, 2, 0, 4000 + (s * 37) % 90, 0, 60_000 * s, EPOCH, 1, EPOCH, s) for s in range(1, 1001)]
    _, body = send(rows, "zstd")
    assert len(body) / len(rows) < 2.5
