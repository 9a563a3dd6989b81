"""Batches over HTTP/1.1, kept alive: the only importer of urllib3. The protocol is in docs/uplink.md.

Bounds: `connect_timeout_s` and `read_timeout_s` a step, REPLY_BYTES_MAX of reply, no redirect followed, no retry of
its own. Which reply means what is the table in `_judge`. It knows no back-off and no store.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError, SSLError

from gateway.errors import BatchRejected, SinkUnavailable
from gateway.messages import Batch
from gateway.sinks.base import Stored, Tuning
from gateway.wire import CONTENT_TYPE

PATH = "/v1/batches"
REPLY_BYTES_MAX = 65536
_RETRY_AFTER_MAX_S = 3600.0
# The fault is not the batch's: credentials, address or version of the other side. Held and tried again, so that a
# wrong token does not put every batch into quarantine.
_HELD = {401: "denied", 403: "denied", 404: "not_found", 405: "not_found", 408: "timeout", 421: "not_found",
         425: "busy", 426: "not_found", 429: "busy", 431: "not_found", 451: "denied"}  # fmt: skip


class HttpSink:
    """POSTs batches to `url`/v1/batches."""

    def __init__(
        self,
        url: str,
        gateway: str,
        *,
        token: str | None = None,
        connect_timeout_s: float = 5.0,
        read_timeout_s: float = 30.0,
        connections: int = 8,
        ssl_context: Any = None,
        wall_s: Any = None,
    ) -> None:
        self._url = url.rstrip("/") + PATH
        self._gateway = gateway
        self._token = token
        self._timeout = urllib3.Timeout(connect=connect_timeout_s, read=read_timeout_s)
        self._wall_s = wall_s
        self._pool = urllib3.PoolManager(
            num_pools=1,
            maxsize=connections,
            block=False,
            retries=False,
            ssl_context=ssl_context,
        )

    def __repr__(self) -> str:
        return f"HttpSink({self._url!r}, token={'***' if self._token else None})"

    def tune(self, tuning: Tuning) -> None:
        """Another token, other time-outs."""
        self._token = tuning.token
        self._timeout = urllib3.Timeout(connect=tuning.connect_timeout_s, read=tuning.read_timeout_s)

    def close(self) -> None:
        """Close idle connections."""
        self._pool.clear()

    def send(self, batch: Batch) -> Stored:
        """POST one batch and judge the reply."""
        headers = {
            "Content-Type": CONTENT_TYPE,
            "Content-Encoding": batch.encoding,
            "Isotherm-Gateway": self._gateway,
            "Isotherm-Batch": str(batch.batch),
            "Isotherm-Digest": f"sha-256={batch.digest}",
            "User-Agent": "isotherm-gateway",
        }
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            response = self._pool.request(
                "POST",
                self._url,
                body=batch.body,
                headers=headers,
                timeout=self._timeout,
                redirect=False,
                preload_content=False,
            )
            data = response.read(REPLY_BYTES_MAX + 1)
            if len(data) <= REPLY_BYTES_MAX:
                response.release_conn()
            else:
                response.close()  # not drained: such a connection is dropped, not kept
                data = b""
        except (ConnectTimeoutError, NewConnectionError) as exc:
            raise SinkUnavailable("unreachable", f"{self._url} cannot be reached: {_short(exc)}") from exc
        except ReadTimeoutError as exc:
            raise SinkUnavailable("timeout", f"{self._url} did not answer in time") from exc
        except SSLError as exc:
            raise SinkUnavailable("tls", f"TLS with {self._url} failed: {_short(exc)}") from exc
        except (HTTPError, OSError, ValueError) as exc:
            raise SinkUnavailable("broken", f"connection to {self._url} broke: {_short(exc)}") from exc
        return self._judge(batch, response.status, response.headers, data)

    def _judge(self, batch: Batch, status: int, headers: Mapping[str, str], data: bytes) -> Stored:
        reply = _parse(data)
        if status == 200:
            named = reply.get("gateway") == self._gateway and reply.get("batch") == batch.batch
            if named and reply.get("status") in ("stored", "duplicate"):
                new = reply.get("new")
                return Stored(reply["status"] == "duplicate", new if isinstance(new, int) else None)
            raise SinkUnavailable("unnamed", f"reply of {self._url} does not name batch {batch.batch} as stored")
        text = f"{self._url} answered {status}"
        if isinstance(reply.get("error"), str):
            text += f": {reply['error'][:200]}"
        if status in _HELD or status < 400 or status >= 500:
            raise SinkUnavailable(_HELD.get(status, f"http_{status // 100}xx"), text, self._retry_after_s(headers))
        raise BatchRejected(f"http_{status}", text)

    def _retry_after_s(self, headers: Mapping[str, str]) -> float | None:
        """Retry-After (RFC 9110 section 10.2.3): seconds or a date. None when absent or senseless."""
        text = headers.get("Retry-After")
        if text is None:
            return None
        try:
            if text.strip().isdigit():
                seconds = float(text)
            elif self._wall_s is not None:
                seconds = parsedate_to_datetime(text).timestamp() - self._wall_s()
            else:
                return None
        except (ValueError, TypeError, OverflowError):
            return None
        return min(max(seconds, 0.0), _RETRY_AFTER_MAX_S)


def _parse(data: bytes) -> dict[str, Any]:
    try:
        reply = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return reply if isinstance(reply, dict) else {}


def _short(exc: Exception) -> str:
    return str(exc)[:160] or type(exc).__name__
