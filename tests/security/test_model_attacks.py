"""The attacks that the TUF specification lists (section 1.5.2), each against the code that boards run.

A model is what they would install; `models` is isonode.models.Models with the fleet's root key, a list of one model
key, and a committed model of sequence 5.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from host_tools.keys import fleet as fleets
from host_tools.keys import signing
from isocore import keylist, model, sign
from isonode.models import Models
from isonode.mqtt_reader import Reader

IDENTITY = ("home", "fridge-1", "fridge", (0, 1, 0))
NOW_UNIX_S = 1_800_000_000
RUNNING = 5
STRANGER = signing.generate()


class Board:
    """The fleet's operator on one side, a board's models on the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fleet = fleets.create(folder / "keys", "home", None)
        (folder / "model-keys.isos").write_bytes(self.fleet.key_list)
        self.models = self.restarted()
        self.takes(self.model(RUNNING))

    def restarted(self) -> Models:
        models = Models(str(self.folder / "model"), [], IDENTITY, 1, 10_000, self.fleet.root_key)
        models.open(NOW_UNIX_S)
        self.models = models
        return models

    def model(self, sequence: int, key: signing.SigningKey | None = None, **changes: object) -> bytes:
        fields = {"fleet": "home", "target": "*", "channels": {"inside": model.ChannelParams()}} | changes
        return (key or self.fleet.model_key()).sign(model.to_payload(model.Model(sequence=sequence, **fields)))

    def takes(self, container: bytes) -> None:
        """It runs on trial and is committed."""
        assert self.models.offer(container, NOW_UNIX_S), self.models.state
        self.models.on_sample()
        self.models.on_ack()
        self.models.step(0, lambda end, start: end - start)
        assert self.models.state["state"] == "committed"

    def refuses(self, container: bytes, reason: str, now_unix_s: int | None = NOW_UNIX_S, runs: int = RUNNING) -> None:
        """It says why, and runs what it ran, now and after a restart."""
        assert not self.models.offer(container, now_unix_s)
        assert self.models.state["state"] == "refused" and self.models.state["reason"] == reason
        assert self.models.sequence == runs
        assert self.restarted().sequence == runs


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def test_arbitrary_installation(board: Board) -> None:
    """What nobody of the fleet signed: without a signature, with a stranger's, with his under our key's name."""
    good = board.model(6)
    payload = good[sign.HEADER_BYTES : -sign.SIGNATURE_BYTES]
    board.refuses(payload, "magic")
    board.refuses(board.model(6, STRANGER), "key")
    forged = bytearray(board.model(6, STRANGER))
    forged[8:16] = sign.key_id(board.fleet.model_key().public_key)
    board.refuses(bytes(forged), "signature")
    board.refuses(good[:-64] + bytes(64), "signature")
    (board.folder / "model-keys.isos").write_bytes(
        STRANGER.sign(keylist.to_payload("home", 9, [STRANGER.public_key]), sign.KIND_KEYS)
    )
    board.restarted()
    assert board.models.state["keys_refused"] == "key"
    board.refuses(board.model(6, STRANGER), "key")
    board.takes(good)


