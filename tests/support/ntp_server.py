"""A time server on a real UDP socket, right to the millisecond, which a test can set wrong or let misbehave."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

from tests.support.udp_server import UdpServer

NTP_1900_S = 2_208_988_800  # 1970 in seconds since 1900


def reply(question: bytes, unix_s: float, **fields: int) -> bytes:
    """A server's answer. fields: leap, version, mode, stratum, root_delay, root_dispersion (2^-16 s), ntp_s."""
    ntp_s = fields.get("ntp_s", (int(unix_s) + NTP_1900_S) % (1 << 32))
    fraction = int(unix_s % 1 * (1 << 32))
    first = fields.get("leap", 0) << 6 | fields.get("version", 4) << 3 | fields.get("mode", 4)
    head = struct.pack(
        ">BBBbII4s", first, fields.get("stratum", 2), 6, -20, fields.get("root_delay", 0x100),
        fields.get("root_dispersion", 0x200), b"TEST",
    )  # fmt: skip
    stamp = struct.pack(">II", ntp_s, fraction)
    return head + stamp + question[40:48] + stamp + stamp


class NtpServer(UdpServer):
    """Answers each question with `answer(question)`, by default the time plus `offset_s`."""

    def __init__(self) -> None:
        self.offset_s = 0.0
        self.questions = 0
        self.answer: Callable[[bytes], bytes | None] = lambda q: reply(q, time.time() + self.offset_s)
        super().__init__(self._count)

    def _count(self, question: bytes) -> bytes | None:
        self.questions += 1
        return self.answer(question)
