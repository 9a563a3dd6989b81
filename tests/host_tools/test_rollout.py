"""Pushing models over a real broker to boards that answer as the contract says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host_tools import rollout
from host_tools.demo.processes import free_port
from host_tools.errors import BrokerError, InputError
from host_tools.rollout import BoardState
from isocore import topics
from tests.support.model_board import BoardMaker, boards_at
from tests.support.mosquitto import Mosquitto

pytestmark = pytest.mark.mosquitto


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("mosquitto")) as running:
        yield running


@pytest.fixture
def board(broker: Mosquitto) -> Iterator[BoardMaker]:
    """Makes boards whose retained messages are gone after the test."""
    with boards_at(broker.port) as make:
        yield make


def push(broker: Mosquitto, containers: dict[str, bytes], timeout_s: float = 20, **more: Any) -> dict[str, BoardState]:
    return rollout.push("127.0.0.1", broker.port, containers, timeout_s, **more)


def test_every_board_takes_its_own(broker: Mosquitto, board: BoardMaker) -> None:
    boards = [board(f"b-{number}", ["trial", "committed"]) for number in range(5)]
    containers = {made.device: made.device.encode() * 10 for made in boards}
    steps: list[tuple[str, str]] = []
    states = push(broker, containers, changed=lambda device, state: steps.append((device, state.state)))
    assert {device: state.state for device, state in states.items()} == dict.fromkeys(containers, "committed")
    assert [made.taken for made in boards] == [[containers[made.device]] for made in boards]
    assert [state for device, state in steps if device == "b-3"] == ["trial", "committed"]


def test_final_states_and_silence_are_told_apart(broker: Mosquitto, board: BoardMaker) -> None:
    board("good", ["committed"])
    board("bad", ["trial", "reverted"])
    board("no", ["refused"])
    board("slow", ["trial"])
    containers = dict.fromkeys(("good", "bad", "no", "slow", "away"), b"model")
    states = push(broker, containers, timeout_s=1)
    assert {device: state.state for device, state in states.items()} == {
        "good": "committed", "bad": "reverted", "no": "refused", "slow": "trial", "away": "silent",
    }  # fmt: skip
    late = board("away", ["committed"])  # the container waited at the broker
    assert push(broker, {"away": b"model"})["away"].state == "committed"
    assert late.taken[0] == b"model"


def test_the_state_of_another_model_is_none_of_ours(broker: Mosquitto, board: BoardMaker) -> None:
    made = board("old", [])
    made.retain(topics.MODEL_STATE, b'{"sequence":9,"state":"committed","id":"0000000000000000","reason":null}')
    assert push(broker, {"old": b"new model"}, timeout_s=0.3) == {"old": BoardState()}


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b"\xff", b"1" * 20000, b'{"state":7,"sequence":"x"}', b"[" * 9000])
def test_junk_from_boards_is_harmless(broker: Mosquitto, board: BoardMaker, junk: bytes) -> None:
    made = board("odd", [])
    made.retain(topics.MODEL_STATE, junk)
    made.retain(topics.META, junk)
    made.retain(topics.STATUS, junk)
    with rollout.Link("127.0.0.1", broker.port) as link:
        view = rollout.survey(link)
    assert view.states.get("odd", BoardState()).final is False


def test_a_survey_sees_all_that_is_retained(broker: Mosquitto, board: BoardMaker) -> None:
    for number in range(60):
        made = board(f"s-{number}", [], "room" if number % 2 else "fridge")
        made.retain(topics.STATUS, b"online" if number < 30 else b"offline")
        made.retain(topics.MODEL_STATE, json.dumps({"sequence": number, "state": "committed", "id": "x"}).encode())
        made._client.publish("iso/1/none/ack", b"", qos=1).wait_for_publish(10)  # what came before is with the broker
    with rollout.Link("127.0.0.1", broker.port) as link:
        view = rollout.survey(link)
    assert len(view.meta) == len(view.states) == 60
    assert sum(view.online.values()) == 30
    assert len(view.matching("class:room")) == 30
    assert view.matching("*") == sorted(view.meta)
    assert view.matching("device:elsewhere") == ["elsewhere"]
    assert view.states["s-7"] == BoardState("committed", 7, "x", "")


def test_a_lost_broker_is_said(tmp_path: Path, board: BoardMaker) -> None:
    with pytest.raises(BrokerError, match="no broker at"):
        rollout.push("127.0.0.1", free_port(), {"a": b"x"}, 1)
    with Mosquitto(tmp_path) as own:
        timer = threading.Timer(0.3, own.kill)
        timer.start()
        with pytest.raises(BrokerError, match="went away"):
            rollout.push("127.0.0.1", own.port, {"a": b"x"}, 20)
        timer.join()


@pytest.mark.parametrize(
    ("text", "parts"),
    [("host:1884", ("host", 1884)), ("host", ("host", 1883)), ("[::1]:1", ("::1", 1)), ("[::1]", ("::1", 1883))],
)
def test_broker_addresses(text: str, parts: tuple[str, int]) -> None:
    assert rollout.broker_address(text) == parts


@pytest.mark.parametrize("text", ["", ":1", "h:", "h:0", "h:65536", "h:²", "h:-1"])
def test_broker_addresses_refused(text: str) -> None:
    with pytest.raises(InputError, match="--broker"):
        rollout.broker_address(text)
