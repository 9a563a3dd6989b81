"""Who may write at the receiver: each gateway under its own name, at a bounded rate, and never asking about others.

Certificates are those of `isotherm keys`, over real TLS against the real program.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from host_tools.cloud import gates as gates_module
from host_tools.cloud.app import Receiver
from host_tools.cloud.gates import Gates, read_gateway_tokens
from host_tools.cloud.protocol import ReceiverProtocol
from host_tools.cloud.store import Store
from host_tools.cloud.wire import WireError
from host_tools.errors import InputError
from host_tools.keys import fleet as fleets
from host_tools.keys.fleet import Fleet
from tests.support import uplink
from tests.support.uplink import ReceiverProcess

ONE, TWO = "token-of-gateway-one", "token-of-gateway-two"


def refusal(gates: Gates, gateway: str, shown: str = "", peer: dict[str, str] | None = None) -> str | None:
    try:
        gates.admit(gateway, shown, peer)
    except WireError as error:
        return f"{error.status} {error.reason}"
    return None


def test_each_gateway_has_its_own_token() -> None:
    gates = Gates(gateway_tokens={"gw-1": ONE, "gw-2": TWO})
    assert refusal(gates, "gw-1", f"Bearer {ONE}") is None
    for gateway, shown in (
        ("gw-2", f"Bearer {ONE}"),
        ("gw-3", f"Bearer {ONE}"),
        ("gw-1", ""),
        ("gw-1", ONE),
        ("x", "Bearer "),
    ):
        assert refusal(gates, gateway, shown) == "401 token"


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ({"organizationalUnitName": "gateway", "commonName": "gw-1"}, None),
        ({"commonName": "gw-1"}, None),
        ({"organizationalUnitName": "gateway", "commonName": "gw-2"}, "403 certificate"),
        ({"organizationalUnitName": "board", "commonName": "gw-1"}, "403 certificate"),
        ({}, "403 certificate"),
        (None, "403 certificate"),
    ],
)
def test_the_certificate_names_the_gateway(peer: dict[str, str] | None, expected: str | None) -> None:
    assert refusal(Gates(certificates=True), "gw-1", "", peer) == expected


def test_a_rate_is_each_gateways_own(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    gates = Gates(rate_per_s=2, clock_s=lambda: now_s)
    assert [refusal(gates, "gw-1") for _ in range(11)] == [None] * 10 + ["429 rate"]
    assert refusal(gates, "gw-2") is None
    now_s += 0.5
    assert [refusal(gates, "gw-1") for _ in range(2)] == [None, "429 rate"]
    monkeypatch.setattr(gates_module, "_NAMES_MAX", 2)
    for name in "abcd":
        assert refusal(gates, name) is None
    assert len(gates._left) <= 3


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "must hold lines"),
        ("GW token-of-some-length", "line 1"),
        ("gw-1 short", "at least 16"),
        (f"gw-1 {ONE}\ngw-1 {TWO}", "line 2"),
        (f"gw-1 {ONE}\ngw-2 {ONE}", "each token once"),
    ],
)
def test_a_file_of_tokens_says_what_is_wrong_with_it(tmp_path: Path, text: str, wrong: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(InputError, match=wrong):
        read_gateway_tokens(path)
    path.write_text(f"# ours\n\ngw-1 {ONE}\n")
    assert read_gateway_tokens(path) == {"gw-1": ONE}


# ---- the real program


class Site:
    """A receiver with certificates of a fleet, and a listener for questions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fleet: Fleet = fleets.create(folder / "keys", "home", None)
        self.receiver = ReceiverProcess(folder)
        self.write("cloud", "receiver", ["127.0.0.1"])
        self.admin_port = 0

    def write(self, name: str, role: str, hosts: list[str] | None = None) -> None:
        identity = self.fleet.admit(name, role, hosts or []).identity
        (self.folder / f"{name}.pem").write_bytes(identity.certificate_pem)
        (self.folder / f"{name}.key").write_bytes(identity.key_pem)

    def start(self, *more: str) -> None:
        port_file = self.folder / "admin-port"
        (self.folder / "admin-token").write_text("the-token-of-the-operator")
        self.receiver.start(
            *("--cert-file", str(self.folder / "cloud.pem"), "--key-file", str(self.folder / "cloud.key")),
            *("--client-ca-file", str(self.folder / "keys" / "ca.pem")),
            *("--admin-port", "0", "--admin-port-file", str(port_file)),
            *("--admin-token-file", str(self.folder / "admin-token"), *more),
        )
        self.admin_port = int(port_file.read_text())

    def send(self, by: str, gateway: str, number: int = 1, path: str = "/v1/batches") -> tuple[int, str]:
        context = ssl.create_default_context(cafile=str(self.folder / "keys" / "ca.pem"))
        context.load_cert_chain(self.folder / f"{by}.pem", self.folder / f"{by}.key")
        connection = http.client.HTTPSConnection("127.0.0.1", self.receiver.port, timeout=20, context=context)
        try:
            body = uplink.pack(uplink.document(number, [number], gateway=gateway))
            connection.request(
                "POST" if path == "/v1/batches" else "GET", path, body, uplink.headers(number, body, gateway)
            )
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def ask(self, path: str, token: str = "the-token-of-the-operator") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=20)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"))
    for name, role in (("gw-1", "gateway"), ("gw-2", "gateway"), ("fridge-1", "board")):
        made.write(name, role)
    with made.receiver:
        made.start()
        yield made


