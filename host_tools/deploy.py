"""Firmware onto a board: only what changed, into the slot that does not run, checked there, switched to, on trial.

    look -> plan -> prepare, upload -> verify and switch -> reset -> wait for proof, or take it back

The slot that proved itself is never touched, so a cut at any point leaves a board that starts: the new slot counts only
from the rename of /slot, which comes after every file was hashed on the board. A board's own loader (firmware/boot.py)
ends a failed trial without us; here we only wait, and help where it cannot. Must not know what the files do.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from host_tools import on_board
from host_tools.bundle import LOADER, Bundle, blocks_bytes
from host_tools.device import Device, DeviceError, FlashFull, Space
from host_tools.errors import HostError
from isocore import slot as iso_slot

TRIAL_S = 180.0  # three starts that end in a watchdog's reset take longer; then we take the slot back ourselves
SPARE_BYTES = 32_768  # left free for boot numbers, the crash log and littlefs itself
LOADER_NEW = "/boot.py.new"
_ROOT_FILES = ("/main.py", "/names.txt")
_ROOT_PREFIXES = ("/cold/", "/isocore/", "/isonode/", "/lib/umqtt/")
_ROOT_FOLDERS = ("/cold", "/isonode/sensors", "/isonode", "/isocore", "/lib/umqtt")
_UPLOAD_TRIES = 2

Say = Callable[[str], None]


class DeployRefused(HostError):
    """The board runs what it ran before."""


@dataclass(frozen=True)
class Facts:
    """What is on a board. slot: (slot, former, left) of isocore.slot, or None. files: path -> (bytes, SHA-256)."""

    python: tuple[int, ...] = (0, 0, 0)
    platform: str = ""
    bytecode: int = 0
    slot: tuple[str, str, int] | None = None
    total_bytes: int = 0
    free_bytes: int = 0
    provisioned: bool = False
    crash: str = ""  # the end of its crash log
    files: Mapping[str, tuple[int, bytes]] = field(default_factory=dict)

    @property
    def proven(self) -> str:
        """The slot that must stay: the one that runs, or while it is on trial the one before it. "-" is the root."""
        if self.slot is None:
            return "-"
        return self.slot[0] if self.slot[2] < 0 else self.slot[1]

    def starts(self, slot: str) -> bool:
        """Whether a slot holds something that could start."""
        return iso_slot.folder(slot) + "/main.py" in self.files

    @property
    def used_bytes(self) -> int:
        return self.total_bytes - self.free_bytes


@dataclass(frozen=True)
class Plan:
    """What to do, by absolute paths on the board. Nothing at all when `empty`."""

    target: str
    line: str = ""
    on_trial: bool = False
    folders: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    remove_folders: tuple[str, ...] = ()
    copies: tuple[tuple[str, str], ...] = ()
    uploads: Mapping[str, bytes] = field(default_factory=dict)
    loader: bool = False

    @property
    def empty(self) -> bool:
        return not self.line

    @property
    def upload_bytes(self) -> int:
        return sum(map(len, self.uploads.values()))


@dataclass(frozen=True)
class Outcome:
    """How it ended. state: "up to date", "proven", "on trial" or "not provisioned"."""

    state: str
    slot: str
    files_sent: int = 0
    bytes_sent: int = 0
    used_bytes: int = 0
    total_bytes: int = 0

    def __str__(self) -> str:
        files = f"{self.files_sent} file{'s' if self.files_sent > 1 else ''}"
        sent = f"{files}, {self.bytes_sent} bytes sent" if self.files_sent else "nothing sent"
        share = f"{self.used_bytes // 1024} of {self.total_bytes // 1024} KiB of flash in use"
        return f"slot {self.slot}, {self.state}; {sent}; {share}"


def look(device: Device) -> Facts:
    """Ask the board. Raises DeviceError."""
    found: dict[str, tuple[object, ...]] = {}
    files: dict[str, tuple[int, bytes]] = {}
    for kind, *values in device.evaluate(on_board.FACTS):
        if kind == "file":
            files[values[0]] = (values[1], values[2])
        else:
            found[kind] = tuple(values)
    python, platform, bytecode = found.get("python", ("0.0.0", "", 0))
    total, free = found.get("space", (0, 0))
    return Facts(
        python=tuple(int(part) for part in str(python).split(".")),
        platform=str(platform),
        bytecode=_int(bytecode),
        slot=iso_slot.parse(str(found["slot"][0])) if "slot" in found else None,
        total_bytes=_int(total),
        free_bytes=_int(free),
        provisioned="config" in found,
        crash=str(found.get("crash", ("",))[0]),
        files=files,
    )


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0


def plan(port: str, facts: Facts, bundle: Bundle) -> Plan:
    """Decide what must be done. Raises DeviceError when the board cannot take it."""
    if facts.bytecode != bundle.bytecode:
        raise DeviceError(
            f"{port}: its MicroPython {'.'.join(map(str, facts.python))} runs bytecode {facts.bytecode or 'of no kind'}"
            f", mpy-cross makes {bundle.bytecode}: put a newer MicroPython on the board (`isotherm flash`)"
        )
    wanted = bundle.hashes
    proven = facts.proven
    loader = facts.files.get("/" + LOADER, (0, b""))[1] != hashlib.sha256(bundle.loader).digest()
    settled = facts.slot is not None and facts.slot[2] < 0
    if settled and not loader and proven != "-" and _holds(facts, proven, wanted):
        return Plan(proven)
    target = "b" if proven == "a" else "a"
    folder = iso_slot.folder(target)
    there = {path: digest for path, (_, digest) in facts.files.items()}
    at_hand = {digest: path for path, digest in there.items() if _in_slot(path, proven)}
    copies: list[tuple[str, str]] = []
    uploads: dict[str, bytes] = {}
    for path, digest in wanted.items():
        goal = f"{folder}/{path}"
        if there.get(goal) == digest:
            continue
        if digest in at_hand:
            copies.append((at_hand[digest], goal))
        else:
            uploads[goal] = bundle.files[path]
    stale = [path for path in there if path.startswith(folder + "/") and path[len(folder) + 1 :] not in wanted]
    old_root = [path for path in there if _in_slot(path, "-")] if proven != "-" else []
    changed = bool(copies or uploads)
    if loader:
        uploads[LOADER_NEW] = bundle.loader
    on_trial = facts.provisioned and facts.starts(proven)
    left = iso_slot.TRIAL_STARTS if on_trial else iso_slot.PROVEN
    made = Plan(
        target,
        iso_slot.to_line(target, proven, left),
        on_trial,
        (folder, *(f"{folder}/{name}" for name in bundle.folders)) if changed else (),
        tuple(stale + old_root),
        _ROOT_FOLDERS if old_root else (),
        tuple(copies),
        uploads,
        loader,
    )
    _check_room(port, facts, made, bundle)
    return made


def _in_slot(path: str, slot: str) -> bool:
    """Whether a file belongs to a slot; to the root belongs what was there before a board had slots."""
    if slot == "-":
        return path in _ROOT_FILES or path.startswith(_ROOT_PREFIXES)
    return path.startswith(iso_slot.folder(slot) + "/")


def _holds(facts: Facts, slot: str, wanted: Mapping[str, bytes]) -> bool:
    """Whether a slot is exactly this."""
    folder = iso_slot.folder(slot) + "/"
    found = {path[len(folder) :]: digest for path, (_, digest) in facts.files.items() if path.startswith(folder)}
    return found == dict(wanted)


def _check_room(port: str, facts: Facts, made: Plan, bundle: Bundle) -> None:
    folder = iso_slot.folder(made.target) + "/"
    new = [len(bundle.files[goal[len(folder) :]]) for _, goal in made.copies] + [len(c) for c in made.uploads.values()]
    replaced = [goal for goal in (*made.uploads, *(goal for _, goal in made.copies)) if goal in facts.files]
    freed = blocks_bytes([facts.files[path][0] for path in (*made.remove, *replaced)])
    need = blocks_bytes(new) + SPARE_BYTES - freed
    if need > facts.free_bytes:
        raise FlashFull(
            f"{port}: the board's flash is full: {need // 1024} KiB are needed, {facts.free_bytes // 1024} of "
            f"{facts.total_bytes // 1024} are free: remove files (`mpremote connect {port} fs ls :/`), give outbox."
            "capacity_bytes less, or wipe the board (`isotherm wipe`)"
        )


def deploy(device: Device, bundle: Bundle, say: Say, *, wait: bool = True, trial_s: float = TRIAL_S) -> Outcome:
    """Bring a board to this firmware and start it. wait: until it has proved itself.

    Raises DeviceError, or DeployRefused when the new firmware was taken back. Whatever is raised, the board starts
    what it ran before, or the new firmware if that was switched to already.
    """
    with device.held():
        try:
            say("looking at what is there")
            facts = look(device)
            todo = plan(device.port, facts, bundle)
            space = Space(facts.total_bytes, facts.free_bytes)
            if not todo.empty:
                space = _write(device, todo, bundle, say)
        finally:
            with contextlib.suppress(DeviceError):  # gone, or silent: its watchdog restarts it
                device.reset()
    sent = len(todo.uploads), todo.upload_bytes
    if todo.empty or not todo.on_trial:
        state = "up to date" if todo.empty else "not provisioned" if not facts.provisioned else "proven"
        return Outcome(state, todo.target, *sent, space.total_bytes - space.free_bytes, space.total_bytes)
    if wait:
        say(f"slot {todo.target} is on trial")
        _await_proof(device, facts, todo.target, trial_s)
    state = "proven" if wait else "on trial"
    return Outcome(state, todo.target, *sent, space.total_bytes - space.free_bytes, space.total_bytes)


def _write(device: Device, todo: Plan, bundle: Bundle, say: Say) -> Space:
    """Fill the slot, check it on the board, switch."""
    first = on_board.PREPARE.format(
        folders=todo.folders, remove=todo.remove, remove_folders=todo.remove_folders, copies=todo.copies
    )
    uploads = dict(todo.uploads)
    prefix = iso_slot.folder(todo.target) + "/"
    wanted = [(prefix + path, digest.hex()) for path, digest in bundle.hashes.items()]
    if todo.loader:
        wanted.append((LOADER_NEW, hashlib.sha256(bundle.loader).hexdigest()))
    for _ in range(_UPLOAD_TRIES):
        say(f"sending {len(uploads)} files, {sum(map(len, uploads.values()))} bytes, copying {len(todo.copies)}")
        device.write(uploads, first)
        say("checking on the board")
        bad, space = device.evaluate(on_board.SWITCH.format(wanted=wanted, loader=todo.loader, line=todo.line))
        if not bad:
            return Space(*space)
        first = ""
        uploads = {path: bundle.loader if path == LOADER_NEW else bundle.files[path[len(prefix) :]] for path in bad}
    raise DeployRefused(
        f"{device.port}: {', '.join(bad[:3])} came out wrong on the board twice: its flash may be worn out; "
        "it goes on with what it ran before"
    )


# ---- the trial


def _await_proof(device: Device, before: Facts, target: str, trial_s: float) -> None:
    """Listen until the new slot has proved itself. Raises DeployRefused when it did not, and the old one runs again."""
    good = f"isotherm: slot {target} has proved itself"
    bad = f"isotherm: slot {target} did not prove itself"
    heard = False
    for line in device.listen(time.monotonic() + trial_s):
        if good in line:
            return
        if bad in line:
            heard = True
            break
    with device.held():
        [(text, crash)] = device.evaluate(on_board.VERDICT)
        state = iso_slot.parse(text)
        if not heard and state is not None and state[0] == target and state[2] < 0:
            device.reset()
            return
        if state is None or state[0] == target:
            device.exec(on_board.SET_SLOT.format(line=iso_slot.to_line(before.proven, target, iso_slot.REVERTED)))
        device.reset()
    why = (crash.strip().splitlines() or [""])[-1] if crash != before.crash else "it did not say why"
    back = "the root" if before.proven == "-" else f"slot {before.proven}"
    bound = f"in {iso_slot.TRIAL_STARTS} starts" if heard else f"within {trial_s:g} s"
    raise DeployRefused(
        f"{device.port}: the new firmware did not prove itself {bound}, and {back} runs again: {why} "
        f"(`isotherm doctor --port {device.port}` shows more)"
    )
