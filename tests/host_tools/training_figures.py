"""The tables of docs/training.md: `python tests/host_tools/training_figures.py TRACES [settings|faults]`.

Without `settings`, the training table on the recordings in TRACES (nab, occupancy, suthaharan): what boards send and
alarm under the defaults and under the trained model. With it, every setting of the limits that was tried: false alarms
in ordinary years, which are what a setting is chosen by, and the scores on nab, which are not. With `faults`, how far
injected sensor faults move the limits.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "firmware")]

from host_tools import convert, fitting, labels, ordinary, scoring, screening, walkforward  # noqa: E402
from host_tools.errors import TrainingRefused  # noqa: E402
from host_tools.fitting import USUAL, Rules  # noqa: E402
from host_tools.history import History, Params, from_traces  # noqa: E402
from host_tools.traces import load_traces  # noqa: E402
from host_tools.train import train_one  # noqa: E402
from isocore.model import ChannelParams  # noqa: E402
from tests.support import failures  # noqa: E402

SEEDS = (1, 2)
QUARTER = replace(USUAL, debounce_s=900)
SETTINGS = (
    *(replace(QUARTER, margin_share=share) for share in (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.5, 0.75, 1.0)),
    *(replace(QUARTER, margin_share=share, history_days=14) for share in (0.2, 0.25, 0.35, 0.5)),
    *(replace(QUARTER, margin_share=share, history_days=60) for share in (0.2, 0.25, 0.35, 0.5)),
    *(replace(QUARTER, margin_share=share, debounce_s=60) for share in (0.2, 0.25, 0.35, 0.5, 0.75, 1.0)),
    *(replace(QUARTER, margin_share=share, extreme_share=0.75) for share in (0.2, 0.25)),
    *(replace(QUARTER, rate_margin_share=share) for share in (0.5, 2.0)),
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
        cells = [f"{rules.history_days:g}", f"{rules.margin_share:g}", f"{(rules.debounce_s or 0) // 60} min"]
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


FAULT_SEEDS = range(5)


def faults(folders: Sequence[Path], out: Path) -> None:
    """How far injected sensor faults move limits, by recording and by simulated weeks: the furthest of five seeds, in
    units of the channel: against the clean history / against it without the hours that the faults took."""
    print("| board, channel | " + " | ".join(failures.FAULTS) + " |")
    print("|" + "---|" * (1 + len(failures.FAULTS)))
    recorded = [
        history
        for converted in convert.convert(folders, out)
        for history in from_traces(load_traces([converted.path], lambda _: None).values())
    ]
    for history in (*recorded, *(ordinary.year(kind, 50, 28) for kind in ordinary.KINDS)):
        clean = _fitted(history)
        cells = []
        for kind in failures.FAULTS:
            worst = [0, 0]
            refused = 0
            for seed in FAULT_SEEDS:
                faulty, put = failures.with_faults(history, kind, seed)
                try:
                    trained = _fitted(faulty)
                except TrainingRefused:
                    refused += 1
                    continue
                for n, other in enumerate((clean, _fitted(failures.without(history, put)))):
                    worst[n] = max(worst[n], _apart(trained, other))
            cells.append(f"{worst[0] / 1000:g} / {worst[1] / 1000:g}" + (f", {refused} refused" if refused else ""))
        unit = "%RH" if history.channel == "humidity" else "°C"
        print(f"| {history.device}, {history.channel}, {unit} | " + " | ".join(cells) + " |", flush=True)


def _fitted(history: History) -> Params:
    screened = screening.screen(history.recent(fitting.USUAL.history_days))
    fitting.check_enough(history.device, [screened], fitting.USUAL)
    return fitting.fit([screened.history], ChannelParams(), fitting.USUAL)


def _apart(one: Params, other: Params) -> int:
    pairs = ((getattr(one, name), getattr(other, name)) for name in ("high_on_milli", "low_on_milli"))
    return max(abs(a - b) for a, b in pairs if a is not None and b is not None)


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
        show = faults if "faults" in arguments[1:] else table
        show([folder / name for name in ("nab", "occupancy", "suthaharan")], Path(out))


if __name__ == "__main__":
    main(sys.argv[1:])
