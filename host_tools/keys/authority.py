"""The fleet's certificate authority: offline, one level, P-256. It says who a node is; the registry says who still is.

Every certificate is valid from 1999 to 2049: boards boot without a clock, in 2000 or 1970 as their port has it, and a
certificate of 90 days would lock them out until they know the time, which they learn over the very link it guards. What
expiry would do, revocation does (registry.py, the list made here). UTCTime ends in 2049 (RFC 5280 clause 4.1.2.5.1).

    role       extended key usage           names (subjectAltName)
    board      clientAuth                   none: CN is its device id, which the broker takes as user name and client id
    gateway    clientAuth                   none: CN is its gateway id
    operator   clientAuth                   none
    broker     serverAuth                   host names and addresses, which boards and gateways check
    receiver   serverAuth                   host names and addresses, which gateways check

A server's certificate is no client's and the reverse. Serial numbers are 159 random bits (RFC 5280 clause 4.1.2.2). It
knows no files but the authority's own.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from host_tools.errors import InputError, KeyFileError
from host_tools.keys.sealed import read_secret, write_file, write_secret
from isocore import topics

KEY_NAME = "ca-key.pem"
CERTIFICATE_NAME = "ca.pem"
CLIENT_ROLES = ("board", "gateway", "operator")
SERVER_ROLES = ("broker", "receiver")
ROLES = CLIENT_ROLES + SERVER_ROLES
NOT_BEFORE = datetime.datetime(1999, 1, 1, tzinfo=datetime.UTC)
NOT_AFTER = datetime.datetime(2049, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
_WHAT = "ca-key"
_HOST_MAX = 253  # RFC 1123 clause 2.1 and RFC 1035 clause 2.3.4


@dataclass(frozen=True)
class Identity:
    """A node's new key pair and certificate. The private key leaves this object once, to where the node keeps it."""

    name: str
    role: str
    serial: int
    certificate: x509.Certificate = field(repr=False)
    _key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def certificate_der(self) -> bytes:
        """As boards hold it (X.509, DER)."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def certificate_pem(self) -> bytes:
        """As mosquitto and OpenSSL read it."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_der(self) -> bytes:
        """SEC 1 ECPrivateKey (RFC 5915), the form that mbedTLS on boards reads with the least code."""
        form = serialization.PrivateFormat.TraditionalOpenSSL
        return self._key.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption())

    @property
    def key_pem(self) -> bytes:
        """PKCS#8, as mosquitto and OpenSSL read it."""
        form = serialization.PrivateFormat.PKCS8
        return self._key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


@dataclass(frozen=True)
class Authority:
    """The authority with its private key in memory."""

    certificate: x509.Certificate
    _key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def certificate_der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, role: str, hosts: Sequence[str] = ()) -> Identity:
        """A key pair and certificate for a node. `hosts`: names and addresses of a server, none for a client.

        Raises InputError for a bad name, role or host.
        """
        if not topics.is_device_id(name):
            raise InputError(f"node name {name[:40]!r}: must match [a-z0-9-]{{1,32}}")
        if role not in ROLES:
            raise InputError(f"role {role[:40]!r}: one of {', '.join(ROLES)}")
        if bool(hosts) != (role in SERVER_ROLES):
            raise InputError(f"{name}: a {role} has {'at least one host name' if not hosts else 'no host names'}")
        key = ec.generate_private_key(ec.SECP256R1())
        serial = x509.random_serial_number()
        usage = ExtendedKeyUsageOID.SERVER_AUTH if role in SERVER_ROLES else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            _builder(_name(name, role), self.certificate.subject, key.public_key(), serial)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(_hosts(hosts)), critical=False)
        return Identity(name, role, serial, builder.sign(self._key, hashes.SHA256()), key)

    def revocations(self, serials: Iterable[int], number: int, now: datetime.datetime) -> bytes:
        """The list of revoked certificates, PEM (RFC 5280 clause 5). `number` rises with each list.

        Its next update is put at the authority's end: a broker that cannot reach this offline key would otherwise
        refuse everyone once the list is stale.
        """
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now)
            .next_update(NOT_AFTER)
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        for serial in sorted(set(serials)):
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def create(folder: Path, fleet: str, passphrase: str | None) -> Authority:
    """A new authority in `folder`. Refuses to replace one."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(fleet, "ca")
    certificate = (
        _builder(subject, subject, key.public_key(), x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    write_secret(folder / KEY_NAME, _WHAT, pem, passphrase)
    write_file(folder / CERTIFICATE_NAME, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    return Authority(certificate, key)


def load(folder: Path, passphrase: str | None) -> Authority:
    """The authority in `folder`. Raises KeyFileError."""
    certificate = load_certificate(folder / CERTIFICATE_NAME)
    path = folder / KEY_NAME
    try:
        key = serialization.load_pem_private_key(read_secret(path, _WHAT, passphrase), None)
    except (ValueError, TypeError):
        raise KeyFileError(f"{path}: is no private key in PEM form that `isotherm keys` made") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise KeyFileError(f"{path}: is not the key of {CERTIFICATE_NAME}")
    return Authority(certificate, key)


def load_certificate(path: Path) -> x509.Certificate:
    """A certificate in PEM form. Raises KeyFileError."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        hint = "; `isotherm keys init` makes one" if isinstance(error, FileNotFoundError) else ""
        raise KeyFileError(f"{path}: certificate cannot be read: {error.strerror or error}{hint}") from None
    except ValueError:
        raise KeyFileError(f"{path}: is no certificate in PEM form") from None


def digest(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate, hexadecimal: what people compare."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def revoked_serials(crl_pem: str) -> frozenset[int]:
    """Serial numbers in a list of revoked certificates, PEM. Who made the list is the caller's to know."""
    try:
        return frozenset(entry.serial_number for entry in x509.load_pem_x509_crl(crl_pem.encode("ascii")))
    except ValueError as error:
        raise KeyFileError(f"no list of revoked certificates: {error}") from None


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether one certificate carries the other's signature."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _name(name: str, role: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, serial: int
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
    return builder.serial_number(serial).not_valid_before(NOT_BEFORE).not_valid_after(NOT_AFTER)


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    """Of a node (signs handshakes) or of the authority (signs certificates and lists)."""
    return x509.KeyUsage(
        digital_signature=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not signs,
        crl_sign=not signs,
        encipher_only=False,
        decipher_only=False,
    )


def _hosts(hosts: Sequence[str]) -> list[x509.GeneralName]:
    """Addresses and names as they are checked: an address given as a name would match nothing."""
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            labels = host.removesuffix(".").split(".")
            sound = all(0 < len(part) < 64 and part.replace("-", "a").isalnum() for part in labels)
            if not host.isascii() or len(host) > _HOST_MAX or not sound:
                raise InputError(f"host {host[:60]!r}: is neither a name nor an address") from None
            names.append(x509.DNSName(host))
    return names
