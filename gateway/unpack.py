"""A batch's columns back to records: docs/uplink.md read backwards, for what this gateway froze itself.

Pure. It trusts the columns: whoever reads what others sent must check first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from gateway.messages import Tag, WindowRow
from gateway.wire import WINDOW_COLUMNS


class Record(NamedTuple):
    """One record of a batch. `device`: place in the batch's dictionary."""

    device: int
    boot: int
    seq: int
    kind: int
    channel: int
    value: int
    trend: int
    uptime_ms: int
    epoch_unix_ms: int | None
    trusted: int


def records(document: dict[str, Any]) -> Iterator[Record]:
    """All of them, in their order. Raises LookupError or TypeError when it is no batch."""
    at = 0
    trends = document.get("trend")
    for device, boot, count, epoch_unix_ms, trusted in document["series"]:
        seq = uptime_ms = step_ms = 0
        values: dict[int, int] = {}
        for place in range(at, at + count):
            nth = place - at
            seq += document["seq"][place]
            step_ms = document["uptime_ms"][place] + (step_ms if nth > 1 else 0)
            uptime_ms += step_ms
            channel = document["channel"][place]
            values[channel] = document["value"][place] + values.get(channel, 0)
            yield Record(
                device,
                boot,
                seq,
                document["kind"][place],
                channel,
                values[channel],
                trends[place] if trends else 0,
                uptime_ms,
                epoch_unix_ms,
                trusted,
            )
        at += count


def tags(document: dict[str, Any]) -> list[Tag]:
    """Its tagged frames; `device` is the place in the dictionary, rows are unknown (0)."""
    columns = document.get("frames")
    if columns is None:
        return []
    found = []
    names = ("device", "boot", "epoch_unix_ms", "first_seq", "seqs", "tag")
    before = (-1, -1)
    first = 0
    for place, row in enumerate(zip(*(columns[name] for name in names), strict=True)):
        device, boot, epoch_unix_ms, step, seqs, tag = row
        first = step if (device, boot) != before else first + step
        before = (device, boot)
        other = [tuple(record) for record in columns.get("other", {}).get(str(place), [])]
        raw = None if tag is None else bytes.fromhex(tag)
        found.append(Tag(0, 0, device, boot, epoch_unix_ms, first, seqs, other, raw))
    return found


def windows(document: dict[str, Any]) -> Iterator[WindowRow]:
    """All windows, in their order; `device` is the place in the batch's dictionary. Raises LookupError or TypeError."""
    columns = document.get("windows")
    if columns is None:
        return
    start_s = revision = standing = 0
    for row in zip(*(columns[name] for name in WINDOW_COLUMNS), strict=True):
        device, channel, length_s, start_step, revision_step, mean_step, *around = row
        start_s += start_step
        revision += revision_step
        mean = None if mean_step is None else standing + mean_step
        standing = standing if mean is None else mean
        least, greatest, last = (None if v is None or mean is None else mean + v for v in around[:3])
        yield WindowRow(device, channel, length_s, start_s, revision, least, mean, greatest, last, *around[3:])
