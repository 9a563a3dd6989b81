"""Signing against the shared verification: two independent implementations, on both interpreters, with bad vectors."""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from host_tools.errors import KeyFileError, ModelFileError
from host_tools.keys import signing
from host_tools.virtual.interpreter import find_micropython
from isocore import sign
from isocore.errors import SignatureError

ROOT = Path(__file__).resolve().parents[3]
PAYLOAD = b'{"v":1}'


def accepted_by_cryptography(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """The other implementation's word; low s it does not ask for."""
    try:
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + public_key)
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        point.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def vectors() -> list[tuple[str, bytes, bytes, bytes, bool]]:
    """(name, public key, message, signature, whether boards accept it)."""
    key = signing.generate()
    public = key.public_key
    container = key.sign(PAYLOAD)
    message, good = container[:-64], container[-64:]
    r, s = int.from_bytes(good[:32], "big"), int.from_bytes(good[32:], "big")

    def pair(r: int, s: int) -> bytes:
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    flipped = bytes([good[0] ^ 1]) + good[1:]
    found = [
        ("good", public, message, good, True),
        ("another message", public, message + b" ", good, False),
        ("another key", signing.generate().public_key, message, good, False),
        ("high s", public, message, pair(r, sign.N - s), False),
        ("r = 0", public, message, pair(0, s), False),
        ("s = 0", public, message, pair(r, 0), False),
        ("r = n", public, message, pair(sign.N, s), False),
        ("s = n", public, message, pair(r, sign.N), False),
        ("r + n", public, message, pair((r + sign.N) % (1 << 256), s), False),
        ("all ones", public, message, b"\xff" * 64, False),
        ("all zero", public, message, bytes(64), False),
        ("swapped", public, message, good[32:] + good[:32], False),
        ("flipped r", public, message, flipped, False),
        ("short", public, message, good[:-1], False),
        ("long", public, message, good + b"\0", False),
        ("empty", public, message, b"", False),
        ("off curve", public[:-1] + bytes([public[-1] ^ 1]), message, good, False),
        ("point at zero", bytes(64), message, good, False),
        ("x past p", b"\xff" * 32 + public[32:], message, good, False),
        ("short key", public[:-1], message, good, False),
    ]
    # Verification must not fail by chance: more keys, more messages.
    for number in range(6):
        other = signing.generate()
        data = other.sign(b"%d" % number)
        found.append((f"good {number}", other.public_key, data[:-64], data[-64:], True))
    return found


VECTORS = vectors()


@pytest.mark.parametrize(("name", "public_key", "message", "signature", "good"), VECTORS, ids=[v[0] for v in VECTORS])
def test_both_implementations_agree(name: str, public_key: bytes, message: bytes, signature: bytes, good: bool) -> None:
    assert sign.verify(public_key, hashlib.sha256(message).digest(), signature) is good
    if name not in ("high s", "short", "long", "empty"):  # what the other one does not hold against a signature
        assert accepted_by_cryptography(public_key, message, signature) is good


def test_high_s_is_a_valid_signature_that_boards_refuse() -> None:
    _, public_key, message, signature, _ = next(vector for vector in VECTORS if vector[0] == "high s")
    assert accepted_by_cryptography(public_key, message, signature)


@pytest.mark.micropython
def test_micropython_agrees(tmp_path: Path) -> None:
    listed = [[name, p.hex(), hashlib.sha256(m).hexdigest(), s.hex(), good] for name, p, m, s, good in VECTORS]
    (tmp_path / "vectors.json").write_text(json.dumps(listed))
    script = tmp_path / "check.py"
    script.write_text(
        "import sys, json, binascii\n"
        "sys.path.append(sys.argv[1])\n"
        "from isocore import sign\n"
        "h = binascii.unhexlify\n"
        "bad = [v[0] for v in json.load(open(sys.argv[2])) if sign.verify(h(v[1]), h(v[2]), h(v[3])) != v[4]]\n"
        "print(bad)\n"
    )
    interpreter = find_micropython()
    command = [*interpreter.command, str(script), str(ROOT / "firmware"), str(tmp_path / "vectors.json")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_containers(tmp_path: Path) -> None:
    key = signing.init(tmp_path / "a")
    other = signing.init(tmp_path / "b")
    container = signing.load_private(tmp_path / "a").sign(PAYLOAD)
    public_key = signing.load_public(tmp_path / "a")
    assert public_key == key.public_key
    assert sign.open_container(container, sign.KIND_MODEL, [other.public_key, public_key]) == PAYLOAD
    with pytest.raises(SignatureError) as caught:
        sign.open_container(container, sign.KIND_MODEL, [other.public_key])
    assert caught.value.reason == "key"
    assert signing.key_id_hex(public_key) == container[8:16].hex()


def test_every_flipped_bit_of_the_header_is_refused() -> None:
    key = signing.generate()
    container = key.sign(PAYLOAD)
    for position in range(sign.HEADER_BYTES * 8):
        broken = bytearray(container)
        broken[position // 8] ^= 1 << position % 8
        with pytest.raises(SignatureError):
            sign.open_container(bytes(broken), sign.KIND_MODEL, [key.public_key])


def test_too_large_a_payload_is_not_signed() -> None:
    with pytest.raises(ModelFileError, match="too large"):
        signing.generate().sign(bytes(4096))


def test_files(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    key = signing.init(folder)
    private, public = folder / signing.PRIVATE_NAME, folder / signing.PUBLIC_NAME
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert public.read_text() == key.public_key.hex() + "\n"
    before = private.read_bytes()
    with pytest.raises(KeyFileError, match="never replaced"):
        signing.init(folder)
    assert private.read_bytes() == before
    assert key.public_key.hex() not in repr(key)
    assert "private" not in repr(key)
    private.chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        signing.load_private(private)


def test_passphrases(tmp_path: Path) -> None:
    key = signing.init(tmp_path, "correct horse")
    assert b"PRIVATE" not in (tmp_path / signing.PRIVATE_NAME).read_bytes()
    assert signing.load_private(tmp_path, "correct horse").public_key == key.public_key
    with pytest.raises(KeyFileError, match="protected by a passphrase"):
        signing.load_private(tmp_path)
    with pytest.raises(KeyFileError, match="passphrase is wrong"):
        signing.load_private(tmp_path, "wrong")


def test_key_files_refused(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    key = signing.init(folder)
    pem = tmp_path / "p384.pem"
    other = ec.generate_private_key(ec.SECP384R1())
    pem.write_bytes(other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(KeyFileError, match="not a P-256 key"):
        signing.load_public(pem)
    broken = tmp_path / "broken.pub"
    for text, says in (
        ("hello", "128 hexadecimal"),
        ("00" * 64, "no point of the curve"),
        ("ff" * 63, "128 hexadecimal"),
        ("\xff", "cannot be read"),
    ):
        broken.write_text(text, encoding="latin-1")
        with pytest.raises(KeyFileError, match=says):
            signing.load_public(broken)
    broken.chmod(0o600)
    with pytest.raises(KeyFileError, match="no private key"):
        signing.load_private(broken)
    with pytest.raises(KeyFileError, match="isotherm keys init"):
        signing.load_private(tmp_path / "none")
    numbers = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + key.public_key)
    pem.write_bytes(numbers.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert signing.load_public(pem) == key.public_key
