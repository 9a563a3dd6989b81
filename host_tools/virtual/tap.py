"""Read the samples file that a virtual board writes past its firmware (`machine.tap` in sim/machine.py)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROW = struct.Struct("<BBHIIIiq")  # the same form as in sim/machine.py; 28 bytes
KIND_OBSERVED = 0
_ROWS_AT_ONCE = 4096


class TapRow(NamedTuple):
    """kind 0: a sample the firmware accepted; above: the record kind it made of it. t_s + t_ms: uptime."""

    kind: int
    channel: int
    t_ms: int
    boot: int
    seq: int
    t_s: int
    value: int
    real_unix_us: int


def read_tap(path: Path) -> Iterator[TapRow]:
    """All complete rows; a torn last one (the board lost its power) is left out."""
    with path.open("rb") as file:
        while chunk := file.read(ROW.size * _ROWS_AT_ONCE):
            whole = len(chunk) - len(chunk) % ROW.size
            for fields in ROW.iter_unpack(chunk[:whole]):
                yield TapRow._make(fields)
