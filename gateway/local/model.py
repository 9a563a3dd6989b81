"""Threshold models for the gateway's own sensors, under the same rules as on a board (isonode/models.py).

Verify exactly the bytes that will be parsed; sequence above the stored one; write; run on trial; keep after
`trial_samples` good samples and a commit of the store; revert, with the reason, when as many readings are out of its
range first, or when the gateway restarted _TRIAL_STARTS_MAX times meanwhile. A reverted sequence is not tried again.

Two files in data_dir: model.bin in force, model.trial.bin on trial; model.json says what was reverted, and how often a
trial was begun. Each is replaced whole (fsync, rename, fsync of the folder), so a cut leaves the old or the new one.
Knows no filter, no topic and no thread.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from gateway import durable
from gateway.errors import MessageRejected
from isocore import payload, sign
from isocore.errors import ModelError, SignatureError
from isocore.model import Model

_TRIAL_STARTS_MAX = 3


class Models:
    """`current`: the model that runs, on trial or not; None for the built-in bounds."""

    def __init__(
        self, folder: Path, keys: tuple[str, ...], identity: tuple[str, str, str, tuple[int, ...]], trial_samples: int
    ) -> None:
        """identity: fleet, device, device class, version; keys: public keys, x || y in hexadecimal."""
        self._force = folder / "model.bin"
        self._trial = folder / "model.trial.bin"
        self._notes = folder / "model.json"
        self._keys = [bytes.fromhex(key) for key in keys]
        self._identity = identity
        self._samples = trial_samples
        self.current: Model | None = None
        self.on_trial = False
        self.state: dict[str, Any] = {"sequence": 0, "state": "committed", "id": ""}
        self._in_force: Model | None = None
        self._reverted = 0
        self._refused = b""
        self._good = self._bad = 0
        self._committed = False

    def open(self) -> None:
        """Find the model to run."""
        notes = self._read_notes()
        self._reverted = notes.get("reverted", 0)
        self._in_force = self.current = self._stored(self._force)
        self._say("committed", self.current.sequence if self.current else 0, _digest(self._force))
        on_trial = self._stored(self._trial)
        if on_trial is None:
            return
        starts = notes.get("trial_starts", 0) + 1
        self.current, self.on_trial = on_trial, True
        if starts > _TRIAL_STARTS_MAX:
            self._revert("reboots")
            return
        self._write_notes(trial_starts=starts)
        self._say("trial", on_trial.sequence, _digest(self._trial))

    def offer(self, container: bytes, now_unix_s: int | None) -> bool:
        """A container came. True when it now runs on trial; what is refused stands in `state`."""
        digest = hashlib.sha256(container).digest()
        running = self._trial if self.on_trial else self._force
        if digest in (self._refused, _digest(running)):
            return False
        try:
            offered = self._verified(container, now_unix_s)
            if offered.sequence <= (self.current.sequence if self.current else 0):
                raise MessageRejected("sequence", "not above the one that runs")
            if offered.sequence == self._reverted:
                raise MessageRejected("reverted", "tried before")
            try:
                durable.replace(self._trial, container)
                self._write_notes(trial_starts=0)
            except OSError as exc:
                raise MessageRejected("storage", str(exc)) from exc
        except MessageRejected as exc:
            self._refused = digest
            self._say("refused", self.current.sequence if self.current else 0, digest, exc.reason)
            return False
        self.current, self.on_trial = offered, True
        self._good = self._bad = 0
        self._committed = False
        self._say("trial", offered.sequence, digest)
        return True

    def on_sample(self) -> None:
        """A good sample of the running model."""
        self._good += 1

    def on_out_of_range(self) -> None:
        """A reading that the running model calls impossible."""
        self._bad += 1

    def on_commit(self) -> None:
        """The store has committed something."""
        self._committed = True

    def decide(self) -> bool:
        """On the trial, if there is one. True when `current` changed: it was reverted. Raises OSError: try again."""
        if not self.on_trial:
            return False
        if self._bad >= self._samples:
            self._revert("unhealthy")
            return True
        if self._good >= self._samples and self._committed:
            assert self.current is not None
            durable.move(self._trial, self._force)
            self._in_force, self.on_trial = self.current, False
            self._say("committed", self.current.sequence, _digest(self._force))
        return False

    def _revert(self, reason: str) -> None:
        assert self.current is not None
        sequence, digest = self.current.sequence, _digest(self._trial)
        self._reverted = sequence
        self._write_notes(trial_starts=0)
        self._trial.unlink(missing_ok=True)
        self.current, self.on_trial = self._in_force, False
        self._say("reverted", sequence, digest, reason)

    def _verified(self, container: bytes, now_unix_s: int | None) -> Model:
        try:
            model: Model = payload.parse(sign.open_container(container, sign.KIND_MODEL, self._keys))
        except SignatureError as exc:
            raise MessageRejected(exc.reason, str(exc)) from exc
        except ModelError as exc:
            raise MessageRejected("payload", str(exc)) from exc
        reason = model.why_not(*self._identity, now_unix_s)
        if reason is not None:
            raise MessageRejected(reason, f"not for this gateway: {reason}")
        return model

    def _stored(self, path: Path) -> Model | None:
        """The model in a file, verified anew but for its expiry; None when there is none that may run."""
        try:
            return self._verified(path.read_bytes(), None)
        except (OSError, MessageRejected):
            return None

    def _read_notes(self) -> dict[str, int]:
        try:
            said = json.loads(self._notes.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {k: v for k, v in said.items() if isinstance(v, int)} if isinstance(said, dict) else {}

    def _write_notes(self, trial_starts: int) -> None:
        text = json.dumps({"reverted": self._reverted, "trial_starts": trial_starts})
        durable.replace(self._notes, text.encode("ascii"))

    def _say(self, state: str, sequence: int, digest: bytes, reason: str | None = None) -> None:
        self.state = {"sequence": sequence, "state": state, "id": digest[:8].hex()}
        if reason is not None:
            self.state["reason"] = reason


def _digest(path: Path) -> bytes:
    """SHA-256 of a file; empty when there is none."""
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return b""
