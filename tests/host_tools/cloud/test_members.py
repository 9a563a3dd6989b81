"""The receiver obeys the fleet's list of members: over real TLS, on connections that are open, and after a restart."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_tools import cli
from host_tools.cloud.gates import Gates
from host_tools.cloud.members import FILE_NAME, Members, MembersError
from host_tools.cloud.wire import WireError
from host_tools.commands.keys import write_identity
from host_tools.keys import fleet as fleets
from tests.support import uplink
from tests.support.uplink import ReceiverProcess


class Site:
    """A fleet and a receiver that knows its root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fleet = fleets.create(folder / "keys", "home", None)
        self.receiver = ReceiverProcess(folder)
        self.admit("cloud", "receiver", "cloud")
        for name, role in (("gw-1", "gateway"), ("gw-2", "gateway"), ("fridge-1", "board"), ("operator", "operator")):
            self.admit(name, role, name)

    def admit(self, name: str, role: str, folder: str) -> None:
        hosts = ["127.0.0.1"] if role == "receiver" else []
        write_identity(self.folder / folder, self.fleet.admit(name, role, hosts))

    def start(self) -> None:
        own = self.folder / "cloud"
        self.receiver.start(
            *("--cert-file", str(own / "cert.pem"), "--key-file", str(own / "key.pem")),
            *("--client-ca-file", str(own / "ca.pem"), "--fleet", "home"),
            *("--root-key-file", str(self.fleet.folder / "root-key.pub")),
        )

    def connection(self, folder: str) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.folder / folder / "ca.pem"))
        context.load_cert_chain(self.folder / folder / "cert.pem", self.folder / folder / "key.pem")
        return http.client.HTTPSConnection("127.0.0.1", self.receiver.port, timeout=20, context=context)

    def tell(self, document: bytes, folder: str = "operator") -> int:
        connection = self.connection(folder)
        try:
            return answer(connection, "PUT", "/v1/members", document)
        finally:
            connection.close()

    def revoke(self, name: str) -> int:
        arguments = ["keys", "revoke", name, "--dir", str(self.fleet.folder)]
        where = ["--cloud", f"https://127.0.0.1:{self.receiver.port}", "--identity", str(self.folder / "operator")]
        return cli.run([*arguments, *where])


def answer(
    connection: http.client.HTTPSConnection, method: str, path: str, body: bytes, headers: dict[str, str] | None = None
) -> int:
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    response.read()
    return response.status


def post(connection: http.client.HTTPSConnection, number: int, gateway: str = "gw-1") -> int:
    body = uplink.pack(uplink.document(number, [number], gateway=gateway))
    return answer(connection, "POST", "/v1/batches", body, uplink.headers(number, body, gateway))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    with made.receiver:
        made.start()
        yield made


def once(site: Site, folder: str, number: int) -> int:
    """A batch of gw-1 over a connection of its own, with the certificate in a folder."""
    connection = site.connection(folder)
    try:
        return post(connection, number)
    finally:
        connection.close()


