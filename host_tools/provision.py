"""A board's configuration: from a TOML file or answers, its pins checked against the board, judged by the firmware.

    TOML keys are those of /config.json (firmware/isonode/config.py). Passwords are not in it: they come from a file of
    mode 0600, the environment, standard input or a prompt, and stay on the board when none is given.

The check of the fields is the board's own, so that it can never differ. Must not know command lines.
"""

from __future__ import annotations

import json
import os
import stat
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from host_tools import boards, on_board
from host_tools.device import Device
from host_tools.errors import HostError, InputError

NEW_PATH = "/config.new"
_FOLDERS = "import os\ntry:\n os.mkdir('/certs')\nexcept OSError:\n pass"
SECRETS = {"wifi.password": "ISOTHERM_WIFI_PASSWORD", "gateway.password": "ISOTHERM_GATEWAY_PASSWORD"}
# Stays at a wipe: the firmware, wherever it lies, and the boot numbers, which must never come again.
KEPT = ("boot.py", "slot", "a", "b", "boot.a", "boot.b", "main.py", "cold", "isocore", "isonode", "lib", "names.txt")


class ProvisionRefused(HostError):
    """The board keeps the configuration it had."""


def read(path: Path) -> dict[str, Any]:
    """A board's TOML file. Raises InputError naming file and key."""
    try:
        config = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--config: {path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"--config: {path}: is not TOML: {error}") from None
    for key, variable in SECRETS.items():
        part, _, name = key.partition(".")
        if isinstance(config.get(part), dict) and config[part].get(name):
            raise InputError(
                f"--config: {path}: {key} does not belong in this file: put it in {variable}, or in a file of mode "
                "0600 for --secrets"
            )
    return config


def read_secrets(path: Path | None, text: str | None = None) -> dict[str, str]:
    """Passwords by key, from a TOML file of mode 0600 (or its text) and the environment. Raises InputError."""
    found = {key: os.environ[variable] for key, variable in SECRETS.items() if variable in os.environ}
    if path is not None:
        try:
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                raise InputError(f"--secrets: {path}: others may read it: chmod 600 {path}")
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"--secrets: {path}: cannot be read ({error.strerror})") from None
    if text is None:
        return found
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise InputError("--secrets: is not TOML with [wifi] and [gateway]") from None  # its text is not repeated
    for part, values in table.items():
        for name, value in values.items() if isinstance(values, dict) else [("", None)]:
            if f"{part}.{name}" not in SECRETS or not isinstance(value, str):
                raise InputError(f"--secrets: {part}.{name} is none of {', '.join(SECRETS)}")
            found[f"{part}.{name}"] = value
    return found


def checked(config: Mapping[str, Any], board: boards.Board) -> dict[str, Any]:
    """The configuration with its board's name; raises InputError listing what is wrong with its pins."""
    named = config.get("board", board.name)
    if named != board.name:
        raise InputError(f"--board: is {board.name}, but the configuration says board = {named!r}")
    for key in ("device", "gateway", "sampling", "sensors"):
        if key not in config:
            raise InputError(f"--config: {key} is missing")
    if not isinstance(config["gateway"], dict) or not config["gateway"].get("host"):
        raise InputError("--config: gateway.host is missing")
    if problems := boards.check_pins(board, config):
        raise InputError("; ".join(problems))
    return {**config, "board": board.name}


def with_secrets(config: Mapping[str, Any], secrets: Mapping[str, str]) -> dict[str, Any]:
    """A copy with the passwords in it, each where its part of the configuration is in use."""
    made: dict[str, Any] = json.loads(json.dumps(config, default=str))
    for key, value in secrets.items():
        part, _, name = key.partition(".")
        if isinstance(made.get(part), dict) and made[part].get("ssid" if part == "wifi" else "user"):
            made[part][name] = value
    return made


def write(device: Device, config: Mapping[str, Any], admit: Callable[[], Mapping[str, bytes]] | None = None) -> None:
    """Put it on the board if its firmware takes it, and start it. Raises ProvisionRefused, and nothing has changed.

    admit: gives the files that go with it, in /certs and the root; called when the firmware takes the configuration.
    """
    with device.held():
        device.write({NEW_PATH: json.dumps(config, separators=(",", ":")).encode()})
        [answer] = device.evaluate(on_board.JUDGE.format(new=NEW_PATH))
        place = ""
        if answer[0] == "good":
            files = {} if admit is None else admit()
            device.write({f"{path}.new": content for path, content in files.items()}, _FOLDERS if files else "")
            place = on_board.PLACE.format(paths=tuple(files), new=NEW_PATH)
        device.reset(place)
    kind, *more = answer
    if kind == "bare":
        raise ProvisionRefused(f"{device.port}: there is no firmware yet: isotherm deploy --port {device.port}")
    if kind == "secret":
        raise ProvisionRefused(
            f"{device.port}: {more[0]} is missing, and the board has none for this name: put it in {SECRETS[more[0]]}, "
            'in a file for --secrets, or write password = "" for an open network'
        )
    if kind == "bad":
        raise ProvisionRefused(f"{device.port}: the board refuses the configuration: {more[0]}")


def wipe(device: Device) -> list[str]:
    """Erase configuration, keys, models and readings; firmware and boot numbers stay. Returns what went."""
    with device.held():
        [gone] = device.evaluate(on_board.WIPE.format(keep=KEPT))
        device.reset()
    return [str(name) for name in gone]
