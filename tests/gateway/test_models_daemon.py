"""What boards say of their models, from a real broker to a real receiver's answer, with kill -9 of both on the way."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

import pytest

from isocore import topics
from tests.support.board_client import BoardClient, wait_for
from tests.support.daemon import Daemon
from tests.support.mosquitto import Mosquitto
from tests.support.uplink import ReceiverProcess

pytestmark = pytest.mark.mosquitto


def models(receiver: ReceiverProcess, query: str = "") -> list[dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=10)
    try:
        connection.request("GET", f"/v1/models?{query}")
        return list(json.loads(connection.getresponse().read())["models"])
    finally:
        connection.close()


def test_a_state_reaches_the_receiver_without_a_reading_and_past_kills(tmp_path: Path, broker: Mosquitto) -> None:
    with ReceiverProcess(tmp_path) as receiver:
        receiver.start()
        address = ("--port", str(receiver.port))
        url = f"http://127.0.0.1:{receiver.port}"
        with Daemon(tmp_path / "gw", broker.port, url) as daemon, BoardClient(broker.port) as board:

            def say(state: str, sequence: int) -> None:
                text = json.dumps({"sequence": sequence, "state": state, "id": f"{sequence:016x}"})
                board.publish("a", topics.MODEL_STATE, text, retain=True)

            def known(sequence: int) -> bool:
                device = daemon.status().get("devices", {}).get("a", {})
                return bool(device.get("model_state")) and device["model_state"]["sequence"] == sequence

            def told(sequence: int) -> bool:
                return [one["running"] for one in models(receiver, "device=a")] == [sequence]

            say("committed", 1)
            wait_for(lambda: told(1), 60, "the state at the receiver")
            receiver.kill()
            say("committed", 2)
            wait_for(lambda: known(2), 60, "the state at the gateway")
            daemon.kill()  # frozen, and not answered
            receiver.start(*address)
            daemon.start()
            wait_for(lambda: told(2), 60, "what was frozen before the kills")
            say("committed", 3)
            receiver.kill()
            daemon.kill()  # heard or not, frozen or not, stored or not
            receiver.start(*address)
            daemon.start()
            wait_for(lambda: told(3), 60, "what was on its way at the kills")
            assert daemon.stop() == 0
        course = models(receiver, "device=a&changes=all")
        assert [(one["state"], one["sequence"], one["gateway"]) for one in course] == [
            ("committed", sequence, "gw-test") for sequence in (3, 2, 1)
        ]
        assert receiver.stop() == 0
