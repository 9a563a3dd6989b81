"""Certificates for tests, made with `cryptography`: an authority, servers on 127.0.0.1, clients."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_EARLY = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_LATE = datetime.datetime(2049, 12, 31, tzinfo=datetime.UTC)


class Pair(NamedTuple):
    """PEM files of mode 0600."""

    cert: Path
    key: Path


class Authority:
    """A P-256 authority with a folder for what it issues. `ca` is its own certificate."""

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        cert = (
            self._builder(self._name, self._key.public_key(), _LATE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(cert.public_bytes(serialization.Encoding.PEM))

    def server(self, name: str = "server", until: datetime.datetime = _LATE, address: str = "127.0.0.1") -> Pair:
        """A certificate for an address."""
        return self._issue(name, ExtendedKeyUsageOID.SERVER_AUTH, until, address)

    def client(self, name: str = "client", until: datetime.datetime = _LATE, subject: str = "") -> Pair:
        """A certificate in files of that name; its common name is `subject`, or the name too."""
        return self._issue(name, ExtendedKeyUsageOID.CLIENT_AUTH, until, None, subject)

    def _issue(
        self,
        name: str,
        usage: x509.ObjectIdentifier,
        until: datetime.datetime,
        address: str | None,
        common_name: str = "",
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name or name)])
        builder = self._builder(subject, key.public_key(), until).add_extension(
            x509.ExtendedKeyUsage([usage]), critical=False
        )
        if address is not None:
            names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
            builder = builder.add_extension(names, critical=False)
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        pair.cert.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        pair.key.chmod(0o600)
        return pair

    def _builder(
        self, subject: x509.Name, public: ec.EllipticCurvePublicKey, until: datetime.datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_EARLY)
            .not_valid_after(until)
        )
