"""Alarms in the daemon, against a real broker: their whole life, its outputs, kills, and what a reload takes up."""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway.alarms import ACKNOWLEDGED, CLEARED, RAISED
from isocore.record import DELTA
from tests.support.board_client import BoardClient, samples, wait_for
from tests.support.daemon import Daemon, FakeCloud, read_body
from tests.support.mosquitto import Mosquitto
from tests.support.pinned import ask

pytestmark = pytest.mark.mosquitto


class Hook:
    """A webhook's other side; the first `failures` requests get a 500."""

    def __init__(self, failures: int = 0) -> None:
        self.events: list[dict[str, Any]] = []
        outer = self
        left = [failures]

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if left[0]:
                    left[0] -= 1
                    self.send_response(500)
                else:
                    outer.events.append(body)
                    self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                return

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/alarm"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


HOT = '[rules.hot]\ntype = "limit"\nabove = 8.0\nseverity = "critical"\n'


def test_the_whole_life_in_the_daemon(tmp_path: Path, broker: Mosquitto, cloud: FakeCloud) -> None:
    hook = Hook(failures=2)
    extra = f'{HOT}[outputs.hook]\ntype = "webhook"\nurl = "{hook.url}"\nbackoff_max_s = 0.05\nrule = "hot"\n'
    with Daemon(tmp_path / "gw", broker.port, cloud.url, extra=extra) as daemon, BoardClient(broker.port) as board:
        board.meta("a", 1, (1, 1))
        board.deliver("a", 1, [(1, DELTA, 0, 9000, 1000, 0)])
        wait_for(lambda: hook.events, what="the webhook")
        assert (hook.events[0]["event"], hook.events[0]["rule"], hook.events[0]["device"]) == (RAISED, "hot", "a")
        (standing,) = daemon.status()["alarms"]
        assert (standing["rule"], standing["state"], standing["value_milli"]) == ("hot", "raised", 9000)
        assert daemon.figure('alarms{rule="hot",severity="critical",state="raised"}') == 1
        wait_for(lambda: any(row[0] == "gw-test-rules" for row in cloud.rows()), what="the alarm at the cloud")
        bodies = [read_body(body) for body in cloud.stored.values()]
        told = [body for body in bodies if any(d["id"] == "gw-test-rules" for d in body["devices"])]
        (device,) = [d for d in told[0]["devices"] if d["id"] == "gw-test-rules"]
        assert told[0]["lane"] == "alarms"
        assert device["channels"][0]["name"].startswith("hot a/")
        daemon.kill()
        daemon.start()
        assert [a["number"] for a in daemon.status()["alarms"]] == [standing["number"]]
        assert "hot" in daemon.cli("alarms", "list").stdout
        assert daemon.cli("alarms", "ack", "999").returncode == 1
        assert daemon.cli("alarms", "ack", str(standing["number"])).stdout == "1 acknowledged\n"
        assert daemon.status()["alarms"][0]["state"] == "acknowledged"
        assert json.loads(daemon.cli("alarms", "silence", "--json").stdout) == {"silenced": 1}
        broker.kill()
        broker.start()
        board.deliver("a", 1, [(2, DELTA, 0, 5000, 2000, 0)])
        wait_for(lambda: hook.events[-1]["event"] == CLEARED, what="the end told")
        told_once = {event["id"]: event["event"] for event in hook.events}  # after a kill it may come again, as such
        assert list(told_once.values()) == [RAISED, ACKNOWLEDGED, CLEARED]
        assert daemon.status()["alarms"] == []
        assert daemon.stop() == 0
        assert json.loads(daemon.cli("alarms", "list", "--history", "5", "--json").stdout)[0]["state"] == "cleared"
        assert daemon.ledger()["differences"] == []
    hook.close()


def test_a_kill_between_raise_and_notice_tells_it_after_the_start(tmp_path: Path, broker: Mosquitto) -> None:
    hook = Hook()
    closed = "http://127.0.0.1:9/alarm"  # the discard port: nobody listens
    extra = f'{HOT}[outputs.hook]\ntype = "webhook"\nurl = "{closed}"\nrule = "hot"\ntries = 100\n'
    daemon = Daemon(tmp_path / "gw", broker.port, extra=extra)
    with daemon, BoardClient(broker.port) as board:
        board.deliver("a", 1, [(1, DELTA, 0, 9000, 1000, 0)])
        wait_for(lambda: daemon.status()["alarms"], what="the alarm")
        daemon.kill()
        daemon.config.write_text(daemon.config.read_text().replace(closed, hook.url))
        daemon.start()
        wait_for(lambda: hook.events, what="what was not told before the kill")
        assert [e["event"] for e in hook.events] == [RAISED]
        assert len(daemon.status()["alarms"]) == 1
    hook.close()


def test_what_the_broker_kept_is_no_sign_of_life(tmp_path: Path, broker: Mosquitto) -> None:
    extra = "[rules.absent]\nafter_s = 3.0\n"
    with Daemon(tmp_path / "gw", broker.port, extra=extra) as daemon, BoardClient(broker.port) as board:
        board.publish("a", "status", "online", retain=True)
        board.deliver("a", 1, samples(1, 3))
        wait_for(lambda: daemon.status()["alarms"], what="the silence", timeout_s=30)
        daemon.stop()
        daemon.start()  # the broker sends what it kept
        wait_for(lambda: "a" in daemon.status()["devices"], what="the kept status")
        (alarm_,) = daemon.status()["alarms"]
        assert (alarm_["rule"], alarm_["device"], alarm_["number"]) == ("absent", "a", 1)
        board.deliver("a", 1, samples(4, 5))
        wait_for(lambda: not daemon.status()["alarms"], what="the end of it")


