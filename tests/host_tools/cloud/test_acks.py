"""Acknowledging identity alarms: from the store to the command line; nothing is taken away, and what is new stands."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import validate as validate_document

from host_tools.cli import run
from host_tools.cloud.app import Receiver
from host_tools.cloud.gates import Gates
from host_tools.cloud.store import BusyError, Store
from host_tools.cloud.store_read import CloudReader
from tests.support import uplink

TOKEN = "a-token-of-some-length"
ACK = {"device": "fridge-1", "reason": "conflict", "who": "ada", "why": "two boards had one name"}


class Admin:
    """The listener for questions, and batches that bring conflicts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now_unix_ms = 1_800_000_000_000
        self.number = 0
        self.open()

    def open(self) -> None:
        self.store = Store(self.folder, lambda: self.now_unix_ms)
        self.receiver = Receiver(self.store, Gates(), Gates(TOKEN), unix_ms=lambda: self.now_unix_ms)
        self.app = self.receiver.admin_app()

    def call(self, app: Any, method: str, path: str, **options: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://cloud") as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {TOKEN}"} | options.pop("headers", {})
        response = self.call(self.app, method, path, headers=headers, **options)
        described = self.app.state.document["paths"][path][method.lower()]["responses"][str(response.status_code)]
        media = response.headers["content-type"].partition(";")[0]
        schema = described["content"][media]["schema"] | {"components": self.app.state.document["components"]}
        Draft202012Validator(schema, format_checker=FormatChecker()).validate(response.json())
        return response

    def conflict(self, gateway: str = "gw-1") -> None:
        """The same identity with another content each time; the first is no conflict."""
        self.number += 1
        self.now_unix_ms += 1000
        body = uplink.pack(uplink.document(self.number, [1], gateway=gateway, value=[4000 + self.number]))
        headers = uplink.headers(self.number, body, gateway)
        assert self.call(self.receiver.app(), "POST", "/v1/batches", content=body, headers=headers).status_code == 200

    def acknowledge(self, **more: Any) -> httpx.Response:
        self.now_unix_ms += 1000
        return self.ask("POST", "/v1/alarms/acknowledge", json=ACK | more)

    def alarms(self, state: str = "open") -> list[dict[str, Any]]:
        return list(self.ask("GET", "/v1/alarms", params={"state": state}).json()["alarms"])

    def close(self) -> None:
        self.store.close()


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[Admin]:
    made = Admin(tmp_path)
    yield made
    made.close()


def test_it_stands_no_more_and_a_new_one_stands_again(admin: Admin) -> None:
    admin.conflict()
    admin.conflict()
    (before,) = admin.alarms()
    assert (before["ended_by"], before["times"], before["acknowledgements"]) == (None, 1, [])
    told = admin.acknowledge().json()["acknowledged"]
    assert told == [{"device": "fridge-1", "reason": "conflict", "gateway": "gw-1", "times": 1, "new": True}]
    assert admin.alarms() == []
    (kept,) = admin.alarms("all")
    at = "2027-01-15T08:00:03.000Z"
    assert kept["acknowledgements"] == [{"who": "ada", "why": ACK["why"], "times": 1, "at": at}]
    assert (kept["until"], kept["ended_by"], kept["since"]) == (at, "acknowledged", before["since"])
    assert admin.acknowledge().json()["acknowledged"][0]["new"] is False
    admin.conflict()
    admin.conflict()
    (again,) = admin.alarms()
    assert (again["ended_by"], again["times"], again["since"]) == (None, 3, "2027-01-15T08:00:05.000Z")
    assert [one["who"] for one in again["acknowledgements"]] == ["ada"], "what was said stays"
    admin.acknowledge(who="grace", why="the clone is found")
    assert admin.alarms() == []
    assert [one["who"] for one in admin.alarms("all")[0]["acknowledgements"]] == ["grace", "ada"]


def test_what_came_after_one_looked_is_not_acknowledged(admin: Admin) -> None:
    for _ in range(3):
        admin.conflict()
    assert admin.acknowledge(gateway="gw-1", times=1).json()["acknowledged"][0]["times"] == 1
    (left,) = admin.alarms()
    assert left["times"] == 2
    admin.acknowledge(times=9)
    assert admin.alarms() == []
    admin.conflict()
    assert len(admin.alarms()) == 1, "nothing was acknowledged before it was there"


def test_each_gateway_s_is_one_of_its_own(admin: Admin) -> None:
    for gateway in ("gw-1", "gw-2", "gw-1"):
        admin.conflict(gateway)
    admin.acknowledge(gateway="gw-2")
    assert [alarm["gateway"] for alarm in admin.alarms()] == ["gw-1"]
    assert [one["new"] for one in admin.acknowledge().json()["acknowledged"]] == [True, False]
    assert admin.alarms() == []


def test_it_is_on_the_disk_and_evidence_stays(admin: Admin) -> None:
    admin.conflict()
    admin.conflict()
    admin.acknowledge()
    admin.close()
    with CloudReader(admin.folder) as reader:
        (alarm,) = reader.alarms()
        assert (alarm.times, alarm.acked) == (1, 1)
    admin.open()
    assert (admin.alarms(), len(admin.alarms("all"))) == ([], 1)
    page = admin.call(admin.app, "GET", "/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
    assert 'isotherm_cloud_tag_alarms_total{device="fridge-1",reason="conflict",gateway="gw-1"} 1\n' in page
    assert "isotherm_cloud_identity_alarms_standing{" not in page
    admin.conflict()
    page = admin.call(admin.app, "GET", "/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
    assert 'isotherm_cloud_identity_alarms_standing{reason="conflict"} 1\n' in page


def test_only_where_questions_have_a_listener_of_their_own(admin: Admin, tmp_path: Path) -> None:
    validate_document(admin.app.state.document)
    one_for_all = Receiver(admin.store).app()
    for app in (admin.receiver.app(), one_for_all):
        assert admin.call(app, "POST", "/v1/alarms/acknowledge", json=ACK).status_code in (404, 405)
    assert admin.call(admin.app, "POST", "/v1/alarms/acknowledge", json=ACK).status_code == 401


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        (b"", None),
        (b"[]", None),
        (b"[" * 9000, None),
        ({"more": 1}, None),
        ({"who": ""}, "who"),
        ({"who": None}, "who"),
        ({"who": "x" * 65}, "who"),
        ({"why": "a\nb"}, "why"),
        ({"why": 7}, "why"),
        ({"device": ["fridge-1"]}, "device"),
        ({"gateway": ""}, "gateway"),
        ({"times": 0}, "times"),
        ({"times": True}, "times"),
        ({"times": 1.5}, "times"),
    ],
)
def test_what_cannot_be_understood_names_the_part(admin: Admin, body: Any, parameter: str | None) -> None:
    admin.conflict()
    admin.conflict()
    given = {"json": ACK | body} if isinstance(body, dict) else {"content": body}
    response = admin.ask("POST", "/v1/alarms/acknowledge", headers={"Content-Type": "application/json"}, **given)
    assert (response.status_code, response.json().get("parameter")) == (400, parameter)
    assert len(admin.alarms()) == 1


def test_refusals(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    assert admin.acknowledge().status_code == 404
    # What a page in a browser may send to a loopback address without being asked.
    plain = admin.ask("POST", "/v1/alarms/acknowledge", content=b"{}", headers={"Content-Type": "text/plain"})
    assert plain.status_code == 415
    large = admin.ask(
        "POST", "/v1/alarms/acknowledge", content=b" " * 20_000, headers={"Content-Type": "application/json"}
    )
    assert large.status_code == 413

    def busy(ack: object) -> None:
        raise BusyError("too many wait")

    monkeypatch.setattr(admin.store, "acknowledge", busy)
    assert (admin.acknowledge().status_code, admin.acknowledge().headers["retry-after"]) == (503, "1")


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def cli(*arguments: str) -> tuple[int, str]:
        code = run(["cloud", "ack", *arguments])
        said = capsys.readouterr()
        return code, said.out + said.err

    token = tmp_path / "token"
    token.write_text(TOKEN)
    port_file = tmp_path / "admin"
    with uplink.ReceiverProcess(tmp_path) as receiver:
        receiver.start("--admin-port", "0", "--admin-port-file", str(port_file), "--admin-token-file", str(token))
        for number in (1, 2):
            body = uplink.pack(uplink.document(number, [1], value=[4000 + number]))
            assert receiver.post(number, body)[0] == 200
        url = f"http://127.0.0.1:{port_file.read_text().strip()}"
        asked = ("fridge-1", "--reason", "conflict", "--why", "looked at", "--url")
        told = "acknowledged fridge-1: conflict, by gw-1, 1 times\n"
        assert cli(*asked, url, "--token-file", str(token)) == (0, told)
        code, said = cli(*asked, url)
        assert (code, "401" in said) == (1, True)
        code, said = cli(*asked, f"http://127.0.0.1:{receiver.port}")
        assert (code, "--admin-port" in said) == (1, True)
        receiver.kill()
        assert cli(*asked, url)[0] == 1
    assert cli(*asked, "http://example.org")[0] == 2
    with CloudReader(receiver.data) as reader:
        assert [(alarm.times, alarm.acked) for alarm in reader.alarms()] == [(1, 1)]
