"""Compiled firmware kept by the hash of what decides it: the same sources once, any change anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from host_tools import compiling


def plant(folder: Path, **files: str) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return compiling.sources(folder)


def test_the_same_sources_are_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = plant(tmp_path / "f", main="import a\n", a="X = 1\n")
    first = compiling.compiled_once(found, tmp_path / "cache")
    plain = compiling.compiled(found, tmp_path / "scratch")
    assert {name: path.read_bytes() for name, path in first.items()} == {n: p.read_bytes() for n, p in plain.items()}
    monkeypatch.setattr(compiling, "compiled", None)  # it is not asked again
    assert compiling.compiled_once(found, tmp_path / "cache") == first
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [compiling.key(found)]


def test_any_change_is_another_key(tmp_path: Path) -> None:
    found = plant(tmp_path / "f", main="import a\n", a="X = 1\n")
    keys = [compiling.key(found)]
    keys.append(compiling.key(plant(tmp_path / "f", a="X = 2\n")))
    keys.append(compiling.key(plant(tmp_path / "f", b="")))
    (tmp_path / "f" / "overlays.toml").write_text("")
    keys.append(compiling.key(found))
    (tmp_path / "f" / "overlays.toml").write_text("x = 1\n")
    keys.append(compiling.key(found))
    assert len(set(keys)) == 5


def test_what_does_not_compile_is_not_kept(tmp_path: Path) -> None:
    found = plant(tmp_path / "f", main="", a="X = \n")
    with pytest.raises(compiling.CompileError):
        compiling.compiled_once(found, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_only_the_newest_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "_KEPT", 1)
    for number in range(2):
        kept = compiling.compiled_once(plant(tmp_path / "f", main="", a=f"X = {number}\n"), tmp_path / "cache")
    assert all(path.exists() for path in kept.values()) and len(list((tmp_path / "cache").iterdir())) == 1
