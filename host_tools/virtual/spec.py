"""What one virtual board is: its chip, its sensors, its trace, its air. Values only; must not start anything.

`BoardSpec.document` is the whole of what the simulation (sim/runner.py) is told.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from host_tools import boards
from host_tools.virtual.errors import BoardError

BOARD_FILE = Path(__file__).resolve().parents[2] / "boards" / "virtual.toml"
_DS18B20_FAMILY = 0x28


@dataclass(frozen=True)
class Hardware:
    """The part of a board's file that the simulation needs. platform: its `sys.platform`, "esp32" or "rp2"."""

    platform: str
    flash_bytes: int
    heap_bytes: int
    simulation_heap_bytes: int
    serial_heap_bytes: int
    prompt_heap_bytes: int
    max_sockets: int


def load_hardware(path: Path = BOARD_FILE) -> Hardware:
    """Read a board's file; the heap is the virtual board's where it says nothing. Raises BoardFileError."""
    board = boards.read(path)
    heap = {**(board if path == BOARD_FILE else boards.read(BOARD_FILE)).heap, **board.heap}
    for key in ("firmware_bytes", "simulation_bytes", "serial_bytes", "prompt_bytes"):
        if key not in heap:
            raise boards.BoardFileError(path, f"heap.{key}", "is missing")
    return Hardware(
        platform=boards.CHIPS[board.chip].platform,
        flash_bytes=board.filesystem_bytes,
        heap_bytes=heap["firmware_bytes"],
        simulation_heap_bytes=heap["simulation_bytes"],
        serial_heap_bytes=heap["serial_bytes"],
        prompt_heap_bytes=heap["prompt_bytes"],
        max_sockets=board.max_sockets,
    )


@dataclass(frozen=True)
class BoardSpec:
    """One board. `config` becomes /config.json; `devices` are the chips on its pins, from `config` when not given.

    rows: the trace its sensors see (`t_ms,temp_milli,humidity_milli,fault`), None for a constant room.
    speed: board seconds per real second while the board waits. epoch_s: unix time at board time 0 (a battery-backed
    RTC), None for an RTC that starts at its epoch. ticks_start_ms: `ticks_ms` at boot, to try wraps.
    wifi: {"ssid", "password"} that the air offers; empty takes any. serial: it has a serial port (see serial.py).
    udp_ports: where services with ports of their own are on this host, such as {53: 40053} for its name server.
    """

    device: str
    config: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    rows: Path | None = None
    devices: Sequence[Mapping[str, Any]] | None = None
    strobe_pin: int | None = None
    speed: float = 1
    epoch_s: int | None = None
    ticks_start_ms: int = 0
    wifi: Mapping[str, str] = field(default_factory=dict)
    heap_bytes: int | None = None
    serial: bool = False
    udp_ports: Mapping[int, int] = field(default_factory=dict)

    def flash_files(self) -> dict[str, bytes]:
        """What provisioning writes into this board's flash."""
        files = dict(self.files)
        if self.config:
            files["/config.json"] = json.dumps(self.config, separators=(",", ":")).encode()
        return files

    def document(self, workdir: Path, hardware: Hardware) -> dict[str, Any]:
        """The spec file of one run."""
        if not self.speed > 0:
            raise BoardError(f"board {self.device}: speed {self.speed} is not above 0")
        return {
            "device": self.device,
            "platform": hardware.platform,
            "unique_id": hashlib.sha256(self.device.encode()).hexdigest()[:12],
            "max_sockets": hardware.max_sockets,
            "flash": str(workdir / "flash.img"),
            "state": str(workdir / "state.bin"),
            "rtc_memory": str(workdir / "rtc.bin"),
            "tap": str(workdir / "samples.bin"),
            "rows": None if self.rows is None else str(self.rows.resolve()),
            "devices": self._device_list(),
            "strobe_pin": self.strobe_pin,
            "speed": int(self.speed) if self.speed == int(self.speed) else self.speed,
            "epoch_s": self.epoch_s,
            "ticks_start_ms": self.ticks_start_ms,
            "wifi": dict(self.wifi),
            "udp_ports": dict(self.udp_ports),
            "heap_bytes": self.heap_bytes or hardware.heap_bytes,
            "heap_extra_bytes": hardware.prompt_heap_bytes if self.serial else 0,
            "after_soft_reset": str(workdir / "soft.json"),
        }

    def _device_list(self) -> list[dict[str, Any]]:
        wanted = self.devices
        if wanted is None:
            wanted = [
                _soldered(sensor) for sensor in self.config.get("sensors", ()) if "pin" in sensor or "scl" in sensor
            ]
        devices = [dict(device) for device in wanted]
        for number, device in enumerate(devices):
            if device["type"] == "ds18b20":
                device.setdefault("rom", ds18b20_rom(f"{self.device}/{device['pin']}/{number}").hex())
        return devices


# Where a configuration names no address (firmware/isonode/wiring.py has the same defaults)
_I2C_ADDRESS = {"sht3x": 0x44, "sht4x": 0x44, "bme280": 0x76, "tmp102": 0x48, "tmp117": 0x48}


def _soldered(sensor: Mapping[str, Any]) -> dict[str, Any]:
    """The chip that a configured sensor calls for."""
    if "pin" in sensor:
        return {key: sensor[key] for key in ("type", "pin")}
    address = sensor.get("address", _I2C_ADDRESS.get(sensor["type"], 0))
    if isinstance(address, str):
        address = int(address, 16)
    return {"type": sensor["type"], "scl": sensor["scl"], "sda": sensor["sda"], "address": address}


def ds18b20_rom(name: str) -> bytes:
    """A valid ROM code made from a name: family, 48-bit serial number, CRC."""
    code = bytes([_DS18B20_FAMILY]) + hashlib.sha256(name.encode()).digest()[:6]
    return code + bytes([crc8(code)])


def crc8(data: bytes) -> int:
    """Dallas/Maxim CRC-8 of 1-Wire ROM codes and scratchpads."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x8C if crc & 1 else 0)
    return crc
