"""The trainer: deterministic, robust, honest about what it refuses, and never a model a board would refuse."""

from __future__ import annotations

from array import array
from dataclasses import replace

import pytest

from host_tools.errors import InputError, TrainingRefused
from host_tools.fitting import Rules
from host_tools.history import History, Run, replay
from host_tools.rooms import DAY_S, SimulatedBoard
from host_tools.train import ERRORS_MILLI, WAYS, Goal, TrainedModel, train, train_one
from isocore import model as iso_model

DS18B20 = (-55000, 125000)


def simulated(kind: str = "fridge", seed: int = 1, door_open_h: float = 0, name: str = "", days: float = 1) -> History:
    opened = DAY_S / 2 if door_open_h else None
    board = SimulatedBoard(
        name or f"{kind}-{seed}",
        kind,
        seed,
        days * DAY_S,
        door_left_open_at_s=opened,
        door_left_open_s=door_open_h * 3600,
    )
    run = Run()
    for row in board.rows():
        run.add(row.t_ms, 0 if row.fault else board.sensing.quantise_temp(row.temp_milli), 1 if row.fault else 0)
    return History(board.board, kind, "temperature", [run], 60_000, True, DS18B20)


def flat(values: list[int], period_ms: int = 60_000, faults: int = 0) -> History:
    run = Run(
        array("q", [i * period_ms for i in range(len(values))]), array("i", values), array("b", bytes(len(values)))
    )
    for i in range(faults):
        run.fault[i] = 1
    return History("a", None, "temperature", [run], period_ms, True, DS18B20)


def only(trained: TrainedModel) -> iso_model.ChannelParams:
    return trained.model.channels["temperature"]


def test_the_same_history_gives_the_same_bytes() -> None:
    group = [simulated(seed=1), simulated(seed=2), simulated("room")]
    first, again = (train(group, "home", ["class:fridge"], 3)[0] for _ in range(2))
    assert first.payload == again.payload == train(group[::-1], "home", ["class:fridge"], 3)[0].payload
    assert iso_model.parse(first.payload).sequence == 3
    assert first.channels[0].devices == 2


def test_the_prediction_is_the_replay() -> None:
    group = [simulated(seed=1, door_open_h=2), simulated(seed=2)]
    trained = train_one(group, "home", "class:fridge", 1)
    parsed = iso_model.parse(trained.payload).params("temperature")
    after = [replay(history, parsed) for history in group]
    assert trained.predicted_after.messages == sum(p.messages for p in after)
    assert trained.predicted_after.max_error_milli == max(p.max_error_milli for p in after) <= 500
    assert trained.predicted_before == sum(
        (replay(history, iso_model.ChannelParams()) for history in group[1:]),
        replay(group[0], iso_model.ChannelParams()),
    )
    assert trained.predicted_after.messages_per_day < trained.predicted_before.messages_per_day


