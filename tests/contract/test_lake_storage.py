"""What a lake's storage must do, on every backend: whole files or none, and no file where there is none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from host_tools.errors import InputError
from host_tools.lake.errors import LakeError, NotThere
from host_tools.lake.storage import Storage, open_storage

ROOT = Path(__file__).resolve().parents[2]
DIES = """
import os, signal, sys
from host_tools.lake.storage import LocalStorage, open_storage

class Dies(LocalStorage):
    def _show(self, partial, target):
        os.kill(os.getpid(), signal.SIGKILL)

Dies(open_storage(sys.argv[1]).filesystem(), sys.argv[1]).put("a/1", b"after")
"""


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param == "local":
        yield open_storage(str(tmp_path / "lake"))
        return
    fsspec.filesystem("memory").store.clear()
    yield open_storage("memory://lake")
    fsspec.filesystem("memory").store.clear()


def test_what_was_put_is_there(storage: Storage) -> None:
    storage.put("a/day=2026-01-01/x.parquet", b"first")
    assert storage.get("a/day=2026-01-01/x.parquet") == b"first"
    storage.put("a/day=2026-01-01/x.parquet", b"")
    assert storage.get("a/day=2026-01-01/x.parquet") == b""


def test_what_is_not_there_is_said_by_name(storage: Storage) -> None:
    with pytest.raises(NotThere, match=r"nowhere\.parquet: there is no such file"):
        storage.get("a/nowhere.parquet")


def test_a_list_holds_all_below_a_folder_in_order(storage: Storage) -> None:
    assert storage.list() == []
    for path in ("b/2", "b/1", "b/c/3", "d"):
        storage.put(path, path.encode())
    assert storage.list() == ["b/1", "b/2", "b/c/3", "d"]
    assert storage.list("b") == ["b/1", "b/2", "b/c/3"]
    assert storage.list("nowhere") == []


def test_removing_twice_is_well(storage: Storage) -> None:
    storage.put("a/1", b"x")
    storage.remove("a/1")
    storage.remove("a/1")
    storage.remove("nowhere/1")
    assert storage.list() == []


def test_other_programs_find_a_file_by_its_place(storage: Storage) -> None:
    storage.put("a/1", b"x")
    with fsspec.open(storage.place("a/1")) as file:
        assert file.read() == b"x"
    assert storage.filesystem().cat_file(storage.inside("a/1")) == b"x"


def test_a_local_file_is_whole_or_the_one_before(tmp_path: Path) -> None:
    """A writer killed between the writing and the rename leaves the former file, and a hidden one that goes later."""
    where = tmp_path / "lake"
    whole = open_storage(str(where))
    whole.put("a/1", b"before")

    path = os.pathsep.join((str(ROOT), str(ROOT / "firmware")))
    done = subprocess.run(
        [sys.executable, "-c", DIES, str(where)], env={**os.environ, "PYTHONPATH": path}, timeout=120, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert whole.get("a/1") == b"before"
    assert whole.list() == ["a/1"]
    assert len(list((where / "a").iterdir())) == 2
    whole.remove("a/1")
    assert list((where / "a").iterdir()) == []


def test_a_disk_that_refuses_is_said_by_name(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(LakeError, match=r"lake/a/1: (Not a directory|File exists)"):
        open_storage(str(tmp_path / "lake")).put("a/1", b"x")


@pytest.mark.parametrize("where", ["nosuch://lake", "http+nosuch://x"])
def test_a_url_that_nothing_serves_is_refused(where: str) -> None:
    with pytest.raises(InputError, match="--lake"):
        open_storage(where)
