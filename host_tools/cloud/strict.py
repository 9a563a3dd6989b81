"""Values of a batch, taken strictly: an integer within bounds, a time that can be. It knows no batch and no HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

UNIX_S_MAX = 4102444800  # 2100-01-01
UNIX_MS_MAX = UNIX_S_MAX * 1000

Refuse = Callable[[str], Exception]


def integer(value: Any, name: str, lowest: int, highest: int, refuse: Refuse) -> int:
    """The value; a boolean is none. Raises what `refuse` makes of a sentence that begins with `name`."""
    if type(value) is not int or not lowest <= value <= highest:
        raise refuse(f"{name} must be an integer from {lowest} to {highest}")
    return value
