"""Secret files: what is sealed opens with its passphrase and as what it is, and as nothing else."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from host_tools.errors import KeyFileError
from host_tools.keys import sealed

GOOD = "correct horse battery"


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "secret"
    sealed.write_secret(path, "ca-key", b"the secret", GOOD)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert b"the secret" not in path.read_bytes()
    assert sealed.read_secret(path, "ca-key", GOOD) == b"the secret"
    assert os.listdir(path.parent) == ["secret"]


def test_two_files_of_one_secret_differ(tmp_path: Path) -> None:
    assert sealed.seal("a", b"x", GOOD) != sealed.seal("a", b"x", GOOD)


@pytest.mark.parametrize(
    ("what", "passphrase", "says"),
    [
        ("ca-key", None, "protected by a passphrase"),
        ("ca-key", GOOD + "!", "passphrase is wrong"),
        ("model-key", GOOD, "holds 'ca-key', not 'model-key'"),
    ],
)
def test_refused(tmp_path: Path, what: str, passphrase: str | None, says: str) -> None:
    path = tmp_path / "secret"
    sealed.write_secret(path, "ca-key", b"the secret", GOOD)
    with pytest.raises(KeyFileError, match=says):
        sealed.read_secret(path, what, passphrase)


def test_short_passphrases(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="at least 10"):
        sealed.write_secret(tmp_path / "secret", "ca-key", b"x", "short")
    assert os.listdir(tmp_path) == []


def test_every_altered_bit_is_noticed() -> None:
    document = json.loads(sealed.seal("ca-key", b"the secret", GOOD))
    for name in ("salt", "nonce", "box"):
        raw = bytearray.fromhex(document[name])
        raw[len(raw) // 2] ^= 4
        altered = json.dumps(document | {name: raw.hex()}).encode()
        with pytest.raises(KeyFileError, match="altered"):
            sealed.open_sealed(Path("f"), "ca-key", altered, GOOD)
    renamed = json.dumps(document | {"what": "model-key"}).encode()
    with pytest.raises(KeyFileError, match="altered"):
        sealed.open_sealed(Path("f"), "model-key", renamed, GOOD)


@pytest.mark.parametrize(
    "change",
    [
        *({"n": 1 << 40}, {"n": 3}, {"r": 0}, {"p": 99}, {"v": 2}, {"salt": "zz"}, {"n": "many"}, {"nonce": ""}),
        *({"n": 1 << 20, "r": 16}, {"n": float("inf")}, {"what": 7}),  # two GiB; no number; no name
    ],
)
def test_planted_costs_and_shapes_are_refused(change: dict[str, object]) -> None:
    """A file that asks for a terabyte is no way to stop the host."""
    document = json.loads(sealed.seal("ca-key", b"x", GOOD)) | change
    with pytest.raises(KeyFileError, match="no sealed file"):
        sealed.open_sealed(Path("f"), "ca-key", json.dumps(document).encode(), GOOD)


def test_files_that_others_may_read(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    sealed.write_secret(path, "ca-key", b"x", None)
    path.chmod(0o604)
    with pytest.raises(KeyFileError, match="chmod 600"):
        sealed.read_secret(path, "ca-key", None)


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    sealed.write_file(path, b"first", 0o600)
    with pytest.raises(KeyFileError, match="never replaced"):
        sealed.write_file(path, b"second", 0o600)
    assert path.read_bytes() == b"first"
    sealed.write_file(path, b"second", 0o600, replace=True)
    assert path.read_bytes() == b"second"
    assert os.listdir(tmp_path) == ["secret"]


@pytest.mark.parametrize("data", [b"{" * 60_000, b"[" * 60_000, b"{}", b"null", b'{"n": 1e999, "r": 8, "p": 1}'])
def test_any_other_file_is_a_sentence(data: bytes) -> None:
    with pytest.raises(KeyFileError, match="no sealed file"):
        sealed.open_sealed(Path("f"), "ca-key", data, GOOD)
