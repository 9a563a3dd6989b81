"""A name server on a real UDP socket: answers questions for A records (RFC 1035) from a table that tests may change."""

from __future__ import annotations

import socket
import struct

from tests.support.udp_server import UdpServer


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


class NameServer(UdpServer):
    """`names`: name -> address; other names do not exist. `silent`: takes questions and says nothing."""

    def __init__(self, **names: str) -> None:
        self.names = dict(names)
        self.silent = False
        self.asked: list[str] = []
        super().__init__(self._answer)

    def _answer(self, question: bytes) -> bytes | None:
        name = _name(question)
        self.asked.append(name)
        found = self.names.get(name)
        return None if self.silent else answer(question, found, 0 if found else 3)


def _name(question: bytes) -> str:
    labels, at = [], 12
    while question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]].decode())
        at += 1 + question[at]
    return ".".join(labels)
