"""The commented example configuration, made from the tables in config.py: `python -m gateway.example` prints it.

Pure text. gateway/system/gateway.toml is its output, which a test checks.
"""

from __future__ import annotations

import textwrap
from dataclasses import fields
from typing import Any

from gateway.config import SECTIONS, SinkConfig

_HEAD = """\
# The gateway's configuration. Every key stands here with its default, behind a `#`; remove the `#` to change it.
# `isotherm-gateway check-config` tells what is wrong, by file and key. `systemctl reload isotherm-gateway` takes up
# what can change at once and says what waits for a restart. docs/gateway.md tells more.
"""
_SINK = """\
# Where batches go: one table a destination, each with cursors and a ledger of its own. Without any, readings are
# stored and acknowledged, and nothing is uploaded. A minimal one:
#
#     [sinks.cloud]
#     url = "https://cloud.example"
#     token_file = "token"          # beside this file; its owner root, its group isotherm, its mode 0640
#
# All keys of a sink:
"""


def example() -> str:
    """A valid configuration file in which nothing is set."""
    parts = [_HEAD]
    for name, kind in SECTIONS.items():
        parts.append(f"\n[{name}]\n{_keys(kind)}")
    parts.append(f"\n{_SINK}# [sinks.NAME]\n{_keys(SinkConfig)}")
    return "".join(parts)


def _keys(kind: type[Any]) -> str:
    lines = []
    for key in fields(kind):
        meta = key.metadata
        text = meta["help"] + (f"; {meta['low']} to {meta['high']}" if meta["low"] is not None else "")
        lines += textwrap.wrap(text, 110, initial_indent="# ", subsequent_indent="# ")
        lines.append(f"#{key.name} = {_toml(key.default)}")
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else str(value)


if __name__ == "__main__":
    print(example(), end="")
