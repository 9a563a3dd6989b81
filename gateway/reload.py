"""What a changed configuration changes at once, and what waits for a restart. Pure: configurations in, plan out.

A key is declared `live` when it can change without closing a connection, a file or a queue: so it costs no message.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from gateway.config import Config
from gateway.config.keys import parts


class Plan(NamedTuple):
    """`config`: what is in force afterwards. `changed` and `waiting`: names of keys, live and for the next start."""

    config: Config
    changed: tuple[str, ...]
    waiting: tuple[str, ...]


def plan(old: Config, new: Config) -> Plan:
    """Compare what is in force with what the file says now."""
    changed: list[str] = []
    waiting: list[str] = []
    config: Config = _merge("", old, new, changed, waiting)
    return Plan(config, tuple(changed), tuple(waiting))


def _merge(prefix: str, old: Any, new: Any, changed: list[str], waiting: list[str]) -> Any:
    """`old` with what may change at once taken from `new`."""
    taken = {}
    for part in parts(type(old)):
        was, is_ = getattr(old, part.name), getattr(new, part.name)
        name = f"{prefix}{part.name}"
        if was == is_:
            continue
        if part.spec.metadata.get("live"):
            taken[part.name] = is_
            changed.append(name)
        elif part.is_table and part.shape == "one":
            taken[part.name] = _merge(f"{name}.", was, is_, changed, waiting)
        elif part.is_table and part.shape == "dict":
            taken[part.name] = {
                key: _merge(f"{name}.{key}.", table, is_[key], changed, waiting) if key in is_ else table
                for key, table in was.items()
            }
            waiting += [f"{name}.{key}" for key in sorted(was.keys() ^ is_.keys())]
        else:
            waiting.append(name)
    return replace(old, **taken)
