"""The MQTT parser: any cut of the stream gives the same packets, any garbage one typed error, memory stays bounded."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isonode.mqtt_reader import PUBLISH, SMALL_BYTES, ProtocolError, Reader, split_publish

LIMIT = 600


def packet(head: int, body: bytes) -> bytes:
    out = bytearray([head])
    size = len(body)
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    out.append(size)
    return bytes(out) + body


def publish(topic: bytes, payload: bytes, head: int = PUBLISH) -> bytes:
    pid = b"\x00\x09" if head & 6 else b""
    return packet(head, len(topic).to_bytes(2, "big") + topic + pid + payload)


def reader() -> tuple[Reader, list[tuple[int, bytes]]]:
    got: list[tuple[int, bytes]] = []
    return Reader(LIMIT, lambda head, body: got.append((head, bytes(body)))), got


packets = st.one_of(
    st.just((0x20, b"\x00\x00")),
    st.just((0xD0, b"")),
    st.just((0x90, b"\x00\x01\x00")),
    st.tuples(st.just(0x31), st.binary(max_size=LIMIT + 300)),
    st.tuples(st.just(0x32), st.binary(min_size=SMALL_BYTES - 2, max_size=SMALL_BYTES + 2)),
)


@given(st.lists(packets, max_size=8), st.data())
def test_cuts_do_not_matter_and_what_is_too_large_is_skipped(
    sent: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(packet(head, body) for head, body in sent)
    parser, got = reader()
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        parser.feed(memoryview(stream[:size]))
        stream = stream[size:]
    assert got == [one for one in sent if len(one[1]) <= LIMIT]
    assert parser.oversized == len(sent) - len(got)


@given(st.binary(max_size=200))
def test_garbage_is_a_protocol_error_or_packets(garbage: bytes) -> None:
    parser, got = reader()
    with contextlib.suppress(ProtocolError):
        parser.feed(memoryview(garbage))
    for head, body in got:
        if head & 0xF0 == PUBLISH:
            try:
                split_publish(head, memoryview(body))
            except ProtocolError:
                continue


def test_a_length_that_claims_256_mb_takes_no_memory() -> None:
    parser, got = reader()
    parser.feed(memoryview(b"\x30\xff\xff\xff\x7f"))
    parser.feed(memoryview(bytes(1000)))
    assert parser.oversized == 1 and got == []


@pytest.mark.parametrize(
    "bad",
    [
        b"\x30\xff\xff\xff\xff\x01",
        b"\x10\x00",
        b"\x82\x00",
        b"\xe0\x00",
        b"\x21\x00",
        b"\xd1\x00",
        b"\x36\x00",
        b"\x00",
    ],
)
def test_what_no_server_may_send(bad: bytes) -> None:
    parser, _ = reader()
    with pytest.raises(ProtocolError):
        parser.feed(memoryview(bad))


def test_a_new_connection_starts_afresh() -> None:
    parser, got = reader()
    parser.feed(memoryview(publish(b"a/b", b"x" * 400)[:300]))
    parser.reset()
    parser.feed(memoryview(publish(b"a/b", b"whole")))
    assert [split_publish(head, memoryview(body))[:2] for head, body in got] == [(b"a/b", b"whole")]


def test_publish_is_taken_apart() -> None:
    parser, got = reader()
    parser.feed(memoryview(publish(b"iso/1/a/ack", b"{}") + publish(b"t", b"", 0x32)))
    assert split_publish(got[0][0], memoryview(got[0][1])) == (b"iso/1/a/ack", b"{}", 0)
    assert split_publish(got[1][0], memoryview(got[1][1])) == (b"t", b"", 9)


@pytest.mark.parametrize("body", [b"", b"\x00", b"\x00\x05abc", b"\x00\x00x", b"\x00\x01a"])
def test_publish_cut_short(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        split_publish(0x32, memoryview(body))
