"""From nothing to a secure reading, as an operator does it: the commands of docs/security-setup.md, in its order."""

from __future__ import annotations

import json
import os
import pwd
import re
from pathlib import Path

import pytest

from host_tools import admission, cli
from host_tools.demo.processes import Child, accepts_connections, free_port
from host_tools.device import Device
from tests.support.daemon import Daemon
from tests.support.mosquitto import broker_program
from tests.support.serial_board import DEADLINE_S, FirmwareBoards

pytestmark = [pytest.mark.micropython, pytest.mark.mosquitto, pytest.mark.timeout(240)]

TOML = """
device = "{device}"
board = "virtual"
[gateway]
host = "127.0.0.1"
port = {port}
tls = {{ host = "localhost" }}
[sampling]
period_ms = 1000
[[sensors]]
type = "ds18b20"
pin = 5
channels = {{ temperature = "water" }}
"""


def test_from_zero_to_a_secure_reading(
    firmware_boards: FirmwareBoards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    keys, operator, gateway = (str(tmp_path / name) for name in ("keys", "operator-keys", "gw-test-keys"))

    def run(*words: str, code: int = 0) -> str:
        assert cli.run([*words]) == code, capsys.readouterr().err
        shown = capsys.readouterr()
        return shown.out + shown.err

    run("keys", "init", "--dir", keys, "--fleet", "home", "--no-passphrase")
    run("keys", "admit", "gw-test", "--role", "gateway", "--out", gateway, "--dir", keys)
    run("keys", "admit", "operator", "--role", "operator", "--out", operator, "--dir", keys)
    hosts = ["--host", "localhost", "--host", "127.0.0.1", "--listen", "127.0.0.1", "--port", str(port)]
    user = pwd.getpwuid(os.getuid()).pw_name
    made = ["--dir", str(tmp_path / "broker"), "--user", user, "--pid-file", str(tmp_path / "mosquitto.pid")]
    said = run("broker", "install", *made, *hosts, "--keys", keys)
    conf = tmp_path / "broker" / "current" / "mosquitto.conf"
    table = said[said.index("[broker_access]") :]
    assert "allow_anonymous false" in conf.read_text() and conf.read_text().count("listener ") == 1
    broker = Child("mosquitto", [broker_program(), "-c", str(conf)], tmp_path / "broker.log")
    broker.start(accepts_connections(port))
    mqtt = "\n".join(f'{part}_file = "{gateway}/{part}.pem"' for part in ("ca", "cert", "key"))
    daemon = Daemon(tmp_path / "gateway", port, extra=table, mqtt=mqtt)
    bare = firmware_boards.bare("newcomer")
    config = tmp_path / "newcomer.toml"
    config.write_text(TOML.format(device="newcomer", port=port))
    serial = str(bare.serial.link)
    try:
        daemon.start()
        common = ["--keys", keys, "--identity", operator]
        said = run(
            "add", "--port", serial, "--yes", "--config", str(config), *common, "--timeout-s", str(3 * DEADLINE_S)
        )
        assert "newcomer: water 21 °C, on the gateway's disk" in said
        boot = int(re.findall(r"\(boot (\d+),", said)[0])
        registered = json.loads(run("keys", "list", "--dir", keys, "--json"))
        assert registered["newcomer"]["generation"] == 1 and registered["newcomer"]["state"] == "active"
        on_board = json.loads(Device(serial).read("/config.json"))
        assert on_board["gateway"]["tls"]["key"] == admission.PATHS["key"] and len(on_board["root_key"]) == 128
        key = Device(serial).read(admission.PATHS["key"])
        assert nowhere(key, tmp_path)
        # again: the next generation; the former certificate is withdrawn at the broker
        said = run("provision", "--port", serial, "--config", str(config), *common, "--broker", f"localhost:{port}")
        assert "newcomer is configured and starts" in said and "does not know it" not in said
        assert Device(serial).read(admission.PATHS["key"]) != key
        assert json.loads(run("keys", "list", "--dir", keys, "--json"))["newcomer"]["generation"] == 2
        Device(serial).reset()  # it stands at the prompt since its key was read
        delivers = lambda: bare.counters.get("boot", 0) > boot and bare.counters["events_acked"] > 0  # noqa: E731
        assert bare.wait_for(delivers, 2 * DEADLINE_S), (dict(bare.counters), list(bare.log)[-6:])
        assert "list " in run("broker", "tell", "--broker", f"localhost:{port}", *common)
        assert "newcomer: online" in run("model", "status", "--broker", f"localhost:{port}", "--identity", operator)
    finally:
        bare.power_cut()
        if not daemon.dead:
            daemon.stop()
        broker.stop()


def nowhere(secret: bytes, folder: Path) -> bool:
    """Whether no file of the host's holds a key, but the board's own flash."""
    scalar = secret[7:39]  # RFC 5915: SEQUENCE, version, OCTET STRING of 32
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "flash.img")
    return not any(secret in (data := path.read_bytes()) or scalar in data for path in files)
