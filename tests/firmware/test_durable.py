"""Boot numbers and models across power cuts at every write, on 32-bit MicroPython over littlefs."""

from __future__ import annotations

from pathlib import Path

import pytest

from isonode import bootcount, durable
from tests.firmware.conftest import FIRMWARE, RunMicroPython
from tests.firmware.test_models import KEY, container

HERE = Path(__file__).parent


@pytest.mark.micropython
def test_no_cut_repeats_a_boot_number_or_leaves_the_board_without_its_model(
    run_micropython: RunMicroPython, tmp_path: Path
) -> None:
    contents = (container(1), container(2), KEY.public_key)
    files = [tmp_path / str(number) for number in range(3)]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    printed = run_micropython(
        HERE / "durable_cuts.py",
        FIRMWARE,
        HERE,
        *files,
        heap_bytes=512 * 1024,  # the flash itself is in this heap
    )
    figures = dict(pair.split("=") for pair in printed.split())
    assert int(figures["boot_cuts"]) >= 12
    assert int(figures["model_cuts"]) >= 30


@pytest.mark.micropython
def test_no_cut_tears_the_crash_log_or_the_copy_of_a_good_configuration(run_micropython: RunMicroPython) -> None:
    """A log that is written while the power goes keeps its former entries, also where it begins a new file."""
    printed = run_micropython(HERE / "crash_cuts.py", FIRMWARE, HERE, heap_bytes=512 * 1024)
    figures = dict(pair.split("=") for pair in printed.split())
    assert int(figures["log_cuts"]) >= 60
    assert int(figures["good_cuts"]) >= 12


def test_boot_numbers_rise_whatever_is_left_of_the_files(tmp_path: Path) -> None:
    paths = (str(tmp_path / "a"), str(tmp_path / "b"))
    assert [bootcount.next_boot(1, paths)[0] for _ in range(4)] == [1, 2, 3, 4]
    (tmp_path / "b").write_bytes(b"torn")
    assert bootcount.next_boot(1, paths)[0] in (4, 5)
    (tmp_path / "a").unlink()
    (tmp_path / "b").unlink()
    assert bootcount.next_boot(77, paths)[0] == 77, "the outbox knows a later boot"


def test_durable_files_are_whole_or_not_there(tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    assert durable.load(path, b"MAG1") is None
    durable.save(path, b"MAG1", b"content")
    assert durable.load(path, b"MAG1") == b"content"
    assert durable.load(path, b"MAG2") is None
    whole = (tmp_path / "x").read_bytes()
    for size in range(len(whole)):
        (tmp_path / "x").write_bytes(whole[:size])
        assert durable.load(path, b"MAG1") is None
    (tmp_path / "x").write_bytes(whole + b"\x00")
    assert durable.load(path, b"MAG1") is None
