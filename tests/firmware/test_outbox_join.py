"""Small entries of the outbox travel together: joined when read, never when that would change what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from isocore.frame import decode
from isocore.record import DELTA, HIGH_OFF, HIGH_ON
from isonode.outbox import Outbox

Open = Callable[..., Outbox]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Makes outboxes on one folder, with room for everything here in one segment."""
    made: list[Outbox] = []

    def make(boot: int = 1, **more: Any) -> Outbox:
        if made:
            made[-1].close()
        outbox = Outbox(
            str(tmp_path), boot, ram_records=16, spill_records=8, segment_bytes=4096, capacity_bytes=16384, **more
        )
        assert outbox.open()
        made.append(outbox)
        return outbox

    yield make
    for outbox in made:
        outbox.close()


def test_small_entries_are_joined_when_read(opened: Open) -> None:
    """Forty alarms of an outage, each on flash by itself, drain in a few frames; each record is what it was."""
    outbox = opened()
    records = []
    for i in range(40):
        kind = HIGH_ON if i % 2 == 0 else HIGH_OFF
        records.append((outbox.append(kind, 1, 8000 + i, i * 60, 5), kind, 1, 8000 + i, i * 60_000 + 5, 0))
        assert outbox.flush_urgent()
    frames = []
    at = (1, 0)
    while (found := outbox.next_frame(*at)) is not None:
        data, boot, first, last = found
        assert (boot, first) == (1, at[1] + 1)
        frames.append(decode(data))
        at = (boot, last)
    assert [record for one in frames for record in one.records] == records
    assert [len(one.records) for one in frames] == [32, 8]
    # What is acknowledged in the middle of a joined frame does not come again, and what is behind it does.
    outbox.ack(1, 20)
    data, boot, first, last = outbox.next_frame(1, 20)
    assert (boot, first, last) == (1, 21, 40) and len(decode(data).records) == 20


def test_what_cannot_be_joined_comes_by_itself(opened: Open, tmp_path: Path) -> None:
    outbox = opened()
    sizes = []
    for i in range(12):
        if i == 6:
            outbox.epoch_s = 31_536_000  # the time became known
        outbox.append(HIGH_ON, 1, 8000, i * 60, 0)
        assert outbox.flush_urgent()
        if i == 2:
            outbox.append(DELTA, 1, 8000, i * 60, 1)
            for _ in range(7):
                outbox.append(DELTA, 1, 8001, i * 60, 2)
            assert outbox.flush()
    (segment,) = tmp_path.glob("*.seg")
    whole = bytearray(segment.read_bytes())
    outbox.store._reader.close()
    whole[-1] ^= 0xFF  # the last frame is damaged
    segment.write_bytes(whole)
    seen = []
    at = (1, 0)
    while (found := outbox.next_frame(*at)) is not None:
        frame = decode(found[0])
        sizes.append(len(frame.records))
        seen += [record[0] for record in frame.records]
        at = found[1], found[3]
    assert sizes == [3, 8, 3, 5, 1]  # alarms, a full batch, alarms without a time, alarms with it, and a LOST one
    assert seen == list(range(1, 21))
    assert outbox.counts.corrupt == 1


def test_entries_too_far_apart_for_one_frame_come_one_by_one(opened: Open) -> None:
    outbox = opened()
    for i in range(3):
        outbox.append(HIGH_ON, 1, 8000, i * 12 * 86_400, 0)
        assert outbox.flush_urgent()
    at = (1, 0)
    for seq in (1, 2, 3):
        _, boot, first, last = outbox.next_frame(*at)
        assert (boot, first, last) == (1, seq, seq)
        at = (boot, last)


def test_joined_frames_are_tagged_with_the_boards_key(opened: Open) -> None:
    key = b"k" * 32
    outbox = opened(key=key)
    for i in range(3):
        outbox.append(HIGH_ON, 1, 8000, i, 0)
        assert outbox.flush_urgent()
    data, *_ = outbox.next_frame(1, 0)
    assert len(decode(data, key).records) == 3
    plain = opened(boot=2)
    data, *_, last = plain.next_frame(1, 0)
    assert last == 1, "without the key it travels as it lies"
    assert decode(data, key).tag