@pytest.mark.parametrize("kind", ["room", "fridge", "freezer"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_ordinary_days_make_no_alarm(kind: str, seed: int) -> None:
    trained = train_one([simulated(kind, seed, days=2)], "home", f"class:{kind}", 1)
    assert trained.predicted_after.alarms == 0
    assert replay(simulated(kind, seed, days=4), only(trained)).alarms <= 1  # a window wide open for long is one


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_failure_in_the_history_does_not_teach_itself(seed: int) -> None:
    history = simulated(seed=seed, door_open_h=3)
    trained = train_one([history], "home", "class:fridge", 1)
    assert trained.predicted_after.alarms == 1
    assert only(trained).high_on_milli < max(history.values()) - 2000


def test_limits_stand_in_order_and_within_the_sensor() -> None:
    params = only(train_one([simulated()], "home", "*", 1))
    assert (
        params.valid_min_milli < params.low_on_milli < params.low_off_milli < params.high_off_milli
        < params.high_on_milli < params.valid_max_milli
    )  # fmt: skip
    assert 5 <= params.debounce_samples <= 60
    assert params.stuck_s >= 86_400
    assert only(train_one([flat([0, 500] * 30000, 1000)], "home", "*", 1)).debounce_samples == 60


def test_a_limit_the_sensor_cannot_reach_is_left_out() -> None:
    values = [95_000 + 100 * (i % 40) for i in range(1000)]
    history = replace(flat(values), channel="humidity", valid_milli=(0, 100_000))
    params = train_one([history], "home", "*", 1).model.channels["humidity"]
    assert params.high_on_milli is None
    assert params.low_on_milli is not None


def test_what_training_has_no_say_in_stays() -> None:
    current = iso_model.from_dict(
        {"v": 1, "fleet": "home", "target": "*", "sequence": 1,
         "channels": {"temperature": {"heartbeat_s": 3600, "rate_limit_milli_min": 9000, "error_milli": 200,
                                      "min_interval_s": 60, "window_s": 900}}}
    )  # fmt: skip
    trained = train_one([simulated()], "home", "*", 2, current=current)
    assert (only(trained).heartbeat_s, only(trained).rate_limit_milli_min) == (3600, 9000)  # a day tells no rate
    assert (only(trained).min_interval_s, only(trained).window_s) == (60, 900)
    assert trained.predicted_before.max_error_milli <= 200


@pytest.mark.parametrize("kind", ["room", "fridge", "freezer"])
@pytest.mark.parametrize("error_milli", [100, 500])
def test_the_way_of_reporting_sends_no_more_than_send_on_delta(kind: str, error_milli: int) -> None:
    group = [simulated(kind, 7), simulated(kind, 8)]
    goals = {"": Goal(error_milli=error_milli)}
    (result,) = (at_once := train_one(group, "home", "*", 1, goals)).channels
    plain = iso_model.ChannelParams()
    plain.error_milli = error_milli
    sent = sum(replay(history, plain).messages for history in group)
    assert result.plain.messages == sent
    assert result.after.messages == sent if result.reporting == WAYS[0] else result.after.messages < sent
    assert result.after.max_error_milli <= error_milli
    waits = train_one(group, "home", "*", 1, goals, delay_s=300).channels[0]
    assert waits.after.messages <= result.after.messages
    assert waits.after.max_error_milli <= error_milli
    assert waits.after.alarms == result.after.alarms
    assert only(at_once).delay_s == 0


def test_a_sawtooth_is_reported_by_its_trend_and_noise_is_not() -> None:
    saw = [20_000 + 25 * (i % 120 if i % 240 < 120 else 120 - i % 120) for i in range(3000)]
    goals = {"": Goal(error_milli=100)}
    trained = train_one([flat(saw)], "home", "*", 1, goals)
    assert trained.channels[0].reporting.predictor == only(trained).predictor == iso_model.PREDICTOR_TREND
    assert 3 * trained.predicted_after.messages < trained.channels[0].plain.messages
    # Up and down by three bounds at each sample: every sample is to be reported, however it is done.
    noise = train_one([flat([20_000, 20_300] * 1500)], "home", "*", 1, goals)
    assert noise.channels[0].reporting == WAYS[0]


def test_who_reports_every_sample_goes_on_so_and_a_delay_is_kept_or_asked_for() -> None:
    def current(**fields: object) -> iso_model.Model:
        channels = {"temperature": fields}
        return iso_model.from_dict({"v": 1, "fleet": "home", "target": "*", "sequence": 1, "channels": channels})

    group = [simulated("fridge", 3)]
    trained = train_one(group, "home", "*", 2, current=current(predictor="none"))
    assert only(trained).predictor == iso_model.PREDICTOR_NONE
    assert trained.predicted_after.messages == trained.predicted_after.samples
    assert only(train_one(group, "home", "*", 2, current=current(delay_s=120))).delay_s == 120
    assert only(train_one(group, "home", "*", 2, current=current(delay_s=120), delay_s=0)).delay_s == 0
    for wrong in (-1, 301):
        with pytest.raises(InputError, match="delay"):
            train_one(group, "home", "*", 2, delay_s=wrong)


def test_a_budget_takes_the_smallest_bound_that_keeps_it() -> None:
    group = [simulated("room", 4), simulated("room", 5)]
    trained = train_one(group, "home", "class:room", 1, {"": Goal(budget_per_day=40)})
    chosen = only(trained).error_milli
    assert trained.predicted_after.messages_per_day <= 40
    smaller = ERRORS_MILLI[ERRORS_MILLI.index(chosen) - 1]
    fixed = train_one(group, "home", "class:room", 1, {"": Goal(error_milli=smaller)})
    assert fixed.predicted_after.messages_per_day > 40


@pytest.mark.parametrize(
    ("history", "says"),
    [
        (flat([0, 500] * 100), "only 3.3 h of readings, at least 6 h"),
        (flat([0, 500] * 20, 3_600_000), "only 40 samples, at least 50"),
        (flat([500] * 1000), "never changed"),
        (
            flat([0, 500] * 500, faults=600),
            r"60 % of the time.*missing 1 \(10\.0 h in all\), the longest missing, day 0\.00 to 0\.42 of a; see",
        ),
    ],
)
def test_too_little_or_faulty_data_is_refused(history: History, says: str) -> None:
    with pytest.raises(TrainingRefused, match=says) as caught:
        train_one([history], "home", "device:a", 1)
    assert str(caught.value).startswith("device:a, channel temperature: ")


def test_other_refusals() -> None:
    history = flat([0, 500] * 500)
    with pytest.raises(TrainingRefused, match="no readings of it"):
        train_one([history], "home", "class:none", 1)
    with pytest.raises(TrainingRefused, match="an error bound of 5 still makes"):
        train_one([flat([0, 20000] * 500)], "home", "*", 1, {"": Goal(budget_per_day=1)})
    with pytest.raises(InputError, match="fleet"):
        train_one([history], "My Home", "*", 1)
    with pytest.raises(InputError, match="sequence"):
        train_one([history], "home", "*", 0)
    for wrong in ({}, {"error_milli": 1, "budget_per_day": 1.0}, {"error_milli": 0}, {"budget_per_day": float("nan")}):
        with pytest.raises(InputError):
            Goal(**wrong)  # type: ignore[arg-type]


def test_rules_are_data() -> None:
    strict = train_one([simulated()], "home", "*", 1, rules=Rules(margin_milli_min=5000))
    assert only(strict).high_on_milli - only(train_one([simulated()], "home", "*", 1)).high_on_milli >= 3500


def test_a_failure_in_a_history_of_hours_does_not_teach_itself() -> None:
    values = [25_000 + 60 * (i % 5) for i in range(400)]
    values[300:320] = [60_000] * 20
    assert only(train_one([flat(values)], "home", "*", 1)).high_on_milli <= 27_000
