"""Tags on readings over real processes: broker, gateway, receiver; and a clone, a thief, and a gateway that lies."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import wire
from host_tools import cli
from host_tools.cloud.store_read import CloudReader
from host_tools.errors import StoreError
from host_tools.keys import fleet as fleets
from isocore import frame as frames
from isocore import topics
from isocore.record import DELTA, HIGH_ON
from tests.support.board_client import BoardClient, Record, wait_for
from tests.support.daemon import Answer, Daemon, FakeCloud, Seen
from tests.support.mosquitto import Mosquitto
from tests.support.uplink import ReceiverProcess

pytestmark = pytest.mark.mosquitto

EPOCH_S = 30_000_000  # after isocore.frame.EPOCH_BASE_UNIX_S


def records(first: int, last: int, value: int = 4000, kind: int = DELTA) -> list[Record]:
    return [(seq, kind, 0, value + seq, seq * 1000, 0) for seq in range(first, last + 1)]


class Site:
    """A fleet with one tagged board, its broker, gateway and receiver; `lie` changes what the gateway sends."""

    def __init__(self, folder: Path, broker: Mosquitto, boards: BoardClient) -> None:
        self.fleet = fleets.create(folder / "keys", "home", None)
        given = self.fleet.admit("fridge-1", "board", tagged=True)
        self.fleet.admit("fridge-2", "board", tagged=True)
        assert given.reading_key is not None
        self.key = given.reading_key
        self.boards = boards
        self.key_file = folder / "reading-keys.json"
        self.write_keys()
        self.receiver = ReceiverProcess(folder)
        self.receiver.start("--reading-keys-file", str(self.key_file))
        self.lies: list[Any] = []
        self.between = FakeCloud()
        self.between.script = self.forward
        self.daemon = Daemon(folder / "gateway", broker.port, self.between.url, read_timeout_s=10)
        self.daemon.start()

    def write_keys(self) -> None:
        assert cli.run(["keys", "cloud", "--dir", str(self.fleet.folder), "--out", str(self.key_file)]) == 0

    def forward(self, seen: Seen) -> Answer:
        """As a hostile gateway would: unpack, change, pack again, sign for it with a fresh digest."""
        headers = {name.lower(): value for name, value in seen.headers.items()}
        document = wire.decode(seen.body, headers["content-encoding"])
        for lie in self.lies:
            lie(document)
        body, digest = wire.encode(document, wire.compressor("gzip")[1])
        headers = {name: value for name, value in headers.items() if name.startswith(("isotherm-", "content-type"))}
        headers |= {"content-encoding": "gzip", "isotherm-digest": f"sha-256={digest}"}
        connection = http.client.HTTPConnection("127.0.0.1", self.receiver.port, timeout=20)
        try:
            connection.request("POST", "/v1/batches", body, headers)
            response = connection.getresponse()
            return response.status, {}, response.read()
        finally:
            connection.close()

    def send(self, said: list[Record], boot: int = 1, key: bytes | None = None, device: str = "fridge-1") -> None:
        self.boards.publish(device, topics.UP, frames.encode(boot, EPOCH_S, 0, said, key or self.key))

    def verdicts(self, device: str = "fridge-1") -> list[str]:
        try:
            with CloudReader(self.receiver.data) as reader:
                return [row.verdict for row in reader.readings(device)]
        except StoreError:
            return []

    def alarms(self) -> set[tuple[str, str]]:
        with CloudReader(self.receiver.data) as reader:
            return {(alarm.device, alarm.reason) for alarm in reader.alarms()}

    def wait_verdicts(self, expected: list[str], device: str = "fridge-1") -> None:
        wait_for(lambda: self.verdicts(device) == expected, what=f"{expected} of {device}")

    def close(self) -> None:
        self.daemon.kill()
        self.between.__exit__(None, None, None)
        self.receiver.kill()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Mosquitto(tmp_path / "broker") as broker, BoardClient(broker.port) as boards:
        made = Site(tmp_path, broker, boards)
        yield made
        made.close()


def test_from_the_board_to_the_verdict_a_clone_and_a_revocation(site: Site) -> None:
    site.send(records(1, 4))
    site.send([*records(5, 5, kind=HIGH_ON), *records(6, 8)])  # by two lanes
    site.wait_verdicts(["verified"] * 8)
    assert site.alarms() == set()

    site.send(records(3, 4, value=9000))  # another board with the same identity and key
    wait_for(lambda: '"clone"' in site.daemon.cli("alarms", "list", "--json").stdout, 60, "the gateway's alarm")
    site.send(records(9, 9))
    wait_for(lambda: ("fridge-1", "cloned") in site.alarms(), what="the receiver's alarm")
    site.wait_verdicts(["verified"] * 2 + ["cloned"] * 2 + ["verified"] * 5)

    arguments = ["keys", "revoke", "fridge-1", "--dir", str(site.fleet.folder), "--cloud-keys", str(site.key_file)]
    assert cli.run(arguments) == 0
    site.send(records(10, 11))
    wait_for(lambda: site.verdicts()[9:] == ["revoked"] * 2, what="the refusal")
    again = site.fleet.admit("fridge-1", "board", tagged=True)
    site.write_keys()
    site.send(records(1, 1), boot=2, key=again.reading_key)
    site.send(records(2, 2), boot=2)  # the old copy, with the key of before
    wait_for(lambda: site.verdicts()[11:] == ["verified", "generation"], what="the new generation")


def altered(document: dict[str, Any]) -> None:
    document["value"][0] += 1


def renamed(document: dict[str, Any]) -> None:
    document["devices"][0]["id"] = "fridge-2"


def invented(document: dict[str, Any]) -> None:
    document["devices"][0]["id"] = "made-up"


def moved(document: dict[str, Any]) -> None:
    document["series"][0][1] = document["frames"]["boot"][0] = 7


def stripped(document: dict[str, Any]) -> None:
    document.pop("frames", None)


def test_a_gateway_that_lies(site: Site) -> None:
    site.send(records(1, 3))
    site.wait_verdicts(["verified"] * 3)
    first = 4
    for lie, device, reason in (
        (altered, "fridge-1", "altered"),
        (renamed, "fridge-2", "swapped"),
        (invented, "made-up", "forged"),
        (moved, "fridge-1", "altered"),
        (stripped, "fridge-1", "unverified"),
    ):
        site.lies[:] = [lie]
        site.send(records(first, first + 2))
        first += 3
        wait_for(lambda device=device, reason=reason: reason in site.verdicts(device), what=f"{lie.__name__}: {reason}")
        assert (device, reason) in site.alarms()
    assert site.verdicts().count("verified") == 3
