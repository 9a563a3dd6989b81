"""States of models in a batch, decoded strictly: what devices said, as docs/uplink.md, "Models", has it.

It knows neither HTTP nor SQL.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from host_tools.cloud.strict import UNIX_MS_MAX, Refuse, integer
from host_tools.cloud.windows import REVISION_MAX
from isocore.record import SMALL_INT_MAX

MODELS_MAX = 10_000
STATES = ("trial", "committed", "reverted", "refused")
TEXT_MAX = 128


class ModelState(NamedTuple):
    """One state. `device` indexes `Batch.devices`; `began` names it within its gateway and device; the greatest
    `revision` of it counts."""

    device: int
    began: int
    revision: int
    since_unix_ms: int | None
    heard_unix_ms: int | None
    sequence: int
    state: str
    id: str | None
    reason: str | None


COLUMNS = ModelState._fields


def decode(value: Any, devices: int, refuse: Refuse) -> tuple[ModelState, ...]:
    """The `models` of a batch. Raises what `refuse` makes of a sentence."""
    if not isinstance(value, list) or not 0 < len(value) <= MODELS_MAX:
        raise refuse(f"models must be a list of 1 to {MODELS_MAX}")
    return tuple(_state(item, devices, refuse) for item in value)


def _state(item: Any, devices: int, refuse: Refuse) -> ModelState:
    if not isinstance(item, dict) or item.keys() != set(COLUMNS):
        raise refuse(f"a model has {', '.join(COLUMNS)}")
    if item["state"] not in STATES:
        raise refuse(f"a model's state is one of {', '.join(STATES)}")
    revision = _integer(item, "revision", 1, REVISION_MAX, refuse)
    return ModelState(
        _integer(item, "device", 0, devices - 1, refuse),
        _integer(item, "began", 1, revision, refuse),
        revision,
        _time(item, "since_unix_ms", refuse),
        _time(item, "heard_unix_ms", refuse),
        _integer(item, "sequence", 0, SMALL_INT_MAX, refuse),
        item["state"],
        _text(item, "id", refuse),
        _text(item, "reason", refuse),
    )


def _integer(item: dict[str, Any], name: str, lowest: int, highest: int, refuse: Refuse) -> int:
    return integer(item[name], f"{name} of a model", lowest, highest, refuse)


def _time(item: dict[str, Any], name: str, refuse: Refuse) -> int | None:
    return None if item[name] is None else _integer(item, name, 0, UNIX_MS_MAX, refuse)


def _text(item: dict[str, Any], name: str, refuse: Refuse) -> str | None:
    value = item[name]
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= TEXT_MAX or not value.isprintable():
        raise refuse(f"{name} of a model must be 1 to {TEXT_MAX} printable characters, or null")
    return value
