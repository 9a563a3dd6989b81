"""What leaves first when room or time runs out: stages of a segment, and the SQL that cuts it down to one.

    0  all rows
    1  reports thinned to min/mean/max/count a window
    2  no samples     3  no reports     4  no windows     5  no events but alarms     then the whole segment leaves

A window of more than four reports of one channel becomes four WINDOW_ records in the places, and under the identities,
of its last four reports; alarms, faults, boots and notices are never thinned. Pure rules: no clock, no file.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

RAW, THINNED, NO_SAMPLES, NO_REPORTS, NO_WINDOWS, ALARMS_ONLY, NOTHING = range(7)
REPORTS = "kind < 3"
# What each stage takes away, in the words of isocore.record's kinds: SAMPLE, DELTA, WINDOW_*, FAULT..BOOT, the rest.
TAKES = {
    NO_SAMPLES: "kind = 1",
    NO_REPORTS: "kind = 2",
    NO_WINDOWS: "kind >= 13",
    ALARMS_ONLY: "kind BETWEEN 9 AND 12",
}
_WHERE = "(PARTITION BY device, boot, channel, uptime_ms / {window_ms}"
_WINDOWS = (
    "CREATE TEMP TABLE windows AS SELECT * FROM (SELECT id, row_number() OVER {where} ORDER BY id DESC) AS place,"
    " count(*) OVER {where}) AS n, min(value) OVER {where}) AS low, CAST(round(avg(value) OVER {where})) AS INTEGER) AS"
    " mean, max(value) OVER {where}) AS high, max(uptime_ms) OVER {where}) AS end_ms"
    f" FROM readings WHERE {REPORTS}) WHERE n > 4"
)


class Keep(NamedTuple):
    """How much is kept and for how long. Bytes count everything of the store; 0 days or bytes: no such bound."""

    segment_rows: int = 50_000
    segment_age_s: float = 86_400.0
    max_bytes: int = 4 << 30
    max_age_s: float = 0.0
    uploaded_age_s: float = 7 * 86_400.0
    thin_window_s: int = 900
    check_every_s: float = 5.0
    reserve_bytes: int = 4 << 20

    @property
    def high_bytes(self) -> int:
        """Past this, room is made."""
        return self.max_bytes * 95 // 100

    @property
    def low_bytes(self) -> int:
        """Down to this."""
        return self.max_bytes * 85 // 100


def cut(connection: sqlite3.Connection, stage: int, window_s: int) -> None:
    """Bring the rows of a segment that is being written to a stage."""
    if stage == THINNED:
        where = _WHERE.format(window_ms=window_s * 1000)
        connection.execute(_WINDOWS.format(where=where))
        connection.execute(
            "UPDATE readings SET kind = 17 - w.place, trend = 0, uptime_ms = w.end_ms,"
            " value = CASE w.place WHEN 4 THEN w.low WHEN 3 THEN w.mean WHEN 2 THEN w.high ELSE w.n END"
            " FROM windows w WHERE w.id = readings.id AND w.place <= 4"
        )
        connection.execute("DELETE FROM readings WHERE id IN (SELECT id FROM windows WHERE place > 4)")
        connection.execute("DROP TABLE windows")
    else:
        connection.execute(f"DELETE FROM readings WHERE {TAKES[stage]}")
