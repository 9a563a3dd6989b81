"""Decoding of batches: what is told apart, and that nothing but a WireError ever comes out."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from host_tools.cloud import wire
from tests.support import uplink

Change = Callable[[dict[str, Any]], Any]


def decoded(data: Any, encoding: str = "zstd", number: int = 7) -> wire.Batch:
    body = uplink.pack(data, encoding)
    lower = {name.lower(): value for name, value in uplink.headers(number, body, encoding=encoding).items()}
    return wire.decode(wire.read_head(lower), body)


@pytest.mark.parametrize("encoding", ["zstd", "gzip"])
def test_a_batch(encoding: str) -> None:
    batch = decoded(uplink.document(7, [3, 4, 5, 9]), encoding)
    assert (batch.gateway, batch.number, batch.lane) == ("gw-1", 7, "live")
    assert batch.devices == (wire.Device("fridge-1", "fridge", (("temperature", "degC"),)),)
    assert [(r.seq, r.uptime_ms, r.value) for r in batch.readings] == [(s, s * 60000, 4000 + s) for s in (3, 4, 5, 9)]
    assert batch.readings[0] == wire.Reading(0, 1, 3, 2, 0, 4003, 0, 180000, 1767225600000, 1)


def test_values_are_per_channel_and_series_start_afresh() -> None:
    data = uplink.document(7, [1, 2, 3]) | {
        "rows": 5,
        "series": [[0, 1, 3, None, 0], [0, 2, 2, 1, 1]],
        "seq": [1, 1, 1, 1, 1],
        "uptime_ms": [10, 5, -5, 7, 1],
        "kind": [1, 9, 16, 1, 2],
        "channel": [0, 1, 0, 0, 0],
        "value": [100, 6, -30, 7, 1],
        "trend": [0, -5, 0, 0, 32767],
    }
    rows = decoded(data).readings
    assert [r.value for r in rows] == [100, 6, 70, 7, 8]
    assert [r.uptime_ms for r in rows] == [10, 15, 15, 7, 8]
    assert [(r.boot, r.seq, r.epoch_unix_ms, r.trusted) for r in rows[2:4]] == [(1, 3, None, 0), (2, 1, 1, 1)]
    assert [r.trend for r in rows] == [0, -5, 0, 0, 32767]


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        (lambda d: d | {"v": 2}, 422, "v must be 1"),
        (lambda d: d | {"v": True}, 422, "v must be 1"),
        (lambda d: d | {"extra": 1}, 400, "unknown field 'extra'"),
        (lambda d: {k: v for k, v in d.items() if k != "seq"}, 400, "field seq is missing"),
        (lambda d: [d], 400, "object"),
        (lambda d: b"{", 400, "not JSON"),
        (lambda d: b"\xff", 400, "not JSON"),
        (lambda d: b"[" * 100000, 400, "not JSON"),
        (lambda d: b'{"v": ' + b"9" * 5000 + b"}", 400, "not JSON"),
        (lambda d: d | {"value": [4003, 1.0, 1, 4]}, 400, "not JSON of integers"),
        (lambda d: b'{"v": NaN}', 400, "not JSON of integers"),
        (lambda d: d | {"gateway": "gw-2"}, 400, "differ from the headers"),
        (lambda d: d | {"batch": 8}, 400, "differ from the headers"),
        (lambda d: d | {"lane": "fast"}, 400, "lane"),
        (lambda d: d | {"lane": []}, 400, "lane"),
        (lambda d: d | {"first_row": 10}, 400, "last_row"),
        (lambda d: d | {"rows": 0}, 400, "rows"),
        (lambda d: d | {"rows": 65537}, 400, "rows"),
        (lambda d: d | {"rows": 3}, 400, "holds 4 of 3"),
        (lambda d: d | {"rows": "4"}, 400, "rows"),
        (lambda d: d | {"series": []}, 400, "add up to 0 of 4"),
        (lambda d: d | {"series": [[0, 1, 3, None, 0]]}, 400, "add up to 3 of 4"),
        (lambda d: d | {"series": [[0, 1, 5, None, 0]]}, 400, "more than 4"),
        (lambda d: d | {"series": [[0, 1, 4, None]]}, 400, "a series is"),
        (lambda d: d | {"series": [[1, 1, 4, None, 0]]}, 400, "series' device"),
        (lambda d: d | {"series": [[-1, 1, 4, None, 0]]}, 400, "series' device"),
        (lambda d: d | {"series": [[0, 0, 4, None, 0]]}, 400, "series' boot"),
        (lambda d: d | {"series": [[0, 1 << 30, 4, None, 0]]}, 400, "series' boot"),
        (lambda d: d | {"series": [[0, 1, 4, -1, 0]]}, 400, "series' epoch"),
        (lambda d: d | {"series": [[0, 1, 4, None, 2]]}, 400, "trusted"),
        (lambda d: d | {"devices": []}, 400, "series' device"),
        (lambda d: d | {"devices": d["devices"] * 2}, 400, "stands twice"),
        (lambda d: d | {"devices": [{"id": "a/b", "class": None, "channels": None}]}, 400, "id must match"),
        (lambda d: d | {"devices": [{"id": "a", "class": "\n", "channels": None}]}, 400, "printable"),
        (lambda d: d | {"devices": [{"id": "a", "class": None, "channels": [{"unit": "x"}]}]}, 400, "channel has"),
        (lambda d: d | {"devices": [{"id": "a"}]}, 400, "a device has"),
        (lambda d: d | {"seq": [3, 1, 0, 4]}, 400, "does not rise"),
        (lambda d: d | {"seq": [0, 1, 1, 4]}, 400, "does not rise"),
        (lambda d: d | {"seq": [3, 1, 1, 1 << 30]}, 400, "seq must stay"),
        (lambda d: d | {"seq": [3, 1, True, 4]}, 400, "integers only"),
        (lambda d: d | {"seq": "3114"}, 400, "seq must be a list"),
        (lambda d: d | {"kind": [2, 2, 2, 17]}, 400, "kind must stay"),
        (lambda d: d | {"kind": [2, 2, 2, 0]}, 400, "kind must stay"),
        (lambda d: d | {"channel": [0, 0, 0, 256]}, 400, "channel must stay"),
        (lambda d: d | {"value": [1 << 29, 1 << 29, 1, 1]}, 400, "value must stay"),
        (lambda d: d | {"uptime_ms": [0, -1, 0, 0]}, 400, "uptime_ms must stay"),
        (lambda d: d | {"trend": [0, 0, 0, 40000]}, 400, "trend must stay"),
        (lambda d: d | {"trend": [0]}, 400, "trend holds"),
    ],
)
def test_what_is_refused(change: Change, status: int, says: str) -> None:
    with pytest.raises(wire.WireError, match=".*" + says) as caught:
        decoded(change(uplink.document(7, [3, 4, 5, 9])))
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("content-type", "application/json", 415),
        ("content-encoding", "br", 415),
        ("content-encoding", "", 415),
        ("isotherm-gateway", "", 400),
        ("isotherm-gateway", "a/b", 400),
        ("isotherm-batch", "0", 400),
        ("isotherm-batch", "-1", 400),
        ("isotherm-batch", "²", 400),
        ("isotherm-batch", "9" * 17, 400),
        ("isotherm-digest", "sha-256=00", 400),
        ("isotherm-digest", "md5=" + "0" * 64, 400),
        ("isotherm-digest", "sha-256=" + "0 " * 32, 400),
    ],
)
def test_headers_refused(name: str, value: str, status: int) -> None:
    good = {key.lower(): text for key, text in uplink.headers(7, b"x").items()}
    wire.read_head(good)
    with pytest.raises(wire.WireError) as caught:
        wire.read_head(good | {name: value})
    assert caught.value.status == status


def refused(body: bytes, encoding: str, digest: bytes | None = None) -> wire.WireError:
    head = wire.Head("gw-1", 7, encoding, digest or hashlib.sha256(body).digest())
    with pytest.raises(wire.WireError) as caught:
        wire.decode(head, body)
    return caught.value


def test_bodies_refused() -> None:
    good = uplink.pack(uplink.document(7, [1]))
    assert refused(good, "zstd", bytes(32)).reason == "digest"
    assert refused(good[:-1], "zstd").reason == "compression"
    assert refused(good + b"x", "zstd").reason == "compression"
    assert refused(good + good, "zstd").reason == "compression"
    assert refused(good, "gzip").reason == "compression"
    assert refused(b"", "zstd").reason == "compression"
    assert refused(b"", "gzip").reason == "compression"
    packed = uplink.pack(uplink.document(7, [1]), "gzip")
    assert refused(packed[:-1], "gzip").reason == "compression"
    assert refused(packed + b"x", "gzip").reason == "compression"
    assert refused(bytes(wire.BODY_BYTES_MAX + 1), "gzip").status == 413


@pytest.mark.parametrize("encoding", ["zstd", "gzip"])
def test_bombs_are_given_up_early(encoding: str) -> None:
    bomb = bytes(wire.TEXT_BYTES_MAX + (1 << 20))
    body = zstandard.ZstdCompressor().compress(bomb) if encoding == "zstd" else gzip.compress(bomb, 9)
    assert len(body) < 100_000
    error = refused(body, encoding)
    assert (error.status, error.reason) == (413, "bomb")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["zstd", "gzip"]), st.booleans())
def test_any_bytes_give_only_typed_errors(data: bytes, encoding: str, packed: bool) -> None:
    body = uplink.pack(data, encoding) if packed else data
    refused(body, encoding)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(uplink.document(7, [1]))), _JSON, st.integers(0, 3), _JSON)
def test_any_field_may_be_anything(field: str, value: Any, index: int, item: Any) -> None:
    data = uplink.document(7, [3, 4, 5, 9])
    if isinstance(data[field], list) and index < len(data[field]):
        data[field][index] = item
    else:
        data[field] = value
    body = uplink.pack(json.dumps(data).encode())
    try:
        batch = wire.decode(wire.Head("gw-1", 7, "zstd", hashlib.sha256(body).digest()), body)
    except wire.WireError as error:
        assert 400 <= error.status < 500
    else:
        assert len(batch.readings) == 4
