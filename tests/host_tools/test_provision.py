"""A board at the cable: configured, examined, followed, wiped, added. Secrets stay secret."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from host_tools import bundle as bundling
from host_tools import cli, provision
from host_tools.bytecode import names
from host_tools.device import Device
from host_tools.errors import InputError
from host_tools.virtual.board import VirtualBoard
from isocore import slot
from tests.support.ack_gateway import AckGateway
from tests.support.mosquitto import Mosquitto
from tests.support.serial_board import DEADLINE_S, ROOT, FirmwareBoards, samples

WALK = ROOT / "docs" / "walkthrough" / "add.md"
SECRET = "correct horse battery"
TOML = """
device = "{device}"
board = "virtual"
[gateway]
host = "127.0.0.1"
port = {port}
[wifi]
ssid = "home"
[sampling]
period_ms = 1000
[[sensors]]
type = "ds18b20"
pin = {pin}
channels = {{ temperature = "water" }}
"""


def written(tmp_path: Path, *, device: str = "cabled", port: int = 1, pin: int = 5, more: str = "") -> Path:
    path = tmp_path / "board.toml"
    path.write_text(TOML.format(device=device, port=port, pin=pin) + more, encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*provision.SECRETS.values(), "ISOTHERM_PORT"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="module")
def board(firmware_boards: FirmwareBoards) -> VirtualBoard:
    """Deployed, and not configured."""
    made = bundling.build(ROOT / "firmware", [ROOT / ".tools" / "umqtt"])
    files = {f"/a/{path}": content for path, content in made.files.items()}
    line = slot.to_line("a", "-", slot.PROVEN).encode()
    return firmware_boards.bare("cabled", {**files, "/boot.py": made.loader, "/slot": line}, speed=20)


def port_of(board: VirtualBoard) -> str:
    return str(board.serial.link)


# ---- before any board is touched


@pytest.mark.parametrize(
    ("pin", "more", "says"),
    [
        (3, "", "GPIO 3 is taken on Virtual board (ESP32 simulated on the host): console; free are 2, 4"),
        (99, "", "has no GPIO 99"),
        (5, '[[actuators]]\ntype = "relay"\npin = 36\nchannel = "water"\n', "actuators.0.pin: GPIO 36 of Virtual"),
        (5, '[[actuators]]\ntype = "relay"\npin = 5\nchannel = "water"\n', "GPIO 5 is used by sensors.0.pin already"),
    ],
)  # fmt: skip
def test_pins_are_checked_against_the_board(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pin: int, more: str, says: str
) -> None:
    path = written(tmp_path, pin=pin, more=more)
    assert cli.run(["provision", "--config", str(path), "--check"]) == 2
    assert says in capsys.readouterr().err


def test_a_person_is_asked(tmp_path: Path) -> None:
    """At a real terminal: a question each, defaults taken by Enter, a pin that is wrong refused, a password unseen."""
    answers = ["virtual", "fridge-9", "home", SECRET, "pi.local", "", "dht22", "", "", "{pin}", ""]
    for pin, code, says in (("", 0, "pins are right for Virtual board"), ("3", 2, "GPIO 3 is taken")):
        ours, its = os.openpty()
        command = [sys.executable, "-m", "host_tools.cli", "provision", "--check"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "firmware")))}
        child = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, cwd=tmp_path, env=environment)
        os.close(its)
        shown = ""
        with open(ours, "r+b", buffering=0) as terminal:
            for answer in answers:
                shown = _until(terminal, shown, ": ")
                terminal.write(answer.format(pin=pin).encode() + b"\n")
            shown = _until(terminal, shown, None)
        assert (child.wait(DEADLINE_S), says in shown) == (code, True), shown
        assert SECRET not in shown and "fridge-9" in shown


def _until(terminal: Any, shown: str, end: str | None) -> str:
    """What the terminal shows, up to a question that waits for its answer, or to the program's end."""
    start = len(shown)
    while end is None or not shown[start:].endswith(end):
        try:
            piece = terminal.read(4096)
        except OSError:  # Linux says so when nobody holds the other end any more
            return shown
        if not piece:
            return shown
        shown += piece.decode(errors="replace")
    return shown


def test_a_file_that_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["provision", "--config", str(written(tmp_path)), "--check"]) == 0
    assert cli.run(["provision", "--board", "pico_w", "--config", str(written(tmp_path)), "--check"]) == 2
    assert "--board: is pico_w, but the configuration says board = 'virtual'" in capsys.readouterr().err
    assert cli.run(["provision"]) == 2
    assert "--config: is needed where nobody can be asked" in capsys.readouterr().err


def test_a_password_does_not_belong_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "b.toml"
    path.write_text(f'[wifi]\nssid = "home"\npassword = "{SECRET}"\n')
    with pytest.raises(
        InputError, match=r"wifi\.password does not belong in this file: put it in ISOTHERM_WIFI"
    ) as said:
        provision.read(path)
    assert SECRET not in str(said.value)


