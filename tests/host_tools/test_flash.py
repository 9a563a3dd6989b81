"""Flashing: the real esptool against a boot loader on a pty, UF2 drives, and what is refused untouched."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from host_tools import boards, cli, esptool, flash, images
from host_tools.errors import HostError
from host_tools.esptool import Esptool
from tests.support import rom_loader
from tests.support.rom_loader import RomLoader

ALL = boards.load_all()
DEVKIT, S3, PICO = ALL["esp32_devkitc"], ALL["esp32s3_devkitc"], ALL["pico_w"]
CHIP_IDS = {"ESP32": 0, "ESP32-S3": 9, "ESP32-C3": 5}  # esp_chip_id_t


def esp_image(path: Path, chip: str = "ESP32", size: int = 20_000) -> Path:
    """An image as ESP-IDF documents it ("App Image Format"): header, one segment, checksum."""
    content = (b"MicroPython " * size)[:size]
    header = struct.pack("<4BI", 0xE9, 1, 2, 0x20, 0x40080000)
    extended = struct.pack("<B3xHBHH4xB", 0xEE, CHIP_IDS[chip], 0, 0, 0xFFFF, 0)
    body = header + extended + struct.pack("<II", 0x3FFB0000, len(content)) + content
    checksum = 0xEF
    for byte in content:
        checksum ^= byte
    body += bytes(15 - len(body) % 16) + bytes([checksum])
    path.write_bytes(body)
    return path


def uf2_image(path: Path, family: int, blocks: int = 3) -> Path:
    """Blocks as Microsoft's "UF2 File Format" has them."""
    head = [struct.pack("<8I", 0x0A324655, 0x9E5D5157, 0x2000, n * 256, 256, n, blocks, family) for n in range(blocks)]
    path.write_bytes(b"".join(part + bytes(476) + struct.pack("<I", 0x0AB16F30) for part in head))
    return path


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("ISOTHERM_PORT", raising=False)


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[RomLoader]:
    loader = RomLoader(tmp_path)
    yield loader
    loader.close()


class Recorder:
    """The command runner, with a list of what was run."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, command: Sequence[str], heard: object) -> tuple[int, str]:
        self.names.append(next(word for word in command if word.replace("_", "-") in COMMANDS).replace("_", "-"))
        return esptool.run(command, lambda _: None)


COMMANDS = ("chip-id", "erase-flash", "write-flash", "verify-flash", "image-info")


def test_detect_erase_write_verify(chip: RomLoader, tmp_path: Path) -> None:
    image = esp_image(tmp_path / "ESP32_GENERIC-20250911-v1.26.1.bin")
    recorder, said = Recorder(), list[str]()
    tool = Esptool(chip.port, run=recorder)
    flash.check_esp_image(DEVKIT, tool, image)
    flash.carry_out(chip.port, flash.esp_steps(DEVKIT, tool, image), said.append, "")
    assert recorder.names == ["image-info", "chip-id", "erase-flash", "write-flash", "verify-flash"]
    size = image.stat().st_size
    assert chip.flash[0x1000 : 0x1000 + size] == image.read_bytes()
    assert chip.flash[:0x1000] == b"\xff" * 0x1000, "all that was there is gone"
    assert [line[:3] for line in said] == ["1/4", "2/4", "3/4", "4/4"]


def test_the_wrong_chip_is_refused_before_anything_is_erased(tmp_path: Path) -> None:
    chip = RomLoader(tmp_path, "ESP32-S3")
    try:
        image = esp_image(tmp_path / "x.bin")
        tool = Esptool(chip.port)
        with pytest.raises(
            flash.WrongChip, match=r"an ESP32-S3 answers, but esp32_devkitc has an ESP32: choose another"
        ):
            flash.carry_out(chip.port, flash.esp_steps(DEVKIT, tool, image), lambda _: None, "")
        assert chip.commands[rom_loader.ERASE_FLASH] == 0
    finally:
        chip.close()


def test_a_chip_lost_in_the_middle_leaves_the_way_back(
    chip: RomLoader, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = esp_image(tmp_path / "x.bin")
    chip.dies_in = (rom_loader.DEFL_BEGIN, 1)
    assert cli.run(["flash", "--board", DEVKIT.name, "--port", chip.port, "--image", str(image), "--yes"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"isotherm: {chip.port}: ")
    assert "will not start as it is now: hold its BOOT button, press reset, let go, and run the same command" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("chip_name", ["ESP32", "ESP32-S3", "ESP32-C3"])
def test_the_chip_of_an_image(chip_name: str, tmp_path: Path) -> None:
    image = esp_image(tmp_path / "x.bin", chip_name, 400)
    assert Esptool("none").image_chip(image) == chip_name


def test_an_image_that_does_not_fit(tmp_path: Path) -> None:
    tool = Esptool("none")
    with pytest.raises(images.ImageError, match="is for an ESP32-S3, but ESP32-DevKitC V4"):
        flash.check_esp_image(DEVKIT, tool, esp_image(tmp_path / "x.bin", "ESP32-S3", 400))
    (tmp_path / "x.bin").write_bytes(b"no image at all")
    with pytest.raises(HostError, match=r"x\.bin: is no image for an Espressif chip"):
        flash.check_esp_image(DEVKIT, tool, tmp_path / "x.bin")
    (tmp_path / "x.bin").write_bytes(bytes((4 << 20) - 100))
    with pytest.raises(images.ImageError, match="more than the 4194304"):
        flash.check_esp_image(DEVKIT, tool, tmp_path / "x.bin")
    with pytest.raises(images.ImageError, match="there is no such file"):
        flash.check_esp_image(DEVKIT, tool, tmp_path / "none.bin")


def test_no_port_and_no_chip(tmp_path: Path) -> None:
    with pytest.raises(esptool.EsptoolError, match=r"ttyUSB9: there is no such port: plug the board in"):
        Esptool(str(tmp_path / "ttyUSB9")).chip()
    master, slave = os.openpty()
    try:
        silent = Esptool(os.ttyname(slave), options=("--connect-attempts", "1"))
        with pytest.raises(esptool.EsptoolError, match="no chip answers: hold its BOOT button"):
            silent.chip()
    finally:
        os.close(master)
        os.close(slave)


def test_both_spellings_of_esptool(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "erase-flash" in Esptool("p").command("erase-flash", chip="ESP32-S3")
    monkeypatch.setattr(esptool, "_major", lambda: 4)
    command = Esptool("p").command("erase-flash", chip="ESP32-S3")
    assert "erase_flash" in command and "esp32s3" in command


def test_merged_images_are_what_esptool_says(tmp_path: Path) -> None:
    """The offset of a board file is the place where esptool's own merge puts the boot loader."""
    image = esp_image(tmp_path / "boot.bin", "ESP32", 400)
    merged = tmp_path / "merged.bin"
    at = f"{DEVKIT.image_offset:#x}"
    words = ["--chip", "esp32", "merge-bin", "-o", str(merged), at, str(image)]
    code, said = esptool.run([*esptool.PROGRAM, *words], lambda _: None)
    assert code == 0, said
    # byte 3 holds flash size and frequency, which esptool may set
    assert merged.read_bytes()[0x1000 + 24 :] == image.read_bytes()[24:]
    code, said = esptool.run([*esptool.PROGRAM, "--chip", "z80", "chip-id"], lambda _: None)
    assert code and "z80" in said