def test_a_gateway_writes_under_its_own_name_only(site: Site) -> None:
    assert site.send("gw-1", "gw-1")[0] == 200
    assert site.send("gw-2", "gw-1", 2)[0] == 403
    assert site.send("fridge-1", "fridge-1", 3)[0] == 403
    status, text = site.ask("/v1/devices")
    assert (status, [device["id"] for device in json.loads(text)["devices"]]) == (200, ["fridge-1"])
    status, text = site.ask("/metrics")
    assert 'isotherm_cloud_uplink_bytes_total{gateway="gw-1"}' in text and 'gateway="gw-2"' not in text
    assert 'isotherm_cloud_refused_requests_total{reason="certificate"} 2' in text


def test_questions_are_not_for_gateways(site: Site) -> None:
    for path in ("/v1/devices", "/v1/readings", "/v1/windows", "/v1/alarms", "/metrics"):
        assert site.send("gw-1", "gw-1", path=path)[0] == 404
        assert site.ask(path, "another-token-of-length")[0] == 401
    assert site.ask("/v1/alarms") == (200, '{"alarms":[],"next":null}')
    assert site.ask("/v1/batches")[0] == 404
    assert site.ask("/healthz", "")[0] == 200


def test_the_listener_for_questions_stays_at_home(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "host_tools.cli", "cloud", "serve", "--data", str(tmp_path / "d"), "--port", "0",
         "--admin-port", "0", "--admin-host", "0.0.0.0"],
        capture_output=True, text=True, timeout=60, check=False, cwd=uplink.ROOT,
        env={"PYTHONPATH": f"{uplink.ROOT}:{uplink.ROOT / 'firmware'}", "PATH": "/usr/bin"},
    )  # fmt: skip
    assert done.returncode != 0 and "a loopback address" in done.stderr and "Traceback" not in done.stderr


# ---- slow-loris


@pytest.mark.parametrize(
    ("sent", "again"),  # again: after a first request on the connection, where mere idling is the keep-alive's to end
    [
        (b"", False),
        (b"POST /v1/batches HT", False),
        (b"POST /v1/batches HT", True),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: ", False),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: ", True),
    ],
)
def test_a_head_that_never_ends_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes, again: bool
) -> None:
    """The bound is short here; no time is measured."""
    monkeypatch.setattr(ReceiverProtocol, "head_seconds_max", 0.05)

    async def run(store: Store) -> bytes:
        config = uvicorn.Config(Receiver(store).app(), http=ReceiverProtocol, lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        listener = socket.create_server(("127.0.0.1", 0))
        task = asyncio.create_task(server._serve([listener]))
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        if again:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"ok" in await asyncio.wait_for(reader.readuntil(b'"ok"}'), 20)
        writer.write(sent)
        try:
            rest = await asyncio.wait_for(reader.read(), 20)
        except ConnectionResetError:
            rest = b""
        writer.close()
        server.should_exit = True
        await task
        return rest

    with Store(tmp_path) as store:
        assert asyncio.run(run(store)) == b""
