"""The gateway's window for this machine: /metrics, /status and /healthz on a loopback address.

It shows what it is given by call and changes nothing. Bound: two requests at a time, each with a time-out.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from gateway.errors import FatalError

log = logging.getLogger("isotherm.status")

_REQUEST_TIMEOUT_S = 5.0
_THREADS = 2


class StatusServer:
    """Serves until `stop`; its address goes to a file, so that `isotherm-gateway status` finds any port."""

    def __init__(
        self, listen: str, address_path: Path, metrics: Callable[[], str], status: Callable[[], dict[str, Any]]
    ) -> None:
        self._listen = listen
        self._address_path = address_path
        self._metrics = metrics
        self._status = status
        self._server: HTTPServer | None = None

    def start(self) -> None:
        """Bind and serve. Raises FatalError naming the address when it is taken."""
        host, _, port = self._listen.rpartition(":")
        try:
            self._server = HTTPServer((host.strip("[]"), int(port)), self._handler())
        except OSError as exc:
            raise FatalError(
                f"cannot listen on {self._listen} ({exc.strerror}): free it, or change metrics.listen"
            ) from exc
        bound = self._server.server_address
        self._address_path.write_text(f"{host}:{bound[1]}\n", encoding="ascii")
        # Two threads accept from one socket: a slow reader does not hide /healthz.
        for number in range(_THREADS):
            threading.Thread(target=self._serve, name=f"status-{number}", daemon=True).start()

    def _serve(self) -> None:
        assert self._server is not None
        self._server.serve_forever(poll_interval=5.0)

    def stop(self) -> None:
        """Forget the address; the threads end with the process."""
        self._address_path.unlink(missing_ok=True)
        if self._server is not None:
            self._server.socket.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            timeout = _REQUEST_TIMEOUT_S
            server_version = "isotherm-gateway"
            sys_version = ""

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._reply(200, "text/plain; version=0.0.4; charset=utf-8", outer._metrics())
                elif path == "/status":
                    self._reply(200, "application/json", json.dumps(outer._status()))
                elif path == "/healthz":
                    self._reply(200, "application/json", '{"status":"ok"}')
                else:
                    self._reply(404, "application/json", '{"error":"known are /metrics, /status, /healthz"}')

            def _reply(self, code: int, kind: str, text: str) -> None:
                data = text.encode("utf-8", "replace")  # what devices call themselves may hold half a surrogate pair
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                log.debug(format, *args)

        return Handler
