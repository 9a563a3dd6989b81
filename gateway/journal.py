"""How log lines look: with time and level for people, with the journal's priority where the journal reads stderr.

JOURNAL_STREAM names the device and inode of the stream that goes to the journal (systemd.exec(5)); a stderr that was
turned elsewhere since is for people.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import TextIO

_PRIORITIES = {"CRITICAL": 2, "ERROR": 3, "WARNING": 4, "INFO": 6, "DEBUG": 7}  # syslog(3)


class JournalFormatter(logging.Formatter):
    """`<6>name: message`: sd-daemon(3) reads a priority from each line's head, so every line of a message gets one."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        head = f"<{_PRIORITIES.get(record.levelname, 6)}>"
        return "\n".join(head + line for line in super().format(record).split("\n"))


def handler(stream: TextIO | None = None, environ: Mapping[str, str] | None = None) -> logging.Handler:
    """A handler on stderr, formatted for whoever reads it."""
    stream = stream or sys.stderr
    made = logging.StreamHandler(stream)
    if _is_journal(stream, os.environ if environ is None else environ):
        made.setFormatter(JournalFormatter())
    else:
        made.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return made


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    try:
        there = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or no file at all (io.UnsupportedOperation is both)
        return False
    return environ.get("JOURNAL_STREAM") == f"{there.st_dev}:{there.st_ino}"
