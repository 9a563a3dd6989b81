"""Runs of seqs that a batch brought: a few numbers by which the store can be read as a log, for an index of all rows.

Pure. It knows no SQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from host_tools.cloud.wire import Reading

GAP_MAX = 256  # seqs between two rows of one run, which cost a look each when the run is read


def runs(devices: Sequence[int], readings: Iterable[Reading]) -> Iterator[tuple[int, int, int, int]]:
    """(device, boot, first seq, last seq) of a batch's rows; none overlaps another. devices: the store's ids."""
    seqs: dict[tuple[int, int], set[int]] = {}
    for row in readings:
        key = (devices[row.device], row.boot)
        if key not in seqs:
            seqs[key] = set()
        seqs[key].add(row.seq)
    for (device, boot), found in seqs.items():
        ordered = sorted(found)
        first = last = ordered[0]
        for seq in ordered:
            if seq - last > GAP_MAX:
                yield device, boot, first, last
                first = seq
            last = seq
        yield device, boot, first, last
