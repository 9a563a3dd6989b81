"""A TCP proxy between two real ends that can be told to misbehave: swallow, cut, or say things twice. Never clever."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

_CHUNK_BYTES = 65536


class _Link:
    """One connection and its two directions."""

    def __init__(self, proxy: Proxy, near: socket.socket, far: socket.socket) -> None:
        self.near = near
        self.far = far
        self.swallow_up = proxy.swallow_up
        self.swallow_down = proxy.swallow_down
        self._proxy = proxy
        for source, target, up in ((near, far, True), (far, near, False)):
            threading.Thread(target=self._pump, args=(source, target, up), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                if self.swallow_up if up else self.swallow_down:
                    self._proxy.swallowed += len(data)
                    continue
                if up and self._proxy.take("cuts"):
                    target.sendall(data[: max(1, len(data) // 2)])
                    break
                target.sendall(data)
                if not up and self._proxy.take("twice"):
                    target.sendall(data)
        if not (self.swallow_up or self.swallow_down):  # what is half open tells nobody of an end
            self.close()

    def close(self) -> None:
        for end in (self.near, self.far):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Proxy:
    """Listens on `port`, passes on to `target`. Up is from who connects, down is to it.

    go_silent: the connections there are stay open, and nothing of what either end says arrives; new ones work.
    cuts, twice: how many more chunks up are cut in half with the connection, and down are said twice.
    """

    def __init__(self, target: int, port: int = 0) -> None:
        self.target = target
        self.swallow_up = False
        self.swallow_down = False
        self.swallowed = 0
        self.cuts = 0
        self.twice = 0
        self.accepted = 0
        self._lock = threading.Lock()
        self._links: list[_Link] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.target), timeout=5)
                far.settimeout(None)
            except OSError:
                near.close()
                continue
            self.accepted += 1
            self._links.append(_Link(self, near, far))

    def take(self, what: str) -> bool:
        """True as often as `cuts` or `twice` says."""
        with self._lock:
            left = int(getattr(self, what))
            if left:
                setattr(self, what, left - 1)
            return left > 0

    def go_silent(self, up: bool = True, down: bool = True) -> None:
        """Half open, from now on, whatever is connected."""
        for link in self._links:
            link.swallow_up, link.swallow_down = up, down

    def close(self) -> None:
        self._listener.close()
        for link in self._links:
            link.close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
