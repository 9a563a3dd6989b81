"""The journal of a staged rollout: one file, a line of JSON an event, durable before the step that it announces.

    {"v": 1, "broker": ..., "started_unix_s": ..., "waves": [[...]], "away": [...], "policy": {...}, "ids": {...}}
    {"kind": "wave", "number": 0}
    ...

A last line that was cut off is left out: what it announced was not done. Must not know what the events mean.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from host_tools.errors import HostError, InputError
from host_tools.keys.sealed import write_file
from host_tools.staging import Event, Policy, Staging

_VERSION = 1
_SUFFIX = ".rollout"
FILES_MAX = 50  # older ones of rollouts that are over are removed


@dataclass(frozen=True)
class Head:
    """What a rollout is: its plan and, for each device, the id of what it is sent."""

    broker: str
    started_unix_s: int
    staging: Staging
    ids: Mapping[str, str]


class Journal:
    """An open journal. `note` returns when the event is on the disk. Raises HostError when it cannot be."""

    def __init__(self, path: Path, head: Head, events: list[Event]) -> None:
        self.path = path
        self.head = head
        self.events = events

    def note(self, event: Event) -> None:
        """Append an event."""
        line = {name: value for name, value in asdict(event).items() if value or name == "kind"}
        _append(self.path, line)
        self.events.append(event)

    @property
    def over(self) -> bool:
        """Whether it came to an end, good or bad."""
        return any(event.kind in ("halt", "done") for event in self.events)


def create(folder: Path, head: Head) -> Journal:
    """A new journal in a folder, named by when it was begun."""
    number = 0
    while (path := folder / f"{head.started_unix_s}-{number}{_SUFFIX}").exists():
        number += 1
    staging = head.staging
    document = {
        "v": _VERSION,
        "broker": head.broker,
        "started_unix_s": head.started_unix_s,
        "waves": staging.waves,
        "away": staging.away,
        "policy": staging.policy.plain(),
        "ids": dict(head.ids),
    }
    write_file(path, _line(document), 0o600)
    return Journal(path, head, [])


def unfinished(folder: Path, broker: str) -> Journal | None:
    """The newest rollout at a broker when it came to no end; removes journals that are long over."""
    found = sorted(folder.glob(f"*{_SUFFIX}"), key=_age)
    for old in found[:-FILES_MAX]:
        old.unlink(missing_ok=True)
    for path in reversed(found[-FILES_MAX:]):
        journal = read(path)
        if journal.head.broker == broker:
            return None if journal.over else journal
    return None


def read(path: Path) -> Journal:
    """A journal as it is on the disk. Raises InputError naming file and line."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"{path}: journal cannot be read: {error.strerror or error}") from None
    whole = lines[:-1]  # what follows the last line's end was cut off
    if lines[-1]:
        os.truncate(path, sum(len(line) + 1 for line in whole))
    head: Head | None = None
    events: list[Event] = []
    try:
        for line in whole:
            document = json.loads(line)
            if head is None:
                head = _head(document)
            else:
                events.append(Event(**document))
        if head is None:
            raise ValueError("it is empty")
    except (ValueError, TypeError, KeyError) as error:
        number = 1 if head is None else len(events) + 2
        raise InputError(f"{path}, line {number}: is no journal of a rollout ({error}); remove the file") from None
    return Journal(path, head, events)


def _head(document: Any) -> Head:
    if document["v"] != _VERSION:
        raise ValueError(f"version {document['v']}, known is {_VERSION}")
    staging = Staging(
        tuple(tuple(wave) for wave in document["waves"]),
        tuple(document["away"]),
        Policy.from_plain(document["policy"]),
    )
    return Head(str(document["broker"]), int(document["started_unix_s"]), staging, dict(document["ids"]))


def _age(path: Path) -> tuple[int, int]:
    stamp, _, number = path.name.removesuffix(_SUFFIX).partition("-")
    return (int(stamp), int(number)) if stamp.isdigit() and number.isdigit() else (0, 0)


def _append(path: Path, document: Mapping[str, Any]) -> None:
    try:
        with path.open("ab") as stream:
            stream.write(_line(document))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise HostError(
            f"{path}: the rollout cannot be noted: {error.strerror or error}; nothing more is sent"
        ) from None


def _line(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode("ascii") + b"\n"
