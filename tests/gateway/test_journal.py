"""Log lines: priorities and fields for the journal, and only for it."""

from __future__ import annotations

import io
import logging
import os
import socket
from pathlib import Path

from gateway.journal import fields, handler


def said(stream: io.TextIOBase, environ: dict[str, str]) -> None:
    made = handler(stream, environ, "/nowhere/socket")  # type: ignore[arg-type]
    record = logging.LogRecord("isotherm.x", logging.ERROR, __file__, 1, "it %s\n<0>forged", ("broke",), None)
    made.emit(record)
    made.flush()
    made.close()


def test_the_journal_gets_a_priority_on_every_line(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+", encoding="utf-8") as stream:
        there = os.fstat(stream.fileno())
        said(stream, {"JOURNAL_STREAM": f"{there.st_dev}:{there.st_ino}"})
        stream.seek(0)
        assert stream.read() == "<3>isotherm.x: it broke\n<3><0>forged\n"


def test_people_get_time_and_level(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+", encoding="utf-8") as stream:
        said(stream, {"JOURNAL_STREAM": "1:2"})
        stream.seek(0)
        assert " ERROR isotherm.x: it broke\n" in stream.read()
    memory = io.StringIO()
    said(memory, {"JOURNAL_STREAM": "1:2"})
    assert " ERROR isotherm.x" in memory.getvalue()


def parsed(datagram: bytes) -> dict[str, str]:
    """An entry of the journal's native protocol, as systemd reads it."""
    out = {}
    while datagram:
        line, _, datagram = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(datagram[:8], "little")
            value, datagram = datagram[8 : 8 + size], datagram[8 + size + 1 :]
        out[name.decode()] = value.decode()
    return out


def test_entries_have_fields_that_a_message_cannot_forge(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal, (tmp_path / "log").open("w+") as stream:
        journal.bind(path)
        journal.settimeout(10)
        there = os.fstat(stream.fileno())
        made = handler(stream, {"JOURNAL_STREAM": f"{there.st_dev}:{there.st_ino}"}, path)
        log = logging.getLogger("isotherm.test-journal")
        log.addHandler(made)
        log.propagate = False
        about = fields(device="fridge-1", topic="a\nPRIORITY=0\n", batch=None)
        log.warning("it %s", "broke\nISOTHERM_DEVICE=other", extra=about)
        entry = parsed(journal.recv(65536))
        assert entry["MESSAGE"] == "isotherm.test-journal: it broke\nISOTHERM_DEVICE=other"
        assert (entry["PRIORITY"], entry["ISOTHERM_DEVICE"]) == ("4", "fridge-1")
        assert entry["ISOTHERM_TOPIC"] == "a\nPRIORITY=0\n"
        assert "ISOTHERM_BATCH" not in entry
        log.error("x" * 10_000_000)  # longer than a datagram: it goes to the stream
        log.removeHandler(made)
        made.close()
        stream.seek(0)
        assert stream.read().startswith("<3>isotherm.test-journal: xxx")
