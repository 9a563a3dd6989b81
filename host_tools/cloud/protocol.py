"""uvicorn's HTTP protocol with what it lacks: a bound for the head of a request, and the client's certificate.

uvicorn waits for ever for the rest of a request line or header once its first byte came, so that a few hundred
connections which send a byte a minute (slow-loris) hold all its places. Bodies are bounded in app.py. It knows no
route.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from host_tools.cloud.gates import subject

HEAD_SECONDS_MAX = 10.0  # from the connection, or the first byte of a further request, to the end of its headers


class ReceiverProtocol(H11Protocol):
    """One connection."""

    head_seconds_max = HEAD_SECONDS_MAX
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        peer = None if tls is None else subject(tls.getpeercert())
        self.app_state: dict[str, Any] = self.app_state | {"peer": peer}
        self._begin_head()

    def data_received(self, data: bytes) -> None:
        if self._idle():
            self._begin_head()
        super().data_received(data)
        if not self._idle():
            self._end_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def _idle(self) -> bool:
        """No request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _begin_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_seconds_max, self._too_slow)

    def _end_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if self._idle():
            self.transport.abort()
