"""Half way through a run: thresholds trained on what the cloud has collected, signed, pushed, and taken by the boards.

Runs beside the scenario in a thread of its own; touches nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from host_tools import rollout
from host_tools.cloud.store_read import CloudReader
from host_tools.demo.links import Links
from host_tools.demo.plan import FLEET, Plan
from host_tools.errors import HostError, RetryableError, TrainingRefused
from host_tools.fitting import Rules
from host_tools.history import History, from_store
from host_tools.train import Goal, TrainedModel, train_one
from isocore.model import FIELDS

SEQUENCE = 1
# A demo lasts a minute: a quarter of an hour of board time is enough to show training, and an open door shall
# alarm in it; a real fleet waits for days.
RULES = Rules(days_min=0.25 / 24, samples_min=40, debounce_s=60, margin_share=0.5)
GOALS: Mapping[str, Goal] = {"": Goal(error_milli=500), "humidity": Goal(error_milli=2000)}
BUILT_IN_ERROR_MILLI: int = FIELDS["error_milli"][2] or 0
_TEMPERATURE = "temperature"


@dataclass
class Rollout:
    """What came of it. error_milli: the largest bound a pushed model sets on a temperature."""

    headline: str
    notes: list[str] = field(default_factory=list)
    error_milli: int = BUILT_IN_ERROR_MILLI


def train_and_push(
    plan: Plan, cloud_dir: Path, links: Links, broker_port: int, timeout_s: float, trained_now: Callable[[], None]
) -> Rollout:
    """Train one model a class or a board, push each to its boards, and wait for their word.

    trained_now: called when training is over, before anything is pushed.
    Never raises for data that does not carry a model, or boards that stay silent: the notes say so.
    """
    with CloudReader(cloud_dir) as reader:
        histories = from_store(reader, {board.name: board.period_ms for board in plan.boards})
    trained, notes = _train(plan, histories)
    trained_now()
    if not trained:
        return Rollout("no model could be trained: boards go on with what they have", notes)
    containers: dict[str, bytes] = {}
    for target, result in trained.items():
        container = links.key.sign(result.payload)
        for board in plan.boards:
            if target in (f"device:{board.name}", f"class:{board.device_class}"):
                containers[board.name] = container
    error_milli = max(
        params.error_milli
        for result in trained.values()
        for name, params in result.model.channels.items()
        if name == _TEMPERATURE
    )
    try:
        states = rollout.push("127.0.0.1", broker_port, containers, timeout_s, tls=links.tls)
    except RetryableError as error:
        return Rollout("the model could not be pushed", [*notes, str(error)], error_milli)
    taken = [name for name, state in states.items() if state.state == "committed"]
    for name, state in sorted(states.items()):
        if state.state != "committed":
            notes.append(f"{name} did not take the model: {state.state} {state.reason}".rstrip())
    before = sum(result.predicted_before.messages_per_day for result in trained.values()) / len(trained)
    after = sum(result.predicted_after.messages_per_day for result in trained.values()) / len(trained)
    notes.insert(
        0,
        f"A model was trained on what had been collected, signed and pushed; {len(taken)} of {len(containers)} boards "
        f"tried it and keep it. Predicted: {before:,.0f} → {after:,.0f} reports a sensor-day.",
    )
    return Rollout(f"{len(taken)} boards run the new model: fewer reports, alarms where it matters", notes, error_milli)


def _train(plan: Plan, histories: list[History]) -> tuple[dict[str, TrainedModel], list[str]]:
    """Models by target; one sentence for each target that carries none."""
    key = "class" if plan.per_class else "device"
    targets = dict.fromkeys(f"{key}:{board.device_class if plan.per_class else board.name}" for board in plan.boards)
    trained: dict[str, TrainedModel] = {}
    notes: list[str] = []
    for target in targets:
        try:
            trained[target] = train_one(histories, FLEET, target, SEQUENCE, GOALS, rules=RULES)
        except TrainingRefused as error:
            notes.append(f"Not trained: {error}")
        except HostError as error:
            notes.append(f"Not trained: {target}: {error}")
    return trained, notes
