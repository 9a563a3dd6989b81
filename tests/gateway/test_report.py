"""Pages for people: what they say, plain and on a terminal, and that nothing from outside harms one."""

from __future__ import annotations

import builtins
import os
import pty
import subprocess
import sys
from typing import Any

import pytest

from gateway.report import ledger_page, quarantine_page, span, status_page, totals_text
from gateway.screen import Page, bad, plain, printable, show
from tests.support.daemon import environment

NOW_S = 1_800_000_000.0
NONE = {"batches": 0, "rows": 0, "bytes": 0}


def device(**more: Any) -> dict[str, Any]:
    known = {"class": "fridge", "status": "online", "boot": 3, "covered_seq": 1234, "model_state": None, "health": None}
    return {**known, "last_seen_unix_ms": NOW_S * 1000 - 5000, **more}


def sink(**more: Any) -> dict[str, Any]:
    lanes = {"alarms": 0, "live": 7, "backfill": 5}
    known = {"url": "https://cloud.example", "failures_in_a_row": 0, "last_error": None, "quarantined": NONE}
    return {**known, "unfrozen_rows": lanes, "pending": NONE, **more}


def document(**more: Any) -> dict[str, Any]:
    totals = dict.fromkeys(("stored", "stored_reports", "stored_events", "duplicates", "conflicts", "lost", "gap"), 0)
    return {
        "gateway": "gw-1",
        "version": "1.2.3",
        "uptime_s": 90_061.0,
        "broker": {"host": "127.0.0.1", "port": 1883, "connected": True},
        "store": {"file": "/data/isotherm.db", "failing": None, "set_aside": None},
        "ingest": {"records": 41120, "rejected": {"json": 2}, "dropped": 0},
        "sinks": {"cloud": sink()},
        "ledger": {"totals": totals | {"stored": 41120}, "balanced": True},
        "devices": {"fridge-1": device()},
        **more,
    }


def text(page: Page) -> str:
    return "\n".join(plain(page))


def test_a_site_that_is_well() -> None:
    shown = text(status_page(document(), NOW_S))
    assert "gateway   gw-1, version 1.2.3, up 1 d 1 h" in shown
    assert "41,120 stored" in shown
    assert "cloud  https://cloud.example  answers       12" in shown
    assert "fridge-1  fridge  online  5 s ago     3          1,234  -" in shown
    assert "needs care" not in shown


TROUBLE: dict[str, tuple[dict[str, Any], str]] = {
    "ledger": ({"ledger": {**document()["ledger"], "balanced": False}}, "the ledger does not reconcile"),
    "store": ({"store": {"file": "f", "failing": "full", "set_aside": None}}, "cannot be written (full)"),
    "set aside": ({"store": {"file": "f", "failing": None, "set_aside": "f.damaged"}}, "set aside as f.damaged"),
    "broker": ({"broker": {"host": "h", "port": 1, "connected": False}}, "the broker is away"),
    "sink": ({"sinks": {"cloud": sink(last_error="it broke", failures_in_a_row=4)}}, "sink cloud: it broke"),
    "quarantine": ({"sinks": {"cloud": sink(quarantined={"batches": 2, "rows": 9, "bytes": 1})}}, "refused 2 batches"),
    "silence": ({"devices": {"a": device(last_seen_unix_ms=1)}}, "not heard for more than 2 h 5 min: a"),
}


@pytest.mark.parametrize("case", TROUBLE)
def test_what_needs_care_is_said(case: str) -> None:
    change, said = TROUBLE[case]
    shown = text(status_page(document(**change), NOW_S))
    assert "needs care:\n" in shown
    assert said in shown.partition("needs care:")[2]


def test_what_devices_say_cannot_harm_a_terminal() -> None:
    hostile = "a\x1b[2J\r\n\u202ex\x9b31m"
    devices = {hostile: device(status=hostile, model_state={"sequence": hostile, "state": [hostile]}), "b": device()}
    shown = text(status_page(document(devices=devices, sinks={"cloud": sink(last_error=hostile)}), NOW_S))
    assert all(line.isprintable() for line in shown.split("\n"))
    assert printable(hostile) in shown


def test_ledger_and_quarantine() -> None:
    names = ("stored", "stored_reports", "stored_events", "duplicates", "lost", "gap")
    entry = {**dict.fromkeys(names, 0), "sinks": {"c": {"uploaded_reports": 1200, "skipped_events": 3, "pending": 4}}}
    ledger = {"devices": {"a": entry}, "totals": document()["ledger"]["totals"]}
    shown = text(ledger_page({"ledger": ledger, "differences": []}))
    assert "Ledger and rows agree." in shown
    assert "1,200" in shown
    assert "differences:\n  one is amiss" in text(ledger_page({"ledger": ledger, "differences": ["one is amiss"]}))
    assert text(quarantine_page([])) == "Nothing is in quarantine."
    entries = [{"sink": "c", "batch": 42, "lane": "live", "rows": 1000, "reason": "422"}]
    assert "c        42  live  1,000  422" in text(quarantine_page(entries))


@pytest.mark.parametrize(
    ("seconds", "said"), [(-3, "0 s"), (59.4, "59 s"), (60, "1 min"), (7500, "2 h 5 min"), (200_000, "2 d 7 h")]
)
def test_spans(seconds: float, said: str) -> None:
    assert span(seconds) == said


SHOW = (
    "from gateway.screen import *; p = Page(); p.line('broker', 'x ', bad('away')); p.table(('a',), [('b',)]); show(p)"
)


def on_terminal(script: str, **environ: str) -> str:
    """What a script writes to a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    env = {**environment(), "TERM": "xterm-256color", "COLUMNS": "80", **environ}
    for name in ("NO_COLOR", "FORCE_COLOR"):
        if name not in environ:
            env.pop(name, None)
    done = subprocess.run([sys.executable, "-c", script], stdout=theirs, stderr=subprocess.PIPE, env=env, check=False)
    os.close(theirs)
    seen = b""
    try:
        while part := os.read(ours, 65536):
            seen += part
    except OSError:
        pass  # EIO: the other end is closed and all is read (pty(7))
    os.close(ours)
    assert done.returncode == 0, done.stderr
    return seen.decode()


def test_colours_on_a_terminal_and_none_where_they_are_not_wanted() -> None:
    assert "\x1b[1;31maway" in on_terminal(SHOW)
    for environ in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "[1;31m" not in on_terminal(SHOW, **environ)
        assert "[31m" not in on_terminal(SHOW, **environ)
    assert "\x1b" not in on_terminal(SHOW, TERM="dumb")


def test_without_rich_it_is_plain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("rich"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    page = Page()
    page.line("broker", "x ", bad("away"))
    show(page, {"TERM": "xterm"})
    assert capsys.readouterr().out == "broker    x away\n"


def test_the_daemon_loads_only_what_is_configured() -> None:
    """Memory on a small Pi: each of these costs megabytes, and waits until something configured needs it."""
    heavy = "{'rich', 'urllib3', 'zstandard', 'gpiozero', 'board', 'adafruit_dht', 'asyncio', 'lgpio'}"
    script = f"import sys, gateway.app, gateway.report, gateway.screen; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_what_left_the_store_is_said_by_why() -> None:
    totals = document()["ledger"]["totals"]
    assert "no longer here" not in totals_text(totals)
    assert totals_text({**totals, "left": {"damaged": 1000, "thinned": 5}}).endswith(
        "; no longer here: damaged 1,000, thinned 5"
    )