def test_a_revoked_gateway_is_refused_on_its_open_connection_too(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    opened, other = site.connection("gw-1"), site.connection("gw-2")
    assert (post(opened, 1), post(other, 1, "gw-2")) == (200, 200)
    same = opened.sock
    assert site.revoke("gw-1") == 0
    assert "it refuses gw-1 from now on" in capsys.readouterr().out
    assert post(opened, 2) == 403
    assert opened.sock is same, "the connection of before"
    assert post(other, 2, "gw-2") == 200  # the others' work goes on
    assert once(site, "gw-1", 2) == 403
    site.receiver.kill()
    site.start()
    assert once(site, "gw-1", 2) == 403, "forgotten by a restart"
    site.admit("gw-1", "gateway", "gw-1-again")
    port = str(site.receiver.port)
    told = ["broker", "tell", "--keys", str(site.fleet.folder), "--identity", str(site.folder / "operator")]
    assert cli.run([*told, "--cloud", f"https://127.0.0.1:{port}"]) == 0
    assert once(site, "gw-1", 2) == 403, "the certificate of before came back with the name"
    assert once(site, "gw-1-again", 2) == 200
    for connection in (opened, other):
        connection.close()


def test_only_the_fleets_own_newest_word_counts(site: Site, tmp_path: Path) -> None:
    older = site.fleet.access_document()
    site.fleet.revoke("gw-2")
    newest = site.fleet.access_document()
    assert site.tell(newest, "gw-1") == 403, "by a gateway"
    assert site.tell(newest, "fridge-1") == 403, "by a board"
    assert site.tell(newest) == 200
    assert site.tell(newest) == 200, "again"
    assert site.tell(older) == 409, "rolled back"
    flipped = bytearray(newest)
    flipped[len(flipped) // 2] ^= 1
    stranger = fleets.create(tmp_path / "other", "home", None)
    assert site.tell(bytes(flipped)) == 400
    assert site.tell(stranger.access_document()) == 400, "another root"
    assert site.tell(b"") == 400
    assert site.tell(bytes(70_000)) == 413
    site.fleet.revoke("operator")
    site.admit("operator-2", "operator", "operator-2")
    assert site.tell(site.fleet.access_document(), "operator-2") == 200, "a newcomer with a sound certificate"
    assert site.tell(site.fleet.access_document()) == 403, "an operator who was withdrawn himself"
    assert once(site, "gw-1", 1) == 200


def test_a_gateway_with_a_token_is_known_by_its_name(tmp_path: Path) -> None:
    fleet = fleets.create(tmp_path / "keys", "home", None)
    for name in ("gw-1", "gw-2"):
        fleet.admit(name, "gateway")
    members = Members(tmp_path, "home", fleet.root_key)
    gates = Gates(members=members)
    gates.admit("gw-1", "", None)
    fleet.revoke("gw-1")
    members.offer(fleet.access_document())
    gates.admit("gw-2", "", None)
    with pytest.raises(WireError, match="does not belong"):
        gates.admit("gw-1", "", None)


def test_a_damaged_list_stops_the_start(tmp_path: Path) -> None:
    """Without it, who was revoked would be let in."""
    fleet = fleets.create(tmp_path / "keys", "home", None)
    members = Members(tmp_path, "home", fleet.root_key)
    number = members.offer(fleet.access_document())
    kept = Members(tmp_path, "home", fleet.root_key).current
    assert kept is not None and kept.number == number
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(MembersError, match="keys revoke"):
        Members(tmp_path, "home", fleet.root_key)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://192.0.2.1:8440", "loopback"),
        ("ftp://localhost", "must be https"),
        ("https://host:nine", "must be https"),
        ("https://host/path", "must be https"),
    ],
)
def test_an_address_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str, says: str) -> None:
    fleet = fleets.create(tmp_path / "keys", "home", None)
    write_identity(tmp_path / "operator", fleet.admit("operator", "operator"))
    fleet.admit("gw-1", "gateway")
    arguments = ["keys", "revoke", "gw-1", "--dir", str(fleet.folder), "--identity", str(tmp_path / "operator")]
    assert cli.run([*arguments, "--cloud", url]) == 2
    assert says in capsys.readouterr().err


def test_a_receiver_that_is_away_or_takes_no_lists(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.receiver.kill()
    assert site.revoke("fridge-1") == 1
    assert "cannot be told" in capsys.readouterr().err
    own = site.folder / "cloud"
    site.receiver.start(
        *("--cert-file", str(own / "cert.pem"), "--key-file", str(own / "key.pem")),
        *("--client-ca-file", str(own / "ca.pem")),
    )
    assert site.revoke("fridge-1") == 1
    assert "--root-key-file" in capsys.readouterr().err
    site.receiver.stop()
    site.start()
    assert site.revoke("fridge-1") == 0  # the same command again
