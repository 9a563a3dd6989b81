"""What a changed configuration changes at once, and what waits for a restart. Pure: configurations in, plan out.

A key is live when it can change without closing a connection, a file or a queue: so no message is lost by it.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, NamedTuple

from gateway.config import SECTIONS, Config

LIVE = {"log": ("level",), "ingest": ("json_bytes_max", "full_wait_s")}
LIVE_SINK = (
    "token_file",
    "live_rows",
    "live_age_s",
    "backfill_rows",
    "backfill_after_s",
    "connect_timeout_s",
    "read_timeout_s",
    "backoff_base_s",
    "backoff_max_s",
)


class Plan(NamedTuple):
    """`config`: what is in force afterwards. `changed` and `waiting`: names of keys, live and for the next start."""

    config: Config
    changed: tuple[str, ...]
    waiting: tuple[str, ...]


def plan(old: Config, new: Config) -> Plan:
    """Compare what is in force with what the file says now."""
    changed: list[str] = []
    waiting: list[str] = []
    sections = {
        name: _merge(name, getattr(old, name), getattr(new, name), LIVE.get(name, ()), changed, waiting)
        for name in SECTIONS
    }
    sinks = {}
    for name, sink in old.sinks.items():
        if name in new.sinks:
            sinks[name] = _merge(f"sinks.{name}", sink, new.sinks[name], LIVE_SINK, changed, waiting)
        else:
            sinks[name] = sink
    waiting += [f"sinks.{name}" for name in sorted(old.sinks.keys() ^ new.sinks.keys())]
    return Plan(replace(old, sinks=sinks, **sections), tuple(changed), tuple(waiting))


def _merge(name: str, old: Any, new: Any, live: tuple[str, ...], changed: list[str], waiting: list[str]) -> Any:
    taken = {}
    for field in fields(old):
        value = getattr(new, field.name)
        if value == getattr(old, field.name):
            continue
        if field.name in live:
            taken[field.name] = value
            changed.append(f"{name}.{field.name}")
        else:
            waiting.append(f"{name}.{field.name}")
    return replace(old, **taken)
