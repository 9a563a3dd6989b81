"""Log lines: priorities for the journal, and only for it."""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path

from gateway.journal import handler


def said(stream: io.TextIOBase, environ: dict[str, str]) -> None:
    made = handler(stream, environ)  # type: ignore[arg-type]
    record = logging.LogRecord("isotherm.x", logging.ERROR, __file__, 1, "it %s\n<0>forged", ("broke",), None)
    made.emit(record)
    made.flush()


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
