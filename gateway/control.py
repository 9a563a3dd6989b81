"""A socket in `data_dir` over which this machine's commands ask the running daemon for a change.

One JSON object a connection, one back. Only who may write the folder's socket (its owner and root) gets in. Bounds: one
request at a time, REQUEST_BYTES_MAX, a time-out for slow askers. It knows no operation: `answer` does.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.errors import FatalError, GatewayError

log = logging.getLogger("isotherm.control")

REQUEST_BYTES_MAX = 4096
REPLY_BYTES_MAX = 65536
_SLOW_S = 5.0
_MODE = 0o600

Answer = Callable[[dict[str, Any]], dict[str, Any]]


class ControlServer:
    """Answers until `stop`. An error of the gateway becomes {"error": "..."}."""

    def __init__(self, path: Path, answer: Answer) -> None:
        self._path = path
        self._answer = answer
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def start(self) -> None:
        """Bind and serve; the caller holds the store's lock, so a socket that is there belongs to nobody."""
        self._path.unlink(missing_ok=True)
        try:
            with _short(self._path) as name:
                self._socket.bind(name)
            self._path.chmod(_MODE)
            self._socket.listen(4)
        except OSError as exc:
            raise FatalError(f"cannot make the socket {self._path}: {exc.strerror}") from exc
        threading.Thread(target=self._serve, name="control", daemon=True).start()

    def stop(self) -> None:
        """Answer no more."""
        self._path.unlink(missing_ok=True)
        try:
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept()
        except OSError:
            log.debug("control socket was not listening")
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            with peer:
                peer.settimeout(_SLOW_S)
                try:
                    peer.sendall(json.dumps(self._reply(_read_line(peer, REQUEST_BYTES_MAX))).encode() + b"\n")
                except (OSError, ValueError, RecursionError) as exc:
                    log.warning("a request on %s was not answered: %s", self._path.name, exc)

    def _reply(self, line: bytes) -> dict[str, Any]:
        request = json.loads(line)
        if not isinstance(request, dict):
            raise ValueError("a request is a JSON object")
        try:
            return self._answer(request)
        except GatewayError as exc:
            return {"error": str(exc)}


def ask(path: Path, request: dict[str, Any], timeout_s: float = 30.0) -> dict[str, Any] | None:
    """The daemon's reply; None when no daemon listens. Raises GatewayError when it refuses or stays silent."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as daemon:
        daemon.settimeout(timeout_s)
        try:
            with _short(path) as name:
                daemon.connect(name)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except PermissionError as exc:
            raise FatalError(f"may not use {path}: run this as the gateway's user or as root") from exc
        except OSError as exc:
            raise FatalError(f"cannot use {path}: {exc.strerror}") from exc
        try:
            daemon.sendall(json.dumps(request).encode() + b"\n")
            reply = json.loads(_read_line(daemon, REPLY_BYTES_MAX))
        except (OSError, ValueError) as exc:
            raise FatalError(f"the gateway did not answer on {path}; look at `isotherm-gateway status`") from exc
    if not isinstance(reply, dict):
        raise FatalError(f"senseless answer on {path}: do gateway and command have one version?")
    if "error" in reply:
        raise FatalError(str(reply["error"]))
    return reply


def _read_line(peer: socket.socket, bytes_max: int) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        part = peer.recv(4096)
        if not part:
            raise ValueError("ended early")
        data += part
        if len(data) > bytes_max:
            raise ValueError(f"longer than {bytes_max} bytes")
    return data


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """The path by way of its folder's descriptor: a socket's name has room for 107 bytes only (unix(7))."""
    fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)