PINS = """
[outputs.lamp]
type = "led"
pin = 2
[outputs.siren]
type = "buzzer"
pin = 3
[outputs.pump]
type = "relay"
pin = 5
safe_on = true
[outputs.quiet]
type = "button"
pin = 6
"""


def test_pins_and_the_button_in_the_daemon(tmp_path: Path, broker: Mosquitto) -> None:
    pins = tmp_path / "pins"
    daemon = Daemon(tmp_path / "gw", broker.port, extra=HOT + PINS)
    daemon.program = ["tests.support.pinned", str(pins)]
    daemon.environment = {"GPIOZERO_PIN_FACTORY": "mock"}

    def level(pin: int) -> int:
        return int(ask(pins, f"level {pin}"))

    with daemon, BoardClient(broker.port) as board:
        assert (level(2), level(3), level(5)) == (0, 0, 1), "at rest; the pump is safe when on"
        board.deliver("a", 1, [(1, DELTA, 0, 9000, 1000, 0)])
        wait_for(lambda: level(5) == 0, what="the relay")
        wait_for(lambda: level(2), what="the LED's blink")
        wait_for(lambda: level(3), what="the buzzer's beep")
        ask(pins, "low 6")
        wait_for(lambda: [a["state"] for a in daemon.status()["alarms"]] == ["acknowledged"], what="the button")
        ask(pins, "high 6")
        wait_for(lambda: not level(3), what="quiet")
        assert level(5) == 0, "a button ends no alarm"
        wait_for(lambda: level(2), what="the LED, which blinks on")
        board.deliver("a", 1, [(2, DELTA, 0, 5000, 2000, 0)])
        wait_for(lambda: level(5) == 1, what="the relay back in its safe state")
        assert daemon.stop() == 0


def test_a_command_in_the_daemon_is_told_of_each_change(tmp_path: Path, broker: Mosquitto) -> None:
    script = tmp_path / "note.py"
    told = tmp_path / "told"
    script.write_text(
        "import os, sys\n"
        f"with open({str(told)!r}, 'a') as file:\n"
        "    file.write(os.environ['ISOTHERM_ALARM_EVENT'] + ' ' + sys.stdin.read() + '\\n')\n",
        encoding="utf-8",
    )
    command = json.dumps([sys.executable, str(script)])
    extra = f'{HOT}[outputs.note]\ntype = "command"\ncommand = {command}\nrule = "hot"\n'

    def events() -> list[tuple[str, str]]:
        lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
        return [(line.partition(" ")[0], json.loads(line.partition(" ")[2])["device"]) for line in lines]

    with Daemon(tmp_path / "gw", broker.port, extra=extra) as daemon, BoardClient(broker.port) as board:
        board.deliver("a", 1, [(1, DELTA, 0, 9000, 1000, 0)])
        wait_for(lambda: events() == [(RAISED, "a")], what="the raise told")
        assert daemon.cli("alarms", "ack", "--all").returncode == 0
        board.deliver("a", 1, [(2, DELTA, 0, 5000, 2000, 0)])
        wait_for(lambda: len(events()) == 3, what="the end told")
        assert events() == [(RAISED, "a"), (ACKNOWLEDGED, "a"), (CLEARED, "a")]
        assert daemon.stop() == 0


def test_a_reload_takes_rules_and_policies_up_and_names_what_waits(
    tmp_path: Path, broker: Mosquitto, cloud: FakeCloud
) -> None:
    with Daemon(tmp_path / "gw", broker.port, cloud.url, extra=HOT) as daemon, BoardClient(broker.port) as board:
        good = daemon.config.read_text(encoding="utf-8")
        board.deliver("a", 1, [(1, DELTA, 0, 7000, 1000, 0)])
        wait_for(lambda: ("a", 1, 1) in cloud.rows(), what="raw goes up")
        assert daemon.status()["alarms"] == []
        changed = good.replace("above = 8.0", "above = 6.0").replace(
            "[sinks.cloud]",
            '[upload.quiet]\ndevice = "a"\nsend = ["alarms"]\n[windows]\nlengths_s = [30]\n'
            '[outputs.lamp]\ntype = "led"\npin = 2\n[sinks.cloud]',
        )
        daemon.config.write_text(changed, encoding="utf-8")
        daemon.hang_up()
        wait_for(lambda: daemon.logged("configuration read again"), what="the reload")
        (said,) = [line for line in daemon.log.read_text(encoding="utf-8").splitlines() if "read again" in line]
        assert "rules" in said and "upload" in said
        (waits,) = [line for line in daemon.log.read_text(encoding="utf-8").splitlines() if "only a restart" in line]
        assert "windows.lengths_s" in waits and "outputs" in waits
        board.deliver("a", 1, [(2, DELTA, 0, 7000, 2000, 0)])  # within the old limit, beyond the new
        wait_for(lambda: [a["rule"] for a in daemon.status()["alarms"]] == ["hot"], what="the new limit")
        board.deliver("b", 1, samples(1, 5))
        wait_for(lambda: ("b", 1, 5) in cloud.rows(), what="what another device sends")
        wait_for(lambda: daemon.status()["sinks"]["cloud"]["rows_pending"] == 0, what="the ledger")
        assert ("a", 1, 2) not in cloud.rows(), "withheld since the reload"
        assert daemon.stop() == 0
        assert daemon.ledger()["differences"] == []
