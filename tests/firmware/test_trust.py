"""Which keys may sign models: the newest list of the fleet's root, kept across cuts, told in model/state."""

from __future__ import annotations

from pathlib import Path

import pytest

from host_tools.keys import signing
from isocore import keylist, sign, topics
from isonode.models import Models
from tests.firmware.conftest import FIRMWARE, Bench, RunMicroPython
from tests.firmware.test_board import wave
from tests.firmware.test_models import IDENTITY, TIMEOUT_MS, container, diff
from tests.support.ack_gateway import AckGateway
from tests.support.altered import altered

ROOT_KEY = signing.generate()
FIRST, SECOND, THIRD = (signing.generate() for _ in range(3))
DEADLINE_S = 30.0


def key_list(
    version: int, *keys: signing.SigningKey, fleet: str = "demo", root: signing.SigningKey = ROOT_KEY
) -> bytes:
    payload = keylist.to_payload(fleet, version, [key.public_key for key in keys])
    return root.sign(payload, sign.KIND_KEYS)


def opened(folder: Path, root: signing.SigningKey = ROOT_KEY) -> Models:
    models = Models(str(folder / "model"), [], IDENTITY, 1, TIMEOUT_MS, root.public_key)
    models.open()
    return models


def provisioned(folder: Path, version: int = 1, *keys: signing.SigningKey) -> Models:
    (folder / "model-keys.isos").write_bytes(key_list(version, *keys or (FIRST,)))
    return opened(folder)


def commit(models: Models, offered: bytes) -> None:
    assert models.offer(offered), models.state
    models.on_sample()
    models.on_ack()
    models.step(0, diff)
    assert models.state["state"] == "committed"


def test_the_provisioned_list_is_taken_in_once(tmp_path: Path) -> None:
    models = provisioned(tmp_path)
    assert models.state == {"sequence": 0, "state": "committed", "id": "", "keys": 1}
    assert not (tmp_path / "model-keys.isos").exists()
    commit(models, container(1, FIRST))
    assert opened(tmp_path).state["keys"] == 1


