"""Training on a schedule: proposals that nobody runs before they are signed, and a cold start from the class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from host_tools import cli, ordinary
from host_tools.errors import InputError, ModelFileError, TrainingRefused
from host_tools.fitting import steepest_by_day
from host_tools.history import History
from host_tools.proposals import Proposals, propose
from host_tools.train import TrainedModel, train_one
from isocore import model as iso_model
from isocore.model import Model


def fridge(seed: int, days: int = 2) -> History:
    return replace(ordinary.year("fridge", seed, days), device=f"fridge-{seed}")


def one_round(folder: Path, histories: list[History], target: str = "*", sequence: int = 1) -> tuple[int, list[str]]:
    said: list[str] = []

    def fit(target: str, number: int, before: Model | None) -> TrainedModel:
        return train_one(histories, "home", target, number, current=before)

    laid = propose(Proposals(folder), [target], sequence, None, fit, lambda trained: ["the report"], said.append)
    return len(laid), said


def test_a_proposal_is_a_payload_with_its_report_and_only_what_differs_is_proposed(tmp_path: Path) -> None:
    folder = tmp_path / "proposals"
    assert one_round(folder, [fridge(1)], sequence=7)[0] == 1
    assert sorted(path.name for path in folder.iterdir()) == ["all-7.json", "all-7.txt"]
    assert iso_model.parse((folder / "all-7.json").read_bytes()).sequence == 7
    text = (folder / "all-7.txt").read_text()
    assert "not signed and not pushed" in text
    assert "high alarm at or above" in text
    assert "the report" in text
    laid, said = one_round(folder, [fridge(1)], sequence=7)
    assert laid == 0
    assert "nothing new; sequence 7 stands" in said[0]
    assert one_round(folder, [replace(ordinary.year("freezer", 1, 2), device="a")], sequence=7)[0] == 1
    assert (folder / "all-8.json").exists()
    assert "sequence: 7 -> 8" in (folder / "all-8.txt").read_text()


def test_a_refusal_is_said_and_the_other_targets_go_on(tmp_path: Path) -> None:
    laid, said = one_round(tmp_path, [fridge(1)], target="class:oven")
    assert laid == 0
    assert "class:oven: no proposal: class:oven: no readings of it" in said[0]
    assert not list(tmp_path.iterdir())


def test_a_damaged_proposal_is_named(tmp_path: Path) -> None:
    (tmp_path / "all-3.json").write_text("{")
    with pytest.raises(ModelFileError, match=r"all-3\.json.*remove it"):
        one_round(tmp_path, [fridge(1)])


def test_a_new_board_starts_with_what_its_class_knows() -> None:
    young = fridge(9)
    young = replace(young, runs=[young.runs[0].since(young.runs[0].t_ms[-1] - 3_600_000)])
    trained = train_one([fridge(1), fridge(2), young], "home", "device:fridge-9", 1)
    assert trained.channels[0].borrowed
    assert trained.channels[0].devices == 3
    of_class = train_one([fridge(1), fridge(2), young], "home", "class:fridge", 1)
    assert trained.model.channels["temperature"].as_dict() == of_class.model.channels["temperature"].as_dict()
    assert not of_class.channels[0].borrowed
    with pytest.raises(TrainingRefused, match=r"only 1\.0 h"):
        train_one([young], "home", "device:fridge-9", 1)
    young.runs[0].fault[3] = 1
    with pytest.raises(TrainingRefused, match=r"only 1\.0 h"):  # a failing sensor borrows nothing
        train_one([fridge(1), young], "home", "device:fridge-9", 1)


def test_a_week_of_history_fits_a_rate_limit_above_every_ordinary_change() -> None:
    calm = ordinary.year("server-room", 3, 9)
    trained = train_one([calm], "home", "*", 1)
    rate = trained.model.channels["temperature"].rate_limit_milli_min
    assert rate >= 2 * max(steepest_by_day(calm.runs).values()) > 0
    assert trained.predicted_after.alarms == 0
    assert train_one([fridge(3, 5)], "home", "*", 1).model.channels["temperature"].rate_limit_milli_min == 0


def test_the_last_weeks_count_and_not_what_was_before_them() -> None:
    history = ordinary.year("server-room", 1, 40)
    run = history.runs[0]
    for i in range(10 * 288):
        run.value[i] += 15_000  # another place, long ago
    limits = train_one([history], "home", "*", 1).model.channels["temperature"]
    fresh = train_one([ordinary.year("server-room", 1, 40).recent(28)], "home", "*", 1).model.channels["temperature"]
    assert (limits.high_on_milli, limits.low_on_milli) == (fresh.high_on_milli, fresh.low_on_milli)


def test_the_command_lays_down_a_proposal_and_stops_after_its_rounds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fridge(1).runs[0]
    rows = (f"{t / 1000},a,{v / 1000}" for t, v in zip(run.t_ms, run.value, strict=True))
    (tmp_path / "t.csv").write_text("t_s,board,temperature_c\n" + "\n".join(rows) + "\n")
    common = ["model", "train", "--trace", f"{tmp_path}/t.csv", "--fleet", "home", "--target", "*", "--sequence", "2"]
    out = tmp_path / "proposals"
    assert cli.run([*common, "--every", "day", "--rounds", "1", "--out", str(out)]) == 0
    assert (out / "all-2.json").exists()
    assert "proposed" in capsys.readouterr().out
    assert cli.run([*common, "--rounds", "1", "--out", str(out)]) == 2
    assert "--rounds goes with --every" in capsys.readouterr().err
    assert cli.run([*common, "--every", "day", "--out", f"{tmp_path}/t.csv"]) == 2
    assert cli.run([*common, "--lake", str(tmp_path), "--out", str(out)]) == 2
    assert "give one of --store, --trace and --lake" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        one_round(tmp_path / "file" / "deeper", [fridge(1)])
