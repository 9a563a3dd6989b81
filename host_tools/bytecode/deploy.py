"""The firmware's sources into those that are compiled for a board, and what files take on its flash.

Used for chips and for virtual boards alike, so that what tests run is what is deployed. Must not know compilers, image
formats or serial ports.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from host_tools.bytecode import overlays
from host_tools.bytecode.kept import kept_names, spare_words
from host_tools.bytecode.linker import APPLICATION, link
from host_tools.bytecode.names import NAMES_FILE, to_text

LIBRARY_FOLDER = "lib"
OVERLAYS_FILE = "overlays.toml"  # beside main.py
BLOCK_BYTES = 4096  # erase block of the boards' flash
INLINE_BYTES = 512  # littlefs keeps a file up to an eighth of a block inside its folder's metadata
_OLD_IMPORT = re.compile(r"^( *)import u(\w+) as \2$", re.MULTILINE)
_HERE = Path(__file__).resolve().parent
_SIM = _HERE.parent / "virtual" / "sim"
# The parts of the simulation that offer what a chip and its image offer: their names mean something to others.
_CHIP = ("machine", "i2c", "network", "esp32", "onewire_bus", "polling", "sockets", "timemod", "runner")


def linked(found: Mapping[str, Path], scratch: Path, scripts: Iterable[str]) -> dict[str, Path]:
    """Flash path -> source, of all that is found; the firmware's own modules linked into `scratch`.

    scripts: flash paths that stay as they are. A package in /lib is linked as if it were the firmware's when the
    firmware imports it by `from`; what else lies there stays as it is. Folders that do not hold the application are
    left as they are. Raises BuildError naming the file.
    """
    if APPLICATION.replace(".", "/") + ".py" not in found:
        return dict(found)
    libraries = {target: path for target, path in found.items() if target.startswith(LIBRARY_FOLDER + "/")}
    texts = {target: path for target, path in found.items() if target in scripts}
    modules = {target: path for target, path in found.items() if target not in libraries and target not in texts}
    for target in _imported(modules.values(), libraries):
        modules[target.removeprefix(LIBRARY_FOLDER + "/")] = libraries.pop(target)
    cold = overlays.read(found[APPLICATION.replace(".", "/") + ".py"].parents[1] / OVERLAYS_FILE)
    chip = _chip_sources()
    kept = kept_names(libraries.values(), chip)
    made = link(_of_today(_read(modules)), _read(texts), kept, cold, spare=spare_words([*libraries.values(), *chip]))
    files = {**libraries, **texts}
    for target, text in (*made.files.items(), (NAMES_FILE, to_text(made.names))):
        path = scratch / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        files[target] = path
    return files


def inputs() -> list[Path]:
    """Files of this package and the simulation that decide what `linked` makes of the same sources."""
    return [*sorted(_HERE.glob("*.py")), *_chip_sources()]


def flash_bytes(sizes: Mapping[str, int]) -> int:
    """Flash that files (path: bytes) take on littlefs: whole blocks, small ones within their folder's two."""
    folders = {parent.as_posix() for path in sizes for parent in Path(path).parents}
    blocks = sum(-(-size // BLOCK_BYTES) for size in sizes.values() if size > INLINE_BYTES)
    return (blocks + 2 * len(folders)) * BLOCK_BYTES


def flash_summary(files: Mapping[str, Path]) -> str:
    """One line for people: how many files, their bytes, and the flash they take."""
    sizes = {target: path.stat().st_size for target, path in files.items()}
    return f"{len(sizes)} files, {sum(sizes.values()):,} bytes, about {flash_bytes(sizes) // 1024} KiB of flash"


def _chip_sources() -> list[Path]:
    return [*(_SIM / f"{name}.py" for name in _CHIP), *sorted((_SIM / "drivers").glob("*.py"))]


def _imported(modules: Iterable[Path], libraries: Iterable[str]) -> list[str]:
    """Files of the libraries that belong to packages which the modules import from."""
    trees = [ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in modules]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    packages = {(node.module or "").partition(".")[0] for node in nodes}
    return [target for target in libraries if target.split("/")[1] in packages]


def _of_today(sources: Mapping[str, str]) -> dict[str, str]:
    """Modules of MicroPython by the names that they have today: `import usocket as socket` is `import socket`."""
    return {target: _OLD_IMPORT.sub(r"\1import \2", text) for target, text in sources.items()}


def _read(files: Mapping[str, Path]) -> dict[str, str]:
    return {target: path.read_text(encoding="utf-8") for target, path in files.items()}
