"""A name server on a real UDP socket: answers questions for A records (RFC 1035) from a table that tests may change."""

from __future__ import annotations

import socket
import struct
import threading


def answer(question: bytes, address: str | None, code: int = 0) -> bytes:
    """A reply to a question: an alias first, as public servers send it, then the address. None: code, and no record."""
    records = b""
    count = 0
    if address is not None:
        alias = b"\x05alias\xc0\x0c"
        records = b"\xc0\x0c" + struct.pack(">HHIH", 5, 1, 60, len(alias)) + alias
        records += alias + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(address)
        count = 2
    return question[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, count, 0, 0) + question[12:] + records


class NameServer:
    """`names`: name -> address; other names do not exist. `silent`: takes questions and says nothing."""

    def __init__(self, **names: str) -> None:
        self.names = dict(names)
        self.silent = False
        self.asked: list[str] = []
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
            name = _name(question)
            self.asked.append(name)
            if not self.silent:
                found = self.names.get(name)
                self._socket.sendto(answer(question, found, 0 if found else 3), where)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(5)
        self._socket.close()


def _name(question: bytes) -> str:
    labels, at = [], 12
    while question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]].decode())
        at += 1 + question[at]
    return ".".join(labels)
