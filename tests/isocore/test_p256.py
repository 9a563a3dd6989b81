"""P-256 verification against vectors that try to catch it out, on both interpreters, beside OpenSSL's verdict."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from host_tools.keys import signing
from host_tools.virtual.interpreter import find_micropython
from isocore import sign
from isocore.errors import SignatureError
from tests.isocore.p256_vectors import Vector, vectors

ROOT = Path(__file__).resolve().parents[2]
VECTORS = list(vectors())
KEY = signing.generate()
CONTAINER = KEY.sign(b'{"v":1}')
SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from binascii import unhexlify
from isocore import sign
from isocore.errors import SignatureError
cases = json.load(open(sys.argv[2]))
for name, key, digest, signature, taken in cases["vectors"]:
    if sign.verify(unhexlify(key), unhexlify(digest), unhexlify(signature)) is not taken:
        print(name)
container, key = unhexlify(cases["container"]), unhexlify(cases["key"])
for bit in cases["bits"]:
    data = bytearray(container)
    data[bit >> 3] ^= 1 << (bit & 7)
    try:
        sign.open_container(data, sign.KIND_MODEL, [key])
    except SignatureError:
        continue
    print("bit", bit)
print("done")
"""


def openssl_takes(vector: Vector) -> bool:
    """What `cryptography` says; lengths and points that it cannot even be given count as refused."""
    if (len(vector.key), len(vector.digest), len(vector.signature)) != (64, 32, 64):
        return False
    r, s = (int.from_bytes(vector.signature[i : i + 32], "big") for i in (0, 32))
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + vector.key)
        key.verify(utils.encode_dss_signature(r, s), vector.digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    except (InvalidSignature, ValueError):
        return False
    return True


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_vector(vector: Vector) -> None:
    assert openssl_takes(vector) is vector.good
    assert sign.verify(vector.key, vector.digest, vector.signature) is (vector.good and not vector.strict)


def test_the_vectors_hold_both_kinds() -> None:
    assert sum(vector.good for vector in VECTORS) >= 20 and sum(not vector.good for vector in VECTORS) >= 140


def positions() -> list[int]:
    """Every bit of the header and of the signature."""
    header, end = sign.HEADER_BYTES * 8, len(CONTAINER) * 8
    return [*range(header), *range(end - sign.SIGNATURE_BYTES * 8, end)]


def test_one_flipped_bit_at_every_position_is_refused() -> None:
    assert sign.open_container(CONTAINER, sign.KIND_MODEL, [KEY.public_key]) == b'{"v":1}'
    for bit in positions():
        data = bytearray(CONTAINER)
        data[bit >> 3] ^= 1 << (bit & 7)
        with pytest.raises(SignatureError):
            sign.open_container(data, sign.KIND_MODEL, [KEY.public_key])


@pytest.mark.micropython
def test_micropython_says_the_same(tmp_path: Path) -> None:
    """All vectors, every bit of the header, one in seven of the signature (each is 20 ms)."""
    cases = {
        "vectors": [[v.name, v.key.hex(), v.digest.hex(), v.signature.hex(), v.good and not v.strict] for v in VECTORS],
        "container": CONTAINER.hex(),
        "key": KEY.public_key.hex(),
        "bits": [bit for bit in positions() if bit < sign.HEADER_BYTES * 8 or bit % 7 == 0],
    }
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    (tmp_path / "check.py").write_text(SCRIPT)
    interpreter = find_micropython(root=ROOT)
    command = [*interpreter.command, *interpreter.heap_option(1 << 20), str(tmp_path / "check.py")]
    done = subprocess.run(
        [*command, str(ROOT / "firmware"), str(tmp_path / "cases.json")],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (done.stdout, done.stderr) == ("done\n", "")
