"""Board files: boards/*.toml read into checked values, or one BoardFileError that names file and key.

    [board]       name, title, chip, sources
    [flash]       size_bytes (the whole chip), filesystem_bytes, image_offset (where esptool writes the image)
    [micropython] image (pattern of the file's name), page, version, oldest, uf2_id, [micropython.sha256] by file name
    [gpio]        usable, input_only, [gpio.reserved] by reason: what a pin may be used for
    [pins]        role = pin, as the examples and virtual boards use them;  [buses.NAME] sda, scl
    [led]         pin, active, kind;  [power] notes;  [heap], [network]: what is left to Python

Literals only. It knows the format and what pins a chip has; it neither opens a port nor knows the firmware.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from host_tools.errors import InputError
from host_tools.places import boards_folder

_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,31}")
_ROLE = re.compile(r"[a-z][a-z0-9_]{0,31}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_FLASH_BYTES_MAX = 1 << 28


@dataclass(frozen=True)
class Chip:
    """A family of chips: what esptool calls it ("" when it is not Espressif's), its GPIO numbers, sys.platform."""

    esptool_name: str
    gpios: frozenset[int]
    platform: str


# Pins a chip has. ESP32 Series Datasheet, "Pin Overview" (no GPIO 20, 24, 28 to 31 on the modules); ESP32-S3 Series
# Datasheet, "IO Pins" (no 22 to 25); ESP32-C3 Series Datasheet, "IO Pins"; RP2040 Datasheet 1.4.3 and RP2350 Datasheet
# 1.2.3 (QFN-60): GPIO 0 to 29.
CHIPS = {
    "esp32": Chip("ESP32", frozenset(range(40)) - {20, 24, 28, 29, 30, 31}, "esp32"),
    "esp32s3": Chip("ESP32-S3", frozenset(range(49)) - {22, 23, 24, 25}, "esp32"),
    "esp32c3": Chip("ESP32-C3", frozenset(range(22)), "esp32"),
    "rp2040": Chip("", frozenset(range(30)), "rp2"),
    "rp2350": Chip("", frozenset(range(30)), "rp2"),
}


class BoardFileError(InputError):
    """A board file that cannot be used; names file and key."""

    def __init__(self, path: Path, key: str, text: str) -> None:
        super().__init__(f"{path}: {key + ' ' if key else ''}{text}")
        self.path = path
        self.key = key


@dataclass(frozen=True)
class Led:
    """pin: a GPIO, or the name of a pin on the radio chip. active: the level that lights it. kind: plain or rgb."""

    pin: int | str
    active: int
    kind: str


@dataclass(frozen=True)
class Board:
    """One board file. Pins are GPIO numbers, sizes bytes, image_offset None where no esptool writes the image."""

    path: Path
    name: str
    title: str
    chip: str
    sources: tuple[str, ...]
    flash_bytes: int
    filesystem_bytes: int
    image_offset: int | None
    image_pattern: str
    image_page: str
    micropython_version: str
    micropython_oldest: str
    uf2_id: str
    image_sha256: Mapping[str, str]
    usable: frozenset[int]
    input_only: frozenset[int]
    reserved: Mapping[str, frozenset[int]]
    pins: Mapping[str, int]
    buses: Mapping[str, Mapping[str, int]]
    led: Led | None
    power_notes: tuple[str, ...]
    heap: Mapping[str, int] = field(default_factory=dict)
    max_sockets: int = 0

    @property
    def esptool_chip(self) -> str:
        """What esptool calls the chip; "" when the image goes on as UF2, or there is no chip."""
        return CHIPS[self.chip].esptool_name if self.image_offset is not None else ""

    def complaint(self, pin: int, *, output: bool) -> str:
        """Why a pin cannot be used, or "" when it can."""
        if pin not in CHIPS[self.chip].gpios:
            return f"{self.title} has no GPIO {pin}"
        for reason, pins in self.reserved.items():
            if pin in pins:
                return f"GPIO {pin} is taken on {self.title}: {reason.replace('_', ' ')}"
        if pin in self.input_only:
            return f"GPIO {pin} of {self.title} is input only" if output else ""
        return "" if pin in self.usable else f"GPIO {pin} is not led out on {self.title}"


def load_all(folder: Path | None = None) -> dict[str, Board]:
    """Every board file of the folder by name. Raises BoardFileError for the first that is wrong."""
    files = sorted((folder or boards_folder()).glob("*.toml"))
    return {board.name: board for board in map(read, files)}


def load(name: str, folder: Path | None = None) -> Board:
    """The board of a name. Raises InputError listing those there are."""
    folder = folder or boards_folder()
    path = folder / f"{name}.toml"
    if not _NAME.fullmatch(name) or not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.toml")))
        raise InputError(f"--board: there is no board {name!r}; known: {known} (`isotherm board new` makes one)")
    return read(path)


def read(path: Path) -> Board:
    """Read and check one file. Raises BoardFileError."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BoardFileError(path, "", f"cannot be read ({error.strerror}): restore the boards folder") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BoardFileError(path, "", f"is not TOML: {error}") from None
    return _Reader(path, table).board()


class _Reader:
    """One pass over a parsed file; takes each key out, so that what is left is unknown."""

    def __init__(self, path: Path, table: dict[str, Any]) -> None:
        self._path = path
        self._table = table

    def board(self) -> Board:
        head, flash = self._section("board"), self._section("flash")
        image, gpio = self._section("micropython"), self._section("gpio")
        name = self._text("board.name", head.pop("name", None), _NAME)
        if name != self._path.stem:
            self._wrong("board.name", f"is {name!r}, but the file is called {self._path.name}")
        chip = head.pop("chip", None)
        if chip not in CHIPS:
            self._wrong("board.chip", f"must be one of {', '.join(CHIPS)}")
        flash_bytes = self._integer("flash.size_bytes", flash.pop("size_bytes", None), 1, _FLASH_BYTES_MAX)
        filesystem = flash.pop("filesystem_bytes", None)
        offset = flash.pop("image_offset", None)
        if offset is not None and not CHIPS[chip].esptool_name:
            self._wrong("flash.image_offset", f"is for chips that esptool writes, and {chip} is none")
        usable = self._pin_set("gpio.usable", chip, gpio.pop("usable", None))
        input_only = self._pin_set("gpio.input_only", chip, gpio.pop("input_only", []))
        reserved = self._reserved(chip, gpio.pop("reserved", {}), usable | input_only)
        if both := usable & input_only:
            self._wrong("gpio.input_only", f"lists GPIO {min(both)}, which gpio.usable lists as well")
        board = Board(
            path=self._path,
            name=name,
            title=self._text("board.title", head.pop("title", None)),
            chip=chip,
            sources=self._texts("board.sources", head.pop("sources", None)),
            flash_bytes=flash_bytes,
            filesystem_bytes=self._integer("flash.filesystem_bytes", filesystem, 1, flash_bytes),
            image_offset=None if offset is None else self._integer("flash.image_offset", offset, 0, flash_bytes),
            image_pattern=self._text("micropython.image", image.pop("image", "")) if "image" in image else "",
            image_page=self._text("micropython.page", image.pop("page", "")) if "page" in image else "",
            micropython_version=self._text("micropython.version", image.pop("version", None), _VERSION),
            micropython_oldest=self._text("micropython.oldest", image.pop("oldest", None), _VERSION),
            uf2_id=self._text("micropython.uf2_id", image.pop("uf2_id", "")) if "uf2_id" in image else "",
            image_sha256=self._hashes(image.pop("sha256", {})),
            usable=usable,
            input_only=input_only,
            reserved=reserved,
            pins=self._pins("pins", self._table.pop("pins", {}), usable, input_only),
            buses=self._buses(self._table.pop("buses", {}), usable),
            led=self._led(chip, self._table.pop("led", None)),
            power_notes=self._texts("power.notes", self._section("power").pop("notes", None)),
            heap=self._numbers("heap", self._table.pop("heap", {})),
            max_sockets=self._numbers("network", self._table.pop("network", {})).get("max_sockets", 0),
        )
        for where, left in (("board.", head), ("flash.", flash), ("micropython.", image), ("gpio.", gpio)):
            self._nothing_left(where, left)
        self._nothing_left("", self._table)
        return board

    # ---- pieces

    def _wrong(self, key: str, text: str) -> Any:
        raise BoardFileError(self._path, key, text)

    def _section(self, name: str) -> dict[str, Any]:
        section = self._table.pop(name, None)
        if section is None:
            self._wrong(f"[{name}]", "is missing")
        return self._dict(name, section)

    def _dict(self, key: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            self._wrong(key, "must be a table")
        return dict(value)

    def _nothing_left(self, where: str, table: Mapping[str, Any]) -> None:
        for key in table:
            self._wrong(where + key, "is not a known key")

    def _text(self, key: str, value: Any, form: re.Pattern[str] | None = None) -> str:
        if not isinstance(value, str) or not value.strip():
            self._wrong(key, "must be a text")
        if form is not None and not form.fullmatch(value):
            self._wrong(key, f"is {value!r}, which does not match {form.pattern}")
        return str(value)

    def _texts(self, key: str, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or not value:
            self._wrong(key, "must be a list of texts, and not empty")
        return tuple(self._text(f"{key}.{number}", item) for number, item in enumerate(value))

    def _integer(self, key: str, value: Any, low: int, high: int) -> int:
        if type(value) is not int or not low <= value <= high:
            self._wrong(key, f"must be an integer between {low} and {high}")
        return int(value)

    def _numbers(self, name: str, value: Any) -> dict[str, int]:
        table = self._dict(name, value)
        return {key: self._integer(f"{name}.{key}", number, 1, _FLASH_BYTES_MAX) for key, number in table.items()}

    def _hashes(self, value: Any) -> dict[str, str]:
        key = "micropython.sha256"
        return {name: self._text(f"{key}.{name}", digest, _SHA256) for name, digest in self._dict(key, value).items()}

    def _pin_set(self, key: str, chip: str, value: Any) -> frozenset[int]:
        if not isinstance(value, list):
            self._wrong(key, "must be a list of GPIO numbers")
        for pin in value:
            if type(pin) is not int or pin not in CHIPS[chip].gpios:
                self._wrong(key, f"lists {pin!r}, which is no GPIO of an {chip}")
        if len(set(value)) != len(value):
            self._wrong(key, "lists a pin twice")
        return frozenset(value)

    def _reserved(self, chip: str, value: Any, free: frozenset[int]) -> dict[str, frozenset[int]]:
        reserved = {}
        for reason, pins in self._dict("gpio.reserved", value).items():
            key = f"gpio.reserved.{reason}"
            reserved[reason] = self._pin_set(key, chip, pins)
            if both := reserved[reason] & free:
                self._wrong(key, f"lists GPIO {min(both)}, which is listed as free to use")
        return reserved

    def _pins(
        self, name: str, value: Any, usable: frozenset[int], input_only: frozenset[int] = frozenset()
    ) -> dict[str, int]:
        table = self._dict(name, value)
        for role, pin in table.items():
            key = f"{name}.{role}"
            if not _ROLE.fullmatch(role):
                self._wrong(key, f"does not match {_ROLE.pattern}")
            if type(pin) is not int or pin not in usable | input_only:
                self._wrong(key, f"is {pin!r}, which gpio.usable does not list")
        return table

    def _buses(self, value: Any, usable: frozenset[int]) -> dict[str, dict[str, int]]:
        buses = {}
        for name, pins in self._dict("buses", value).items():
            buses[name] = self._pins(f"buses.{name}", pins, usable)
            if set(buses[name]) != {"sda", "scl"}:
                self._wrong(f"buses.{name}", "must have sda and scl, and nothing else")
        return buses

    def _led(self, chip: str, value: Any) -> Led | None:
        if value is None:
            return None
        table = self._dict("led", value)
        pin = table.pop("pin", None)
        if not isinstance(pin, str) and (type(pin) is not int or pin not in CHIPS[chip].gpios):
            self._wrong("led.pin", f"is {pin!r}, which is no GPIO of an {chip}")
        kind = table.pop("kind", "plain")
        if kind not in ("plain", "rgb"):
            self._wrong("led.kind", 'must be "plain" or "rgb"')
        led = Led(pin, self._integer("led.active", table.pop("active", 1), 0, 1), kind)
        self._nothing_left("led.", table)
        return led


# ---- pins of a configuration


def check_pins(board: Board, config: Mapping[str, Any]) -> list[str]:
    """What is wrong with the pins of a board's configuration, one sentence each: missing, reserved, used twice.

    Every integer under a key `pin`, `NAME_pin`, `sda` or `scl` is a pin, however deep it lies, so that sensors that
    this file has never heard of are checked as well. Sensors of one 1-Wire pin, told apart by `rom`, share it; so do
    those of one I2C bus.
    """
    problems = []
    users: dict[int, list[tuple[str, str]]] = {}
    for where, pin, shared in _pins_of(config):
        output = not where.endswith("strobe_pin")  # a sensor's pin is driven as well: 1-Wire, I2C, DHT's start signal
        if complaint := board.complaint(pin, output=output):
            problems.append(f"{where}: {complaint}; free are {_listed(board.usable)}")
        users.setdefault(pin, []).append((where, shared))
    for pin, found in users.items():
        kinds = {shared for _, shared in found}
        if len(found) > 1 and (len(kinds) > 1 or kinds == {""}):
            problems.append(f"{found[1][0]}: GPIO {pin} is used by {found[0][0]} already")
    return problems


def _pins_of(config: Any, where: str = "") -> Iterable[tuple[str, int, str]]:
    """(key, GPIO, what it may share the pin with) of every pin in a configuration."""
    if isinstance(config, Mapping):
        for name, value in config.items():
            key = f"{where}.{name}" if where else str(name)
            if type(value) is int and (name in ("pin", "sda", "scl") or name.endswith("_pin")):
                shared = name if name in ("sda", "scl") else ""
                if name == "pin" and config.get("type") == "ds18b20":
                    shared = "1-wire"
                yield key, value, shared
            else:
                yield from _pins_of(value, key)
    elif isinstance(config, list):
        for number, item in enumerate(config):
            yield from _pins_of(item, f"{where}.{number}")


def _listed(pins: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(pins)))


# ---- a new file


def new(name: str, base: Board, folder: Path, title: str = "") -> Path:
    """Write NAME.toml as a copy of a board's file, for its owner to correct. Raises InputError when it exists."""
    if not _NAME.fullmatch(name):
        raise InputError(f"NAME: {name!r} does not match {_NAME.pattern}")
    target = folder / f"{name}.toml"
    text = base.path.read_text(encoding="utf-8")
    replace: list[tuple[str, Callable[[re.Match[str]], str]]] = [
        (r'^name = ".*"', lambda _: f'name = "{name}"'),
        (r'^title = ".*"', lambda _: f'title = "{title or name}"'),
    ]
    for pattern, by in replace:
        text = re.sub(pattern, by, text, count=1, flags=re.MULTILINE)
    text = f"# Made from {base.path.name}: correct pins, flash and sources against your board's data sheet.\n{text}"
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(f"{target}: exists already: choose another name, or edit it") from None
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror or error}") from None
    read(target)
    return target
