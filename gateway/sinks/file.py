"""Batches as NDJSON files in a folder, for sites without a network: one file a batch, carried away by hand.

A file appears whole or not at all: written beside, flushed to the disk, renamed, the folder flushed. `send` is
idempotent on the batch number: a file with the same digest is a duplicate. The folder is never
made here, since an absent one may be a drive that is not plugged in. The format is in docs/gateway.md, "Files to carry
away". It deletes nothing but its own unfinished files.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.errors import BatchRejected, SinkUnavailable
from gateway.messages import Batch
from gateway.sinks.base import Stored, Tuning
from gateway.unpack import records, windows
from gateway.wire import decode
from isocore.record import KIND_NAMES

_MODE = 0o640
_HEAD_BYTES_MAX = 4096
_REASONS = {errno.ENOSPC: "full", errno.EDQUOT: "full", errno.EROFS: "readonly", errno.EACCES: "denied"}


class FileSink:
    """Writes `GATEWAY-BATCH.ndjson` into a folder."""

    accepts: frozenset[str] | None = None  # files are not compressed: any frozen body will do

    def __init__(self, folder: Path, gateway: str) -> None:
        self._folder = folder
        self._gateway = gateway

    def __repr__(self) -> str:
        return f"FileSink({str(self._folder)!r})"

    def tune(self, tuning: Tuning) -> None:
        """Nothing here has a time-out."""

    def close(self) -> None:
        """Nothing is kept open."""

    def send(self, batch: Batch) -> Stored:
        """Write one batch."""
        path = self._folder / f"{self._gateway}-{batch.batch:016d}.ndjson"
        try:
            known = self._digest(path)
            if known == batch.digest:
                return Stored(True, 0)
            if known is not None:
                raise BatchRejected("conflict", f"{path} holds another batch of this number")
            text = "".join(f"{_dumps(line)}\n" for line in self._lines(batch))
            self._write(path, text.encode("ascii"))
        except OSError as exc:
            where = "there is no folder" if isinstance(exc, FileNotFoundError) else "cannot write in"
            reason = "missing" if isinstance(exc, FileNotFoundError) else _REASONS.get(exc.errno or 0, "io")
            raise SinkUnavailable(reason, f"{where} {self._folder}: {exc.strerror}") from exc
        return Stored(False, batch.rows)

    def _lines(self, batch: Batch) -> list[dict[str, Any]]:
        head = {
            "v": 1,
            "gateway": self._gateway,
            "batch": batch.batch,
            "lane": batch.lane,
            "rows": batch.rows,
            "digest": batch.digest,
        }
        try:
            document = decode(batch.body, batch.encoding)
            return [head, *_readings(document), *_windows(document), *_models(document)]
        except (ValueError, LookupError, TypeError) as exc:
            raise BatchRejected("undecodable", f"batch {batch.batch} cannot be decoded: {exc}") from exc

    @staticmethod
    def _digest(path: Path) -> str | None:
        """Of the batch that a file holds; None when there is no file, or its medium lost what it held."""
        try:
            with path.open("rb") as file:
                head = json.loads(file.readline(_HEAD_BYTES_MAX))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError):
            return None
        digest = head.get("digest") if isinstance(head, dict) else None
        return digest if isinstance(digest, str) else None

    def _write(self, path: Path, data: bytes) -> None:
        part = path.with_suffix(".part")
        try:
            fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE)
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _readings(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One object a record."""
    for record in records(document):
        device = document["devices"][record.device]
        channels = device["channels"] or []
        named = channels[record.channel] if record.channel < len(channels) else {"name": None, "unit": None}
        epoch_unix_ms = record.epoch_unix_ms
        yield {
            "device": device["id"],
            "class": device["class"],
            "boot": record.boot,
            "seq": record.seq,
            "kind": KIND_NAMES[record.kind],
            "channel": record.channel,
            "name": named["name"],
            "unit": named["unit"],
            "value": record.value,
            "trend": record.trend,
            "uptime_ms": record.uptime_ms,
            "unix_ms": None if epoch_unix_ms is None else epoch_unix_ms + record.uptime_ms,
            "trusted": bool(record.trusted),
        }


def _windows(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One object a window."""
    for window in windows(document):
        device = document["devices"][window.device]
        channels = device["channels"] or []
        named = channels[window.channel] if window.channel < len(channels) else {"name": None, "unit": None}
        figures = window._asdict()
        yield {"device": device["id"], "class": device["class"], "kind": "window", **named} | {
            name: figures[name] for name in figures if name != "device"
        }


def _models(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One object a state of a model."""
    for entry in document.get("models", ()):
        device = document["devices"][entry["device"]]
        yield {**entry, "device": device["id"], "class": device["class"], "kind": "model"}


def _dumps(line: dict[str, Any]) -> str:
    return json.dumps(line, separators=(",", ":"), ensure_ascii=True)
