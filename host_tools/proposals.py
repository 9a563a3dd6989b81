"""Proposals: models trained on a schedule, laid down unsigned beside their reports, for a person to sign and push.

    FOLDER/<target>-<sequence>.json   the payload; nothing runs it before it is signed
    FOLDER/<target>-<sequence>.txt    what it changes and what it is predicted to do

A round writes a proposal only where the model differs from the last one; a target that cannot be trained is said why,
and tried again in the next round. Knows no keys, no broker and no clock: the caller waits.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from host_tools import comparing
from host_tools.errors import InputError, ModelFileError, TrainingRefused
from host_tools.train import TrainedModel
from isocore import model as iso_model
from isocore.errors import ModelError
from isocore.model import Model

EVERY_S = {"hour": 3600, "day": 86_400, "week": 604_800}
_FILE = re.compile(r"(?P<name>.+)-(?P<sequence>[0-9]+)\.json")


class Proposals:
    """The proposals in one folder; it is made when the first is laid down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def sequence_max(self) -> int:
        """The highest sequence proposed so far; 0 for none."""
        return max((sequence for sequence, _ in self._all()), default=0)

    def last(self, target: str) -> Model | None:
        """The newest proposal for a target. Raises ModelFileError for a file that is none."""
        paths = [(sequence, path) for sequence, path in self._all() if path.stem.startswith(f"{file_name(target)}-")]
        for _, path in sorted(paths, reverse=True):
            try:
                found: Model = iso_model.parse(path.read_bytes())
            except (OSError, ModelError) as error:
                raise ModelFileError(f"{path}: {error}; remove it to have it proposed anew") from None
            if found.target == target:
                return found
        return None

    def lay_down(self, trained: TrainedModel, before: Model | None, report: Sequence[str]) -> Path:
        """Write a proposal; the payload comes last, so that it never stands there without its report."""
        path = self.folder / f"{file_name(trained.model.target)}-{trained.model.sequence}.json"
        changes = comparing.differences(before, trained.model)
        text = "\n".join([f"{path.name}: a proposal, not signed and not pushed", "", *changes, "", *report]) + "\n"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for written, data in ((path.with_suffix(".txt"), text.encode()), (path, trained.payload + b"\n")):
                partial = written.with_name(written.name + ".partial")
                partial.write_bytes(data)
                os.replace(partial, written)
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
        return path

    def _all(self) -> list[tuple[int, Path]]:
        if not self.folder.is_dir():
            return []
        matched = ((_FILE.fullmatch(path.name), path) for path in self.folder.iterdir())
        return [(int(match["sequence"]), path) for match, path in matched if match]


def file_name(target: str) -> str:
    """A target as part of a file's name."""
    return "all" if target == "*" else target.replace(":", "-")


def same_content(one: Model, other: Model) -> bool:
    """Whether boards would do the same under both."""
    return {name: params.as_dict() for name, params in one.channels.items()} == {
        name: params.as_dict() for name, params in other.channels.items()
    }


def propose(
    proposals: Proposals,
    targets: Sequence[str],
    sequence_min: int,
    current: Model | None,
    fit: Callable[[str, int, Model | None], TrainedModel],
    report: Callable[[TrainedModel], Sequence[str]],
    say: Callable[[str], None],
) -> list[Path]:
    """One round: train each target, lay down what differs. Returns the proposals.

    fit(target, sequence, what runs now): may raise TrainingRefused, which is said. current: what runs now; a proposal
    does not, so it must not change what is learnt, or two rounds over the same history would differ.
    """
    laid = []
    for target in targets:
        before = proposals.last(target) or current
        sequence = max(sequence_min, proposals.sequence_max() + 1)
        try:
            trained = fit(target, sequence, current)
        except TrainingRefused as error:
            say(f"{target}: no proposal: {error}")
            continue
        if before is not None and same_content(before, trained.model):
            say(f"{target}: nothing new; sequence {before.sequence} stands")
            continue
        path = proposals.lay_down(trained, before, report(trained))
        say(f"{path}: proposed; read {path.with_suffix('.txt').name}, then `isotherm model sign` and `push`")
        laid.append(path)
    return laid
