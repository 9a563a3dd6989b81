"""What is wrong with a board, in plain words: asks it at its prompt, judges here. Must not know command lines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from host_tools import deploy, on_board
from host_tools.bundle import MANIFEST
from host_tools.bytecode import names
from host_tools.deploy import Facts
from host_tools.device import Device
from isocore import slot as iso_slot

OLDEST = (1, 23, 0)
FREE_FLASH_BYTES = 65_536
FREE_HEAP_BYTES = 40_000  # at the prompt, with nothing loaded but the configuration's code


@dataclass
class Report:
    """What was found. problems: one sentence each, with the next step; empty when all is well."""

    port: str
    facts: Facts
    said: Mapping[str, tuple[Any, ...]]
    crash: str = ""  # the end of its crash log, with the names of the sources
    problems: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """For JSON; holds no secret."""
        device, board, ssid, host = self.said.get("names", (None, None, None, None))
        return {
            "port": self.port,
            "micropython": ".".join(map(str, self.facts.python)),
            "platform": self.facts.platform,
            "device": device,
            "board": board,
            "wifi": ssid,
            "gateway": host,
            "slot": self.facts.slot,
            "flash_total_bytes": self.facts.total_bytes,
            "flash_free_bytes": self.facts.free_bytes,
            "heap_free_bytes": self.said.get("heap", (0, 0))[0],
            "outbox_files": self.said.get("outbox", (0,))[0],
            "files": dict(self.said.get("root", ([],))[0]),
            "last_error": _last_line(self.crash),
            "crash_log": self.crash,
            "problems": self.problems,
        }


def examine(device: Device, *, forget: bool = False) -> Report:
    """Ask the board, then start it again. forget: the last error is told now and not again. Raises DeviceError."""
    with device.held():
        facts = deploy.look(device)
        health = on_board.HEALTH.format(crash_chars=on_board.CRASH_CHARS)
        said = {kind: tuple(values) for kind, *values in device.evaluate(health)}
        slot = facts.slot[0] if facts.slot is not None else "-"
        manifest = _content(device, facts, f"{iso_slot.folder(slot)}/{MANIFEST}")
        crash = str(said.get("crash", ("",))[0])
        back = _content(device, facts, f"{iso_slot.folder(slot)}/{names.NAMES_FILE}") if crash else b""
        if forget:
            device.exec(on_board.FORGET)
        device.reset()
    report = Report(device.port, facts, said, readable(crash, back))
    report.problems = problems(report, manifest)
    return report


def _content(device: Device, facts: Facts, path: str) -> bytes:
    """A file of the board, empty where there is none."""
    return device.read(path) if path in facts.files else b""


def readable(crash: str, names_file: bytes) -> str:
    """Crash log of linked firmware (ADR 7) with the sources' names; as it is where the board has no way back.

    Only the end of the log was read: a first line that may be cut goes.
    """
    whole = crash.partition("\n")[2] if len(crash) >= on_board.CRASH_CHARS else crash
    return names.readable(whole, names.from_text(names_file.decode("utf-8", "replace"))).strip()


def problems(report: Report, manifest: bytes) -> list[str]:
    """What is wrong, worst first."""
    facts, said, port = report.facts, report.said, report.port
    found = []
    if facts.python < OLDEST:
        found.append(f"MicroPython {'.'.join(map(str, facts.python))} is too old: isotherm flash --port {port}")
    if "no_firmware" in said:
        found.append(f"there is no firmware that starts ({said['no_firmware'][0]}): isotherm deploy --port {port}")
    if broken := _damaged(facts, manifest):
        found.append(f"{', '.join(broken[:3])} of the firmware is damaged: isotherm deploy --port {port}")
    if facts.slot is not None and facts.slot[2] == iso_slot.REVERTED:
        found.append(
            f"the last deployment did not prove itself, and slot {facts.slot[0]} came back: see the last error"
        )
    if facts.slot is not None and facts.slot[2] >= 0:
        found.append(f"slot {facts.slot[0]} is on trial, with {facts.slot[2]} starts left; this look took one")
    if not facts.provisioned:
        found.append(f"it is not configured: isotherm provision --port {port}")
    elif "config_bad" in said:
        found.append(f"its configuration is refused: {said['config_bad'][0]}: isotherm provision --port {port}")
    if facts.free_bytes < FREE_FLASH_BYTES:
        found.append(f"its flash is nearly full: {facts.free_bytes // 1024} KiB are free")
    if 0 < said.get("heap", (0, 0))[0] < FREE_HEAP_BYTES:
        found.append(f"its heap is small: {said['heap'][0]} bytes are free with nothing running")
    if last := _last_line(report.crash):
        found.append(f"the application was brought down by: {last}")
    return found


def _damaged(facts: Facts, manifest: bytes) -> list[str]:
    """Files that are not what their slot's manifest says."""
    if facts.slot is None or not manifest:
        return []
    folder = iso_slot.folder(facts.slot[0])
    try:
        listed = json.loads(manifest)["files"]
    except (ValueError, KeyError, TypeError):
        return [MANIFEST]
    empty = (0, hashlib.sha256().digest())
    return [path for path, (_, sha) in listed.items() if facts.files.get(f"{folder}/{path}", empty)[1].hex() != sha]


def _last_line(crash: str) -> str:
    lines = crash.splitlines()
    return lines[-1] if lines else ""
