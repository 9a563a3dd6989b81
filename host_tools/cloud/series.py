"""A page of windows over one channel: what gateways sent, and what the rows give where they sent none.

Bounded in rows: a page ends where so many are folded, and the next goes on there. It knows no SQL and no HTTP.
"""

from __future__ import annotations

from host_tools.cloud.parameters import Problem
from host_tools.cloud.ports import Answers
from host_tools.cloud.resample import HOLD_S, Figures, from_rows, from_windows, merged

FOLD_ROWS_MAX = 100_000  # of one page: more than a day of one reading a second


def windows(
    store: Answers, place: tuple[int, int], length_s: int, span_unix_s: tuple[int, int], limit: int, now_unix_s: int
) -> tuple[list[Figures], int | None]:
    """At most `limit` windows of (device, channel) that begin within [from, to), and where the next page begins.

    Raises Problem when one window alone has more rows than a page may fold.
    """
    first_s, end_s = span_unix_s
    end_s = min(end_s, now_unix_s + 86_400)  # nothing was measured after tomorrow, and nobody folds centuries
    if first_s >= end_s:
        return [], None
    known_s = store.first_unix_ms(*place)
    if known_s is None:
        return [], None
    first_s = max(first_s, known_s // 1000 // length_s * length_s)
    until_s = min(first_s + limit * length_s, end_s)
    records = store.records(*place, ((first_s - HOLD_S) * 1000, _ceil(until_s, length_s) * 1000), FOLD_ROWS_MAX + 1)
    if len(records) > FOLD_ROWS_MAX:
        until_s = records[-1][6] // 1000 // length_s * length_s
        records = [record for record in records if record[6] < until_s * 1000]
        if until_s <= first_s:
            raise Problem(400, f"more than {FOLD_ROWS_MAX} rows in one window; take a finer one", "resolution")
    if records:
        records = store.events_before(*place, records[0][0], records[0][1]) + records
    rows = from_rows(records, length_s, first_s, until_s, now_unix_s)
    sent: dict[int, Figures] = {}
    sent_length_s = store.longest_s(*place, length_s)
    if sent_length_s is not None:
        figures = store.figures(*place, sent_length_s, (first_s, _ceil(until_s, length_s)))
        sent = from_windows(figures, length_s)
    return merged(sent, rows), until_s if until_s < end_s else None


def _ceil(unix_s: int, length_s: int) -> int:
    return -(-unix_s // length_s) * length_s
