"""The program behind `make bench`: runs the benchmarks by name, prints a table, writes JSON."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from host_tools.errors import HostError
from tests.bench import alarm, backlog, board, drain, footprint, ingest, lake, machine, offload, receive, tag, uplink
from tests.bench.common import BenchError, Result, Settings

ALL: dict[str, Callable[[Settings], list[Result]]] = {
    "ingest": ingest.run,
    "backlog": backlog.run,
    "drain": drain.run,
    "uplink": uplink.run,
    "receiver": receive.run,
    "lake": lake.run,
    "alarm": alarm.run,
    "offload": lambda settings: offload.run(settings, settings.plot),
    "footprint": footprint.run,
    "board": board.run,
    "tag": tag.run,
}
PEERS = "Peers are not installed by this run; docs/benchmarks.md quotes figures of theirs that were measured elsewhere."


def main() -> int:
    """Run what was asked for. Exit code 1 when a figure could not be taken."""
    options = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="isotherm-bench-"))
    settings = Settings(folder, options.runs, options.rows_million, options.idle_s, options.plot)
    began_s = time.monotonic()
    results: dict[str, list[Result]] = {}
    failed: dict[str, str] = {}
    try:
        facts = machine.describe(folder)
        for name in options.only or ALL:
            settings.say(f"{name} ...")
            try:
                results[name] = ALL[name](settings)
            except (BenchError, HostError, OSError, RuntimeError, AssertionError) as error:
                failed[name] = str(error) or type(error).__name__
                settings.say(f"  not measured: {failed[name]}")
        facts["load_average_at_end"] = [round(load, 2) for load in os.getloadavg()]
        facts["seconds"] = round(time.monotonic() - began_s)
    finally:
        if options.keep:
            settings.say(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    document = {
        "machine": facts,
        "runs": options.runs,
        "rows_million": options.rows_million,
        "results": {name: [one.document() for one in found] for name, found in results.items()},
        "failed": failed,
    }
    if options.json:
        options.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    _print(facts, options.runs, results, failed)
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--json", type=Path, help="write all runs and conditions to this file")
    parser.add_argument("--only", action="append", choices=list(ALL), help="this benchmark only; may be repeated")
    parser.add_argument("--keep", action="store_true", help="leave the folder with stores and logs")
    parser.add_argument("--runs", type=int, default=os.environ.get("BENCH_RUNS", "5"), help="median of so many")
    parser.add_argument(
        "--rows-million",
        type=float,
        default=os.environ.get("BENCH_ROWS_MILLION", "1"),
        help="stored rows of the backlog benchmark; 10 for the figure of the design",
    )
    parser.add_argument("--idle-s", type=float, default=20.0, help="length of the idle spell")
    parser.add_argument("--plot", type=Path, help="offload: draw load and lag over time into this PNG")
    options = parser.parse_args()
    if options.runs < 1 or not 0.001 <= options.rows_million <= 1000 or options.idle_s <= 0:
        parser.error("BENCH_RUNS is at least 1, BENCH_ROWS_MILLION 0.001 to 1000, --idle-s above 0")
    if options.json and not options.json.absolute().parent.is_dir():
        parser.error(f"--json {options.json}: there is no such folder")
    return options


def _number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}"


def _row(one: Result) -> list[str]:
    spread = f"{_number(min(one.values), one.digits)}-{_number(max(one.values), one.digits)}"
    beside = ""
    if one.ratio is not None:
        base = one.median / one.ratio if one.ratio else 0.0
        beside = f"{one.ratio:.2f} of {_number(base, one.digits)}: {one.beside_name}"
    return [
        one.name,
        f"{_number(one.median, one.digits)} {one.unit}",
        spread if len(one.values) > 1 else "one run",
        beside,
        one.aim,
        one.note,
    ]


def _print(facts: dict[str, object], runs: int, results: dict[str, list[Result]], failed: dict[str, str]) -> None:
    """A table in Markdown, which reads well enough in a terminal."""
    print()
    for line in machine.lines(facts):
        print(line)
    print(f"load average after the run: {facts['load_average_at_end']}; the whole run took {facts['seconds']} s")
    print(f"median of {runs}; broker, gateway, client and receiver are processes of this one machine. {PEERS}\n")
    print("| figure | median | least-greatest | beside it, same run | aim (DESIGN section 8) | conditions |")
    print("|---|---|---|---|---|---|")
    for found in results.values():
        for one in found:
            print("| " + " | ".join(_row(one)) + " |")
    for name, reason in failed.items():
        print(f"| {name} | not measured: {reason} | | | | |")


def _run() -> int:
    """`main`, with one sentence for what ends it early."""
    try:
        return main()
    except (HostError, OSError) as error:
        print(f"make bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("make bench: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(_run())
