"""The receiver's HTTP side: POST /v1/batches, and a few questions. Stores through `store.Store`, asks `store_read`.

A batch is answered after its commit, and only then. Replies name the gateway and the batch, so that the gateway can
tell its own from a stray one.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from host_tools.cloud.gates import Gates
from host_tools.cloud.store import BusyError, DigestConflict, Store
from host_tools.cloud.store_read import CloudReader, StoredReading
from host_tools.cloud.windows import LENGTH_S_MAX, UNIX_S_MAX
from host_tools.cloud.wire import BODY_BYTES_MAX, Batch, WireError, decode, read_head
from host_tools.errors import StoreError
from isocore.record import BOARD_CHANNEL, KIND_NAMES

PAGE_DEFAULT = 1000
PAGE_MAX = 10000
BODY_SECONDS_MAX = 30.0  # a body that comes slower than this is given up
RETRY_AFTER_S = 1
ENCODINGS = {"Accept-Encoding": "zstd, gzip"}
# RFC 9110: section 12.5.3, what a gateway may send instead of what was refused; 11.6.1 and 10.2.3.
_HEADERS = {
    "encoding": ENCODINGS,
    "token": {"WWW-Authenticate": "Bearer"},
    "rate": {"Retry-After": str(RETRY_AFTER_S)},
}
_INLINE_BYTES_MAX = 8 << 10  # smaller bodies decode in about a millisecond: a thread would cost more
_AFTER = re.compile(r"(\d{1,10})\.(\d{1,10})")

_T = TypeVar("_T")
Handler = Callable[[Request], Awaitable[Response]]


class Receiver:
    """The request handlers. gates: who may write; admin: guards questions that have a listener of their own."""

    def __init__(self, store: Store, gates: Gates | None = None, admin: Gates | None = None) -> None:
        self._store = store
        self._folder = store.path.parent
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
        if self._admin is None and not self._gates.apart:
            routes += self._questions(self._gates)
        return self._application(routes)

    def admin_app(self) -> Starlette:
        """The ASGI application for people and their programs."""
        routes = [Route("/healthz", self.healthz, methods=["GET"]), *self._questions(self._admin or self._gates)]
        return self._application(routes)

    def _application(self, routes: list[Route]) -> Starlette:
        return Starlette(routes=routes, exception_handlers={HTTPException: _http_error, WireError: self._refuse})

    def _questions(self, gates: Gates) -> list[Route]:
        asked = {
            "/v1/devices": self.devices,
            "/v1/readings": self.readings,
            "/v1/windows": self.windows,
            "/v1/alarms": self.alarms,
            "/metrics": self.metrics,
        }
        return [Route(path, _guarded(gates, handler), methods=["GET"]) for path, handler in asked.items()]

    async def healthz(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def batches(self, request: Request) -> Response:
        head = read_head(request.headers)
        self._gates.admit(head.gateway, request.headers.get("authorization", ""), getattr(request.state, "peer", None))
        body = await self._body(request)
        request_bytes = _head_bytes(request) + len(body)
        batch = decode(head, body) if len(body) <= _INLINE_BYTES_MAX else await run_in_threadpool(decode, head, body)
        return await self._stored(batch, request_bytes)

    async def _stored(self, batch: Batch, request_bytes: int) -> Response:
        answer: dict[str, str | int] = {"gateway": batch.gateway, "batch": batch.number}
        try:
            stored = await asyncio.wrap_future(self._store.submit(batch, request_bytes))
        except DigestConflict as error:
            return JSONResponse(answer | {"error": str(error)}, 409)
        except (BusyError, StoreError) as error:
            self.refused["busy" if isinstance(error, BusyError) else "store"] += 1
            return JSONResponse(answer | {"error": str(error)}, 503, {"Retry-After": str(RETRY_AFTER_S)})
        return JSONResponse(answer | {"status": stored.status, "rows": stored.rows, "new": stored.new})

    async def _body(self, request: Request) -> bytes:
        declared = request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > BODY_BYTES_MAX:
            raise WireError(413, "size", f"body of {declared} bytes, at most {BODY_BYTES_MAX}")
        parts = []
        size = 0
        try:
            async with asyncio.timeout(BODY_SECONDS_MAX):
                async for part in request.stream():
                    size += len(part)
                    if size > BODY_BYTES_MAX:
                        raise WireError(413, "size", f"body of more than {BODY_BYTES_MAX} bytes")
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
        return _error(error.status, str(error), _HEADERS.get(error.reason))

    async def devices(self, request: Request) -> Response:
        def ask(reader: CloudReader) -> list[dict[str, object]]:
            return [
                {
                    "id": device.name,
                    "class": device.device_class,
                    "channels": [{"number": n, "name": name, "unit": unit} for n, name, unit in device.channels],
                }
                for device in reader.devices()
            ]

        return JSONResponse({"devices": await run_in_threadpool(_ask, self._folder, ask)})

    async def readings(self, request: Request) -> Response:
        query = request.query_params
        device = query.get("device", "")
        limit = _page_size(query.get("limit", str(PAGE_DEFAULT)))
        after = _after(query.get("after", "0.0"))
        start, end = _time(query.get("from"), "from"), _time(query.get("to"), "to")
        channel_name = query.get("channel")

        def ask(reader: CloudReader) -> dict[str, object]:
            names, channel = _named(reader, device, channel_name)
            rows = reader.page(device, channel, start, end, after, limit)
            following = f"{rows[-1].boot}.{rows[-1].seq}" if len(rows) == limit else None
            return {"device": device, "readings": [_shown(row, names) for row in rows], "next": following}

        return JSONResponse(await run_in_threadpool(_ask, self._folder, ask))

    async def windows(self, request: Request) -> Response:
        query = request.query_params
        device, channel_name = query.get("device", ""), query.get("channel")
        limit = _page_size(query.get("limit", str(PAGE_DEFAULT)))
        length_s = None if query.get("length_s") is None else _page_size(query["length_s"], "length_s", LENGTH_S_MAX)
        start, end = _time(query.get("from"), "from"), _time(query.get("to"), "to")
        first_s = -(-(start or 0) // 1000)
        end_s = UNIX_S_MAX + 1 if end is None else -(-end // 1000)

        def ask(reader: CloudReader) -> dict[str, object]:
            names, channel = _named(reader, device, channel_name)
            rows = reader.windows(device, channel, length_s, first_s, end_s, limit)
            shown = [row._asdict() | {"channel": names.get(row.channel, str(row.channel))} for row in rows]
            return {"device": device, "windows": shown, "whole": len(rows) < limit}

        return JSONResponse(await run_in_threadpool(_ask, self._folder, ask))

    async def alarms(self, request: Request) -> Response:
        def ask(reader: CloudReader) -> list[dict[str, object]]:
            return [alarm._asdict() for alarm in reader.alarms()]

        return JSONResponse({"alarms": await run_in_threadpool(_ask, self._folder, ask)})

    async def metrics(self, request: Request) -> Response:
        counters = await run_in_threadpool(_ask, self._folder, CloudReader.counters)
        uplink = await run_in_threadpool(_ask, self._folder, CloudReader.bytes_per_gateway)
        lines = []
        for name, value in sorted(counters.items()):
            if name not in ("bytes_uplink", "posts"):
                lines += [f"# TYPE isotherm_cloud_{name}_total counter", f"isotherm_cloud_{name}_total {value}"]
        lines.append("# TYPE isotherm_cloud_uplink_bytes_total counter")
        lines += [f'isotherm_cloud_uplink_bytes_total{{gateway="{name}"}} {size}' for name, size in uplink.items()]
        lines += await run_in_threadpool(_ask, self._folder, _tag_lines)
        lines.append("# TYPE isotherm_cloud_refused_requests_total counter")
        lines += [
            f'isotherm_cloud_refused_requests_total{{reason="{reason}"}} {count}'
            for reason, count in sorted(self.refused.items())
        ]
        return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")


def _guarded(gates: Gates, handler: Handler) -> Handler:
    """`handler`, for those who show the token."""

    async def checked(request: Request) -> Response:
        gates.open_to(request.headers.get("authorization", ""))
        return await handler(request)

    return checked


def _tag_lines(reader: CloudReader) -> list[str]:
    lines = ["# TYPE isotherm_cloud_frames_waiting gauge", f"isotherm_cloud_frames_waiting {reader.frames_waiting()}"]
    lines.append("# TYPE isotherm_cloud_tag_alarms_total counter")
    return lines + [
        f'isotherm_cloud_tag_alarms_total{{device="{a.device}",reason="{a.reason}",gateway="{a.gateway}"}} {a.times}'
        for a in reader.alarms()
    ]


def _ask(folder: Path, question: Callable[[CloudReader], _T]) -> _T:
    with CloudReader(folder) as reader:
        return question(reader)


def _named(reader: CloudReader, device: str, channel_name: str | None) -> tuple[dict[int, str], int | None]:
    """Names of a device's channels, and the number of the one that was asked for. Raises WireError."""
    info = next((found for found in reader.devices() if found.name == device), None)
    if info is None:
        raise WireError(404, "query", "no such device; give one of /v1/devices as `device`")
    names = {number: name for number, name, _ in info.channels}
    if channel_name is None:
        return names, None
    channel = next((number for number, name in names.items() if name == channel_name), None)
    if channel is None:
        raise WireError(404, "query", "that device has no such channel")
    return names, channel


