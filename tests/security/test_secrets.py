"""No secret lies in the repository. Logs, process lists and a run's folder are looked through in test_demo.py."""

from __future__ import annotations

import base64
import math
import re
import subprocess
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = Path(__file__).resolve().parents[2]
LOCKS = re.compile(r"requirements(-[a-z]+)?\.lock$")  # hashes of packages, and nothing else: checked below

# What a private key begins with: PEM (RFC 7468), and SEC 1 (RFC 5915) and PKCS#8 (RFC 5958) of P-256 in DER.
_PEM = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{16}")
_SEC1 = bytes.fromhex("30770201010420")
_PKCS8 = bytes.fromhex("308187 020100 301306072a8648ce3d0201 06082a8648ce3d030107")
_KNOWN = re.compile(
    rb"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|xox[abp]-[A-Za-z0-9-]{20,}|AIza[0-9A-Za-z_-]{35})\b"
)
_ASSIGNED = re.compile(
    rb"(?i)(?:password|passphrase|passwd|secret|token|api_?key|private_?key|master)"
    rb"""\w*["']?\s*[:=]\s*["']([^"'\s]{20,})["']"""
)
_RUN = re.compile(rb"[A-Za-z0-9+/]{40,}={0,2}|[0-9a-fA-F]{64,}")
_BITS_HEX, _BITS_BASE64 = 3.2, 4.5  # a random run of these lengths has more, words and tables less

# What looks like a key and is none, by what it is. Private keys are looked for in these as well.
PUBLIC = {
    "host_tools/setup/*.py": "hashes of what is fetched",
    "tests/*vectors*": "vectors of public formats",
    "tests/host_tools/unseen_figures.py": "the hash of the package that it measures on",
}


def secrets(name: str, data: bytes) -> list[str]:
    """What in a file looks like a secret."""
    found = []
    if _PEM.search(data) or _SEC1 in data or _PKCS8 in data:
        found.append("a private key")
    if _KNOWN.search(data):
        found.append("a service's token")
    found += [f"assigned: {match[1][:12]!r}..." for match in _ASSIGNED.finditer(data) if _value(match[1])]
    if not LOCKS.search(name) and not any(fnmatch(name, glob) for glob in PUBLIC):
        found += [f"random: {run[:12]!r}..." for run in _RUN.findall(data) if _random(run)]
    return found


def _value(word: bytes) -> bool:
    """Random enough for a secret, and no name of a variable."""
    return not re.fullmatch(rb"[A-Z_]+|[a-z_.-]+", word) and _bits(word) > 3.5


def _random(run: bytes) -> bool:
    if re.fullmatch(rb"[0-9a-fA-F]+", run):
        return _bits(run.lower()) > _BITS_HEX
    return b"ABCDEFGHIJKLM" not in run and _mixed(run) and _bits(run) > _BITS_BASE64


def _mixed(run: bytes) -> bool:
    """Capitals, small letters and digits between one another, as in base64 and in no word."""
    return all(re.search(pattern, run) for pattern in (rb"[A-Z]", rb"[a-z]", rb"[0-9]"))


def _bits(run: bytes) -> float:
    """Shannon's entropy, bits a character."""
    counts = Counter(run).values()
    return -sum(count / len(run) * math.log2(count / len(run)) for count in counts)


def test_the_repository_holds_no_secret() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    names = [name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]
    assert len(names) > 300
    assert [name for name in names if name.endswith((".pem", ".key", ".der", ".p12", ".pfx"))] == []
    found = {name: looks for name in names if (looks := secrets(name, (ROOT / name).read_bytes()))}
    assert found == {}


def test_locks_hold_hashes_only() -> None:
    line = re.compile(r"(#.*|[a-z0-9-]+==[^ ]+( ; [^\\]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?|)")
    for path in [*ROOT.glob("*/requirements*.lock")]:
        assert [text for text in path.read_text(encoding="ascii").splitlines() if not line.fullmatch(text)] == []


def test_planted_secrets_are_seen() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    plain = serialization.NoEncryption()
    forms = serialization.PrivateFormat
    pem = key.private_bytes(serialization.Encoding.PEM, forms.PKCS8, plain)
    sec1 = key.private_bytes(serialization.Encoding.DER, forms.TraditionalOpenSSL, plain)
    pkcs8 = key.private_bytes(serialization.Encoding.DER, forms.PKCS8, plain)
    scalar = key.private_numbers().private_value.to_bytes(32, "big")
    planted = [
        *(pem, sec1, pkcs8, scalar.hex().encode()),
        base64.b64encode(scalar),
        b'wifi_password = "' + base64.b64encode(scalar[:18]) + b'"',
        b"ghp_" + scalar.hex().encode()[:36],
    ]
    for data in planted:
        assert secrets("notes.txt", b"before\n" + data + b"\nafter\n"), data
    words = b"the quick brown fox jumps over the lazy dog " * 9
    for harmless in (words, b"=" * 80, b"0" * 64, b"a/path/of/many/words/Here1"):
        assert not secrets("notes.txt", harmless), harmless
