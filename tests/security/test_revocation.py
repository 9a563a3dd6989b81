"""Withdrawing a board: operator's command, real broker, real gateway, and a connection that is open meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_tools import cli
from isocore import frame as frames
from isocore import topics
from isocore.record import BOARD_CHANNEL, BOOT
from tests.support.board_client import wait_for
from tests.support.daemon import Daemon
from tests.support.mqtt_client import Client
from tests.support.secure_broker import SecureBroker

pytestmark = pytest.mark.mosquitto


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SecureBroker]:
    broker = SecureBroker(tmp_path)
    for name, role in (("gw-test", "gateway"), ("operator", "operator"), ("fridge-1", "board"), ("fridge-2", "board")):
        broker.admit(name, role)
    with broker:
        yield broker


@pytest.fixture
def daemon(site: SecureBroker) -> Iterator[Daemon]:
    mqtt, access = site.gateway_toml("gw-test")
    made = Daemon(site.workdir / "gateway", site.port, extra=access, mqtt=mqtt)
    made.start()
    yield made
    if not made.dead:
        assert made.stop() == 0


def frame(boot: int) -> bytes:
    made: bytes = frames.encode(boot, 0, 0, [(1, BOOT, BOARD_CHANNEL, 0, 1000, 0)])
    return made


def send(board: Client, name: str, boot: int) -> None:
    """A frame up, its acknowledgement down."""
    board.subscribe(topics.topic(name, topics.ACK))
    board.publish(topics.topic(name, topics.UP), frame(boot))
    kind, message = board.next()
    assert kind == "message"
    ack = json.loads(message[1])  # type: ignore[index]
    assert (ack["boot"], ack["seq"]) == (boot, 1)


def revoke(site: SecureBroker, name: str, *more: str) -> int:
    arguments = ["keys", "revoke", name, "--dir", str(site.fleet.folder), "--broker", f"127.0.0.1:{site.port}"]
    return cli.run([*arguments, "--identity", str(site.workdir / "nodes" / "operator"), *more])


def in_force(daemon: Daemon) -> int:
    return int(daemon.figure("broker_access_number"))


def test_a_board_is_withdrawn_while_connected(
    site: SecureBroker, daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    with Client(site.where, site.tls("fridge-1")) as thief, Client(site.where, site.tls("fridge-2")) as other:
        send(thief, "fridge-1", 1)
        send(other, "fridge-2", 1)
        assert revoke(site, "fridge-1") == 0
        assert "its connection is cut" in capsys.readouterr().out
        assert thief.next()[0] == "disconnect"
        assert "fridge-1" not in (site.access_folder / "acl").read_text()
        with pytest.raises(OSError), Client(site.where, site.tls("fridge-1")):
            pass
        other.publish(topics.topic("fridge-2", topics.UP), frame(2))
        assert other.next()[0] == "message"  # its acknowledgement: the others' work goes on
    assert in_force(daemon) > 0
    assert revoke(site, "fridge-1") == 0  # again: nothing is left to do, and that is said


def test_the_gateway_is_away(site: SecureBroker, daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    """The command fails and says so; the list waits at the broker, and is in force as soon as the gateway is back."""
    daemon.kill()
    assert revoke(site, "fridge-1", "--timeout-s", "1") == 1
    assert "not in force at gw-test" in capsys.readouterr().err
    daemon.start()
    wait_for(lambda: "fridge-1" not in (site.access_folder / "acl").read_text(), what="the list in force")
    with pytest.raises(OSError), Client(site.where, site.tls("fridge-1")):
        pass
    assert revoke(site, "fridge-1") == 0


def test_provisioned_again(site: SecureBroker, daemon: Daemon) -> None:
    """The next generation gets in once the gateway has the list; the former certificate stays out."""
    former = site.tls("fridge-1")
    assert revoke(site, "fridge-1") == 0
    site.admit("fridge-1", "board")
    with Client(site.where, site.tls("operator")) as operator:
        operator.publish(topics.topic("gw-test", topics.ACCESS_SET), site.fleet.access_document(), retain=True)
    wait_for(lambda: "user fridge-1\n" in (site.access_folder / "acl").read_text(), what="the list in force")
    wait_for(lambda: in_force(daemon) == site.fleet.registry.number, what="the broker told")
    with Client(site.where, site.tls("fridge-1")) as board:
        send(board, "fridge-1", 1)
    with pytest.raises(OSError), Client(site.where, former):
        pass
