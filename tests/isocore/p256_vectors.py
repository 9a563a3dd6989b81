"""Signatures over P-256 made to catch a verifier out, each with the verdict that FIPS 186-5 asks for; made, not copied.

The curve's arithmetic here is affine and of its own, so that it shares no mistake with isocore/sign.py. `strict`: our
own rule refuses it, though the standard would not (high s).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
Point = tuple[int, int]


class Vector(NamedTuple):
    """good: whether FIPS 186-5 takes it; strict: whether we refuse it all the same."""

    name: str
    key: bytes
    digest: bytes
    signature: bytes
    good: bool = False
    strict: bool = False


def add(left: Point | None, right: Point | None) -> Point | None:
    """None is the point at infinity."""
    if left is None or right is None:
        return left or right
    (x1, y1), (x2, y2) = left, right
    if x1 == x2 and (y1 + y2) % P == 0:
        return None
    slope = (3 * x1 * x1 - 3) * pow(2 * y1, -1, P) if left == right else (y2 - y1) * pow(x2 - x1, -1, P)
    x3 = (slope * slope - x1 - x2) % P
    return x3, (slope * (x1 - x3) - y1) % P


def times(k: int, point: Point | None) -> Point | None:
    """k * point."""
    total = None
    while k:
        if k & 1:
            total = add(total, point)
        point, k = add(point, point), k >> 1
    return total


def raw(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(32, "big") for number in numbers)


def point(k: int) -> Point:
    made = times(k % N, G)
    assert made is not None
    return made


def number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big") % (N - 1) + 1


def sign(d: int, digest: bytes, k: int) -> tuple[int, int]:
    """(r, s) with low s (FIPS 186-5 section 6.4.1)."""
    r = point(k)[0] % N
    s = pow(k, -1, N) * (int.from_bytes(digest, "big") + r * d) % N
    return r, min(s, N - s)


def vectors() -> Iterator[Vector]:
    d, k = number("key"), number("nonce")
    key = raw(*point(d))
    digest = hashlib.sha256(b"a model").digest()
    r, s = sign(d, digest, k)
    good = raw(r, s)
    yield Vector("good", key, digest, good, True)
    yield Vector("high s", key, digest, raw(r, N - s), True, True)
    yield from _numbers(key, digest, r, s)
    yield from _hashes(d, key, k)
    yield from _keys(key, digest, good, d, k)
    yield from _points(digest)
    for name, length in (("empty", 0), ("63 bytes", 63)):
        yield Vector("signature of " + name, key, digest, good[:length])
    yield Vector("signature of 65 bytes", key, digest, good + b"\0")
    yield Vector("signature with a zero before r", key, digest, b"\0" + good)
    yield Vector("digest of 31 bytes", key, digest[:31], good)
    yield Vector("digest of 33 bytes", key, digest + b"\0", good)
    yield Vector("key of 63 bytes", key[:63], digest, good)
    yield Vector("key of 65 bytes", b"\4" + key, digest, good)
    yield Vector("r and s exchanged", key, digest, raw(s, r))
    yield Vector("another digest", key, hashlib.sha256(b"another").digest(), good)
    yield Vector("another key", raw(*point(d + 1)), digest, good)
    yield Vector("the key's mirror", raw(point(d)[0], P - point(d)[1]), digest, good)


def _numbers(key: bytes, digest: bytes, r: int, s: int) -> Iterator[Vector]:
    edges = {"0": 0, "1": 1, "n - 1": N - 1, "n": N, "n + 1": N + 1, "p - 1": P - 1, "p": P, "p + 1": P + 1}
    edges |= {"n / 2": N >> 1, "n / 2 + 1": (N >> 1) + 1, "2^256 - 1": 2**256 - 1}
    for name, edge in edges.items():
        yield Vector(f"r = {name}", key, digest, raw(edge, s))
        yield Vector(f"s = {name}", key, digest, raw(r, edge))
        for other, second in edges.items():
            yield Vector(f"r = {name}, s = {other}", key, digest, raw(edge, second))


def _hashes(d: int, key: bytes, k: int) -> Iterator[Vector]:
    """A digest is reduced by n, and may be nothing."""
    for value in (0, 1, N - 1, N, N + 1, P, 2**256 - 1, 2**255):
        digest = raw(value)
        yield Vector(f"digest {value:x}", key, digest, raw(*sign(d, digest, k)), True)
    yield Vector("digest n for 0", key, raw(N), raw(*sign(d, raw(0), k)), True)  # the same number modulo n


def _keys(key: bytes, digest: bytes, good: bytes, d: int, k: int) -> Iterator[Vector]:
    x, y = point(d)
    for name, bad in (
        ("off the curve", raw(x, y ^ 1)),
        ("zero", bytes(64)),
        ("x = 0", raw(0, y)),
        ("x = p", raw(P, y)),
        ("y = p", raw(x, P)),
        ("all ones", b"\xff" * 64),
        ("x and y exchanged", raw(y, x)),
    ):
        yield Vector("key " + name, bad, digest, good)
    for name, private in (("G", 1), ("2 G", 2), ("-G", N - 1), ("-2 G", N - 2), ("G / 2", pow(2, -1, N))):
        yield Vector("key " + name, raw(*point(private)), digest, raw(*sign(private, digest, k)), True)
    for name, nonce in (("1", 1), ("2", 2), ("n - 1", N - 1), ("d", d)):
        yield Vector("nonce " + name, key, digest, raw(*sign(d, digest, nonce)), True)


def _points(digest: bytes) -> Iterator[Vector]:
    """Sums that meet at a special point: the key is chosen for the signature, not the other way round."""
    e, r, s = int.from_bytes(digest, "big"), number("r"), number("s") >> 1
    nowhere = raw(*point(-e * pow(r, -1, N)))
    yield Vector("u1 G + u2 Q is infinity", nowhere, digest, raw(r, s))
    doubled = point(e * pow(r, -1, N))  # u1 G = u2 Q: the last addition is a doubling
    sum_x = times(2 * e * pow(s, -1, N) % N, G)
    assert sum_x is not None
    yield Vector("u1 G = u2 Q, wrong r", raw(*doubled), digest, raw(r, s), sum_x[0] % N == r)
    x, y = _beyond_n()
    key = times(pow(x - N, -1, N), add(times(s, (x, y)), times(N - e % N, G)))
    assert key is not None
    yield Vector("x of R above n", raw(*key), digest, raw(x - N, s), True)
    yield Vector("r = x of R, not reduced", raw(*key), digest, raw(x, s))


def _beyond_n() -> Point:
    """A point whose x is between n and p, where r = x - n."""
    x = N + 1
    while True:
        square = (x * x * x - 3 * x + B) % P
        y = pow(square, (P + 1) // 4, P)  # p = 3 mod 4
        if y * y % P == square:
            return x, y
        x += 1
