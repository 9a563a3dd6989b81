"""What a board says of the model it runs: `model/state`, checked and cut to size.

Signed containers travel from the host tools to the boards over the broker; the gateway only keeps the reports. It knows
no key and judges no model.
"""

from __future__ import annotations

import json
from typing import Any

from gateway.errors import MessageRejected

STATES = ("trial", "committed", "reverted", "refused")
_TEXT_MAX = 128  # docs/uplink.md


def check_state(document: Any) -> str:
    """The canonical JSON of a model/state document. Raises MessageRejected."""
    if not isinstance(document, dict):
        raise MessageRejected("model_state", "model/state is no JSON object")
    sequence = document.get("sequence")
    state = document.get("state")
    if isinstance(sequence, bool) or not isinstance(sequence, int) or not 0 <= sequence < 1 << 30:
        raise MessageRejected("model_state", "model/state: sequence must be an integer of 30 bits")
    if state not in STATES:
        raise MessageRejected("model_state", f"model/state: state must be one of {', '.join(STATES)}")
    out: dict[str, Any] = {"sequence": sequence, "state": state}
    for key in ("id", "reason"):
        text = shown(document.get(key))
        if text is not None:
            out[key] = text
    return json.dumps(out)


def shown(text: object) -> str | None:
    """What a receiver takes of a device's text: printable, and cut to size; None: nothing."""
    cut = text[:_TEXT_MAX] if isinstance(text, str) else ""
    return cut if cut and cut.isprintable() else None
