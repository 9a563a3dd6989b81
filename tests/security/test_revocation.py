"""Withdrawing a board: operator's command, real broker, real gateway, and a connection that is open meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_tools import cli
from host_tools.cloud.store_read import CloudReader
from host_tools.commands.keys import write_identity
from host_tools.errors import StoreError
from isocore import frame as frames
from isocore import topics
from isocore.record import BOARD_CHANNEL, BOOT
from tests.support.board_client import wait_for
from tests.support.daemon import Daemon
from tests.support.mqtt_client import Client
from tests.support.secure_broker import SecureBroker
from tests.support.uplink import ReceiverProcess

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
    return revoke_at(site, name, "--broker", f"127.0.0.1:{site.port}", *more)


def revoke_at(site: SecureBroker, name: str, *where: str) -> int:
    arguments = ["keys", "revoke", name, "--dir", str(site.fleet.folder)]
    return cli.run([*arguments, "--identity", str(site.workdir / "nodes" / "operator"), *where])


def refused(site: SecureBroker, name: str) -> None:
    """Waits until the broker lets a node in no more: it reads its lists at a signal, when its loop comes to it."""

    def out() -> bool:
        try:
            with Client(site.where, site.tls(name)):
                return False
        except OSError:
            return True

    wait_for(out, what=f"{name} refused by the broker")


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
    # The file changes before the broker has read it; the figure does after it was told.
    wait_for(lambda: in_force(daemon) > 0, what="the list in force")
    assert "fridge-1" not in (site.access_folder / "acl").read_text()
    refused(site, "fridge-1")
    with pytest.raises(OSError), Client(site.where, site.tls("fridge-1")):
        pass
    assert revoke(site, "fridge-1") == 0


def test_one_gateway_of_two_is_away(site: SecureBroker, daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    """It is named, and holds nothing up: the connection is cut while the command still waits for it."""
    site.admit("gw-away", "gateway")
    with Client(site.where, site.tls("fridge-1")) as thief:
        send(thief, "fridge-1", 1)
        assert revoke(site, "fridge-1", "--timeout-s", "3") == 1
        told = capsys.readouterr()
        assert "is in force at gw-test; its connection is cut" in told.out
        assert "not in force at gw-away" in told.err
        assert thief.next()[0] == "disconnect"
    refused(site, "fridge-1")


class Cloud:
    """A receiver that checks tags and knows the fleet's root, and the lines that bring a gateway to it."""

    def __init__(self, site: SecureBroker) -> None:
        write_identity(site.workdir / "cloud", site.fleet.admit("cloud", "receiver", ["127.0.0.1"]))
        key_file = site.workdir / "reading-keys.json"
        assert cli.run(["keys", "cloud", "--dir", str(site.fleet.folder), "--out", str(key_file)]) == 0
        own = site.workdir / "cloud"
        self.receiver = ReceiverProcess(own).start(
            *("--cert-file", str(own / "cert.pem"), "--key-file", str(own / "key.pem")),
            *("--client-ca-file", str(own / "ca.pem"), "--reading-keys-file", str(key_file)),
            *("--root-key-file", str(site.fleet.folder / "root-key.pub")),
        )
        self.url = f"https://127.0.0.1:{self.receiver.port}"

    def verdicts(self, device: str) -> list[str]:
        try:
            with CloudReader(self.receiver.data) as reader:
                return [row.verdict for row in reader.readings(device)]
        except StoreError:
            return []


def test_to_the_receiver_on_live_connections(site: SecureBroker, capsys: pytest.CaptureFixture[str]) -> None:
    """Board, broker, gateway, receiver, all by TLS. The receiver, told alone, refuses the board's key on what still
    comes; told together with the broker, the board is cut off; then the gateway itself is refused."""
    key = site.fleet.admit("freezer-1", "board", tagged=True)
    write_identity(site.workdir / "nodes" / "freezer-1", key)
    site.install()
    site.reload()
    cloud = Cloud(site)
    mqtt, access = site.gateway_toml("gw-test")
    node = "\n".join(
        f'{part}_file = "{site.workdir / "nodes" / "gw-test" / part}.pem"' for part in ("ca", "cert", "key")
    )
    gateway = Daemon(site.workdir / "gateway", site.port, cloud.url, access, node, read_timeout_s=10, mqtt=mqtt)

    def tagged(boot: int) -> bytes:
        made: bytes = frames.encode(boot, 0, 0, [(1, BOOT, BOARD_CHANNEL, 0, 1000, 0)], key.reading_key)
        return made

    def publish(board: Client, boot: int) -> None:
        board.publish(topics.topic("freezer-1", topics.UP), tagged(boot))

    with cloud.receiver, gateway, Client(site.where, site.tls("freezer-1")) as board:
        publish(board, 1)
        wait_for(lambda: cloud.verdicts("freezer-1") == ["verified"], 30, "the first reading")
        assert revoke_at(site, "freezer-1", "--cloud", cloud.url) == 0
        publish(board, 2)
        wait_for(lambda: cloud.verdicts("freezer-1") == ["verified", "revoked"], 30, "the refusal")
        assert revoke(site, "freezer-1", "--cloud", cloud.url) == 0
        told = capsys.readouterr().out
        assert "its connection is cut" in told and "it refuses freezer-1 from now on" in told
        assert board.next()[0] == "disconnect"
        refused(site, "freezer-1")
        assert revoke_at(site, "gw-test", "--cloud", cloud.url) == 0
        with Client(site.where, site.tls("fridge-1")) as other:
            send(other, "fridge-1", 1)
        wait_for(lambda: "403" in gateway.log.read_text() or "revoked" in gateway.log.read_text(), 30, "the refusal")
        assert cloud.verdicts("fridge-1") == []


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
