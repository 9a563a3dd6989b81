"""A plain model of the outbox, and a reader that checks what the outbox delivers against it.

The model keeps every record ever appended. It does not know how the outbox stores, spills or evicts.
"""

from __future__ import annotations

from isocore.frame import Frame, decode
from isocore.record import LOST, is_event, is_report

Identity = tuple[int, int]


class OutboxModel:
    """What was appended, and how far each boot must be held or accounted for."""

    def __init__(self) -> None:
        self.records: dict[Identity, tuple[int, int, int, int, int]] = {}
        self.appended: dict[int, int] = {}  # boot -> last seq appended
        self.durable: dict[int, int] = {}  # boot -> last seq that a flush answered for

    def append(self, boot: int, seq: int, record: tuple[int, int, int, int, int]) -> None:
        """record: kind, channel, value, uptime_ms, trend."""
        assert seq == self.appended.get(boot, 0) + 1
        self.appended[boot] = seq
        self.records[boot, seq] = record

    def flushed(self, boot: int) -> None:
        """Everything appended so far is durable."""
        self.durable[boot] = self.appended.get(boot, 0)


class Delivery:
    """One walk over everything the outbox holds."""

    def __init__(self) -> None:
        self.covered: dict[int, int] = {}
        self.seen: list[Identity] = []
        self.reports = 0
        self.events = 0
        self.windows = 0
        self.lost = 0
        self.frames: list[Frame] = []


def walk(outbox, model: OutboxModel, key: bytes | None = None) -> Delivery:
    """Read all frames from the floor on and check them: order, no gap, no repetition, no altered record."""
    delivery = Delivery()
    boot, seq = outbox.floor()
    delivery.covered[boot] = seq - 1
    seq -= 1
    while (found := outbox.next_frame(boot, seq, seal=True)) is not None:
        data, frame_boot, first, last = found
        frame = decode(data, key)
        delivery.frames.append(frame)
        assert (frame.boot, frame.first_seq, frame.last_seq) == (frame_boot, first, last)
        assert frame_boot >= boot
        if frame_boot != boot:
            boot, seq = frame_boot, 0
        for record in frame.records:
            if record[0] <= seq:
                continue  # acknowledged inside this frame, or written again after a failed write
            check_record(delivery, model, boot, seq, record)
            seq = record[0]
        assert seq == last
        delivery.covered[boot] = seq
    return delivery


def check_record(delivery: Delivery, model: OutboxModel, boot: int, before: int, record) -> None:
    """One record against the model; `before` is what is covered so far."""
    seq, kind, channel, value, uptime_ms, trend = record
    if kind == LOST:
        assert value >= 1
        assert seq - value <= before, "a gap before a LOST record"
        assert seq <= model.appended[boot]
        delivery.lost += seq - before
        return
    assert seq == before + 1, "a gap"
    assert model.records[boot, seq] == (kind, channel, value, uptime_ms, trend)
    delivery.seen.append((boot, seq))
    if is_report(kind):
        delivery.reports += 1
    elif is_event(kind):
        delivery.events += 1
    else:
        delivery.windows += 1
