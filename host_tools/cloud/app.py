"""The receiver's HTTP side: POST /v1/batches, health, metrics, and which listener answers questions (`questions.py`).

A batch is answered after its commit, and only then. Replies name the gateway and the batch, so that the gateway can
tell its own from a stray one. Refusals are RFC 9457 problems, with the text in `error` as well, which gateways read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from host_tools.cloud import exposition, openapi
from host_tools.cloud.gates import Gates
from host_tools.cloud.members import DOCUMENT_BYTES_MAX, MembersError
from host_tools.cloud.parameters import Problem, acknowledgement
from host_tools.cloud.ports import Answers, BatchStore
from host_tools.cloud.questions import Questions
from host_tools.cloud.store import BusyError, DigestConflict
from host_tools.cloud.store_quota import QuotaSpent
from host_tools.cloud.wire import BODY_BYTES_MAX, Batch, WireError, decode, read_head
from host_tools.errors import KeyFileError, StoreError

log = logging.getLogger("isotherm.cloud")

BODY_SECONDS_MAX = 30.0  # a body that comes slower than this is given up
RETRY_AFTER_S = 1
ACK_BYTES_MAX = 16 << 10
ENCODINGS = {"Accept-Encoding": "zstd, gzip"}
# RFC 9110: section 12.5.3, what a gateway may send instead of what was refused; 11.6.1 and 10.2.3.
_HEADERS = {
    "encoding": ENCODINGS,
    "token": {"WWW-Authenticate": "Bearer"},
    "rate": {"Retry-After": str(RETRY_AFTER_S)},
}
_INLINE_BYTES_MAX = 8 << 10  # smaller bodies decode in about a millisecond: a thread would cost more

Handler = Callable[[Request], Awaitable[Response]]


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


class Receiver:
    """The request handlers. gates: who may write; admin: guards questions that have a listener of their own."""

    def __init__(
        self,
        store: BatchStore,
        gates: Gates | None = None,
        admin: Gates | None = None,
        unix_ms: Callable[[], int] = _unix_ms,
    ) -> None:
        self._store = store
        self._asked = Questions(store.question, unix_ms)
        self._gates = gates or Gates()
        self._admin = admin
        self.refused: Counter[str] = Counter()
        self.refused_bytes = 0

    def app(self) -> Starlette:
        """The ASGI application for gateways. It answers questions only where gateways have no credentials of their own
        and the questions no listener."""
        routes = [
            Route("/healthz", self.healthz, methods=["GET"]),
            Route("/v1/batches", self.batches, methods=["POST"]),
        ]
        if self._gates.members is not None:
            routes.append(Route("/v1/members", self.members, methods=["PUT"]))
        if self._admin is None and not self._gates.apart:
            routes += self._questions(self._gates)
        return self._application(routes)

    def admin_app(self) -> Starlette:
        """The ASGI application for people and their programs."""
        gates = self._admin or self._gates
        routes = [Route("/healthz", self.healthz, methods=["GET"]), *self._questions(gates)]
        routes.append(Route("/v1/alarms/acknowledge", _guarded(gates, self.acknowledge), methods=["POST"]))
        return self._application(routes)

    def _application(self, routes: list[Route]) -> Starlette:
        handlers = {HTTPException: _http_error, Problem: _problem_error, WireError: self._refuse}
        app = Starlette(routes=routes, exception_handlers=handlers)
        app.state.document = openapi.document(route.path for route in routes)
        return app

    def _questions(self, gates: Gates) -> list[Route]:
        asked = self._asked.routes() | {"/metrics": self.metrics, "/openapi.json": self.openapi}
        return [Route(path, _guarded(gates, handler), methods=["GET"]) for path, handler in asked.items()]

    async def healthz(self, request: Request) -> Response:
        if self._store.trouble is not None:
            return JSONResponse({"status": "failing", "error": self._store.trouble}, 503)
        return JSONResponse({"status": "ok"})

    async def batches(self, request: Request) -> Response:
        head = read_head(request.headers)
        self._gates.admit(head.gateway, request.headers.get("authorization", ""), getattr(request.state, "peer", None))
        body = await self._body(request)
        request_bytes = _head_bytes(request) + len(body)
        batch = decode(head, body) if len(body) <= _INLINE_BYTES_MAX else await run_in_threadpool(decode, head, body)
        return await self._stored(batch, request_bytes)

    async def members(self, request: Request) -> Response:
        """A list of the fleet's members; in force, and on the disk, when it is answered."""
        assert self._gates.members is not None
        self._gates.admit_list(getattr(request.state, "peer", None))
        document = await self._body(request, DOCUMENT_BYTES_MAX)
        try:
            number = await run_in_threadpool(self._gates.members.offer, document)
        except MembersError as error:
            raise WireError(409 if error.conflict else 400, "members", str(error)) from None
        except KeyFileError as error:
            self.refused["store"] += 1
            return JSONResponse({"error": str(error)}, 503, {"Retry-After": str(RETRY_AFTER_S)})
        return JSONResponse({"number": number})

    async def acknowledge(self, request: Request) -> Response:
        """A person looked at identity alarms: noted, and on the disk, when it is answered."""
        # A page in somebody's browser can send a form or plain text to a loopback address, and JSON only if allowed to.
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Problem(415, "Content-Type must be application/json")
        ack = acknowledgement(await self._body(request, ACK_BYTES_MAX))
        try:
            done = await asyncio.wrap_future(self._store.acknowledge(ack))
        except (BusyError, StoreError) as error:
            raise Problem(503, str(error), retry_after_s=RETRY_AFTER_S) from None
        if not done:
            raise Problem(404, "there is no such identity alarm; those of /v1/alarms?state=all may be acknowledged")
        if any(one.new for one in done):
            log.warning("%s acknowledged %s of %s: %s", ack.who, ack.reason, ack.device, ack.why)
        return JSONResponse({"acknowledged": [one._asdict() for one in done]})

    async def _stored(self, batch: Batch, request_bytes: int) -> Response:
        answer: dict[str, str | int] = {"gateway": batch.gateway, "batch": batch.number}
        try:
            stored = await asyncio.wrap_future(self._store.submit(batch, request_bytes))
        except DigestConflict as error:
            return JSONResponse(answer | {"error": str(error)}, 409)
        except QuotaSpent as error:
            self.refused["quota"] += 1
            return JSONResponse(answer | {"error": str(error)}, 429, {"Retry-After": str(error.retry_after_s)})
        except (BusyError, StoreError) as error:
            self.refused["busy" if isinstance(error, BusyError) else "store"] += 1
            return JSONResponse(answer | {"error": str(error)}, 503, {"Retry-After": str(RETRY_AFTER_S)})
        return JSONResponse(answer | {"status": stored.status, "rows": stored.rows, "new": stored.new})

    async def _body(self, request: Request, bytes_max: int = BODY_BYTES_MAX) -> bytes:
        declared = request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > bytes_max:
            raise WireError(413, "size", f"body of {declared} bytes, at most {bytes_max}")
        parts = []
        size = 0
        try:
            async with asyncio.timeout(BODY_SECONDS_MAX):
                async for part in request.stream():
                    size += len(part)
                    if size > bytes_max:
                        raise WireError(413, "size", f"body of more than {bytes_max} bytes")
                    parts.append(part)
        except TimeoutError:
            raise WireError(408, "slow", f"body took longer than {BODY_SECONDS_MAX:g} s") from None
        except ClientDisconnect:
            raise WireError(400, "cut", "the connection ended inside the body") from None
        return b"".join(parts)

    async def _refuse(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, WireError)
        self.refused[error.reason] += 1
        self.refused_bytes += _head_bytes(request) + int(request.headers.get("content-length", "0"))
        return _problem(error.status, str(error), headers=_HEADERS.get(error.reason))

    async def metrics(self, request: Request) -> Response:
        def ask(query: Answers) -> str:
            return exposition.text(query, self.refused, self.refused_bytes, self._store.waiting)

        page = await self._asked.ask(ask)
        return PlainTextResponse(page, media_type="text/plain; version=0.0.4")

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(request.app.state.document)


def _guarded(gates: Gates, handler: Handler) -> Handler:
    """`handler`, for those who show the token."""

    async def checked(request: Request) -> Response:
        gates.open_to(request.headers.get("authorization", ""))
        return await handler(request)

    return checked


def _problem(
    status: int, detail: str, parameter: str | None = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    """RFC 9457 section 3. "error" is what a gateway reads of a refusal (docs/uplink.md)."""
    body: dict[str, object] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    body |= {"detail": detail, "error": detail} | ({} if parameter is None else {"parameter": parameter})
    return JSONResponse(body, status, headers, media_type="application/problem+json")


async def _problem_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    headers = None if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    return _problem(error.status, error.detail, error.parameter, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _problem(error.status_code, error.detail, headers=dict(error.headers) if error.headers else None)


def _head_bytes(request: Request) -> int:
    """Bytes of the request line, the headers and the blank line, as they were on the wire."""
    query = request.scope["query_string"]
    target = len(request.scope["raw_path"]) + (len(query) + 1 if query else 0)
    line = len(request.method) + 1 + target + 1 + len("HTTP/1.1") + 2
    return line + sum(len(name) + 2 + len(value) + 2 for name, value in request.headers.raw) + 2
