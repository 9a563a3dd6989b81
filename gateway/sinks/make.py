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
from gateway.tls import client_context, not_for_others


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
    not_for_others(path)
    return word


def _ssl_context(config: Config, sink: SinkConfig) -> ssl.SSLContext | None:
    """Where there is TLS; with a client certificate where one is configured."""
    if not sink.url.startswith(("https:", "mqtts:")):
        return None
    files = (config.beside(name) if name else None for name in (sink.ca_file, sink.cert_file, sink.key_file))
    return client_context(*files)
