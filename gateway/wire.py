"""The uplink's body: rows to columns, columns to compressed JSON. Documented for receivers in docs/uplink.md.

Pure: bytes out for rows in, the same for the same. It knows no network and no database.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.errors import ConfigError
from gateway.messages import (
    EVENT_FIRST,
    EVENT_LAST,
    LANE_MODELS,
    LANE_WINDOWS,
    LOST,
    Counts,
    DeviceInfo,
    ModelState,
    Row,
    Tag,
    WindowRow,
)

VERSION = 1
CONTENT_TYPE = "application/vnd.isotherm.batch+json"
ENCODINGS = ("auto", "zstd", "gzip")
UNIX_MS_MAX = 4102444800000  # 2100-01-01: an epoch outside 1970..2100 goes up as unknown
WINDOW_COLUMNS = (
    "device",
    "channel",
    "length_s",
    "start_unix_s",
    "revision",
    "mean",
    "least",
    "greatest",
    "last",
    "count",
    "covered_ms",
    "alarm_ms",
    "fault_ms",
)
_GZIP_LEVEL = 6
_ZSTD_LEVEL = 9


def compressor(choice: str) -> tuple[str, Callable[[bytes], bytes]]:
    """(Content-Encoding, function) for `auto`, `zstd` or `gzip`. `auto` takes zstd where its module is installed."""
    if choice in ("auto", "zstd"):
        try:
            import zstandard
        except ImportError as exc:
            if choice == "zstd":
                raise ConfigError("compression zstd needs the module zstandard: install isotherm[zstd]") from exc
        else:
            return "zstd", lambda data: zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(data)
    return "gzip", lambda data: gzip.compress(data, _GZIP_LEVEL, mtime=0)


def negotiated(choice: str, accepts: frozenset[str] | None) -> tuple[str, Callable[[bytes], bytes]]:
    """`compressor`, where `auto` keeps to what the receiver said that it takes; None: it has not said."""
    return compressor("gzip" if choice == "auto" and accepts is not None and "zstd" not in accepts else choice)


def document(
    gateway: str,
    batch: int,
    lane: str,
    first_row: int,
    last_row: int,
    rows: Sequence[Row],
    devices: Mapping[int, DeviceInfo],
    tags: Sequence[Tag] = (),
) -> dict[str, Any]:
    """The batch as a JSON document. `rows` may come in any order; they leave sorted by (device, boot, seq).

    tags: tagged frames that brought some of the rows, sorted by (device, boot, first_seq).
    """
    ordered = sorted(rows)
    index: dict[int, int] = {}
    entries: list[dict[str, Any]] = []
    series: list[list[int | None]] = []
    seqs: list[int] = []
    uptimes: list[int] = []
    kinds: list[int] = []
    channels: list[int] = []
    values: list[int] = []
    trends: list[int] = []
    current: tuple[int, int, int | None, int] | None = None
    seq_before = uptime_before = step_before = 0
    fresh = 0
    last_value: dict[int, int] = {}
    for device, boot, seq, kind, channel, value, trend, uptime_ms, epoch, trusted, _, _ in ordered:
        key = (device, boot, epoch, trusted)
        if key != current:
            current = key
            if device not in index:
                index[device] = len(entries)
                entries.append(_device(devices[device]))
            series.append([index[device], boot, 0, _sensible(epoch), trusted])
            last_value = {}
            fresh = 0
        series[-1][2] += 1  # type: ignore[operator]
        seqs.append(seq - seq_before if fresh else seq)
        step = uptime_ms - uptime_before
        uptimes.append(uptime_ms if fresh == 0 else step if fresh == 1 else step - step_before)
        seq_before, uptime_before, step_before = seq, uptime_ms, step
        fresh += 1
        kinds.append(kind)
        channels.append(channel)
        values.append(value - last_value[channel] if channel in last_value else value)
        last_value[channel] = value
        trends.append(trend)
    out: dict[str, Any] = {
        "v": VERSION,
        "gateway": gateway,
        "batch": batch,
        "lane": lane,
        "first_row": first_row,
        "last_row": last_row,
        "rows": len(ordered),
        "devices": entries,
        "series": series,
        "seq": seqs,
        "uptime_ms": uptimes,
        "kind": kinds,
        "channel": channels,
        "value": values,
    }
    if any(trends):
        out["trend"] = trends
    if tags:
        for tag in tags:
            if tag.device not in index:  # a proof that travels with the rows of others
                index[tag.device] = len(entries)
                entries.append(_device(devices[tag.device]))
        out["frames"] = frame_columns([tag._replace(device=index[tag.device]) for tag in tags])
    return out


def frame_columns(tags: Sequence[Tag]) -> dict[str, Any]:
    """Tagged frames as columns; `device` is the place in the batch's dictionary already."""
    columns: dict[str, Any] = {name: [] for name in ("device", "boot", "epoch_unix_ms", "first_seq", "seqs", "tag")}
    before = (-1, -1)
    seq_before = 0
    for tag in tags:
        if (tag.device, tag.boot) != before:
            before, seq_before = (tag.device, tag.boot), 0
        columns["device"].append(tag.device)
        columns["boot"].append(tag.boot)
        columns["epoch_unix_ms"].append(tag.epoch_unix_ms)
        columns["first_seq"].append(tag.first_seq - seq_before)
        columns["seqs"].append(tag.seqs)
        columns["tag"].append(None if tag.tag is None else tag.tag.hex())
        seq_before = tag.first_seq
    other = {str(place): tag.other for place, tag in enumerate(tags) if tag.other}
    return columns | {"other": other} if other else columns


