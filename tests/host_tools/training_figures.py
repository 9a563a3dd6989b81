"""The tables of docs/training.md: `python tests/host_tools/training_figures.py TRACES [settings]`.

Without `settings`, the training table on the recordings in TRACES (nab, occupancy, suthaharan): what boards send and
alarm under the defaults and under the trained model. With it, every setting of the limits that was tried: false alarms
in ordinary years, which are what a setting is chosen by, and the scores on nab, which are not.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "firmware")]

from host_tools import convert, labels, ordinary, scoring, walkforward  # noqa: E402
from host_tools.errors import TrainingRefused  # noqa: E402
from host_tools.fitting import Rules  # noqa: E402
from host_tools.history import History, from_traces  # noqa: E402
from host_tools.traces import load_traces  # noqa: E402
from host_tools.train import train_one  # noqa: E402

SEEDS = (1, 2)
SETTINGS = (
    *(Rules(margin_share=share) for share in (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.5, 0.75, 1.0)),
    *(Rules(margin_share=share, history_days=14) for share in (0.2, 0.25, 0.35, 0.5)),
    *(Rules(margin_share=share, history_days=60) for share in (0.2, 0.25, 0.35, 0.5)),
    *(Rules(margin_share=share, debounce_s=60) for share in (0.2, 0.25, 0.35, 0.5, 0.75, 1.0)),
    *(Rules(margin_share=share, extreme_share=0.75) for share in (0.2, 0.25)),
    *(Rules(rate_margin_share=share) for share in (0.5, 2.0)),
)


def settings(nab: Path) -> None:
    """False alarms a year by kind of ordinary year, and nab's score, for each setting."""
    (one,) = labels.load(nab / "ambient_temperature_system_failure.csv", nab / "windows.json")
    recorded = from_traces([one.trace])[0]
    years = {kind: [ordinary.year(kind, seed) for seed in SEEDS] for kind in ordinary.KINDS}
    print("| days | margin | debounce | extremes | rate | " + " | ".join(years) + " | mean | nab | false a year |")
    print("|" + "---|" * (8 + len(years)))
    for rules in SETTINGS:
        counts = [sum(_alarms(one, rules) for one in kind) / len(SEEDS) for kind in years.values()]
        found = [alarm.row for alarm in walkforward.walk(recorded, rules)]
        result = scoring.score(one.t_s, one.windows, found)
        cells = [f"{rules.history_days:g}", f"{rules.margin_share:g}", f"{rules.debounce_s // 60} min"]
        cells += [f"{rules.extreme_share:g}", f"{rules.rate_margin_share:g}"]
        cells += [f"{count:g}" for count in counts]
        cells += [f"{sum(counts) / len(counts):.1f}", f"{result.points:.1f}", f"{result.false_a_year:.1f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


def _alarms(history: History, rules: Rules) -> int:
    return sum(1 for _ in walkforward.walk(history, rules))


def table(folders: Sequence[Path], out: Path) -> None:
    """The training table: each recording's board and channel, trained on all of it."""
    print("| board, channel | days | messages a day, before -> after | of samples | alarms | largest error | limits |")
    print("|---|---|---|---|---|---|---|")
    for converted in convert.convert(folders, out):
        for trace in load_traces([converted.path], lambda _: None).values():
            for history in from_traces([trace]):
                print(_row(history), flush=True)


def _row(history: History) -> str:
    unit = "%RH" if history.channel == "humidity" else "°C"
    name = f"{history.device}, {history.channel}"
    try:
        trained = train_one([history], "home", f"device:{history.device}", 1)
    except TrainingRefused as error:
        return f"| {name} | {history.days:.1f} | refused: {str(error).split(': ')[-1]} | | | | |"
    (channel,) = trained.channels
    params = trained.model.channels[history.channel]
    low, high = (
        "none" if limit is None else f"{limit / 1000:g}" for limit in (params.low_on_milli, params.high_on_milli)
    )
    before, after = channel.before, channel.after
    cells = [
        name,
        f"{history.days:.1f}",
        f"{before.messages_per_day:.1f} -> {after.messages_per_day:.1f}",
        f"{100 * after.messages / after.samples:.2f} %",
        f"{before.alarms} -> {after.alarms}",
        f"{after.max_error_milli / 1000:g} {unit}",
        f"{low} to {high} {unit}",
    ]
    return "| " + " | ".join(cells) + " |"


def main(arguments: Sequence[str]) -> None:
    """See the file's docstring."""
    if not arguments:
        raise SystemExit(__doc__)
    folder = Path(arguments[0])
    if "settings" in arguments[1:]:
        settings(folder / "nab")
        return
    import tempfile

    with tempfile.TemporaryDirectory() as out:
        table([folder / name for name in ("nab", "occupancy", "suthaharan")], Path(out))


if __name__ == "__main__":
    main(sys.argv[1:])
