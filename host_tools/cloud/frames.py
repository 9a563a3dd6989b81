"""The `frames` of a batch: tagged frames as their columns came, checked strictly. Format: docs/uplink.md.

Pure. It checks shapes and ranges; whether a tag matches is for store_tags.py to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from host_tools.cloud.strict import UNIX_MS_MAX
from isocore.frame import COUNT_MAX, TAG_BYTES
from isocore.record import KIND_LAST, SMALL_INT_MAX

Content = tuple[int, int, int, int, int]  # kind, channel, value, uptime_ms, trend
_COLUMNS = ("device", "boot", "epoch_unix_ms", "first_seq", "seqs", "tag")
_STEP_MAX = 0xFFFF
_PROOFS_MAX = 1024  # frames beside those that brought a row
_UPTIME_MS_MAX = SMALL_INT_MAX * 1000 + 999
_RANGES = ((1, SMALL_INT_MAX), (1, KIND_LAST), (0, 255), (-SMALL_INT_MAX, SMALL_INT_MAX), (0, _UPTIME_MS_MAX))
_TREND = (-0x8000, 0x7FFF)


class TaggedFrame(NamedTuple):
    """One frame without its rows. `device` indexes the batch's devices; other: seq -> what it said in a row's place."""

    device: int
    boot: int
    epoch_unix_ms: int | None
    seqs: Sequence[int]
    other: dict[int, Content]
    tag: bytes | None


def decode(data: Any, devices: int, rows: int, wrong: Callable[[str], Exception]) -> tuple[TaggedFrame, ...]:
    """`data` into frames. Raises what `wrong` makes of a sentence, and nothing else."""
    if not isinstance(data, dict) or not set(_COLUMNS) <= data.keys() <= {*_COLUMNS, "other"}:
        raise wrong("frames must have the columns " + ", ".join(_COLUMNS))
    columns = [data[name] for name in _COLUMNS]
    if not all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        raise wrong("the columns of frames must be lists of one length")
    if not 1 <= len(columns[0]) <= rows + _PROOFS_MAX:
        raise wrong("more frames than rows")
    other = data.get("other", {})
    if not isinstance(other, dict) or not other.keys() <= set(map(str, range(len(columns[0])))):
        raise wrong("frames.other must be an object by places of frames")
    found = []
    before = (-1, -1)
    first = 0
    for place, (device, boot, epoch, step, seqs, tag) in enumerate(zip(*columns, strict=True)):
        _check(device, 0, devices - 1, "frames.device", wrong)
        _check(boot, 1, SMALL_INT_MAX, "frames.boot", wrong)
        if epoch is not None:
            _check(epoch, 0, UNIX_MS_MAX, "frames.epoch_unix_ms", wrong)
        _check(step, -SMALL_INT_MAX, SMALL_INT_MAX, "frames.first_seq", wrong)
        first = step if (device, boot) != before else first + step
        before = (device, boot)
        numbers = _seqs(first, seqs, wrong)
        said = _other(other.get(str(place), []), numbers, wrong)
        found.append(TaggedFrame(device, boot, epoch, numbers, said, _tag(tag, wrong)))
    return tuple(found)


def _check(value: Any, lowest: int, highest: int, name: str, wrong: Callable[[str], Exception]) -> None:
    if type(value) is not int or not lowest <= value <= highest:
        raise wrong(f"{name} must hold integers from {lowest} to {highest}")


def _seqs(first: int, seqs: Any, wrong: Callable[[str], Exception]) -> Sequence[int]:
    if isinstance(seqs, list):
        if not 1 <= len(seqs) < COUNT_MAX:
            raise wrong(f"frames.seqs must have 1 to {COUNT_MAX - 1} steps")
        for step in seqs:
            _check(step, 1, _STEP_MAX, "frames.seqs", wrong)
        numbers: Sequence[int] = tuple(accumulate(seqs, initial=first))
    else:
        _check(seqs, 1, COUNT_MAX, "frames.seqs", wrong)
        numbers = range(first, first + seqs)
    if numbers[0] < 1 or numbers[-1] > SMALL_INT_MAX:
        raise wrong("a frame's seqs are out of range")
    return numbers


def _other(records: Any, numbers: Sequence[int], wrong: Callable[[str], Exception]) -> dict[int, Content]:
    if not isinstance(records, list) or len(records) > len(numbers):
        raise wrong("frames.other must hold lists of records")
    said: dict[int, Content] = {}
    for record in records:
        if not isinstance(record, list) or len(record) != 6:
            raise wrong("a record of frames.other has six integers")
        for value, (lowest, highest) in zip(record, (*_RANGES, _TREND), strict=True):
            _check(value, lowest, highest, "frames.other", wrong)
        if record[0] not in numbers:
            raise wrong("a record of frames.other is none of its frame")
        said[record[0]] = (record[1], record[2], record[3], record[4], record[5])
    return said


def _tag(text: Any, wrong: Callable[[str], Exception]) -> bytes | None:
    if text is None:
        return None
    try:
        tag = bytes.fromhex(text)
    except (TypeError, ValueError):
        tag = b""
    if len(tag) != TAG_BYTES or len(text) != 2 * TAG_BYTES:
        raise wrong(f"frames.tag must hold {2 * TAG_BYTES} hexadecimal digits, or null")
    return tag
