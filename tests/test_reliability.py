"""docs/reliability.md tells of a run that had every fault, and lost and doubled nothing."""

from __future__ import annotations

from tests.reliability import DOC, rows, table
from tests.support.traffic import FAULTS, Counts


def test_the_table_has_every_fault_and_reconciles() -> None:
    found = rows(DOC.read_text(encoding="utf-8"))
    assert {c.fault for c in found} == set(FAULTS)
    for counts in found:
        assert counts.boards == counts.store == counts.cloud > 0, counts
        assert (counts.lost, counts.doubled) == (0, 0), counts


def test_a_table_reads_back() -> None:
    from tests.reliability import BEGIN, END

    counts = [Counts(fault, "so", 1_234, 5, 6, 7, 8) for fault in FAULTS]
    assert rows(BEGIN + table(counts, "2026-01-01") + END) == counts
