"""A frozen batch made anew under new numbers, when its receiver can never take it as it is: too large, or an encoding
that it cannot read.

A frozen body never changes, and neither does what its number means: the receiver may hold the old batch all the same,
its reply lost. So the rows go into new batches; should they arrive twice, a row counts once by its identity. It knows
neither store nor network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, TypeVar

from gateway import wire
from gateway.messages import LANE_WINDOWS, REVISED_LANES, Batch, DeviceInfo, ModelState, Row, Tag, WindowRow
from gateway.unpack import records, tags, windows

Codec = tuple[str, Callable[[bytes], bytes]]
_T = TypeVar("_T")


def remake(gateway: str, batch: Batch, numbers: Sequence[int], codec: Codec) -> list[Batch]:
    """The rows of `batch` in as many batches as there are numbers, none empty. Raises ValueError if it cannot be read.

    Each says it spans the rows of the whole: which row ids lie in which part was not kept.
    """
    document = wire.decode(batch.body, batch.encoding)
    if batch.lane in REVISED_LANES:
        split = _windows if batch.lane == LANE_WINDOWS else _models
        return split(gateway, batch, document, numbers, codec)
    # wire.document lists devices in the order of their numbers, and wire.counts does as well.
    devices = [entry.device for entry in batch.counts]
    try:
        # Devices without a row stand behind the others: a tagged frame of theirs travels along.
        devices += range(-len(document["devices"]) + len(devices), 0)
        infos = {device: _info(device, entry) for device, entry in zip(devices, document["devices"], strict=True)}
        rows = [Row(devices[r.device], *r[1:], 0, 0) for r in records(document)]
        framed = [tag._replace(device=devices[tag.device]) for tag in tags(document)]
    except (LookupError, TypeError) as exc:
        raise ValueError(f"batch {batch.batch} holds no columns: {exc!r}") from exc
    encoding, compress = codec
    parts = len(numbers)
    made = []
    for nth, number in enumerate(numbers):
        part = rows[nth * len(rows) // parts : (nth + 1) * len(rows) // parts]
        along = _along(framed, part)
        named = {row.device for row in part} | {tag.device for tag in along}
        body = wire.document(
            gateway,
            number,
            batch.lane,
            batch.first_row,
            batch.last_row,
            part,
            {device: info for device, info in infos.items() if device in named},
            along,
        )
        data, digest = wire.encode(body, compress)
        made.append(
            batch._replace(
                batch=number, rows=len(part), counts=wire.counts(part), encoding=encoding, digest=digest, body=data
            )
        )
    return made


def _along(framed: Sequence[Tag], part: Sequence[Row]) -> list[Tag]:
    """Tagged frames with some row in this part; a frame without rows of its own goes with any part."""
    held = {(row.device, row.boot, row.seq) for row in part}
    chosen = []
    for tag in framed:
        steps = [1] * (tag.seqs - 1) if isinstance(tag.seqs, int) else tag.seqs
        seqs = accumulate(steps, initial=tag.first_seq)
        if tag.device < 0 or any((tag.device, tag.boot, seq) in held for seq in seqs):
            chosen.append(tag)
    return chosen


def _windows(gateway: str, batch: Batch, document: dict[str, Any], numbers: Sequence[int], codec: Codec) -> list[Batch]:
    """The same for windows: should both arrive, the one revision that both hold stays."""
    try:
        rows = list(windows(document)) if "windows" in document else []
        infos = {place: _info(place, entry) for place, entry in enumerate(document["devices"])}
    except (LookupError, TypeError) as exc:
        raise ValueError(f"batch {batch.batch} holds no windows: {exc!r}") from exc
    analyses = document.get("analyses", [])
    if len(rows) < len(numbers) and not (len(numbers) == 1 and analyses):
        raise ValueError("it holds a single window")

    def one(number: int, part: Sequence[WindowRow]) -> dict[str, Any]:
        beside = analyses if number == numbers[-1] else []  # they need all the windows
        return wire.window_document(gateway, number, part, infos, beside)

    return _parts(batch, rows, numbers, codec, one)


def _models(gateway: str, batch: Batch, document: dict[str, Any], numbers: Sequence[int], codec: Codec) -> list[Batch]:
    """The same for states of models."""
    try:
        states = [ModelState(**entry) for entry in document["models"]]
        infos = {place: _info(place, entry) for place, entry in enumerate(document["devices"])}
    except (LookupError, TypeError) as exc:
        raise ValueError(f"batch {batch.batch} holds no models: {exc!r}") from exc
    if len(states) < len(numbers):
        raise ValueError("it holds a single model")
    return _parts(batch, states, numbers, codec, lambda number, part: wire.model_document(gateway, number, part, infos))


def _parts(
    batch: Batch,
    items: Sequence[_T],
    numbers: Sequence[int],
    codec: Codec,
    document: Callable[[int, Sequence[_T]], dict[str, Any]],
) -> list[Batch]:
    """A batch without rows in as many parts as there are numbers."""
    encoding, compress = codec
    parts = len(numbers)
    made = []
    for nth, number in enumerate(numbers):
        part = items[nth * len(items) // parts : (nth + 1) * len(items) // parts]
        data, digest = wire.encode(document(number, part), compress)
        made.append(batch._replace(batch=number, rows=len(part), encoding=encoding, digest=digest, body=data))
    return made


def _info(device: int, entry: dict[str, object]) -> DeviceInfo:
    channels = entry["channels"]
    named = None if channels is None else tuple((c["name"], c["unit"]) for c in channels)  # type: ignore[attr-defined]
    return DeviceInfo(device, str(entry["id"]), entry["class"], named)  # type: ignore[arg-type]
