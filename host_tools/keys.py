"""The key that signs models: made, stored, loaded, used. The only importer of `cryptography`.

A private key is a PKCS#8 PEM file of mode 0600, encrypted when a passphrase is given; beside it lies the public key as
128 hexadecimal digits, x || y, the form boards hold. What is signed is `isocore.sign.build_unsigned`; it knows nothing
of what a payload means.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from host_tools.errors import KeyFileError, ModelFileError
from isocore import sign
from isocore.errors import SignatureError

PRIVATE_NAME = "model-key.pem"
PUBLIC_NAME = "model-key.pub"
_HEX_KEY = re.compile(r"[0-9a-f]{128}")


@dataclass(frozen=True)
class SigningKey:
    """A private key in memory; never shown."""

    _private: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def public_key(self) -> bytes:
        """64 bytes x || y."""
        numbers = self._private.public_key().public_numbers()
        return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")

    def sign(self, payload: bytes, kind: int = sign.KIND_MODEL) -> bytes:
        """The signed container of a payload. Raises ModelFileError when it is too large."""
        try:
            unsigned: bytes = sign.build_unsigned(kind, self.public_key, payload)
        except SignatureError as error:
            raise ModelFileError(f"model cannot be signed: {error}") from None
        r, s = decode_dss_signature(self._private.sign(unsigned, ec.ECDSA(hashes.SHA256())))
        # Both s and n - s verify; boards take only the lower, so that one model has one container.
        s = min(s, sign.N - s)
        return unsigned + r.to_bytes(32, "big") + s.to_bytes(32, "big")


def generate() -> SigningKey:
    """A new key, in memory only."""
    return SigningKey(ec.generate_private_key(ec.SECP256R1()))


def init(folder: Path, passphrase: bytes | None = None) -> SigningKey:
    """Make a key pair in `folder`. Refuses to replace one."""
    key = generate()
    protection: serialization.KeySerializationEncryption = (
        serialization.NoEncryption() if passphrase is None else serialization.BestAvailableEncryption(passphrase)
    )
    pem = key._private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
    private, public = folder / PRIVATE_NAME, folder / PUBLIC_NAME
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_new(private, pem, 0o600)
    except FileExistsError:
        raise KeyFileError(f"{private}: exists already; a key is never replaced, give another folder") from None
    except OSError as error:
        raise KeyFileError(f"{private}: cannot be written: {error.strerror or error}") from None
    try:
        public.write_text(key.public_key.hex() + "\n", encoding="ascii")
    except OSError as error:
        private.unlink()
        raise KeyFileError(f"{public}: cannot be written: {error.strerror or error}") from None
    return key


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """Create the file with its mode from the first moment on, and leave none half written."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def load_private(path: Path, passphrase: bytes | None = None) -> SigningKey:
    """The private key in a file, or in a folder made by `init`. Refuses files that others may read."""
    if path.is_dir():
        path = path / PRIVATE_NAME
    try:
        with path.open("rb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            pem = stream.read(1 << 16)
    except OSError as error:
        hint = "; `isotherm keys init` makes one" if isinstance(error, FileNotFoundError) else ""
        raise KeyFileError(f"{path}: private key cannot be read: {error.strerror or error}{hint}") from None
    if mode & 0o077:
        raise KeyFileError(f"{path}: private key may be read by others (mode {mode:o}); run `chmod 600 {path}`")
    try:
        private = serialization.load_pem_private_key(pem, passphrase)
    except TypeError:
        need = "is protected by a passphrase" if passphrase is None else "has no passphrase, but one was given"
        raise KeyFileError(f"{path}: private key {need}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError(f"{path}: is no private key in PEM form, or the passphrase is wrong") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise KeyFileError(f"{path}: is not a P-256 key")
    return SigningKey(private)


def load_public(path: Path) -> bytes:
    """The public key in a file (hexadecimal or PEM), or in a folder made by `init`, as 64 bytes x || y."""
    if path.is_dir():
        path = path / PUBLIC_NAME
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{path}: public key cannot be read: {error}") from None
    if _HEX_KEY.fullmatch(text.lower()):
        return _checked(path, bytes.fromhex(text))
    try:
        public = serialization.load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError(f"{path}: is no public key: give 128 hexadecimal digits x || y, or PEM") from None
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise KeyFileError(f"{path}: is not a P-256 key")
    return public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)[1:]


def _checked(path: Path, public_key: bytes) -> bytes:
    """Refuse numbers that are no point of the curve."""
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + public_key)
    except ValueError:
        raise KeyFileError(f"{path}: is no point of the curve P-256") from None
    return public_key


def key_id_hex(public_key: bytes) -> str:
    """What boards and containers name a key by: 16 hexadecimal digits."""
    identity: bytes = sign.key_id(public_key)
    return identity.hex()
