"""Runs the receiver: the socket, uvicorn, signals and the port file. Ends cleanly on SIGTERM, SIGINT and SIGHUP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn
from starlette.types import ASGIApp

from host_tools.cloud.analyst import Analyst
from host_tools.cloud.app import Receiver
from host_tools.cloud.gates import Gates, check_token
from host_tools.cloud.keyfile import KeyFile
from host_tools.cloud.protocol import ReceiverProtocol
from host_tools.cloud.store import Store
from host_tools.cloud.store_quota import Quota
from host_tools.cloud.store_watch import SilenceLimits
from host_tools.cloud.subscriber import Source, Subscriber
from host_tools.errors import HostError, InputError

KEEP_ALIVE_S = 75  # longer than a gateway's pause between batches, so that it need not connect anew
GRACE_S = 3  # for requests under way when told to stop
CONNECTIONS_MAX = 200


class PortError(HostError):
    """The port cannot be had."""


class Tls(NamedTuple):
    """PEM files. client_ca: only who shows a certificate of this authority gets in; None: everybody."""

    cert: Path
    key: Path
    client_ca: Path | None

    def check(self) -> None:
        """Raises InputError for files that hold no such thing."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.cert, self.key, password=lambda: b"")
            if self.client_ca is not None:
                context.load_verify_locations(self.client_ca)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise InputError(f"{self.cert}, {self.key}: no certificate with its key, or {error}") from None

    def options(self) -> dict[str, Any]:
        """As uvicorn names them."""
        more = {} if self.client_ca is None else {"ssl_ca_certs": str(self.client_ca)}
        required = ssl.CERT_NONE if self.client_ca is None else ssl.CERT_REQUIRED
        return {"ssl_certfile": str(self.cert), "ssl_keyfile": str(self.key), "ssl_cert_reqs": required, **more}


class _Server(uvicorn.Server):
    """uvicorn with our own signals: it would end by raising the signal again, which turns a clean stop into a crash."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.signal_seen = 0

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        before = {number: signal.signal(number, self._stop) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: object) -> None:
        self.signal_seen = number
        self.should_exit = True


class _Beside(uvicorn.Server):
    """A second server in the same loop: signals are the first one's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def read_token(path: Path) -> str:
    """The token of a --token-file: its one line."""
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: token file cannot be read: {error}") from None
    return check_token(token, path)


def read_login(path: Path) -> str:
    """USER:PASSWORD, the one line of a file."""
    try:
        login = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: login file cannot be read: {error}") from None
    if ":" not in login or not login.isprintable():
        raise InputError(f"{path}: must hold USER:PASSWORD on one line")
    return login


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises PortError when the port is taken or not ours."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # asyncio turns Nagle's delay off only where the protocol is named; with it a small reply takes 40 ms more.
        listener = socket.socket(found[0], socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise PortError(f"{host}: no such address: {error.strerror or error}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(found[4])
        listener.listen(128)
    except OSError as error:
        listener.close()
        text = f"port {port} on {host} cannot be used ({error.strerror}); choose another with --port"
        raise PortError(text) from None
    return listener


class Admin(NamedTuple):
    """Where questions are answered, apart from gateways: plain HTTP, so on a loopback address only."""

    host: str
    port: int
    port_file: Path | None
    gates: Gates


def serve(
    data: Path,
    host: str = "127.0.0.1",
    port: int = 0,
    port_file: Path | None = None,
    gates: Gates | None = None,
    ready: Callable[[str], None] = lambda url: None,
    tls: Tls | None = None,
    source: Source | None = None,
    keys: KeyFile | None = None,
    admin: Admin | None = None,
    quota: Quota | None = None,
    silence: SilenceLimits | None = None,
) -> int:
    """Serve until a signal. Returns its number. `ready` gets the URL once requests are taken."""
    if tls is not None:
        tls.check()
    if admin is not None and admin.host not in ("127.0.0.1", "::1", "localhost"):
        raise InputError(f"--admin-host {admin.host}: a loopback address; reach it from elsewhere through ssh -L")
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listen(host, port))
        store = stack.enter_context(Store(data, keys=keys, quota=quota, silence=silence))
        stack.enter_context(Analyst(store.path))
        receiver = Receiver(store, gates, admin.gates if admin is not None else None)
        server = _Server(_config(receiver.app(), tls))
        questions = None
        if admin is not None:
            other = stack.enter_context(listen(admin.host, admin.port))
            questions = (_Beside(_config(receiver.admin_app(), None)), other)
            if admin.port_file is not None:
                _write_port(admin.port_file, other.getsockname()[1])
        bound_port = listener.getsockname()[1]
        if port_file is not None:
            _write_port(port_file, bound_port)
        name = f"[{host}]" if ":" in host else host
        ready(f"{'http' if tls is None else 'https'}://{name}:{bound_port}")
        if source is not None:
            stack.callback(Subscriber(store, source).close)
        asyncio.run(_both(server, listener, questions))
        return server.signal_seen


async def _both(server: _Server, listener: socket.socket, questions: tuple[_Beside, socket.socket] | None) -> None:
    """Both listeners in one loop; the one for questions ends with the other."""
    if questions is None:
        await server.serve(sockets=[listener])
        return
    beside, other = questions
    task = asyncio.create_task(beside.serve(sockets=[other]))
    try:
        await server.serve(sockets=[listener])
    finally:
        beside.should_exit = True
        await task


def _config(app: ASGIApp, tls: Tls | None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=ReceiverProtocol,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        limit_concurrency=CONNECTIONS_MAX,
        **(tls.options() if tls is not None else {}),
    )


def _write_port(path: Path, port: int) -> None:
    """The port, for whoever waits for it: the file appears whole."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(f"{port}\n", encoding="ascii")
        os.replace(partial, path)
    except OSError as error:
        raise InputError(f"{path}: port file cannot be written: {error.strerror}") from None
