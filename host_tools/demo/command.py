"""`isotherm demo`: options in, a run, a report and an exit code out."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console

from host_tools.demo.plan import BOARDS_DEFAULT, BOARDS_MAX, Plan, make_plan
from host_tools.demo.reconcile import Outcome
from host_tools.errors import HostError, InputError

EXIT_UNBALANCED = 3


@click.command()
@click.option(
    "--boards", type=int, help=f"How many boards, 1 to {BOARDS_MAX}.  [default: {BOARDS_DEFAULT}, or the traces' own]"
)
@click.option(
    "--trace",
    "traces",
    multiple=True,
    type=click.Path(path_type=Path),
    help="CSV file, or folder of them, that the boards' sensors replay. May be given again.",
)
@click.option(
    "--speed", type=float, help="Board seconds a second.  [default: 3600; traces: all of each in the same time]"
)
@click.option("--duration", "duration_s", type=float, help="Seconds the boards measure.  [default: 45]")
@click.option("--report", type=click.Path(path_type=Path), help="Write the report as JSON to this file.")
@click.option("--no-faults", is_flag=True, help="Leave out the receiver's outage and the gateway's kill.")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the simulated rooms.")
@click.option(
    "--plaintext-for-tests", "plaintext", is_flag=True, help="No TLS on any link. For tests on one machine only."
)
@click.option("--keep", is_flag=True, help="Keep the run's folder: stores, logs, flash images.")
def demo(
    boards: int | None,
    traces: tuple[Path, ...],
    speed: float | None,
    duration_s: float | None,
    report: Path | None,
    no_faults: bool,
    seed: int,
    plaintext: bool,
    keep: bool,
) -> int:
    """Run virtual boards, broker, gateway and receiver together, and reconcile their books.

    Half way the receiver is stopped for a while and the gateway killed (-9); then a threshold model is trained on what
    was collected, signed and pushed. Needs about a minute.

    \b
    Examples:
      isotherm demo
      isotherm demo --boards 50 --report report.json
      isotherm demo --trace office.csv --trace cellar.csv --speed 600

    Exit codes: 0 all books balance, 1 a part failed, 2 bad input, 3 the books do not balance, 130 stopped by Ctrl-C.
    """
    console = Console(emoji=False)
    _check_report(report)
    plan = make_plan(
        boards=boards,
        trace_paths=traces,
        speed=speed,
        duration_s=duration_s,
        faults=not no_faults,
        seed=seed,
        say=lambda text: console.print(text, highlight=False, markup=False),
    )
    from host_tools.demo.scenario import Scenario
    from host_tools.demo.stack import Stack, check_disk
    from host_tools.demo.table import Display, print_outcome

    usual = signal.signal(signal.SIGTERM, _terminated)
    workdir = Path(tempfile.mkdtemp(prefix="isotherm-demo-"))
    worth_keeping = keep
    try:
        check_disk(workdir, len(plan.boards))
        with Stack(plan, workdir, plaintext=plaintext) as stack, Display(console) as display:
            if stack.interpreter.notice:
                display.say(stack.interpreter.notice)
            display.say(_headline(plan))
            display.say(stack.links.notice)
            stack.make_boards()
            stack.start_services()
            worth_keeping = True
            scenario = Scenario(plan, stack, display)
            outcome = scenario.run()
        print_outcome(console, outcome, scenario.notes)
        worth_keeping = keep or not outcome.ok
    except (KeyboardInterrupt, SystemExit):
        worth_keeping = keep
        raise
    finally:
        signal.signal(signal.SIGTERM, usual)
        if worth_keeping:
            console.print(f"stores and logs are kept in {workdir}", highlight=False, markup=False)
        else:
            shutil.rmtree(workdir, ignore_errors=True)
    if report is not None:
        _write_report(report, outcome)
    return 0 if outcome.ok else EXIT_UNBALANCED


def _terminated(number: int, _: object) -> NoReturn:
    """End as Ctrl-C does: in order, leaving nothing."""
    raise SystemExit(128 + number)


def _headline(plan: Plan) -> str:
    slowest, fastest = min(board.speed for board in plan.boards), max(board.speed for board in plan.boards)
    pace = _pace(slowest) if round(slowest) == round(fastest) else f"{_pace(slowest)} to {_pace(fastest)}"
    return (
        f"{len(plan.boards)} boards, each a MicroPython of its own; {pace} of their time pass each second. "
        "Ctrl-C stops everything."
    )


def _pace(speed: float) -> str:
    return f"{speed / 3600:.3g} h" if speed >= 3600 else f"{speed / 60:.3g} min" if speed >= 60 else f"{speed:.3g} s"


def _check_report(report: Path | None) -> None:
    """Refuse a report that could not be written before the run, not after it."""
    if report is None:
        return
    folder = report.absolute().parent
    if not folder.is_dir():
        raise InputError(f"--report: there is no folder {folder}")
    try:
        with report.open("a", encoding="utf-8"):
            pass
    except OSError as error:
        raise InputError(f"--report: {report} cannot be written: {error.strerror}") from None


def _write_report(report: Path, outcome: Outcome) -> None:
    try:
        report.write_text(json.dumps(outcome.report, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    except OSError as error:
        raise HostError(f"--report: {report} cannot be written: {error.strerror}") from None