def test_without_a_list_nobody_may_sign(tmp_path: Path) -> None:
    models = opened(tmp_path)
    assert not models.offer(container(1, FIRST)) and models.state["reason"] == "key" and models.state["keys"] == 0
    models.offer_list(key_list(1, FIRST))
    assert models.state["keys"] == 1
    assert models.offer(container(1, FIRST)), "what was refused may be good under the new list"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (key_list(2, SECOND), "version"),
        (key_list(1, SECOND), "version"),
        (key_list(3, SECOND, root=FIRST), "key"),
        (key_list(3, SECOND, fleet="other"), "fleet"),
        (altered(key_list(3, SECOND)), "signature"),
        (ROOT_KEY.sign(b"{}", sign.KIND_KEYS), "payload"),
        (ROOT_KEY.sign(keylist.to_payload("demo", 3, [SECOND.public_key]), sign.KIND_MODEL), "kind"),
        (b"", "size"),
        (bytes(5000), "size"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_list_changes_nothing(tmp_path: Path, bad: bytes, reason: str) -> None:
    models = provisioned(tmp_path, 2, FIRST)
    models.changed = False
    models.offer_list(memoryview(bad))
    assert models.state["keys"] == 2 and models.state["keys_refused"] == reason and models.changed
    models.changed = False
    models.offer_list(bad)
    assert not models.changed, "said twice"
    again = opened(tmp_path)
    assert again.state["keys"] == 2
    commit(again, container(1, FIRST))


def test_the_list_in_force_comes_again_at_every_connect(tmp_path: Path) -> None:
    models = provisioned(tmp_path, 2, FIRST)
    models.changed = False
    models.offer_list(altered(key_list(2, FIRST)))
    assert models.state["keys_refused"] in ("signature", "version")
    same = key_list(3, FIRST, SECOND)
    models.offer_list(same)
    assert models.state["keys"] == 3 and "keys_refused" not in models.state
    models.changed = False
    models.offer_list(same)
    assert not models.changed


def test_rotation(tmp_path: Path) -> None:
    """Old and new, then new alone: what runs goes on, what the former key signs is refused."""
    models = provisioned(tmp_path)
    commit(models, container(1, FIRST))
    models.offer_list(key_list(2, SECOND, FIRST))
    commit(models, container(2, SECOND))
    commit(models, container(3, FIRST))
    models.offer_list(key_list(3, THIRD, SECOND))
    assert models.sequence == 3 and models.state["state"] == "committed", "one that runs stays"
    again = opened(tmp_path)
    assert again.sequence == 3
    assert not again.offer(container(4, FIRST)) and again.state["reason"] == "key"
    commit(again, container(4, SECOND))


def test_another_root_starts_anew(tmp_path: Path) -> None:
    """Provisioned into another fleet: the former root's list counts for nothing, however high its version."""
    provisioned(tmp_path, keylist.LIST_MAX, FIRST)
    other = signing.generate()
    (tmp_path / "model-keys.isos").write_bytes(key_list(1, SECOND, root=other))
    models = opened(tmp_path, other)
    assert models.state["keys"] == 1
    assert not models.offer(container(1, FIRST))
    assert models.offer(container(1, SECOND))


def test_a_provisioned_list_that_is_no_good_is_removed_and_told(tmp_path: Path) -> None:
    (tmp_path / "model-keys.isos").write_bytes(key_list(1, FIRST, root=SECOND))
    models = opened(tmp_path)
    assert models.state["keys"] == 0 and models.state["keys_refused"] == "key"
    assert not (tmp_path / "model-keys.isos").exists()


@pytest.mark.micropython
def test_every_cut_leaves_the_old_list_or_the_new(tmp_path: Path, run_micropython: RunMicroPython) -> None:
    for name, data in (("old", key_list(1, FIRST)), ("new", key_list(2, SECOND)), ("root", ROOT_KEY.public_key)):
        (tmp_path / name).write_bytes(data)
    here = Path(__file__).parent
    files = [tmp_path / name for name in ("old", "new", "root")]
    printed = run_micropython(here / "keylist_cuts.py", FIRMWARE, here, *files, heap_bytes=512 * 1024)
    counts = dict(word.split("=") for word in printed.split())
    assert int(counts["taken_cuts"]) > 10 and int(counts["file_cuts"]) > 10


@pytest.mark.micropython
@pytest.mark.mosquitto
def test_a_board_goes_by_the_list_that_it_is_sent(bench: Bench, gateway: AckGateway) -> None:
    """A real board, a real broker, both retained while it is off: the list comes first, and the model is good."""
    config = bench.config("ruled", root_key=ROOT_KEY.public_key.hex(), trial_samples=1)
    board = bench.board(config, wave(400), files={"/model-keys.isos": key_list(1, FIRST)}, speed=3_000)
    gateway.publish(topics.topic("ruled", topics.MODEL_SET), container(7, SECOND), retain=True)
    gateway.publish(topics.topic("ruled", topics.KEYS_SET), key_list(2, SECOND), retain=True)
    board.start()
    assert board.wait_for(lambda: board.counters.get("models_applied", 0) == 1, DEADLINE_S), board.counters

    def says(state: str) -> bool:
        said = gateway.last("ruled", topics.MODEL_STATE)
        return said is not None and said["state"] == state

    assert gateway.wait_for(lambda: says("committed"), DEADLINE_S)
    state = gateway.last("ruled", topics.MODEL_STATE)
    assert (state["sequence"], state["keys"]) == (7, 2)
    gateway.publish(topics.topic("ruled", topics.MODEL_SET), container(8, FIRST), retain=True)
    assert gateway.wait_for(lambda: says("refused"), DEADLINE_S)
    state = gateway.last("ruled", topics.MODEL_STATE)
    assert (state["sequence"], state["reason"]) == (7, "key")
    board.stop()
    assert board.boots == 1
