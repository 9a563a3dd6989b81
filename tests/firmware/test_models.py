"""Models on the board: what is refused, tried, committed and reverted; nothing refused ever stops the running one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from host_tools.keys import signing
from isocore import model
from isonode.models import Models
from tests.support.altered import altered

KEY = signing.generate()
OTHER_KEY = signing.generate()
IDENTITY = ("demo", "fridge-1", "fridge", (0, 1, 0))
TIMEOUT_MS = 10_000


def container(sequence: int, key: signing.SigningKey = KEY, **changes: Any) -> bytes:
    params = model.ChannelParams()
    params.error_milli = sequence
    options: dict[str, Any] = {"fleet": "demo", "target": "*", "channels": {"temperature": params}}
    options.update(changes)
    return key.sign(model.to_payload(model.Model(sequence=sequence, **options)))


def diff(end: int, start: int) -> int:
    return end - start


def opened(folder: Path) -> Models:
    models = Models(str(folder / "model"), [KEY.public_key], IDENTITY, 3, TIMEOUT_MS)
    models.open()
    return models


def committed(folder: Path, sequence: int) -> Models:
    models = opened(folder)
    assert models.offer(container(sequence))
    for _ in range(3):
        models.on_sample()
    models.on_ack()
    models.step(0, diff)
    assert models.state["state"] == "committed" and models.sequence == sequence
    return models


def test_without_a_model_the_defaults_run(tmp_path: Path) -> None:
    models = opened(tmp_path)
    assert models.current is None and models.sequence == 0 and not models.on_trial
    assert models.state == {"sequence": 0, "state": "committed", "id": ""} and models.changed


def test_a_trial_needs_samples_and_an_ack(tmp_path: Path) -> None:
    models = opened(tmp_path)
    assert models.offer(container(5))
    assert models.on_trial and models.sequence == 5 and models.state["state"] == "trial"
    assert not models.step(0, diff)
    models.on_ack()
    for _ in range(2):
        models.on_sample()
        models.step(1, diff)
        assert models.on_trial
    models.on_sample()
    assert not models.step(2, diff)
    assert not models.on_trial and models.applied == 1 and models.state["state"] == "committed"
    again = opened(tmp_path)
    assert again.sequence == 5 and not again.on_trial and again.applied == 0
    assert again.current.params("temperature").error_milli == 5


def test_reverted_when_nothing_is_in_range(tmp_path: Path) -> None:
    models = committed(tmp_path, 5)
    assert models.offer(container(6))
    models.on_sample()
    for _ in range(3):
        assert not models.step(0, diff)
        models.on_out_of_range()
    assert models.step(0, diff)
    assert models.sequence == 5 and models.state["reason"] == "unhealthy" and models.state["sequence"] == 6
    assert not models.offer(container(6)), "a reverted one is not tried again"
    assert models.state["reason"] == "reverted"
    assert models.offer(container(7))


def test_reverted_without_the_gateways_ack(tmp_path: Path) -> None:
    models = committed(tmp_path, 5)
    assert models.offer(container(6))
    for _ in range(3):
        models.on_sample()
    assert not models.step(0, diff)
    assert not models.step(TIMEOUT_MS - 1, diff)
    assert models.step(TIMEOUT_MS, diff)
    assert models.sequence == 5 and models.state["reason"] == "no_ack"


def test_a_trial_survives_restarts_but_not_for_ever(tmp_path: Path) -> None:
    committed(tmp_path, 5).offer(container(6))
    for _ in range(3):
        models = opened(tmp_path)
        assert models.sequence == 6 and models.on_trial
    models = opened(tmp_path)
    assert models.sequence == 5 and models.state["reason"] == "reboots"
    assert opened(tmp_path).sequence == 5


def test_a_crash_ends_a_trial_and_a_deep_sleep_does_not(tmp_path: Path) -> None:
    committed(tmp_path, 5).offer(container(6))
    for _ in range(5):  # more than the restarts that a trial may take
        models = Models(str(tmp_path / "model"), [KEY.public_key], IDENTITY, 3, TIMEOUT_MS)
        models.open(None, False, True)
        assert models.on_trial and models.sequence == 6
    models.resume(2, 0, 1, 0, 0)
    assert models.progress(7, diff) == (2, 0, 1, 7)
    models.on_sample()
    assert not models.step(8, diff) and not models.on_trial, "what the trial had come to counts"
    assert models.offer(container(7))
    crashed = Models(str(tmp_path / "model"), [KEY.public_key], IDENTITY, 3, TIMEOUT_MS)
    crashed.open(None, True)
    assert crashed.sequence == 6 and crashed.state["reason"] == "crash" and not crashed.on_trial
    assert not crashed.offer(container(7)), "what brought the board down is not tried again"


def test_safe_mode_runs_the_defaults_and_still_guards_the_sequence(tmp_path: Path) -> None:
    models = committed(tmp_path, 5)
    models.stand_by()
    assert models.current is None and models.sequence == 0 and models.state["reason"] == "safe_mode"
    assert not models.offer(container(5)) and models.state["reason"] == "sequence"
    assert models.offer(container(6)) and models.sequence == 6
    for _ in range(3):
        models.on_out_of_range()
    assert models.step(0, diff) and models.current is None, "reverted to the defaults, not to the model in force"
    assert opened(tmp_path).sequence == 5


def test_a_newer_model_replaces_one_on_trial(tmp_path: Path) -> None:
    models = committed(tmp_path, 5)
    assert models.offer(container(6)) and models.offer(container(7))
    assert opened(tmp_path).sequence == 7
    for _ in range(3):
        models.on_out_of_range()
    models.step(0, diff)
    assert models.sequence == 5


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"", "size"),
        (b"ISOS" + bytes(100), "version"),
        (bytes(300), "magic"),
        (bytes(5000), "size"),
        (container(9, OTHER_KEY), "key"),
        (container(9)[:-1] + bytes([container(9)[-1] ^ 1]), "signature"),
        (KEY.sign(b"{"), "payload"),
        (container(4), "sequence"),
        (container(5, target="class:fridge"), "sequence"),
        (container(9, fleet="other"), "fleet"),
        (container(9, target="device:fridge-2"), "target"),
        (container(9, min_firmware=(9, 0, 0)), "firmware"),
        (container(9, expires_unix_s=1000), "expired"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_model_is_reported_once_and_stops_nothing(tmp_path: Path, bad: bytes, reason: str) -> None:
    models = committed(tmp_path, 5)
    models.changed = False
    assert not models.offer(memoryview(bad), 2000)
    assert models.state["state"] == "refused" and models.state["reason"] == reason and models.state["sequence"] == 5
    assert models.changed and models.refused == 1 and models.sequence == 5
    models.changed = False
    assert not models.offer(bad, 2000)
    assert not models.changed and models.refused == 1
    assert opened(tmp_path).sequence == 5


def test_the_running_model_comes_again_at_every_connect(tmp_path: Path) -> None:
    models = committed(tmp_path, 5)
    models.changed = False
    running = container(8)
    assert models.offer(running)
    models.changed = False
    assert not models.offer(running)
    assert models.sequence == 8 and models.on_trial and models.refused == 0 and not models.changed


def test_a_provisioned_model_is_in_force_at_once(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a.bin").write_bytes(container(3))
    models = opened(tmp_path)
    assert models.sequence == 3 and not models.on_trial
    provisioned = (tmp_path / "model" / "a.bin").read_bytes()
    assert models.offer(container(4))
    assert (tmp_path / "model" / "a.bin").read_bytes() == provisioned, "the slot in force was written"


def test_a_provisioned_model_that_is_forged_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a.bin").write_bytes(container(3, OTHER_KEY))
    models = opened(tmp_path)
    assert models.sequence == 0 and models.state["reason"] == "key"


def test_a_slot_that_rotted_is_never_run(tmp_path: Path) -> None:
    models = committed(tmp_path, 5)
    models.offer(container(6))
    slots = {(tmp_path / "model" / name).read_bytes(): tmp_path / "model" / name for name in ("a.bin", "b.bin")}
    trial = next(path for data, path in slots.items() if b'"sequence":6' in data)
    trial.write_bytes(altered(trial.read_bytes()))
    models = opened(tmp_path)
    assert models.sequence == 5 and models.state["state"] == "reverted" and models.state["reason"] == "slot"
    force = next(path for path in slots.values() if path != trial)
    force.write_bytes(bytes(5000))
    models = opened(tmp_path)
    assert models.sequence == 0 and models.state["reason"] == "slot"
    assert models.offer(container(7)), "the board is not stuck without a model"


def test_a_torn_state_file_falls_back_to_what_is_provisioned(tmp_path: Path) -> None:
    committed(tmp_path, 5)
    state = tmp_path / "model" / "state"
    state.write_bytes(state.read_bytes()[:-3])
    assert opened(tmp_path).sequence in (0, 5)