def test_endless_data(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message of 256 MB is skipped as it comes, in the buffer that is there; a container has 4096 bytes at most, and
    one that is larger costs no arithmetic."""
    seen: list[int] = []
    reader = Reader(4096 + 128, lambda head, body: seen.append(len(body)))
    reader.feed(b"\x30\xff\xff\xff\x7f")  # PUBLISH, the longest remaining length (MQTT 3.1.1 table 2.4)
    for _ in range(2000):
        reader.feed(bytes(512))
    assert seen == [] and reader.oversized == 1
    assert len(reader._body) <= 4096 + 128
    monkeypatch.setattr(sign, "verify", lambda *_: pytest.fail("a signature was computed"))
    good = board.model(6)
    board.refuses(good + bytes(4097 - len(good)), "size")
    board.refuses(good + b"\0", "size")
    board.models.offer_list(bytes(4097))
    assert board.models.state["keys_refused"] == "size"


def test_fast_forward_and_the_way_back(board: Board) -> None:
    """A stolen model key signs the highest sequence there is. After one new list the fleet's next model is taken."""
    stolen = board.fleet.model_key()
    board.takes(board.model(model.SEQUENCE_MAX, stolen))
    board.refuses(board.model(6), "sequence", runs=model.SEQUENCE_MAX)
    _, new_list = board.fleet.rotate(compromised=True)
    board.models.offer_list(new_list)
    assert board.models.state["keys"] == 2
    assert board.models.sequence == model.SEQUENCE_MAX, "what runs goes on until there is another"
    board.restarted()
    board.refuses(board.model(7, stolen), "key", runs=model.SEQUENCE_MAX)
    board.takes(board.model(6))
    assert board.models.sequence == 6
    board.refuses(board.model(model.SEQUENCE_MAX, stolen), "key", runs=6)
    board.refuses(board.model(5), "sequence", runs=6)


def test_fast_forward_of_the_list_needs_the_root(board: Board) -> None:
    """Who has a model key cannot drive the list's version up; from one who has the root's only the cable helps."""
    stolen = board.fleet.model_key()
    payload = keylist.to_payload("home", keylist.LIST_MAX, [stolen.public_key])
    board.models.offer_list(stolen.sign(payload, sign.KIND_KEYS))
    assert board.models.state["keys"] == 1 and board.models.state["keys_refused"] == "key"


def test_indefinite_freeze(board: Board) -> None:
    """A broker that shows only old things. What has expired is refused by who knows the time; who does not takes it
    only if it is higher than what runs. That nothing new comes is told by `sequence` and `keys` in model/state."""
    stale = board.model(6, expires_unix_s=NOW_UNIX_S - 1)
    board.refuses(stale, "expired")
    board.refuses(board.model(4), "sequence", now_unix_s=None)
    assert board.models.state["sequence"] == RUNNING and board.models.state["keys"] == 1
    board.restarted()
    assert board.models.offer(stale, None), "a board without time cannot know"
    assert board.models.sequence == 6


def test_mix_and_match(board: Board) -> None:
    """Parts of two good containers make no third, and one kind is not taken for another."""
    one, two = board.model(6), board.model(7, target="class:fridge")
    head, tail = sign.HEADER_BYTES, sign.SIGNATURE_BYTES
    board.refuses(one[:head] + two[head:], "size")
    board.refuses(two[:-tail] + one[-tail:], "signature")
    board.refuses(board.fleet.key_list, "kind")
    disguised = bytearray(board.fleet.key_list)
    disguised[6] = sign.KIND_MODEL
    board.refuses(bytes(disguised), "key")
    board.models.offer_list(one)
    assert board.models.state["keys_refused"] == "kind"
    board.refuses(board.fleet.model_key().sign(b'{"v":1}' + one[head:-tail]), "payload")


def test_rollback(board: Board) -> None:
    """An older model, the same again in other bytes, and an older list that names a withdrawn key."""
    former, former_list = board.fleet.model_key(), board.fleet.key_list
    board.refuses(board.model(4), "sequence")
    board.refuses(board.model(RUNNING, target="device:fridge-1"), "sequence")
    _, new_list = board.fleet.rotate(compromised=True)
    board.models.offer_list(new_list)
    board.models.offer_list(former_list)
    assert board.models.state["keys"] == 2 and board.models.state["keys_refused"] == "version"
    board.refuses(board.model(9, former), "key")


def test_key_compromise(board: Board) -> None:
    """A stolen model key signs what it likes until it is withdrawn, but no list; afterwards nothing."""
    stolen = board.fleet.model_key()
    board.takes(board.model(6, stolen))
    board.models.offer_list(stolen.sign(keylist.to_payload("home", 2, [stolen.public_key]), sign.KIND_KEYS))
    assert board.models.state["keys_refused"] == "key"
    _, new_list = board.fleet.rotate(compromised=True)
    board.models.offer_list(new_list)
    board.refuses(board.model(7, stolen), "key", runs=6)
    board.restarted()
    board.refuses(board.model(8, stolen), "key", runs=6)
    board.takes(board.model(7))


def test_a_planned_rotation_keeps_what_was_signed(board: Board) -> None:
    former = board.fleet.model_key()
    _, new_list = board.fleet.rotate(compromised=False)
    board.models.offer_list(new_list)
    board.takes(board.model(6, former))
    board.takes(board.model(7))
    board.refuses(board.model(6), "sequence", runs=7)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"target": "device:fridge-2"}, "target"),
        ({"target": "class:freezer"}, "target"),
        ({"fleet": "neighbours"}, "fleet"),
        ({"min_firmware": (9, 0, 0)}, "firmware"),
    ],
)
def test_wrong_target(board: Board, changes: dict[str, object], reason: str) -> None:
    """Rightly signed, for others."""
    board.refuses(board.model(6, **changes), reason)
