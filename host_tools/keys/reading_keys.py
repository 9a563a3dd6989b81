"""Keys for the tags on readings: K_dev = HMAC-SHA256(cloud_master, "isotherm reading" | 0 | device | 0 | generation).

The cloud holds the one master and derives each board's key; a board holds its own; the gateway holds none, so it can
neither forge nor alter a reading unseen. One board's key tells nothing of another's: HMAC-SHA256 serves as the
pseudorandom function of a KDF (SP 800-108 section 4). A new generation makes the former key worthless.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

from host_tools.errors import KeyFileError
from host_tools.keys.sealed import read_secret, write_secret

FILE_NAME = "cloud-master.key"
KEY_BYTES = 32
_WHAT = "cloud-master"
_LABEL = b"isotherm reading"


def create(folder: Path, passphrase: str | None) -> bytes:
    """A new master in `folder`. Refuses to replace one: every board's key hangs on it."""
    master = os.urandom(KEY_BYTES)
    write_secret(folder / FILE_NAME, _WHAT, master.hex().encode("ascii"), passphrase)
    return master


def load(path: Path, passphrase: str | None = None) -> bytes:
    """The master in a file, or in the folder that holds it. Raises KeyFileError."""
    if path.is_dir():
        path = path / FILE_NAME
    text = read_secret(path, _WHAT, passphrase)
    try:
        master = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        master = b""
    if len(master) != KEY_BYTES:
        raise KeyFileError(f"{path}: is no master key: {2 * KEY_BYTES} hexadecimal digits")
    return master


def derive(master: bytes, device: str, generation: int) -> bytes:
    """A board's own key, 32 bytes."""
    info = b"\0".join((_LABEL, device.encode("ascii"), str(generation).encode("ascii")))
    return hmac.new(master, info, hashlib.sha256).digest()
