"""Which HTTP proxy stands between the gateway and an address: configured, or named by the environment.

The environment's names and rules are those that curl and Go share: HTTPS_PROXY and HTTP_PROXY in either case (only
the lower case for http, which a CGI request can otherwise set), ALL_PROXY, and NO_PROXY with `*`, hosts, domains,
addresses and networks, each with an optional port. A loopback address never goes through one. Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from gateway.config.keys import is_loopback
from gateway.errors import ConfigError

DIRECT = "none"


class Proxy(NamedTuple):
    """`url` without credentials; `login` is "user:password" or None, and is never shown."""

    url: str
    login: str | None

    def __repr__(self) -> str:
        return f"Proxy({self.url!r}, login={'***' if self.login else None})"


def find(url: str, configured: str, login: str | None, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy for `url`, or None for a direct connection. Raises ConfigError when what is named is no proxy."""
    if configured == DIRECT:
        return None
    if configured:
        return _proxy(configured, login, "proxy")
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or _excluded(host, parts.port or 443, _get(environment, "no_proxy")):
        return None
    name = f"{parts.scheme}_proxy"
    named = (_get(environment, name) if name != "http_proxy" else environment.get(name, "")) or _get(
        environment, "all_proxy"
    )
    return _proxy(named, login, name.upper()) if named else None


def _get(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name) or environment.get(name.upper(), "")


def _proxy(text: str, login: str | None, source: str) -> Proxy:
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError as exc:
        raise ConfigError(f"{source}: is no proxy's URL: {exc}") from exc
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{source}: must be http://HOST:PORT or https://HOST:PORT")
    if parts.username is not None:
        login = login or f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Proxy(f"{parts.scheme}://{host}:{port or (443 if parts.scheme == 'https' else 80)}", login)


def _excluded(host: str, port: int, no_proxy: str) -> bool:
    for entry in no_proxy.lower().replace(",", " ").split():
        if entry == "*" or _matches(host.lower(), port, entry):
            return True
    return False


def _matches(host: str, port: int, entry: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass  # one of the two is a name
    name, colon, wanted = entry.rpartition(":")
    if colon and wanted.isdigit() and "]" not in wanted:
        if int(wanted) != port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*").removeprefix(".")
    return host == entry or host.endswith(f".{entry}")
