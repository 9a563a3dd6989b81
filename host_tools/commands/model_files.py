"""Models as files: plain payloads and signed containers, read and written for the commands. Checks no signature."""

from __future__ import annotations

import os
from pathlib import Path

from host_tools.errors import InputError, ModelFileError
from isocore import model as iso_model
from isocore import sign as iso_sign
from isocore.errors import ModelError

_FILE_BYTES_MAX = 1 << 16


def read(path: Path) -> bytes:
    """A file's content. Raises ModelFileError."""
    try:
        with path.open("rb") as stream:
            return stream.read(_FILE_BYTES_MAX)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from None


def is_container(data: bytes) -> bool:
    """Whether it is a signed container, sound or not."""
    return data.startswith(iso_sign.MAGIC)


def payload(path: Path) -> bytes:
    """The payload in a file: all of it, or a container's, unverified. Raises ModelFileError."""
    data = read(path)
    if not is_container(data):
        return data
    if len(data) <= iso_sign.HEADER_BYTES + iso_sign.SIGNATURE_BYTES:
        raise ModelFileError(f"{path}: is cut short")
    return data[iso_sign.HEADER_BYTES : -iso_sign.SIGNATURE_BYTES]


def parsed(path: Path, content: bytes) -> iso_model.Model:
    """The model in a payload that came from `path`. Raises ModelFileError naming the field."""
    try:
        found: iso_model.Model = iso_model.parse(content)
    except ModelError as error:
        raise ModelFileError(f"{path}: {error}") from None
    return found


def load(path: Path) -> iso_model.Model:
    """The model in a file, plain or signed. Raises ModelFileError."""
    return parsed(path, payload(path))


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises InputError."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
