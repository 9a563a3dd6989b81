"""From a sink's configuration to the sink: tokens and certificates are read here.

It knows the kinds of sinks and how each is configured; it sends nothing.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from gateway.config import Config, SinkConfig
from gateway.errors import ConfigError
from gateway.sinks.base import Sink
from gateway.sinks.file import FileSink
from gateway.sinks.https import HttpSink


def make_sink(config: Config, name: str, connections: int, wall_s: Callable[[], float]) -> Sink:
    """The sink named so. Raises ConfigError when what it needs cannot be read."""
    sink = config.sinks[name]
    if sink.type == "file":
        return FileSink(config.beside(sink.folder), config.gateway.id)
    return HttpSink(
        sink.url,
        config.gateway.id,
        token=read_token(config, sink),
        connect_timeout_s=sink.connect_timeout_s,
        read_timeout_s=sink.read_timeout_s,
        connections=connections,
        ssl_context=_ssl_context(config, sink),
        wall_s=wall_s,
    )


def read_token(config: Config, sink: SinkConfig) -> str | None:
    """The bearer token, read anew. Raises ConfigError."""
    if not sink.token_file:
        return None
    path = config.beside(sink.token_file)
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: token cannot be read: {exc}") from exc
    if not token or any(c.isspace() for c in token):
        raise ConfigError(f"{path}: must hold one token and nothing else")
    return token


def _ssl_context(config: Config, sink: SinkConfig) -> ssl.SSLContext | None:
    if not sink.url.startswith("https:"):
        return None
    try:
        return ssl.create_default_context(cafile=str(config.beside(sink.ca_file)) if sink.ca_file else None)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(f"{config.beside(sink.ca_file)}: no usable PEM certificates: {exc}") from exc
