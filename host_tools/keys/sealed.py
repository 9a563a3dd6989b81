"""Secret files: mode 0600 from their first moment, whole or not there, sealed under a passphrase where one is given.

A sealed file is one line of JSON:

    v      1
    what   the kind of secret, such as "ca-key"; part of what is authenticated, so no file stands in for another
    n r p  cost of scrypt (RFC 7914 section 2); read within bounds, so that a planted file cannot exhaust memory
    salt   16 bytes, nonce 12 bytes, box: AES-256-GCM (SP 800-38D) over the secret, all hexadecimal

The derived key is 32 bytes. It knows no key formats: a secret is bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from host_tools.errors import KeyFileError

PASSPHRASE_CHARACTERS_MIN = 10
_N, _R, _P = 1 << 15, 8, 1  # 32 MiB and about 0.1 s: RFC 7914's own example costs of 2017 were half of that
_N_MAX, _R_MAX, _P_MAX = 1 << 20, 16, 4
_MEMORY_BYTES_MAX = 1 << 28  # of scrypt: 128 * n * r (RFC 7914 section 2); a Raspberry Pi has it to spare
_BYTES_MAX = 1 << 16
_VERSION = 1


def seal(what: str, secret: bytes, passphrase: str) -> bytes:
    """The bytes of a sealed file."""
    if len(passphrase) < PASSPHRASE_CHARACTERS_MIN:
        raise KeyFileError(f"a passphrase has at least {PASSPHRASE_CHARACTERS_MIN} characters")
    salt, nonce = os.urandom(16), os.urandom(12)
    box = AESGCM(_derive(passphrase, salt, _N, _R, _P)).encrypt(nonce, secret, what.encode())
    document = {"v": _VERSION, "what": what, "n": _N, "r": _R, "p": _P}
    document |= {"salt": salt.hex(), "nonce": nonce.hex(), "box": box.hex()}
    return json.dumps(document).encode("ascii") + b"\n"


def is_sealed(data: bytes) -> bool:
    """Whether bytes of a secret file are under a passphrase."""
    return data.startswith(b"{")


def open_sealed(where: Path, what: str, data: bytes, passphrase: str) -> bytes:
    """The secret in a sealed file's bytes. Raises KeyFileError, naming `where`."""
    try:
        document: dict[str, Any] = json.loads(data)
        n, r, p = (int(document[name]) for name in "nrp")
        salt, nonce, box = (bytes.fromhex(document[name]) for name in ("salt", "nonce", "box"))
        good = document["v"] == _VERSION and len(salt) == 16 and len(nonce) == 12
        good = good and 1 < n <= _N_MAX and n & (n - 1) == 0 and 0 < r <= _R_MAX and 0 < p <= _P_MAX
        good = good and 128 * n * r <= _MEMORY_BYTES_MAX and isinstance(document["what"], str)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        good = False
    if not good:
        raise KeyFileError(f"{where}: is no sealed file of this version")
    if document["what"] != what:
        raise KeyFileError(f"{where}: holds {document['what'][:40]!r}, not {what!r}")
    try:
        return AESGCM(_derive(passphrase, salt, n, r, p)).decrypt(nonce, box, what.encode())
    except InvalidTag:
        raise KeyFileError(f"{where}: the passphrase is wrong, or the file was altered") from None


def _derive(passphrase: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=n, r=r, p=p).derive(passphrase.encode())


def write_secret(path: Path, what: str, secret: bytes, passphrase: str | None, *, replace: bool = False) -> None:
    """Write a secret: sealed under the passphrase, or as it is when that is None. Refuses to replace unless told to."""
    data = secret if passphrase is None else seal(what, secret, passphrase)
    write_file(path, data, 0o600, replace=replace)


def read_secret(path: Path, what: str, passphrase: str | None) -> bytes:
    """A secret as `write_secret` was given it. Refuses files that others may read."""
    try:
        with path.open("rb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            data = stream.read(_BYTES_MAX + 1)
    except OSError as error:
        hint = "; `isotherm keys init` makes one" if isinstance(error, FileNotFoundError) else ""
        raise KeyFileError(f"{path}: secret cannot be read: {error.strerror or error}{hint}") from None
    if mode & 0o077:
        raise KeyFileError(f"{path}: secret may be read by others (mode {mode:o}); run `chmod 600 {path}`")
    if len(data) > _BYTES_MAX:
        raise KeyFileError(f"{path}: is too large for a secret")
    if not is_sealed(data):
        return data
    if passphrase is None:
        raise KeyFileError(f"{path}: is protected by a passphrase")
    return open_sealed(path, what, data, passphrase)


def write_file(path: Path, data: bytes, mode: int, *, replace: bool = False) -> None:
    """Write a file durably: it is there whole with its mode, or not at all.

    Raises KeyFileError; FileExistsError is one of its reasons unless `replace`.
    """
    partial = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        make_folder(path.parent)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if replace:
            os.replace(partial, path)
        else:
            os.link(partial, path)
        sync_folder(path.parent)
    except FileExistsError:
        raise KeyFileError(f"{path}: exists already; a key is never replaced, give another folder") from None
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def make_folder(folder: Path) -> None:
    """A folder that nobody else may enter; one that is there keeps its mode."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
