"""Deploying: what is planned, and the real mpremote against virtual boards, cables pulled and firmware that fails."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from host_tools import bundle as bundling
from host_tools import cli, deploy, device
from host_tools.bundle import Bundle
from host_tools.deploy import Facts, Plan
from host_tools.device import Device
from host_tools.virtual.board import VirtualBoard
from isocore import slot
from tests.support.serial_board import DEADLINE_S, ROOT, FirmwareBoards, configuration, samples

LIBRARIES = [ROOT / ".tools" / "umqtt"]
SPEED = 20  # a trial takes 30 s of a board's time
CONTENTS = {"main.py": b"main", "isonode/app.mpy": b"app", "isocore/frame.mpy": b"frame", "manifest.json": b"{}"}
SMALL = Bundle(CONTENTS, b"boot", 6, "0.1.0")


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def on_flash(**files: bytes) -> dict[str, tuple[int, bytes]]:
    return {path: (len(content), sha(content)) for path, content in files.items()}


def whole(folder: str) -> dict[str, tuple[int, bytes]]:
    return on_flash(**{f"{folder}/{path}": content for path, content in CONTENTS.items()})


BARE = Facts((1, 25, 0), "esp32", 6, None, 1 << 20, 1 << 20)
LOADER = on_flash(**{"/boot.py": b"boot"})
IN_A = replace(BARE, slot=("a", "-", slot.PROVEN), provisioned=True, files={**whole("/a"), **LOADER})


# ---- what is planned


def test_a_bare_board_gets_all_of_it_without_a_trial() -> None:
    made = deploy.plan("P", BARE, SMALL)
    assert (made.target, made.on_trial, slot.parse(made.line)) == ("a", False, ("a", "-", slot.PROVEN))
    assert set(made.uploads) == {*(f"/a/{path}" for path in CONTENTS), deploy.LOADER_NEW}
    assert made.folders[0] == "/a" and set(made.folders[1:]) == {"/a/isonode", "/a/isocore"}
    assert not made.copies and not made.remove


def test_no_change_no_plan() -> None:
    assert deploy.plan("P", IN_A, SMALL) == Plan("a")


def test_one_changed_file_is_sent_and_the_rest_copied_on_the_board() -> None:
    changed = replace(SMALL, files={**CONTENTS, "isonode/app.mpy": b"new"})
    facts = replace(IN_A, files={**IN_A.files, **on_flash(**{"/b/old.mpy": b"?", "/b/main.py": b"main"})})
    made = deploy.plan("P", facts, changed)
    assert (made.target, made.on_trial, slot.parse(made.line)) == ("b", True, ("b", "a", slot.TRIAL_STARTS))
    assert dict(made.uploads) == {"/b/isonode/app.mpy": b"new"}
    assert dict(made.copies) == {f"/a/{p}": f"/b/{p}" for p in ("isocore/frame.mpy", "manifest.json")}
    assert made.remove == ("/b/old.mpy",)


def test_a_slot_on_trial_is_replaced_never_the_one_before_it() -> None:
    facts = replace(IN_A, slot=("b", "a", 1), files={**IN_A.files, **whole("/b")})
    made = deploy.plan("P", facts, SMALL)
    assert (made.target, made.uploads, made.copies) == ("b", {}, ())
    refused = replace(IN_A, slot=("a", "b", slot.REVERTED))
    assert deploy.plan("P", refused, SMALL).empty


def test_firmware_at_the_root_goes_once_a_slot_has_proved_itself() -> None:
    root = whole("")
    flat = replace(BARE, provisioned=True, files={**root, **LOADER})
    made = deploy.plan("P", flat, SMALL)
    assert made.on_trial and not made.remove
    assert {source for source, _ in made.copies} >= {"/isonode/app.mpy", "/main.py"}
    assert set(made.uploads) == {"/a/manifest.json"}
    later = replace(IN_A, files={**IN_A.files, **root})
    assert deploy.plan("P", later, SMALL).empty, "a deployment without a change changes nothing"
    made = deploy.plan("P", later, replace(SMALL, files={**CONTENTS, "main.py": b"new"}))
    assert set(made.remove) == {"/main.py", "/isonode/app.mpy", "/isocore/frame.mpy"}


def test_a_new_loader_alone_is_a_change() -> None:
    made = deploy.plan("P", IN_A, replace(SMALL, loader=b"new"))
    assert made.loader and dict(made.uploads) == {deploy.LOADER_NEW: b"new"}


def test_a_board_that_cannot_take_it() -> None:
    with pytest.raises(
        device.DeviceError, match=r"P: its MicroPython 1.18.0 runs bytecode 5, mpy-cross makes 6: put a"
    ):
        deploy.plan("P", replace(BARE, python=(1, 18, 0), bytecode=5), SMALL)
    with pytest.raises(device.FlashFull, match=r"P: the board's flash is full: 52 KiB are needed, 51 of 1024 are free"):
        deploy.plan("P", replace(BARE, free_bytes=51 << 10), SMALL)


def test_the_manifest_lists_every_file() -> None:
    made = bundling.build(ROOT / "firmware", LIBRARIES)
    listed = json.loads(made.files[bundling.MANIFEST])
    assert {path: [len(content), sha(content).hex()] for path, content in made.files.items()} == {
        **listed["files"],
        bundling.MANIFEST: [len(made.files[bundling.MANIFEST]), sha(made.files[bundling.MANIFEST]).hex()],
    }
    assert "cold/talk.mpy" in listed["files"] and "boot.py" not in listed["files"]
    assert listed["bytecode"] == made.bytecode == 6


# ---- on boards


@pytest.fixture(scope="module")
def board(firmware_boards: FirmwareBoards) -> VirtualBoard:
    """A board that has MicroPython and a configuration."""
    config = json.dumps(configuration("deployed")).encode()
    return firmware_boards.bare("deployed", {"/config.json": config}, speed=SPEED)


@pytest.fixture(scope="module")
def made() -> Bundle:
    return bundling.build(ROOT / "firmware", LIBRARIES)


def on(board: VirtualBoard) -> Device:
    return Device(str(board.serial.link), timeout_s=DEADLINE_S)


def changed(made: Bundle, old: str, new: str) -> Bundle:
    """With another main.py, which is deployed as it stands, and a manifest that says so."""
    main = made.files["main.py"].decode()
    assert old in main
    files = {**made.files, "main.py": main.replace(old, new).encode()}
    del files[bundling.MANIFEST]
    return replace(made, files={**files, bundling.MANIFEST: bundling.manifest(files, made.bytecode)})


def ensured(board: VirtualBoard, made: Bundle) -> Facts:
    """This firmware runs, whatever a test before left."""
    deploy.deploy(on(board), made, lambda _: None)
    return deploy.look(on(board))


@pytest.mark.micropython
def test_a_second_deployment_writes_nothing(board: VirtualBoard, made: Bundle) -> None:
    before = ensured(board, made)
    said: list[str] = []
    outcome = deploy.deploy(on(board), made, said.append)
    assert (outcome.state, outcome.files_sent, outcome.bytes_sent) == ("up to date", 0, 0)
    assert said == ["looking at what is there"]
    samples(board)
    after = deploy.look(on(board))
    assert (after.files, after.slot) == (before.files, before.slot)
    assert 0 < outcome.used_bytes < outcome.total_bytes == 1 << 20
    on(board).reset()


@pytest.mark.micropython
def test_a_change_is_sent_alone_and_proves_itself(board: VirtualBoard, made: Bundle) -> None:
    before = ensured(board, made)
    new = changed(made, "run()\n", "run()\n# changed\n")
    outcome = deploy.deploy(on(board), new, lambda _: None)
    assert (outcome.state, outcome.files_sent) == ("proven", 2)  # main.py and the manifest
    assert outcome.slot != before.proven
    assert any("has proved itself" in line for line in board.log)
    after = deploy.look(on(board))
    assert after.slot == (outcome.slot, before.proven, slot.PROVEN)
    assert [path for path in after.files if path.startswith(("/isonode", "/main"))] == []
    on(board).reset()
    samples(board)


@pytest.mark.micropython
def test_firmware_that_fails_is_taken_back(board: VirtualBoard, made: Bundle) -> None:
    before = ensured(board, made)
    new = changed(made, "app.main(", 'raise ValueError("broken")\n        app.main(')
    with pytest.raises(deploy.DeployRefused, match=r"in 3 starts, and slot . runs again: ValueError: broken"):
        deploy.deploy(on(board), new, lambda _: None)
    samples(board)
    assert deploy.look(on(board)).proven == before.proven
    on(board).reset()


@pytest.mark.micropython
def test_firmware_that_falls_to_the_prompt_is_ended_by_the_loaders_watchdog(
    firmware_boards: FirmwareBoards, made: Bundle
) -> None:
    files = {f"/a/{path}": content for path, content in made.files.items()}
    files["/b/main.py"] = b"import no_such_module\n"
    files["/boot.py"] = made.loader
    files["/config.json"] = json.dumps(configuration("fallen")).encode()
    files["/slot"] = slot.to_line("b", "a", 1).encode()
    fallen = firmware_boards.bare("fallen", files, speed=SPEED)
    assert fallen.wait_for(lambda: bool(fallen.history("reset")), 3 * DEADLINE_S)
    samples(fallen)
    assert [event["cause"] for event in fallen.history("reset")] == ["WDT_RESET"]
    assert any("slot b did not prove itself, back to a" in line for line in fallen.log)
    fallen.power_cut()


@pytest.mark.micropython
def test_a_trial_that_never_ends_is_ended_by_the_host(board: VirtualBoard, made: Bundle) -> None:
    before = ensured(board, made)
    new = changed(made, "app.main(", "while True:\n            hal.sleep_fed_ms(1000)\n        app.main(")
    with pytest.raises(deploy.DeployRefused, match=r"within 2 s, and slot . runs again: it did not say why"):
        deploy.deploy(on(board), new, lambda _: None, trial_s=2)
    samples(board)
    assert deploy.look(on(board)).slot == (before.proven, "b" if before.proven == "a" else "a", slot.REVERTED)
    on(board).reset()


class Cutter:
    """Deploys a change after the other, each as long as the one before, and pulls the cable in the middle of some."""

    def __init__(self, board: VirtualBoard, made: Bundle) -> None:
        self.board = board
        self._made = made
        self._changes = 0
        for _ in range(2):  # the first may find an empty slot; what the second sends is what all later ones do
            before = board.serial.to_board_bytes
            deploy.deploy(on(board), self._next(), lambda _: None)
            self.sent_bytes = board.serial.to_board_bytes - before

    def _next(self) -> Bundle:
        self._changes += 1
        more = {f"more_{number}.py": b"# %03d\n" % self._changes * 400 for number in range(3)}
        return replace(self._made, files={**self._made.files, **more})

    def pull(self, share: float) -> str:
        """Pull it when a share of the bytes has gone over. Returns what starts at the next power-on, "old" or "new"."""
        board, new = self.board, self._next()
        old = deploy.look(on(board)).proven
        board.serial.unplug_after(int(self.sent_bytes * share))
        with pytest.raises(device.DeviceError, match=r"went away in the middle|there is no such port"):
            deploy.deploy(on(board), new, lambda _: None)
        board.power_cut()
        board.serial.plug()
        board.start()
        samples(board)
        facts = deploy.look(on(board))
        assert facts.slot is not None
        runs = facts.slot[0]
        running = {path[3:]: digest for path, (_, digest) in facts.files.items() if path.startswith(f"/{runs}/")}
        assert runs == old or running == new.hashes, "neither the old nor the whole new one"
        assert deploy.deploy(on(board), new, lambda _: None).state in ("proven", "up to date")
        facts = deploy.look(on(board))
        assert {
            path[3:]: digest for path, (_, digest) in facts.files.items() if path.startswith(f"/{facts.proven}/")
        } == new.hashes
        return "old" if runs == old else "new"


@pytest.mark.micropython
def test_the_cable_pulled_in_the_middle(board: VirtualBoard, made: Bundle) -> None:
    cutter = Cutter(board, made)
    for share in (0.3, 0.8):
        cutter.pull(share)


@pytest.mark.soak
@pytest.mark.micropython
@pytest.mark.timeout(3600)
def test_the_cable_pulled_at_many_points(board: VirtualBoard, made: Bundle) -> None:
    cutter = Cutter(board, made)
    # up to nine tenths: a deployment may send a little less than the one that was measured, and be through before
    assert {cutter.pull(step / 43) for step in range(1, 40)} == {"old", "new"}


@pytest.mark.micropython
def test_a_board_whose_host_went_away_starts_by_itself(board: VirtualBoard, made: Bundle) -> None:
    ensured(board, made)
    impatient = Device(str(board.serial.link), timeout_s=DEADLINE_S, hold_ms=500)
    with impatient.held():
        impatient.exec("1")
        board.serial.unplug()
        with pytest.raises(device.PortMissing):
            impatient.exec("1")
    assert board.wait_for(lambda: board.history("reset")[-1]["cause"] == "WDT_RESET", DEADLINE_S)
    samples(board)
    board.serial.plug()


@pytest.mark.micropython
def test_the_applications_watchdog_does_not_end_a_long_session(firmware_boards: FirmwareBoards) -> None:
    ported = firmware_boards.board("watched", {"watchdog_ms": 5000})
    held = on(ported)
    with held.held():
        held.exec("import time\nkept = 1\ntime.sleep(7)")
        assert held.exec("print(kept)") == "1\n"
    assert all(event["cause"] != "WDT_RESET" for event in ported.history("reset"))


@pytest.fixture
def two(firmware_boards: FirmwareBoards) -> Iterator[tuple[VirtualBoard, VirtualBoard]]:
    first = firmware_boards.board("flat", speed=SPEED)
    second = firmware_boards.bare("bare", speed=SPEED)
    yield first, second
    first.power_cut()
    second.power_cut()


@pytest.mark.micropython
def test_several_boards_at_once_by_the_command(
    two: tuple[VirtualBoard, VirtualBoard],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flat, bare = (str(board.serial.link) for board in two)
    monkeypatch.setattr(device, "ports", lambda: [flat, bare])  # what is on USB; a pty is not
    assert cli.run(["deploy", "--all"]) == 0
    out = capsys.readouterr().out
    sent = re.search(rf"^{re.escape(flat)}: slot a, proven; (\d+) files?, ", out, re.MULTILINE)
    assert sent is not None and int(sent[1]) <= 2, out  # what an image does not have is a manifest
    assert f"{bare}: slot a, not provisioned; " in out
    missing = str(tmp_path / "ttyUSB9")
    assert cli.run(["deploy", "--port", flat, "--port", missing]) == 1
    shown = capsys.readouterr()
    assert f"{flat}: slot a, up to date; nothing sent; " in shown.out
    assert f"isotherm: {missing}: there is no such port" in shown.err
    assert shown.err.splitlines()[-1] == "isotherm: 1 of 2 boards did not take the firmware"


def test_all_is_said_to_be_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(device, "ports", list)
    assert cli.run(["deploy", "--all"]) == 2
    assert "--all: no board is plugged in" in capsys.readouterr().err
    assert cli.run(["deploy", "--all", "--port", "x"]) == 2
