"""Properties of the shared core's formats: frames survive the round trip, and bad bytes of any kind raise nothing but
the core's own errors. The filter's are in test_reporting.py."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from isocore import frame, topics
from isocore.errors import FrameError, ModelError, SignatureError, TopicError
from isocore.payload import parse
from isocore.record import KIND_LAST, SMALL_INT_MAX
from isocore.sign import KIND_MODEL, open_container

small = st.integers(1, SMALL_INT_MAX)


@st.composite
def frames(draw: st.DrawFn) -> tuple[int, int, int, list[tuple[int, int, int, int, int, int]], bytes | None]:
    """Everything that `encode` accepts."""
    count = draw(st.one_of(st.integers(1, 5), st.integers(1, frame.COUNT_MAX)))
    seq = draw(st.integers(1, SMALL_INT_MAX - 0xFFFF * 255))
    base_ms = draw(st.integers(0, SMALL_INT_MAX)) * 1000 + draw(st.integers(0, 999))
    trends = draw(st.booleans())
    records = []
    for i in range(count):
        if i:
            seq += draw(st.sampled_from((1, 1, 1, 2, 0xFFFF)))
        step = draw(st.integers(-900_000_000, 900_000_000)) if i else 0
        records.append(
            (
                seq,
                draw(st.integers(1, KIND_LAST)),
                draw(st.integers(0, 255)),
                draw(st.integers(-SMALL_INT_MAX, SMALL_INT_MAX)),
                max(0, base_ms + step),
                draw(st.integers(-32768, 32767)) if trends else 0,
            )
        )
    epoch_s = draw(st.integers(0, SMALL_INT_MAX))
    epoch_ms = draw(st.integers(0, 999)) if epoch_s else 0
    return draw(small), epoch_s, epoch_ms, records, draw(st.sampled_from((None, bytes(32), b"k" * 32)))


# Frames of up to 255 records take a while to draw on a busy machine.
@given(frames())
def test_a_frame_survives_the_round_trip_and_is_canonical(content: Any) -> None:
    boot, epoch_s, epoch_ms, records, key = content
    try:
        data = frame.encode(boot, epoch_s, epoch_ms, records, key)
    except FrameError as error:
        assert error.reason == "range"  # records more than eleven days apart
        assert max(abs(one[4] - records[0][4]) for one in records) > 900_000_000
        return
    got = frame.decode(data, key)
    assert (got.boot, got.epoch_s, got.epoch_ms, got.records) == (boot, epoch_s, epoch_ms, records)
    assert frame.encode(got.boot, got.epoch_s, got.epoch_ms, got.records, key) == data
    assert len(data) <= frame.FRAME_BYTES_MAX


@given(st.binary(max_size=400), st.sampled_from((None, bytes(32))))
@example(b"", None)
def test_garbage_raises_nothing_but_frame_error(garbage: bytes, key: bytes | None) -> None:
    with contextlib.suppress(FrameError):
        frame.decode(garbage, key)


@given(frames(), st.data())
def test_damage_is_found_or_harmless(content: Any, data: st.DataObject) -> None:
    boot, epoch_s, epoch_ms, records, _ = content
    try:
        whole = frame.encode(boot, epoch_s, epoch_ms, records)
    except FrameError:
        return
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    damaged[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FrameError):
        # bit 1 of the flags turns the frame into a tagged one, which only the key can judge
        frame.decode(bytes(damaged), bytes(32) if at == 1 else None)


@pytest.mark.parametrize("other", [None, 5, "text", [1, 2]])
def test_what_is_not_bytes_is_a_frame_error(other: object) -> None:
    with pytest.raises(FrameError):
        frame.decode(other)


@given(st.binary(max_size=300))
def test_models_and_containers_raise_only_their_own(garbage: bytes) -> None:
    with contextlib.suppress(ModelError):
        parse(garbage)
    with contextlib.suppress(SignatureError):
        open_container(b"ISOS\x01\x01\x01\x00" + garbage, KIND_MODEL, [bytes(64), garbage[:8]])


@given(st.text(max_size=60))
def test_topics_are_ours_or_refused(name: str) -> None:
    with contextlib.suppress(TopicError):
        device, leaf = topics.parse(name)
        assert topics.topic(device, leaf) == name
