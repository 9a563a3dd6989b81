"""TLS as a client: contexts that always verify, made of files that a configuration names. It knows no protocol."""

from __future__ import annotations

import ssl
from pathlib import Path

from gateway.config import Config
from gateway.config.base import MqttConfig, MqttSessionConfig
from gateway.errors import ConfigError

_MODE_OTHERS = 0o007


def client_context(ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or newer; certificate and host name are checked. ca: authorities, None for the system's; cert and key:
    who we are, None for nobody. Raises ConfigError, naming the file."""
    try:
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(f"{ca}: no usable PEM certificates: {exc}") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert is not None:
        key = key or cert
        not_for_others(key)
        try:
            context.load_cert_chain(cert, key, password=lambda: b"")  # a key with a passphrase: an error, no question
        except (OSError, ssl.SSLError, ValueError) as exc:
            raise ConfigError(f"{cert}: no certificate with its private key in {key} (unencrypted PEM): {exc}") from exc
    return context


def broker_context(config: Config, broker: MqttConfig | MqttSessionConfig) -> ssl.SSLContext | None:
    """TLS to a broker, None where it is not asked for. Raises ConfigError, naming the file."""
    if not broker.ca_file:
        return None
    files = (config.beside(name) if name else None for name in (broker.ca_file, broker.cert_file, broker.key_file))
    return client_context(*files)


def not_for_others(path: Path) -> None:
    """Raises ConfigError for a secret that everybody on the machine may read."""
    try:
        mode = path.stat().st_mode
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror}") from exc
    if mode & _MODE_OTHERS:
        raise ConfigError(f"{path}: everybody on this machine may read it; run `chmod o= {path}`")
