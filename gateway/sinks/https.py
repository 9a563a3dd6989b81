"""Batches over HTTP/1.1, kept alive: the only importer of urllib3. The protocol is in docs/uplink.md.

Bounds: `connect_timeout_s` and `read_timeout_s` a step, REPLY_BYTES_MAX of reply, no redirect followed, no retry of
its own. TLS is verified always: the context it is given says by whom. Which reply means what is in replies.py. It
knows no back-off and no store.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from gateway.errors import SinkUnavailable
from gateway.messages import Batch
from gateway.sinks import replies
from gateway.sinks.base import Stored, Tuning
from gateway.sinks.proxy import Proxy
from gateway.wire import CONTENT_TYPE

PATH = "/v1/batches"


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
        ssl_context: ssl.SSLContext | None = None,
        proxy: Proxy | None = None,
        wall_s: Callable[[], float] | None = None,
    ) -> None:
        self._url = url.rstrip("/") + PATH
        self._gateway = gateway
        self._connections = connections
        self._proxy = proxy
        self._wall_s = wall_s
        self._token: str | None = None
        self._timeout = urllib3.Timeout()
        self._pool: urllib3.PoolManager | None = None
        self.accepts: frozenset[str] | None = None
        self.tune(Tuning(token, connect_timeout_s, read_timeout_s, ssl_context))

    def __repr__(self) -> str:
        return f"HttpSink({self._url!r}, token={'***' if self._token else None})"

    def tune(self, tuning: Tuning) -> None:
        """Another token, other time-outs, certificates read anew: those by a new pool, what is under way ends in the
        old one."""
        self._token = tuning.token
        self._timeout = urllib3.Timeout(connect=tuning.connect_timeout_s, read=tuning.read_timeout_s)
        if self._pool is None or tuning.ssl_context is not None:
            self._pool = self._make_pool(tuning.ssl_context)

    def _make_pool(self, ssl_context: ssl.SSLContext | None) -> urllib3.PoolManager:
        if self._proxy is None:
            return urllib3.PoolManager(
                num_pools=1, maxsize=self._connections, block=False, retries=False, ssl_context=ssl_context
            )
        login = self._proxy.login
        return urllib3.ProxyManager(
            self._proxy.url,
            num_pools=1,
            maxsize=self._connections,
            block=False,
            retries=False,
            ssl_context=ssl_context,
            proxy_headers=urllib3.make_headers(proxy_basic_auth=login) if login else None,
        )

    def close(self) -> None:
        """Close idle connections."""
        if self._pool is not None:
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
        assert self._pool is not None
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
            data = response.read(replies.REPLY_BYTES_MAX + 1)
            if len(data) <= replies.REPLY_BYTES_MAX:
                response.release_conn()
            else:
                response.close()  # not drained: such a connection is dropped, not kept
        except ProxyError as exc:
            where = self._proxy.url if self._proxy else "the proxy"
            raise SinkUnavailable("proxy", f"{where} does not lead to {self._url}: {_short(exc)}") from exc
        except (ConnectTimeoutError, NewConnectionError) as exc:
            raise SinkUnavailable("unreachable", f"{self._url} cannot be reached: {_short(exc)}") from exc
        except ReadTimeoutError as exc:
            raise SinkUnavailable("timeout", f"{self._url} did not answer in time") from exc
        except SSLError as exc:
            raise SinkUnavailable("tls", f"TLS with {self._url} failed: {_short(exc)}") from exc
        except (HTTPError, OSError, ValueError) as exc:
            raise SinkUnavailable("broken", f"connection to {self._url} broke: {_short(exc)}") from exc
        accepts = replies.accepted(response.headers.get("Accept-Encoding"))
        if accepts is not None:
            self.accepts = accepts
        retry_after_s = self._retry_after_s(response.headers)
        reply = replies.parse(data)
        return replies.judge(self._url, self._gateway, batch, response.status, reply, retry_after_s, self.accepts)

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
        return min(max(seconds, 0.0), replies.RETRY_AFTER_MAX_S)


def _short(exc: Exception) -> str:
    """Without the pool's own description of itself, which stands before what went wrong."""
    return str(exc).rpartition("): ")[2][:160] or type(exc).__name__


def post_json(url: str, body: bytes, timeout_s: float) -> None:
    """POST a small JSON document once, for a webhook. Raises SinkUnavailable for anything but a 2xx."""
    try:
        with urllib3.PoolManager(num_pools=1, retries=False) as pool:
            response = pool.request(
                "POST",
                url,
                body=body,
                headers={"Content-Type": "application/json", "User-Agent": "isotherm-gateway"},
                timeout=urllib3.Timeout(total=timeout_s),
                redirect=False,
                preload_content=False,
            )
            response.close()  # whatever it says, the status is all that counts
    except (HTTPError, OSError, ValueError) as exc:
        raise SinkUnavailable("webhook", f"{url} cannot be reached: {str(exc)[:160]}") from exc
    if not 200 <= response.status < 300:
        raise SinkUnavailable("webhook", f"{url} answered {response.status}")
