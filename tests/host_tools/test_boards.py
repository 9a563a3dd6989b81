"""Board files: the six there are, every mistake by file and key, and the pins of a configuration."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from host_tools import boards, cli
from host_tools.errors import InputError

FOLDER = Path(__file__).resolve().parents[2] / "boards"
ALL = boards.load_all(FOLDER)
DEVKIT = ALL["esp32_devkitc"]


def test_the_boards_there_are() -> None:
    assert {name: board.chip for name, board in ALL.items()} == {
        "esp32_devkitc": "esp32",
        "esp32c3_devkitm": "esp32c3",
        "esp32s3_devkitc": "esp32s3",
        "pico2_w": "rp2350",
        "pico_w": "rp2040",
        "virtual": "esp32",
    }
    offsets = {name: board.image_offset for name, board in ALL.items()}
    assert (offsets["esp32_devkitc"], offsets["esp32s3_devkitc"], offsets["esp32c3_devkitm"]) == (0x1000, 0, 0)
    assert offsets["pico_w"] is offsets["pico2_w"] is offsets["virtual"] is None


@pytest.mark.parametrize("board", ALL.values(), ids=ALL)
def test_every_pin_of_a_chip_is_accounted_for(board: boards.Board) -> None:
    """A pin that no list has was forgotten; the virtual board has no module whose pins could be missing."""
    listed = board.usable | board.input_only | frozenset().union(*board.reserved.values())
    if board.name != "virtual":
        assert listed == boards.CHIPS[board.chip].gpios
    for pin in board.usable:
        assert board.complaint(pin, output=True) == ""


# Espressif, ESP32 Series Datasheet, "Strapping Pins": MTDI is 12, MTDO 15; the same section of the others'.
@pytest.mark.parametrize(
    ("name", "strapping"),
    [("esp32_devkitc", {0, 2, 5, 12, 15}), ("esp32s3_devkitc", {0, 3, 45, 46}), ("esp32c3_devkitm", {2, 8, 9})],
)
def test_strapping_pins_are_not_offered(name: str, strapping: set[int]) -> None:
    assert ALL[name].reserved["strapping"] == strapping
    for pin in strapping:
        assert "strapping" in ALL[name].complaint(pin, output=False)


def changed(tmp_path: Path, pattern: str, by: str, name: str = "esp32_devkitc") -> Path:
    text = (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    new, count = re.subn(pattern, by, text, count=1, flags=re.MULTILINE)
    assert count, pattern
    path = tmp_path / f"{name}.toml"
    path.write_text(new, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("pattern", "by", "says"),
    [
        (r"^chip = .*", 'chip = "z80"', "board.chip must be one of esp32, "),
        (r"^chip = .*\n", "", "board.chip must be one of"),
        (r'^name = ".*"', 'name = "other"', "board.name is 'other', but the file is called esp32_devkitc.toml"),
        (r"^title = .*", "title = 3", "board.title must be a text"),
        (r"^size_bytes = \S+", 'size_bytes = "4M"', "flash.size_bytes must be an integer between 1 and"),
        (r"^filesystem_bytes = \S+", "filesystem_bytes = 8_388_608", "flash.filesystem_bytes must be an integer"),
        (r"^image_offset = \S+", "image_offset = -1", "flash.image_offset must be an integer"),
        (r"^\[flash\]", "[flash]\ncolour = 1", "flash.colour is not a known key"),
        (r"^\[flash\]", "[flush]", r"\[flash\] is missing"),
        (r'^version = ".*"', 'version = "new"', "micropython.version is 'new', which does not match"),
        (r"^page = ", 'sha256 = { "a.bin" = "12" }\npage = ', "micropython.sha256.a.bin is '12', which does not match"),
        (r"^usable = \[", "usable = [20, ", "gpio.usable lists 20, which is no GPIO of an esp32"),
        (r"^usable = \[", "usable = [4, ", "gpio.usable lists a pin twice"),
        (r"^usable = \[", "usable = [0, ", "gpio.reserved.strapping lists GPIO 0, which is listed as free to use"),
        (r"^input_only = \[", "input_only = [13, ", "gpio.input_only lists GPIO 13"),
        (r"^relay = \d+", "relay = 0", "pins.relay is 0, which gpio.usable does not list"),
        (r"^relay = \d+", "Relay = 32", "pins.Relay does not match"),
        (r"^sda = \d+\n", "", "buses.i2c0 must have sda and scl, and nothing else"),
        (r"^\[power\]", "[led]\npin = 99\n[power]", "led.pin is 99, which is no GPIO of an esp32"),
        (r"^\[power\]", '[led]\npin = 4\nkind = "neon"\n[power]', 'led.kind must be "plain" or "rgb"'),
        (r"^notes = \[", "notes = 3\nmore = [", "power.notes must be a list of texts"),
        (r"^firmware_bytes = \S+", "firmware_bytes = 0", "heap.firmware_bytes must be an integer"),
        (r"^\[board\]", "[board", "is not TOML"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_by_file_and_key(tmp_path: Path, pattern: str, by: str, says: str) -> None:
    path = changed(tmp_path, pattern, by)
    with pytest.raises(boards.BoardFileError, match=rf"^{re.escape(str(path))}: {says}"):
        boards.read(path)


def test_an_image_offset_is_for_espressifs_chips(tmp_path: Path) -> None:
    path = changed(tmp_path, r"^\[micropython\]", "image_offset = 0\n[micropython]", "pico_w")
    with pytest.raises(boards.BoardFileError, match=r"flash.image_offset is for chips that esptool writes"):
        boards.read(path)


def test_unknown_and_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no board 'esp99'; known: esp32_devkitc, .*virtual"):
        boards.load("esp99", FOLDER)
    with pytest.raises(InputError, match="no board"):
        boards.load("../boards/virtual", FOLDER)
    with pytest.raises(boards.BoardFileError, match="cannot be read"):
        boards.read(tmp_path / "none.toml")


# ---- the pins of a configuration


def configuration(*pins: int, **more: Any) -> dict[str, Any]:
    sensors = [{"type": "dht22", "pin": pin, "channels": {"temperature": f"t{n}"}} for n, pin in enumerate(pins)]
    return {"sensors": sensors, **more}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (configuration(25), ""),
        (configuration(0), "GPIO 0 is taken on ESP32-DevKitC V4 (ESP32-WROOM-32): strapping; free are 4, "),
        (configuration(6), "flash"),
        (configuration(20), "has no GPIO 20"),
        (configuration(34), "sensors.0.pin: GPIO 34 of ESP32-DevKitC V4 (ESP32-WROOM-32) is input only"),
        (configuration(25, sampling={"strobe_pin": 34}), ""),
        (configuration(25, 25), "sensors.1.pin: GPIO 25 is used by sensors.0.pin already"),
        (configuration(25, actuators=[{"type": "relay", "pin": 25}]), "actuators.0.pin: GPIO 25 is used by"),
        ({"sensors": [{"type": "ds18b20", "pin": 26, "rom": rom} for rom in ("1", "2")]}, ""),
        ({"sensors": [{"type": "ds18b20", "pin": 26}, {"type": "dht22", "pin": 26}]}, "used by sensors.0.pin"),
        ({"i2c": [{"sda": 21, "scl": 22}], "sensors": [{"type": "sht4x", "address": 68}]}, ""),
        ({"sensors": [{"sda": 21, "scl": 22}, {"sda": 21, "scl": 22}]}, ""),
        ({"i2c": [{"sda": 12, "scl": 22}]}, "i2c.0.sda: GPIO 12 is taken"),
    ],
)  # fmt: skip
def test_pins_of_a_configuration(config: dict[str, Any], says: str) -> None:
    problems = boards.check_pins(DEVKIT, config)
    assert bool(problems) == bool(says)
    assert says in "\n".join(problems)


# ---- the command


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["board", "list"]) == 0
    assert "pico_w" in capsys.readouterr().out
    assert cli.run(["board", "show", "esp32_devkitc"]) == 0
    shown = capsys.readouterr().out
    assert "at 0x1000" in shown and "0, 2, 5, 12, 15: strapping" in shown
    assert cli.run(["board", "show", "pico2_w", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["led"]["pin"] == "LED"
    (tmp_path / "pico_w.toml").write_bytes((FOLDER / "pico_w.toml").read_bytes())
    new = ["board", "new", "shed", "--from", "pico_w", "--title", "The shed", "--dir", str(tmp_path)]
    assert cli.run(new) == 0
    assert boards.load("shed", tmp_path).title == "The shed"
    assert cli.run(new) == 2
    assert "exists already" in capsys.readouterr().err
    assert cli.run(["board", "show", "nothing"]) == 2
    assert cli.run(["board", "list", "--dir", str(tmp_path), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"pico_w", "shed"}