def test_where_passwords_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secrets.toml"
    path.write_text(f'[wifi]\npassword = "{SECRET}"\n')
    path.chmod(0o644)
    with pytest.raises(InputError, match=r"others may read it: chmod 600"):
        provision.read_secrets(path)
    path.chmod(0o600)
    assert provision.read_secrets(path) == {"wifi.password": SECRET}
    monkeypatch.setenv("ISOTHERM_GATEWAY_PASSWORD", "g")
    assert provision.read_secrets(None, '[wifi]\npassword = "w"') == {"wifi.password": "w", "gateway.password": "g"}
    with pytest.raises(InputError, match="is not TOML") as said:
        provision.read_secrets(None, f"{SECRET} = = 3")
    assert SECRET not in str(said.value)
    with pytest.raises(InputError, match=r"--secrets: wifi\.ssid is none of wifi\.password, gateway\.password"):
        provision.read_secrets(None, '[wifi]\nssid = "x"')
    config = {"wifi": {"ssid": "home"}, "gateway": {"host": "h"}}
    made = provision.with_secrets(config, {"wifi.password": "w", "gateway.password": "g"})
    assert made == {"wifi": {"ssid": "home", "password": "w"}, "gateway": {"host": "h"}}, "no user, no password"


def test_plaintext_is_for_this_machine_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path)
    assert cli.run(["provision", "--port", os.devnull, "--config", str(path)]) == 2
    assert "keys/fleet.json: no fleet here; `isotherm keys init` makes one" in capsys.readouterr().err
    assert cli.run(["add", "--port", os.devnull, "--config", str(path)]) == 2
    assert "--identity: is needed" in capsys.readouterr().err
    path.write_text(path.read_text().replace("127.0.0.1", "192.0.2.7"))
    assert cli.run(["provision", "--plaintext-for-tests", "--port", os.devnull, "--config", str(path)]) == 2
    assert "--plaintext-for-tests: gateway.host is 192.0.2.7, which is not this machine" in capsys.readouterr().err


# ---- with a board


def on_board(board: VirtualBoard) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Device(port_of(board)).read("/config.json"))
    return found