def window_document(
    gateway: str,
    batch: int,
    windows: Sequence[WindowRow],
    devices: Mapping[int, DeviceInfo],
    analyses: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """A batch of windows and no readings. They leave sorted by device, channel, length and start.

    analyses: what has to be run, or was run here, once the receiver has these windows.
    """
    ordered = sorted(windows, key=lambda window: window[:4])
    index = {device: place for place, device in enumerate(sorted({window.device for window in ordered}))}
    columns: dict[str, list[int | None]] = {name: [] for name in WINDOW_COLUMNS}
    start_before = revision_before = mean_before = 0
    for window in ordered:
        mean = window.mean
        row = (
            index[window.device],
            window.channel,
            window.length_s,
            window.start_s - start_before,
            window.revision - revision_before,
            None if mean is None else mean - mean_before,
            *(None if mean is None or v is None else v - mean for v in (window.least, window.greatest, window.last)),
            *window[9:],
        )
        for name, figure in zip(WINDOW_COLUMNS, row, strict=True):
            columns[name].append(figure)
        start_before, revision_before = window.start_s, window.revision
        mean_before = mean_before if mean is None else mean
    return {
        **_rowless(gateway, batch, LANE_WINDOWS, [devices[device] for device in index]),
        **({"windows": columns} if ordered else {}),
        **({"analyses": list(analyses)} if analyses else {}),
    }


def model_document(
    gateway: str, batch: int, states: Sequence[ModelState], devices: Mapping[int, DeviceInfo]
) -> dict[str, Any]:
    """A batch of what devices say of their models, and no readings."""
    index = {device: place for place, device in enumerate(sorted({state.device for state in states}))}
    entries = []
    for state in states:
        times = {"since_unix_ms": _sensible(state.since_unix_ms), "heard_unix_ms": _sensible(state.heard_unix_ms)}
        entries.append({**state._asdict(), "device": index[state.device], **times})
    return {**_rowless(gateway, batch, LANE_MODELS, [devices[device] for device in index]), "models": entries}


def _sensible(unix_ms: int | None) -> int | None:
    """A time that receivers take; None: unknown, as of a clock that is nowhere near."""
    return unix_ms if unix_ms is not None and 0 <= unix_ms <= UNIX_MS_MAX else None


def _rowless(gateway: str, batch: int, lane: str, devices: Sequence[DeviceInfo]) -> dict[str, Any]:
    """What every batch has, of one without readings."""
    head = {"v": VERSION, "gateway": gateway, "batch": batch, "lane": lane, "first_row": 0, "last_row": 0, "rows": 0}
    columns: tuple[str, ...] = ("series", "seq", "uptime_ms", "kind", "channel", "value")
    return {**head, "devices": [_device(info) for info in devices], **{name: [] for name in columns}}


def _device(info: DeviceInfo) -> dict[str, Any]:
    channels = None
    if info.channels is not None:
        channels = [{"name": name, "unit": unit} for name, unit in info.channels]
    return {"id": info.name, "class": info.device_class, "channels": channels}


def encode(body: dict[str, Any], compress: Callable[[bytes], bytes]) -> tuple[bytes, str]:
    """Compressed bytes and their SHA-256 in hex."""
    data = compress(json.dumps(body, separators=(",", ":"), ensure_ascii=True).encode("ascii"))
    return data, hashlib.sha256(data).hexdigest()


def decode(data: bytes, encoding: str) -> dict[str, Any]:
    """The document of a frozen batch, for a sink that stores readings. Raises ValueError.

    Only for what this gateway froze itself: it trusts the columns.
    """
    try:
        if encoding == "zstd":
            import zstandard

            try:
                text = zstandard.ZstdDecompressor().decompress(data)
            except zstandard.ZstdError as exc:
                raise ValueError(f"no zstd: {exc}") from exc
        else:
            text = gzip.decompress(data)
        body = json.loads(text)
    except ImportError as exc:
        raise ValueError("it is zstd, and the module zstandard is gone: install isotherm[zstd]") from exc
    except (OSError, EOFError, zlib.error) as exc:  # gzip.BadGzipFile is an OSError
        raise ValueError(f"no {encoding}: {exc}") from exc
    if not isinstance(body, dict):
        raise ValueError("no batch")
    return body


def counts(rows: Sequence[Row]) -> tuple[Counts, ...]:
    """Records per device by class, for the ledger."""
    tally: dict[int, list[int]] = {}
    for row in rows:
        entry = tally.setdefault(row.device, [0, 0, 0, 0])
        entry[_class(row.kind)] += 1
    return tuple(Counts(device, *tally[device]) for device in sorted(tally))


def _class(kind: int) -> int:
    """Which of Counts' figures a record belongs to: reports, events, windows, notices."""
    if kind < EVENT_FIRST:
        return 0
    if kind == LOST:
        return 3
    return 1 if kind <= EVENT_LAST else 2
