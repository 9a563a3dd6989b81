"""Signed containers: the only form in which a model may reach a board.

Layout, little-endian except the numbers inside the signature:

    offset  size  field
    0       4     magic "ISOS"
    4       1     version = 1
    5       1     algorithm = 1: ECDSA, P-256, SHA-256 (FIPS 186-5; curve of SP 800-186 section 3.2.1.3)
    6       1     kind: 1 = threshold model, 2 = list of model keys, 3 = who may use the broker
    7       1     0
    8       8     key id: first 8 bytes of SHA-256 of the public key x || y
    16      2     payload length
    18      n     payload
    18+n    64    signature r || s, big-endian, over all bytes before it; s is the low one, s <= n/2

Verified are exactly the bytes that are then parsed. High s is refused so that one model has one container. Signing is
not here: private keys never come near a board.
"""

import hashlib
import struct

from isocore.errors import SignatureError

MAGIC = b"ISOS"
VERSION = 1
ALGORITHM_P256 = 1
KIND_MODEL = 1
KIND_KEYS = 2  # keylist.py
KIND_ACCESS = 3  # access.py

HEADER = "<4sBBBB8sH"
HEADER_BYTES = 18
SIGNATURE_BYTES = 64
CONTAINER_BYTES_MAX = 4096  # of what boards take

# Curve P-256, SP 800-186 section 3.2.1.3: y^2 = x^3 - 3x + b over GF(p), order n, base point (gx, gy).
P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
GX = 0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296
GY = 0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5


def key_id(public_key):
    """First 8 bytes of SHA-256 of a public key given as 64 bytes x || y."""
    return hashlib.sha256(public_key).digest()[:8]


def build_unsigned(kind, public_key, payload, bytes_max=CONTAINER_BYTES_MAX):
    """The bytes that are to be signed. Raises SignatureError when the container would pass `bytes_max` (below 2^16)."""
    if HEADER_BYTES + len(payload) + SIGNATURE_BYTES > bytes_max:
        raise SignatureError("size", "payload of %d bytes is too large for a container" % len(payload))
    header = struct.pack(HEADER, MAGIC, VERSION, ALGORITHM_P256, kind, 0, key_id(public_key), len(payload))
    return header + payload


def open_container(data, kind, public_keys, bytes_max=CONTAINER_BYTES_MAX):
    """Check a container and return its payload.

    public_keys: the trusted keys, each 64 bytes x || y. Raises SignatureError and nothing else for bad data.
    """
    size = len(data)
    if not HEADER_BYTES + SIGNATURE_BYTES < size <= bytes_max:
        raise SignatureError("size", "container of %d bytes" % size)
    magic, version, algorithm, got_kind, zero, signer, length = struct.unpack_from(HEADER, data, 0)
    if magic != MAGIC:
        raise SignatureError("magic", "not a signed container")
    if version != VERSION or zero:
        raise SignatureError("version", "container version %d is not supported" % version)
    if algorithm != ALGORITHM_P256:
        raise SignatureError("algorithm", "signature algorithm %d is not supported" % algorithm)
    if got_kind != kind:
        raise SignatureError("kind", "container of kind %d where %d is wanted" % (got_kind, kind))
    if HEADER_BYTES + length + SIGNATURE_BYTES != size:
        raise SignatureError("size", "container of %d bytes says its payload has %d" % (size, length))
    for public_key in public_keys:
        if key_id(public_key) == signer:
            signed = HEADER_BYTES + length
            digest = hashlib.sha256(memoryview(data)[:signed]).digest()
            if verify(public_key, digest, bytes(data[signed:])):
                return bytes(data[HEADER_BYTES:signed])
            raise SignatureError("signature", "signature does not match")
    raise SignatureError("key", "signed by a key that is not trusted here")


def verify(public_key, digest, signature):
    """ECDSA verification (FIPS 186-5 section 6.4.2). Returns True or False, never raises for bad bytes.

    public_key: 64 bytes x || y; digest: 32 bytes; signature: 64 bytes r || s with low s.
    """
    if len(public_key) != 64 or len(digest) != 32 or len(signature) != 64:
        return False
    x = int.from_bytes(public_key[:32], "big")
    y = int.from_bytes(public_key[32:], "big")
    r = int.from_bytes(signature[:32], "big")
    s = int.from_bytes(signature[32:], "big")
    if x >= P or y >= P or (y * y - (x * x - 3) * x - B) % P:
        return False
    if not 1 <= r < N or not 1 <= s <= N >> 1:
        return False
    w = pow(s, N - 2, N)
    u1 = int.from_bytes(digest, "big") * w % N
    u2 = r * w % N
    px, _, pz = _double_multiply(u1, u2, x, y)
    if pz == 0:
        return False
    inverse = pow(pz, P - 2, P)
    return px * inverse * inverse % P % N == r


def _double_multiply(u1, u2, x, y):
    """u1 * G + u2 * Q in Jacobian coordinates, both multiples in one pass (Shamir's trick)."""
    g = (GX, GY, 1)
    q = (x, y, 1)
    both = _add(g, q)
    point = (0, 1, 0)
    for i in range(255, -1, -1):
        point = _double(point)
        bits = (u1 >> i & 1) | (u2 >> i & 1) << 1
        if bits:
            point = _add(point, g if bits == 1 else q if bits == 2 else both)
    return point


def _double(point):
    """2 * point for a = -3 (Explicit-Formulas Database, dbl-2001-b)."""
    x, y, z = point
    if z == 0 or y == 0:
        return (0, 1, 0)
    delta = z * z % P
    gamma = y * y % P
    beta = x * gamma % P
    alpha = 3 * (x - delta) * (x + delta) % P
    x3 = (alpha * alpha - 8 * beta) % P
    z3 = ((y + z) * (y + z) - gamma - delta) % P
    return (x3, (alpha * (4 * beta - x3) - 8 * gamma * gamma) % P, z3)


def _add(left, right):
    """left + right in Jacobian coordinates, all cases (Explicit-Formulas Database, add-1998-cmo-2)."""
    x1, y1, z1 = left
    x2, y2, z2 = right
    if z1 == 0:
        return right
    if z2 == 0:
        return left
    z1z1 = z1 * z1 % P
    z2z2 = z2 * z2 % P
    u1 = x1 * z2z2 % P
    s1 = y1 * z2 * z2z2 % P
    h = (x2 * z1z1 - u1) % P
    r = (y2 * z1 * z1z1 - s1) % P
    if h == 0:
        return _double(left) if r == 0 else (0, 1, 0)
    hh = h * h % P
    hhh = h * hh % P
    v = u1 * hh % P
    x3 = (r * r - hhh - 2 * v) % P
    return (x3, (r * (v - x3) - s1 * hhh) % P, z1 * z2 * h % P)
