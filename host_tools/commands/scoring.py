"""`isotherm model score`: what daily trained limits would have found of labelled failures."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click

from host_tools.errors import InputError

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("paths", metavar="TRACE...", nargs=-1, required=True, type=_PATH)
@click.option(
    "--windows", type=click.Path(path_type=Path, dir_okay=False), help="JSON of [start, end] by board; else labels."
)
@click.option("--history-days", type=click.FloatRange(7, 366), help="Days that limits are learnt from, each day anew.")
@click.option("--margin", type=click.FloatRange(0, 10), help="Margin of the limits, as a share of the ordinary span.")
@click.option("--rate-margin", type=click.FloatRange(0, 100), help="Margin of the rate limit, as a share.")
@click.option("--debounce-s", type=click.IntRange(1, 86_400), help="Limit alarms begin after so long past a limit.")
def score(
    paths: tuple[Path, ...],
    windows: Path | None,
    history_days: float | None,
    margin: float | None,
    rate_margin: float | None,
    debounce_s: int | None,
) -> None:
    """Train each day on the days before, run the boards' filter, and score its alarms by the rules of the Numenta
    Anomaly Benchmark (standard profile; 0: silence, 100: perfection).

    \b
    Examples:
      isotherm model score recordings/ambient_temperature_system_failure.csv --windows recordings/windows.json
      isotherm model score traces/nab.csv
    """
    from host_tools import labels, scoring, walkforward
    from host_tools.fitting import USUAL, debounced
    from host_tools.history import from_traces
    from host_tools.verdicts import far_milli, verdict

    rules = replace(
        debounced(debounce_s),
        history_days=USUAL.history_days if history_days is None else history_days,
        margin_share=USUAL.margin_share if margin is None else margin,
        rate_margin_share=USUAL.rate_margin_share if rate_margin is None else rate_margin,
    )
    scores = []
    for one in (one for path in paths for one in labels.load(path, windows)):
        trace = one.trace
        days = trace.duration_ms / 86_400_000
        if days <= walkforward.DAYS_MIN:
            raise InputError(
                f"{trace.name}: {days:.1f} days; the first {walkforward.DAYS_MIN} only teach: there is nothing to score"
            )
        history = from_traces([trace])[0]
        alarms = list(walkforward.walk(history, rules))
        result = scoring.score(one.t_s, one.windows, [alarm.row for alarm in alarms])
        scores.append(result)
        far = far_milli(history, history.runs)
        by_row = {alarm.row: alarm for alarm in alarms}
        points = f"score {result.points:.1f}" if result.windows else "no window, so no score"
        click.echo(
            f"{trace.board}: {points}, {result.found} of {result.windows} found, {result.false} false alarms in "
            f"{result.years:.2f} years ({result.false_a_year:.1f} a year)"
        )
        for detection in result.detections:
            alarm = by_row[detection.row]
            was = verdict(history.runs[0], alarm.row, alarm.kind, alarm.limit_milli, far)
            click.echo(
                f"  {_when(one.t_s[detection.row])}: {detection.verdict}, {detection.score:+.3f}: {alarm.kind} "
                f"{alarm.value_milli / 1000:g} past {alarm.limit_milli / 1000:g}, {was}"
            )
    if len(scores) > 1:
        click.echo(f"together: {scoring.together(scores):.1f}")


def _when(t_s: float) -> str:
    """A date where the clock is one, else days from the start."""
    if t_s > 1e8:
        return datetime.fromtimestamp(t_s, UTC).strftime("%Y-%m-%d %H:%M")
    return f"day {t_s / 86400:.2f}"
