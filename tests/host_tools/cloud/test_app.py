"""The receiver's HTTP side, in process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import zstandard

from host_tools.cloud import app as app_module
from host_tools.cloud.app import Receiver
from host_tools.cloud.gates import Gates
from host_tools.cloud.store import BusyError, Store
from host_tools.cloud.store_quota import RETRY_AFTER_S_MAX, Quota
from host_tools.cloud.wire import BODY_BYTES_MAX, TEXT_BYTES_MAX
from tests.support import uplink

TOKEN = "a-token-of-some-length"


class Client:
    """Calls the application as a server would."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self._app = receiver.app()

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://cloud") as client:
                return await client.request(method, path, **options)

        return asyncio.run(run())

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.call("GET", path, **options)

    def send(self, body: Any, number: int = 1, **extra: str) -> httpx.Response:
        """POST bytes, or what yields them, as they are."""
        digested = body if isinstance(body, bytes) else b""
        return self.call("POST", "/v1/batches", content=body, headers=uplink.headers(number, digested) | extra)

    def post(self, number: int, data: Any, **extra: str) -> httpx.Response:
        """POST a document."""
        return self.send(uplink.pack(data), number, **extra)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path) as opened:
        yield opened


@pytest.fixture
def client(store: Store) -> Client:
    return Client(Receiver(store))


def test_replies_name_gateway_and_batch(client: Client) -> None:
    first = client.post(1, uplink.document(1, [1, 2, 3]))
    assert (first.status_code, first.json()) == (
        200,
        {"gateway": "gw-1", "batch": 1, "status": "stored", "rows": 3, "new": 3},
    )
    again = client.post(1, uplink.document(1, [1, 2, 3]))
    assert (again.status_code, again.json()["status"], again.json()["new"]) == (200, "duplicate", 0)
    other = client.post(1, uplink.document(1, [4]))
    assert (other.status_code, other.json()["batch"]) == (409, 1)
    assert "another digest" in other.json()["error"]


def test_bytes_are_those_on_the_wire(client: Client) -> None:
    body = uplink.pack(uplink.document(1, [1]))
    response = client.send(body)
    request = response.request
    head = "POST /v1/batches HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in request.headers.items()) + "\r\n"
    metrics = client.get("/metrics").text
    assert f'isotherm_cloud_uplink_bytes_total{{gateway="gw-1"}} {len(head) + len(body)}' in metrics.splitlines()
    assert "isotherm_cloud_rows_new_total 1" in metrics.splitlines()


@pytest.mark.parametrize(
    ("send", "status", "reason"),
    [
        (lambda c: c.post(1, uplink.document(1, [1], v=9)), 422, "version"),
        (lambda c: c.post(1, b"{"), 400, "json"),
        (lambda c: c.post(1, {}, **{"Isotherm-Digest": "sha-256=" + "0" * 64}), 400, "digest"),
        (lambda c: c.post(1, {}, **{"Content-Type": "text/plain"}), 415, "content_type"),
        (lambda c: c.send(bytes(BODY_BYTES_MAX + 1)), 413, "size"),
        (lambda c: c.post(1, bytes(TEXT_BYTES_MAX + 1)), 413, "bomb"),
    ],
)  # fmt: skip
def test_refusals_say_why_and_are_counted(
    client: Client, send: Callable[[Client], httpx.Response], status: int, reason: str
) -> None:
    response = send(client)
    assert response.status_code == status
    assert response.json()["error"]
    assert client.receiver.refused == {reason: 1}
    assert f'isotherm_cloud_refused_requests_total{{reason="{reason}"}} 1' in client.get("/metrics").text
    assert client.get("/v1/devices").json() == {"devices": [], "next": None}


def test_health_says_when_the_disk_fails(client: Client, store: Store) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    refused = client.post(1, uplink.document(1, list(range(1, 20_000))))
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    health = client.get("/healthz")
    assert (health.status_code, health.json()["status"]) == (503, "failing")
    assert "full" in health.json()["error"]
    store._db.execute("PRAGMA max_page_count = 1000000")
    assert client.post(1, uplink.document(1, list(range(1, 20_000)))).status_code == 200
    assert client.get("/healthz").status_code == 200


def test_a_spent_quota_asks_to_come_tomorrow(tmp_path: Path) -> None:
    with Store(tmp_path / "quota", quota=Quota(rows_a_day=2)) as store:
        client = Client(Receiver(store))
        assert client.post(1, uplink.document(1, [1, 2, 3])).status_code == 200
        response = client.post(2, uplink.document(2, [4]))
        assert (response.status_code, response.json()["batch"]) == (429, 2)
        assert 1 <= int(response.headers["retry-after"]) <= RETRY_AFTER_S_MAX
        assert client.receiver.refused == {"quota": 1}
        assert client.post(1, uplink.document(1, [1, 2, 3])).json()["status"] == "duplicate"


def test_a_body_without_length_is_bounded_too(client: Client) -> None:
    async def endless() -> Any:
        for _ in range(BODY_BYTES_MAX // 65536 + 2):
            yield bytes(65536)

    response = client.send(endless())
    assert response.status_code == 413


def test_a_slow_body_is_given_up(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "BODY_SECONDS_MAX", 0.05)

    async def stuck() -> Any:
        yield b"x"
        await asyncio.Event().wait()

    response = client.send(stuck())
    assert response.status_code == 408


def test_a_full_queue_asks_to_come_again(client: Client, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise BusyError("many wait")

    monkeypatch.setattr(store, "submit", full)
    response = client.post(1, uplink.document(1, [1]))
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()["batch"] == 1


@pytest.mark.parametrize("shown", [None, "", TOKEN, "Bearer wrong", "Basic " + TOKEN, "Bearer " + TOKEN + "x"])
def test_the_token_guards_all_but_health(store: Store, shown: str | None) -> None:
    client = Client(Receiver(store, Gates(TOKEN)))
    wrong = {} if shown is None else {"Authorization": shown}
    assert client.post(1, uplink.document(1, [1]), **wrong).status_code == 401
    assert client.get("/v1/devices", headers=wrong).status_code == 401
    assert client.get("/metrics", headers=wrong).status_code == 401
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.post(1, uplink.document(1, [1]), Authorization="Bearer " + TOKEN).status_code == 200


def test_unknown_places(client: Client) -> None:
    answer = client.get("/v2/batches")
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["status"], answer.json()["error"]) == (404, "Not Found")
    assert client.call("DELETE", "/v1/batches").status_code == 405


def test_windows_of_zstd_are_bounded(client: Client) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    body = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = body.compress(b" " * (1 << 20)) + body.flush()
    response = client.send(packed)
    assert (response.status_code, client.receiver.refused) == (400, {"compression": 1})