def test_dry_run_prints_each_step_and_does_none(
    chip: RomLoader, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = esp_image(tmp_path / "x.bin")
    words = ["flash", "--board", DEVKIT.name, "--port", chip.port, "--image", str(image)]
    assert cli.run([*words, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:3] for line in lines] == ["1/4", "2/4", "3/4", "4/4"]
    assert f"write-flash 0x1000 {image}" in lines[2]
    assert cli.run(words) == 2, "nobody can be asked"
    assert "--yes: is needed where nobody can be asked" in capsys.readouterr().err
    assert not chip.commands


def test_the_hash_seen_first_is_kept(tmp_path: Path) -> None:
    image = tmp_path / "ESP32_GENERIC-20250911-v1.26.1.bin"
    image.write_bytes(b"one")
    assert "first time" in images.check_hash(DEVKIT, image, tmp_path)
    assert images.check_hash(DEVKIT, image, tmp_path) == "SHA-256 as seen before"
    image.write_bytes(b"two")
    with pytest.raises(images.ImageError, match="is not the one seen first under this name: download it again"):
        images.check_hash(DEVKIT, image, tmp_path)
    assert images.find(DEVKIT, tmp_path) == image
    with pytest.raises(
        images.ImageError, match=r"download 1\.26\.1 from https://micropython\.org/download/ESP32_GENERIC_S3/"
    ):
        images.find(S3, tmp_path)


# ---- UF2


def drive(tmp_path: Path, board_id: str) -> Path:
    folder = tmp_path / "media" / "RPI-RP2"
    folder.mkdir(parents=True)
    (folder / flash.INFO).write_text(f"UF2 Bootloader v3.0\nModel: Raspberry Pi RP2\nBoard-ID: {board_id}\n")
    return folder


def gone_when_written(folder: Path, name: str) -> threading.Thread:
    """What a boot ROM does: once the file is whole, the drive goes."""

    def watch() -> None:
        while not (folder / name).exists():
            time.sleep(0.01)
        (folder / flash.INFO).unlink()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_a_uf2_file_is_copied_to_the_drive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = drive(tmp_path, "RPI-RP2")
    image = uf2_image(tmp_path / "RPI_PICO_W-20250911-v1.26.1.uf2", 0xE48BFF56)
    watcher = gone_when_written(folder, image.name)
    assert cli.run(["flash", "--board", "pico_w", "--port", str(folder), "--image", str(image), "--yes"]) == 0
    watcher.join(5)
    assert (folder / image.name).read_bytes() == image.read_bytes()
    assert "4/4 wait until the drive goes" in capsys.readouterr().out


def test_another_boards_drive_is_refused(tmp_path: Path) -> None:
    folder = drive(tmp_path, "RP2350")
    image = uf2_image(tmp_path / "x.uf2", 0xE48BFF56)
    steps = flash.uf2_steps(PICO, str(tmp_path / "none"), image, folders=[tmp_path / "media"])
    with pytest.raises(flash.WrongChip, match="is the drive of a RP2350, but pico_w shows RPI-RP2"):
        flash.carry_out("p", steps, lambda _: None, "")
    assert not (folder / image.name).exists()


@pytest.mark.parametrize(
    ("family", "cut", "says"),
    [(0xE48BFF59, 0, "is for another chip"), (0xE48BFF56, 100, "is no whole UF2"), (0xE48BFF56, 512, "")],
)
def test_uf2_files_that_are_refused(tmp_path: Path, family: int, cut: int, says: str) -> None:
    image = uf2_image(tmp_path / "x.uf2", family)
    image.write_bytes(image.read_bytes()[: len(image.read_bytes()) - cut])
    if says:
        with pytest.raises(images.ImageError, match=says):
            images.check_uf2(PICO, image)
    image.write_bytes(b"\0" * 512)
    with pytest.raises(images.ImageError, match="block 0 is damaged"):
        images.check_uf2(PICO, image)
