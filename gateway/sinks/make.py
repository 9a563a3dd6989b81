"""From a sink's configuration to the sink: tokens, certificates and proxies are found here.

It knows the kinds of sinks and how each is configured; it sends nothing. A kind's module is imported when it is used.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path

from gateway.config import Config, SinkConfig
from gateway.errors import ConfigError
from gateway.sinks.base import Sink, Tuning

_MODE_OTHERS = 0o007


def make_sink(config: Config, name: str, connections: int, wall_s: Callable[[], float]) -> Sink:
    """The sink named so. Raises ConfigError when what it needs cannot be read."""
    sink = config.sinks[name]
    if sink.type == "file":
        from gateway.sinks.file import FileSink

        return FileSink(config.beside(sink.folder), config.gateway.id)
    tuning = make_tuning(config, name)
    if sink.type == "mqtt":
        from gateway.sinks.mqtt import MqttSink

        return MqttSink(
            sink.url,
            config.gateway.id,
            name,
            tuning,
            topic=sink.topic,
            confirm=sink.confirm,
            username=sink.username,
        )
    from gateway.sinks.https import HttpSink
    from gateway.sinks.proxy import find

    login = _secret(config.beside(sink.proxy_login_file)) if sink.proxy_login_file else None
    return HttpSink(
        sink.url,
        config.gateway.id,
        token=tuning.token,
        connect_timeout_s=tuning.connect_timeout_s,
        read_timeout_s=tuning.read_timeout_s,
        connections=connections,
        ssl_context=tuning.ssl_context,
        proxy=find(sink.url, sink.proxy, login, os.environ),
        wall_s=wall_s,
    )


def make_tuning(config: Config, name: str) -> Tuning:
    """What a reload may change, files read anew. Raises ConfigError."""
    sink = config.sinks[name]
    token = _secret(config.beside(sink.token_file)) if sink.token_file else None
    return Tuning(token, sink.connect_timeout_s, sink.read_timeout_s, _ssl_context(config, sink))


def _secret(path: Path) -> str:
    """The one word in a file."""
    try:
        word = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: cannot be read: {exc}") from exc
    if not word or any(c.isspace() for c in word):
        raise ConfigError(f"{path}: must hold one token and nothing else")
    _not_for_others(path)
    return word


def _not_for_others(path: Path) -> None:
    if path.stat().st_mode & _MODE_OTHERS:
        raise ConfigError(f"{path}: everybody on this machine may read it; run `chmod o= {path}`")


def _ssl_context(config: Config, sink: SinkConfig) -> ssl.SSLContext | None:
    """Verifies always; with a client certificate where one is configured."""
    if not sink.url.startswith(("https:", "mqtts:")):
        return None
    try:
        context = ssl.create_default_context(cafile=str(config.beside(sink.ca_file)) if sink.ca_file else None)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(f"{config.beside(sink.ca_file)}: no usable PEM certificates: {exc}") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if sink.cert_file:
        cert, key = config.beside(sink.cert_file), config.beside(sink.key_file or sink.cert_file)
        _not_for_others(key)
        try:
            context.load_cert_chain(cert, key, password=lambda: b"")  # a key with a passphrase: an error, no question
        except (OSError, ssl.SSLError, ValueError) as exc:
            raise ConfigError(f"{cert}: no certificate with its private key in {key} (unencrypted PEM): {exc}") from exc
    return context
