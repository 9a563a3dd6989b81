"""What the run looks like while it runs, and the page it leaves behind.

Draws a RunView; measures nothing itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from host_tools.demo.reconcile import Outcome

ROWS_SHOWN = 16


@dataclass
class BoardView:
    """One line of the live table."""

    name: str
    device_class: str
    counters: Mapping[str, int] = field(default_factory=dict)
    per_day_before: float | None = None
    per_day_now: float | None = None


@dataclass
class RunView:
    """The state of a run at one moment."""

    phase: str
    done: float
    boards: list[BoardView]
    gateway_up: bool
    receiver_up: bool
    stored: int = 0
    backlog: int = 0
    cloud_rows: int = 0
    uploads: int = 0


def _light(up: bool) -> Text:
    return Text("● up", style="green") if up else Text("● down", style="bold red")


def _model(sequence: int) -> str:
    return f"#{sequence}" if sequence else "built-in"


def draw(view: RunView) -> RenderableType:
    """The live table of a run."""
    table = Table(expand=True, pad_edge=False)
    for title, justify in (
        ("board", "left"),
        ("class", "left"),
        ("samples", "right"),
        ("sent", "right"),
        ("held back", "right"),
        ("reports a sensor-day", "right"),
        ("waiting", "right"),
        ("alarms", "right"),
        ("faults", "right"),
        ("model", "left"),
    ):
        table.add_column(title, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for board in view.boards[:ROWS_SHOWN]:
        table.add_row(*_row(board))
    if len(view.boards) > ROWS_SHOWN:
        rest = view.boards[ROWS_SHOWN:]
        total: dict[str, int] = {}
        for board in rest:
            for key, value in board.counters.items():
                total[key] = total.get(key, 0) + value
        total["model_sequence"] = 0
        row = _row(BoardView(f"{len(rest)} more", "", total))
        row[-1] = ""
        table.add_row(*row, style="dim")
    path = Text.assemble(
        "gateway ",
        _light(view.gateway_up),
        f"  stored {view.stored:,}  backlog {view.backlog:,}     receiver ",
        _light(view.receiver_up),
        f"  uploads {view.uploads:,}  rows {view.cloud_rows:,}",
    )
    bar = ProgressBar(total=1.0, completed=min(1.0, view.done), width=40)
    return Group(Panel(Text(view.phase, style="bold"), expand=True), table, path, bar)


def _row(board: BoardView) -> list[str]:
    counters = board.counters
    sampled = counters.get("sampled", 0)
    held_back = f"{100 * counters.get('suppressed', 0) / sampled:.1f} %" if sampled else "-"
    rate = "-" if board.per_day_now is None else f"{board.per_day_now:,.0f}"
    if board.per_day_before is not None and board.per_day_now is not None:
        rate = f"{board.per_day_before:,.0f} → {rate}"
    return [
        board.name,
        board.device_class,
        f"{sampled:,}",
        f"{counters.get('sent', 0):,}",
        held_back,
        rate,
        f"{counters.get('outbox', 0):,}",
        f"{counters.get('alarms', 0):,}",
        f"{counters.get('faults', 0):,}",
        _model(counters.get("model_sequence", 0)),
    ]


class Display:
    """Shows a run on a terminal as a live table, elsewhere as one line per change of phase."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._phase = ""

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        """One line that stays on the screen."""
        self._console.print(text, highlight=False, markup=False)

    def show(self, view: RunView) -> None:
        """Draw the state."""
        if self._live:
            self._live.update(draw(view))
        elif view.phase != self._phase:
            sampled = sum(board.counters.get("sampled", 0) for board in view.boards)
            self.say(
                f"[{view.done:4.0%}] {view.phase}: {sampled:,} samples, {view.stored:,} records stored, "
                f"backlog {view.backlog:,}, {view.cloud_rows:,} rows at the cloud"
            )
        self._phase = view.phase


def print_outcome(console: Console, outcome: Outcome, notes: list[str]) -> None:
    """The report that a newcomer reads at the end."""
    report = outcome.report
    console.print()
    console.rule("What happened")
    for line in summary_lines(report) + notes:
        console.print(f"  {line}", highlight=False, markup=False)
    console.print()
    table = Table(title="The books, counted independently at boards, gateway and cloud", title_justify="left")
    table.add_column("must hold")
    table.add_column("left", justify="right")
    table.add_column("right", justify="right")
    table.add_column("")
    shown = [check for check in outcome.checks if ": " not in check.name or not check.ok]
    for check in shown:
        mark = Text("✓", style="green") if check.ok else Text("✗", style="bold red")
        table.add_row(check.name, f"{check.left:,}", f"{check.right:,}", mark)
    passed = sum(check.ok for check in outcome.checks)
    table.caption = f"{passed} of {len(outcome.checks)} checks hold, board by board and in total"
    console.print(table)
    if outcome.ok:
        console.print("[bold green]Nothing lost, nothing doubled.[/]")
    else:
        console.print("[bold red]The books do not balance: see the rows marked ✗.[/]")


def summary_lines(report: Mapping[str, Any]) -> list[str]:
    """The run in sentences."""
    count = len(report["per_board"])
    boards = f"{count} board{'s' if count != 1 else ''}"
    sampled, sent = report["sampled"], report["sent"]
    lines = [
        f"{boards} took {sampled:,} samples and sent {sent:,} of them "
        f"({100 * sent / sampled:.1f} %); the rest lay within the error bound."
        if sampled
        else f"{boards} took no sample.",
        f"{report['events_sent']:,} events besides: {report['alarms']:,} alarms raised, "
        f"{report['faults']:,} sensor faults seen.",
        f"The gateway stored {report['stored']:,} reports; the cloud holds {report['cloud_rows']:,}; "
        f"{report['lost']:,} lost, {report['duplicates']:,} doubled.",
        f"The signal rebuilt at the cloud is never off by more than {report['max_error_mc'] / 1000:.2f} °C "
        f"(allowed: {report['error_bound_mc'] / 1000:.2f} °C).",
    ]
    if report["tagged"]:
        lines.append(f"Tags verified at the cloud: {report['verified']:,} of {report['tagged']:,} rows.")
    if report["bytes_if_all_sent"]:
        lines.append(
            f"{report['bytes_uplink']:,} bytes went up; sending every sample would have taken "
            f"{report['bytes_if_all_sent']:,}."
        )
    latency = report["alarm_latency_ms"]
    if latency["p50"] is not None:
        lines.append(f"An alarm took {latency['p50']:.0f} ms from board to cloud (p50; p99 {latency['p99']:.0f} ms).")
    return lines