@pytest.mark.micropython
@pytest.mark.timeout(300)  # two dozen calls of mpremote, seconds each where much else runs
def test_configured_examined_followed_and_wiped(
    board: VirtualBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = port_of(board)
    said = ""

    def run(*words: str, code: int = 0) -> str:
        nonlocal said
        plain = ["--plaintext-for-tests"] if words[0] == "provision" else []
        assert cli.run([words[0], "--port", port, *plain, *words[1:]]) == code
        shown = capsys.readouterr()
        said += shown.out + shown.err
        return shown.out + shown.err

    out = run("doctor", code=1)
    assert f"! it is not configured: isotherm provision --port {port}" in out
    path = written(tmp_path)
    # no password anywhere: the board has none to keep
    assert "wifi.password is missing, and the board has none for this name" in run(
        "provision", "--config", str(path), code=1
    )
    monkeypatch.setenv("ISOTHERM_WIFI_PASSWORD", SECRET)
    assert "cabled is configured and starts" in run("provision", "--config", str(path))
    samples(board)
    assert on_board(board)["wifi"] == {"ssid": "home", "password": SECRET}
    # a field that only the firmware knows to be wrong
    bad = written(tmp_path, more="[link]\nwindow = 99\n")
    out = run("provision", "--config", str(bad), code=1)
    assert "the board refuses the configuration: config.json: link.window: must be an integer between 1 and 16" in out
    assert "link" not in on_board(board)
    # the password stays on the board and need not be given again
    monkeypatch.delenv("ISOTHERM_WIFI_PASSWORD")
    run("provision", "--config", str(written(tmp_path, device="renamed")))
    assert on_board(board)["device"] == "renamed" and on_board(board)["wifi"]["password"] == SECRET
    out = run("doctor", "--json")
    assert json.loads(out)["device"] == "renamed" and json.loads(out)["problems"] == []
    samples(board)
    # what brings it down is told, in words
    back = names.from_text(Device(port).read("/a/names.txt").decode())
    [short] = [name for name, long in back.items() if long == "Session.close"]  # of an overlay
    overlay, _, function = short.partition(".")
    frame = f'  File "cold.{overlay}", line 1, in {function}\n'
    crash = f"Traceback (most recent call last):\n{frame}ValueError: too warm\n"
    Device(port).write({"/crash.log": crash.encode()})
    Device(port).exec("with open('/a/names.txt', 'a') as f: f.write('more')")
    out = run("doctor", "--forget", code=1)
    assert "! the application was brought down by: ValueError: too warm" in out
    assert f'File "cold.{overlay}", line 1, in Session.close\n' in out, "with the name it has in the sources"
    assert "! names.txt of the firmware is damaged: isotherm deploy" in out
    assert "brought down" not in run("doctor", code=1)
    # wiped: nothing of it is left, and its boots go on counting
    boots = {name for name, *_ in Device(port).entries() if name.startswith("boot.")}
    assert {"boot.a", "boot.b", "boot.py"} <= boots
    assert "--yes: is needed where nobody can be asked" in run("wipe", code=2)
    out = run("wipe", "--yes")
    assert "config.json" in out and "main.py" not in out
    left = {entry.name for entry in Device(port).entries()}
    assert left <= {*provision.KEPT, "crash.log"}, "it started, and complained that it is not configured"
    assert boots <= left
    assert SECRET not in said, "a password was printed"


@pytest.mark.micropython
def test_logs_follow_without_disturbing(firmware_boards: FirmwareBoards, capsys: pytest.CaptureFixture[str]) -> None:
    talker = firmware_boards.bare("talker", {"/main.py": b"import time\nwhile True:\n print('tick')\n time.sleep(1)\n"})
    assert cli.run(["logs", "--port", port_of(talker), "--seconds", "6"]) == 0
    assert set(capsys.readouterr().out.split()) == {"tick"}
    assert not talker.history("prompt") and not talker.history("reset")
    assert cli.run(["logs", "--port", "/dev/nothing-there"]) == 1
    assert "there is no such port" in capsys.readouterr().err
    assert cli.run(["console", "--port", port_of(talker)]) == 2
    assert "needs a terminal" in capsys.readouterr().err
    talker.power_cut()


@pytest.mark.micropython
def test_no_firmware_no_configuration(
    firmware_boards: FirmwareBoards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = firmware_boards.bare("unflashed")
    path = tmp_path / "b.toml"
    path.write_text(TOML.format(device="unflashed", port=1, pin=5).replace('ssid = "home"', 'ssid = ""'))
    assert cli.run(["provision", "--plaintext-for-tests", "--port", port_of(bare), "--config", str(path)]) == 1
    assert f"there is no firmware yet: isotherm deploy --port {port_of(bare)}" in capsys.readouterr().err
    assert cli.run(["doctor", "--port", port_of(bare)]) == 1
    assert "! there is no firmware that starts (no module named 'isonode')" in capsys.readouterr().out
    bare.power_cut()


@pytest.mark.micropython
@pytest.mark.mosquitto
def test_add_from_the_cable_to_the_gateway(
    firmware_boards: FirmwareBoards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ISOTHERM_WIFI_PASSWORD", SECRET)
    bare = firmware_boards.bare("newcomer")
    with Mosquitto(tmp_path / "mosquitto") as broker:
        words = ["add", "--plaintext-for-tests", "--port", port_of(bare), "--yes", "--config"]
        path = str(written(tmp_path, device="newcomer", port=broker.port))
        assert cli.run([*words, path, "--timeout-s", "3"]) == 1, "nobody acknowledges"
        shown = capsys.readouterr()
        assert "no reading of newcomer arrived within 3 s: " in shown.err
        walk = by_shape(WALK.read_text(encoding="utf-8"), "virtual-boards/fridge/port", "fridge", "shelf")
        steps = walk[walk.index("0/0 PORT: is MicroPython on it?") :]
        steps = steps[: steps.index("0/0 DEVICE: its first reading at the gateway") + 1]
        assert by_shape(shown.out, port_of(bare), "newcomer", "water")[: len(steps)] == steps, "as the walk shows it"
        gateway = AckGateway(broker.port)
        try:
            assert cli.run([*words, path, "--timeout-s", str(3 * DEADLINE_S)]) == 0
        finally:
            gateway.close()
        out = capsys.readouterr().out
        assert [line[:3] for line in out.splitlines() if line[1:3] == "/4"] == ["1/4", "2/4", "3/4", "4/4"]
        assert "newcomer: water 21 °C, on the gateway's disk (boot " in out
        assert by_shape(out, port_of(bare), "newcomer", "water")[-1] in walk
        assert SECRET not in out
    bare.power_cut()


def by_shape(text: str, port: str, device: str, channel: str) -> list[str]:
    """Lines of a page or of a command's output, whoever's names and whatever numbers they have."""
    for name, stands_for in ((port, "PORT"), (device, "DEVICE"), (channel, "CHANNEL")):
        text = text.replace(name, stands_for)
    return [re.sub(r"\d[\d.]*", "0", line.strip()) for line in text.splitlines()]


@pytest.mark.mosquitto
def test_add_needs_a_broker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["add", "--plaintext-for-tests", "--port", os.devnull, "--config", str(written(tmp_path))]) == 1
    assert "no broker at 127.0.0.1:1" in capsys.readouterr().err
