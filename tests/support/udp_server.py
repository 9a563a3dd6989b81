"""A server of questions on a real UDP socket, in a thread of its own: what name and time servers of tests share."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable


class UdpServer:
    """Calls `reply(question)` for each datagram and sends back what it gives; None: says nothing. Bound to loopback."""

    def __init__(self, reply: Callable[[bytes], bytes | None]) -> None:
        self._reply = reply
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def _serve(self) -> None:
        while True:
            question, where = self._socket.recvfrom(512)
            if not question:
                return
            answer = self._reply(question)
            if answer is not None:
                self._socket.sendto(answer, where)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(5)
        self._socket.close()
