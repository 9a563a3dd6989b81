"""How log lines look: with time and level for people; for the journal with priority and fields of their own.

JOURNAL_STREAM names the device and inode of the stream that goes to the journal (systemd.exec(5)); a stderr that was
turned elsewhere since is for people. Where it is the journal's, entries go over its own socket, so that
`journalctl ISOTHERM_DEVICE=fridge-1` finds all of a device; without the socket, lines with a priority go to stderr.

A caller gives fields as `extra=fields(device=..., sink=...)`.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import sys
from collections.abc import Mapping
from typing import Any, TextIO

SOCKET = "/run/systemd/journal/socket"
_PRIORITIES = {"CRITICAL": 2, "ERROR": 3, "WARNING": 4, "INFO": 6, "DEBUG": 7}  # syslog(3)
_LENGTH = struct.Struct("<Q")


def fields(**values: object) -> dict[str, dict[str, str]]:
    """For `extra=` of a log call: device, sink, batch, reason, topic and the like; None is left out."""
    return {"fields": {name: str(value) for name, value in values.items() if value is not None}}


class JournalFormatter(logging.Formatter):
    """`<6>name: message`: sd-daemon(3) reads a priority from each line's head, so every line of a message gets one."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        head = f"<{_PRIORITIES.get(record.levelname, 6)}>"
        return "\n".join(head + line for line in super().format(record).split("\n"))


class JournalHandler(logging.StreamHandler[TextIO]):
    """Entries over the journal's native protocol (systemd's JOURNAL_NATIVE_PROTOCOL): a datagram of NAME=VALUE lines.

    What does not get through goes to the stream: an entry too long for a datagram, a journal that is being restarted.
    """

    def __init__(self, stream: TextIO, address: str) -> None:
        super().__init__(stream)
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.setFormatter(JournalFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._socket.sendto(_entry(record), self._address)
        except OSError:
            super().emit(record)

    def close(self) -> None:
        self._socket.close()
        super().close()


def _entry(record: logging.LogRecord) -> bytes:
    text = record.getMessage()
    if record.exc_info:
        text += "\n" + logging.Formatter().formatException(record.exc_info)
    entries = {
        "MESSAGE": f"{record.name}: {text}",
        "PRIORITY": str(_PRIORITIES.get(record.levelname, 6)),
        "SYSLOG_IDENTIFIER": "isotherm-gateway",
        "LOGGER": record.name,
        "THREAD_NAME": record.threadName or "",
    }
    given: dict[str, Any] = getattr(record, "fields", {})
    entries.update({f"ISOTHERM_{name.upper()}": value for name, value in given.items()})
    return b"".join(_field(name, value.encode("utf-8", "replace")) for name, value in entries.items())


def _field(name: str, value: bytes) -> bytes:
    """A value with a line feed goes with its length, so that it cannot forge another field."""
    if b"\n" in value:
        return name.encode("ascii") + b"\n" + _LENGTH.pack(len(value)) + value + b"\n"
    return name.encode("ascii") + b"=" + value + b"\n"


def handler(
    stream: TextIO | None = None, environ: Mapping[str, str] | None = None, address: str = SOCKET
) -> logging.Handler:
    """A handler for whoever reads stderr."""
    stream = stream or sys.stderr
    if _is_journal(stream, os.environ if environ is None else environ):
        return JournalHandler(stream, address)
    made = logging.StreamHandler(stream)
    made.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return made


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    try:
        there = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or no file at all (io.UnsupportedOperation is both)
        return False
    return environ.get("JOURNAL_STREAM") == f"{there.st_dev}:{there.st_ino}"
