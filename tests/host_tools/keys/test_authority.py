"""Certificates: what they say, and that OpenSSL, which no one here wrote, agrees."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from host_tools.errors import InputError, KeyFileError
from host_tools.keys import authority
from host_tools.keys.authority import Authority

NOW = datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ca")
    authority.create(made, "home", None)
    return made


@pytest.fixture
def ca(folder: Path) -> Authority:
    return authority.load(folder, None)


def openssl(folder: Path, purpose: str, certificate: bytes, *more: str) -> str:
    """The other implementation's word on a certificate."""
    (folder / "asked.pem").write_bytes(certificate)
    command = ["openssl", "verify", "-CAfile", str(folder / "ca.pem"), "-purpose", purpose, *more]
    done = subprocess.run([*command, str(folder / "asked.pem")], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_a_board(ca: Authority, folder: Path) -> None:
    board = ca.issue("fridge-1", "board")
    names = board.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert [name.value for name in names] == ["fridge-1"]
    assert board.certificate.not_valid_before_utc.year == 1999
    assert board.certificate.not_valid_after_utc.year == 2049
    assert authority.issued_by(board.certificate, ca.certificate)
    assert ": OK" in openssl(folder, "sslclient", board.certificate_pem)
    assert "unsuitable" in openssl(folder, "sslserver", board.certificate_pem)
    assert len(board.certificate_der) < 500 and len(board.key_der) < 130  # a board's flash and heap pay for it
    assert "key" not in repr(board)


def test_valid_before_a_board_knows_the_time(ca: Authority, folder: Path) -> None:
    board = ca.issue("fridge-1", "board").certificate_pem
    for moment in (946684800, NOW.timestamp(), 2524000000):  # 2000, now, December 2049
        assert ": OK" in openssl(folder, "sslclient", board, "-attime", str(int(moment)))
    assert "expired" in openssl(folder, "sslclient", board, "-attime", "2530000000")


def test_a_server(ca: Authority, folder: Path) -> None:
    server = ca.issue("broker", "broker", ["pi.local", "192.0.2.7", "pi.local"])
    for more in (["-verify_hostname", "pi.local"], ["-verify_ip", "192.0.2.7"]):
        assert ": OK" in openssl(folder, "sslserver", server.certificate_pem, *more)
    assert "mismatch" in openssl(folder, "sslserver", server.certificate_pem, "-verify_hostname", "192.0.2.7")
    assert "unsuitable" in openssl(folder, "sslclient", server.certificate_pem)


def test_revocations(ca: Authority, folder: Path) -> None:
    good, bad = ca.issue("fridge-1", "board"), ca.issue("fridge-2", "board")
    (folder / "crl.pem").write_bytes(ca.revocations([bad.serial, bad.serial], 7, NOW))
    listed = x509.load_pem_x509_crl((folder / "crl.pem").read_bytes())
    assert listed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 7
    assert len(list(listed)) == 1
    check = ("-crl_check", "-CRLfile", str(folder / "crl.pem"), "-attime", str(int(NOW.timestamp())))
    assert ": OK" in openssl(folder, "sslclient", good.certificate_pem, *check)
    assert "revoked" in openssl(folder, "sslclient", bad.certificate_pem, *check)


@pytest.mark.parametrize(
    ("name", "role", "hosts", "says"),
    [
        ("Fridge", "board", [], "must match"),
        ("a/b", "board", [], "must match"),
        ("x" * 33, "board", [], "must match"),
        ("fridge", "king", [], "one of board"),
        ("fridge", "board", ["pi.local"], "no host names"),
        ("broker", "broker", [], "at least one host name"),
        ("broker", "broker", ["pi local"], "neither a name nor an address"),
        ("broker", "broker", ["*.local"], "neither a name nor an address"),
        ("broker", "broker", ["p\u00ef.local"], "neither a name nor an address"),
    ],
)
def test_refused(ca: Authority, name: str, role: str, hosts: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        ca.issue(name, role, hosts)


def test_files(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="never replaced"):
        authority.create(folder, "home", None)
    with pytest.raises(KeyFileError, match="isotherm keys init"):
        authority.load(tmp_path, None)
    authority.create(tmp_path, "home", None)
    (tmp_path / "ca.pem").write_bytes((folder / "ca.pem").read_bytes())
    with pytest.raises(KeyFileError, match="not the key of"):
        authority.load(tmp_path, None)
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(KeyFileError, match="no certificate in PEM"):
        authority.load(tmp_path, None)
