"""The keys that sign what boards run: made, stored, loaded, used.

A private key is a PKCS#8 PEM in a secret file (sealed.py); beside it lies the public key as 128 hexadecimal digits,
x || y, the form boards hold. What is signed is `isocore.sign.build_unsigned`; it knows nothing of what a payload means.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from host_tools.errors import KeyFileError, ModelFileError
from host_tools.keys.sealed import read_secret, write_file, write_secret
from isocore import sign
from isocore.errors import SignatureError

PRIVATE_NAME = "model-key.pem"
PUBLIC_NAME = "model-key.pub"
MODEL_ROLE = "model-key"
ROOT_ROLE = "root-key"  # signs the list of model keys, and nothing else
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

    def sign(self, payload: bytes, kind: int = sign.KIND_MODEL, bytes_max: int = sign.CONTAINER_BYTES_MAX) -> bytes:
        """The signed container of a payload. Raises ModelFileError when it is too large."""
        try:
            unsigned: bytes = sign.build_unsigned(kind, self.public_key, payload, bytes_max)
        except SignatureError as error:
            raise ModelFileError(f"model cannot be signed: {error}") from None
        r, s = decode_dss_signature(self._private.sign(unsigned, ec.ECDSA(hashes.SHA256())))
        # Both s and n - s verify; boards take only the lower, so that one model has one container.
        s = min(s, sign.N - s)
        return unsigned + r.to_bytes(32, "big") + s.to_bytes(32, "big")


def generate() -> SigningKey:
    """A new key, in memory only."""
    return SigningKey(ec.generate_private_key(ec.SECP256R1()))


def init(folder: Path, passphrase: str | None = None, role: str = MODEL_ROLE) -> SigningKey:
    """Make a key pair in `folder`: ROLE.pem and ROLE.pub. Refuses to replace one."""
    key = generate()
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    pem = key._private.private_bytes(encoding, form, serialization.NoEncryption())
    private, public = folder / f"{role}.pem", folder / f"{role}.pub"
    write_secret(private, role, pem, passphrase)
    try:
        write_file(public, key.public_key.hex().encode("ascii") + b"\n", 0o644)
    except KeyFileError:
        private.unlink()
        raise
    return key


def load_private(path: Path, passphrase: str | None = None, role: str = MODEL_ROLE) -> SigningKey:
    """The private key in a file, or in a folder made by `init`. Refuses files that others may read."""
    if path.is_dir():
        path = path / f"{role}.pem"
    pem = read_secret(path, role, passphrase)
    try:
        private = serialization.load_pem_private_key(pem, None)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        raise KeyFileError(f"{path}: is no private key in PEM form that `isotherm keys` made") from None
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
