"""What was pushed: every container under its own hash, and the list of who was sent which, on the operator's host.

    FOLDER/<id>.model     the container; its name is the first 16 digits of its SHA-256, as boards name it
    FOLDER/pushed.jsonl   a line a push: fleet, target, sequence, id, when, and for a rollback what it brings back

`former` answers what a rollback brings back. Knows no key and no broker.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from host_tools.errors import InputError, ModelFileError
from host_tools.keys.sealed import write_file
from host_tools.rollout import container_id
from isocore import model as iso_model
from isocore import sign
from isocore.errors import ModelError

_LIST = "pushed.jsonl"


@dataclass(frozen=True)
class Pushed:
    """One push of one container. restores: the id of the container whose content it brings back, or empty."""

    fleet: str
    target: str
    sequence: int
    id: str
    unix_s: int
    restores: str = ""


def payload_of(container: bytes) -> bytes:
    """A container's payload, its signature unchecked."""
    return container[sign.HEADER_BYTES : -sign.SIGNATURE_BYTES]


class Library:
    """The containers and pushes under one folder; made when the first is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, container: bytes) -> str:
        """Store a container; the same one is stored once. Returns its id."""
        name = container_id(container)
        path = self._path(name)
        if not path.exists():
            write_file(path, container, 0o600, replace=True)
        return name

    def get(self, name: str) -> bytes:
        """A container by its id. Raises ModelFileError when it is not here, or not what it was."""
        path = self._path(name)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from None
        if container_id(data) != name:
            raise ModelFileError(f"{path}: is damaged: its content does not have the hash that names it")
        return data

    def model(self, name: str) -> iso_model.Model:
        """The model in a container."""
        try:
            parsed: iso_model.Model = iso_model.parse(payload_of(self.get(name)))
        except ModelError as error:
            raise ModelFileError(f"{self._path(name)}: {error}") from None
        return parsed

    def note(self, pushed: Pushed) -> None:
        """Remember a push, unless it is the last one of its target anyway (a push that is resumed)."""
        last = [one for one in self.pushes() if (one.fleet, one.target) == (pushed.fleet, pushed.target)][-1:]
        if last and last[0].id == pushed.id:
            return
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.folder / _LIST).open("ab") as stream:
            stream.write(json.dumps(asdict(pushed)).encode("ascii") + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

    def pushes(self) -> Iterator[Pushed]:
        """All pushes, the oldest first. Raises InputError naming file and line."""
        path = self.folder / _LIST
        try:
            lines = path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
        for number, line in enumerate(lines[:-1], 1):  # what follows the last line's end was cut off
            try:
                yield Pushed(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise InputError(f"{path}, line {number}: is no push ({error}); remove the line") from None

    def sequence_max(self, fleet: str) -> int:
        """The highest sequence that was pushed to any target of a fleet; 0 for none."""
        return max((one.sequence for one in self.pushes() if one.fleet == fleet), default=0)

    def targets(self, fleet: str) -> list[str]:
        """The targets that something was pushed to."""
        return sorted({one.target for one in self.pushes() if one.fleet == fleet})

    def former(self, fleet: str, target: str) -> Pushed | None:
        """The push before the one in force, of other content; a rollback of a rollback goes one further back."""
        pushes = [one for one in self.pushes() if (one.fleet, one.target) == (fleet, target)]
        if not pushes:
            return None
        own = [one for one in pushes if not one.restores]
        present = pushes[-1].restores or pushes[-1].id
        at = next((i for i in range(len(own) - 1, -1, -1) if own[i].id == present), len(own))
        return own[at - 1] if at > 0 else None

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.model"
