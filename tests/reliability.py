"""`python -m tests.reliability FAULTS.jsonl`: puts the counts of a run of the fault tests into docs/reliability.md.

ISOTHERM_FAULTS=FAULTS.jsonl make test ARGS="tests/gateway" makes the file. It refuses a run that left a fault out.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from tests.support.traffic import FAULTS, Counts

DOC = Path(__file__).resolve().parents[1] / "docs" / "reliability.md"
BEGIN = "<!-- counts: python -m tests.reliability -->\n"
END = "<!-- end of counts -->\n"
_COLUMNS = ("fault", "how injected", "boards' count", "store's count", "cloud's count", "lost", "doubled")
_HEAD = f"| {' | '.join(_COLUMNS)} |\n" + "|---" * 7 + "|\n"


def rows(page: str) -> list[Counts]:
    """The table in a page."""
    body = page.partition(BEGIN)[2].partition(END)[0]
    lines = [line.strip("| \n").split(" | ") for line in body.splitlines() if line.startswith("| ")][1:]
    return [Counts(cells[0], cells[1], *(int(cell.replace(",", "")) for cell in cells[2:])) for cells in lines]


def table(counts: list[Counts], day: str) -> str:
    """The table of a run, in the order of FAULTS."""
    ordered = sorted(counts, key=lambda c: FAULTS.index(c.fault))
    lines = [f"| {c.fault} | {c.how} | " + " | ".join(f"{n:,}" for n in c[2:]) + " |\n" for c in ordered]
    return f"Run of {day}:\n\n{_HEAD}{''.join(lines)}"


def main() -> int:
    """Replace the table."""
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    counts = [Counts(**json.loads(line)) for line in text.splitlines()]
    missing = [fault for fault in FAULTS if fault not in {c.fault for c in counts}]
    if missing:
        print(f"reliability: this run has no {', '.join(missing)}", file=sys.stderr)
        return 1
    page = DOC.read_text(encoding="utf-8")
    head, _, rest = page.partition(BEGIN)
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    DOC.write_text(head + BEGIN + table(counts, day) + END + rest.partition(END)[2], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