def _error(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": text}, status, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail, dict(error.headers) if error.headers else None)


def _head_bytes(request: Request) -> int:
    """Bytes of the request line, the headers and the blank line, as they were on the wire."""
    query = request.scope["query_string"]
    target = len(request.scope["raw_path"]) + (len(query) + 1 if query else 0)
    line = len(request.method) + 1 + target + 1 + len("HTTP/1.1") + 2
    return line + sum(len(name) + 2 + len(value) + 2 for name, value in request.headers.raw) + 2


def _page_size(text: str, name: str = "limit", highest: int = PAGE_MAX) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= highest):
        raise WireError(400, "query", f"{name} must be a number from 1 to {highest}")
    return int(text)


def _after(text: str) -> tuple[int, int]:
    match = _AFTER.fullmatch(text)
    if match is None:
        raise WireError(400, "query", "after must be BOOT.SEQ, as `next` of the page before")
    return int(match[1]), int(match[2])


def _time(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    try:
        # A plus sign that was not escaped in the query arrives as a blank.
        moment = datetime.fromisoformat(text.replace(" ", "+"))
        if moment.tzinfo is None:
            raise ValueError
        return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        text = f"{name} must be an RFC 3339 time with its offset, such as 2026-05-01T00:00:00Z"
        raise WireError(400, "query", text) from None


def _shown(row: StoredReading, names: dict[int, str]) -> dict[str, object]:
    moment = None
    if row.unix_ms is not None:
        moment = datetime.fromtimestamp(row.unix_ms / 1000, UTC).isoformat(timespec="milliseconds")
        moment = moment.replace("+00:00", "Z")
    return {
        "time": moment,
        "trusted": row.trusted,
        "boot": row.boot,
        "seq": row.seq,
        "uptime_ms": row.uptime_ms,
        "kind": KIND_NAMES[row.kind],
        "channel": None if row.channel == BOARD_CHANNEL else names.get(row.channel, str(row.channel)),
        "value": row.value,
        "trend": row.trend,
        "verdict": row.verdict,
    }
