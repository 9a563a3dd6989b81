"""[sinks.NAME]: where batches go. Declarations only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.config.keys import key, matching, one_of, proxy_url, url
from gateway.wire import ENCODINGS

INTRO = """\
Where batches go: one table a destination, each with cursors and a ledger of its own. Without any, readings are
stored and acknowledged, and nothing is uploaded. A minimal one:

    [sinks.cloud]
    url = "https://cloud.example"
    token_file = "token"          # beside this file; its owner root, its group isotherm, its mode 0640
"""
# What a sink of each type must be told, and such as what.
_DESTINATIONS = {
    "https": ("url", "https://cloud.example"),
    "mqtt": ("url", "mqtts://broker.example"),
    "file": ("folder", "/media/readings"),
}
_SCHEMES = {"http": "https", "https": "https", "mqtt": "mqtt", "mqtts": "mqtt"}


@dataclass(frozen=True)
class SinkConfig:
    """[sinks.NAME]"""

    type: str = key("https", "kind of sink: https, mqtt or file", check=one_of(tuple(_DESTINATIONS)))
    url: str = key(
        "",
        "https: where batches go: URL/v1/batches; mqtt: the broker",
        check=lambda value: url(value) if value else None,
    )
    folder: str = key("", "file: where NDJSON files go; it must exist")
    start: str = key(
        "oldest", "where a sink that is new to the store begins: oldest or newest", check=one_of(("oldest", "newest"))
    )
    topic: str = key(
        "isotherm", "mqtt: batches go to TOPIC/GATEWAY/batches", check=matching(r"[^#+\x00/][^#+\x00]{0,99}")
    )
    confirm: str = key(
        "reply",
        "mqtt: whose word moves the cursor: a receiver's reply, or the broker's puback",
        check=one_of(("reply", "puback")),
    )
    username: str = key("", 'mqtt: user name, its password in token_file; "": none')
    token_file: str = key("", 'file with a bearer token, or the password; "": none', live=True)
    ca_file: str = key("", "PEM file of authorities to trust instead of the system's; \"\": the system's")
    cert_file: str = key("", 'PEM file with a client certificate and its chain; "": none')
    key_file: str = key("", 'PEM file with its private key; "": it is in cert_file')
    proxy: str = key(
        "",
        'https: proxy\'s URL; none: a direct connection; "": what HTTPS_PROXY and NO_PROXY say',
        check=proxy_url,
    )
    proxy_login_file: str = key("", 'https: file with USER:PASSWORD for the proxy; "": none')
    compression: str = key("auto", "auto, zstd or gzip", check=one_of(ENCODINGS))
    live_rows: int = key(1000, "rows of a live or alarm batch at most", 1, 20000, live=True)
    live_age_s: float = key(10.0, "age at which live rows go up however few they are", 0.0, 86400, live=True)
    backfill_rows: int = key(5000, "rows of a backfill batch at most", 1, 20000, live=True)
    backfill_after_s: float = key(60.0, "rows that waited longer go by the backfill lane", 1.0, 864000, live=True)
    alarm_slots: int = key(2, "alarm batches in flight", 1, 16)
    live_slots: int = key(2, "live batches in flight", 1, 16)
    backfill_slots: int = key(4, "backfill batches in flight", 1, 16)
    connect_timeout_s: float = key(5.0, "time to connect", 0.1, 120, live=True)
    read_timeout_s: float = key(30.0, "silence that ends a request", 0.1, 600, live=True)
    backoff_base_s: float = key(
        0.5, "ceiling of the first wait after a failure; doubles each time", 0.01, 60, live=True
    )
    backoff_max_s: float = key(60.0, "ceiling of any wait after a failure", 0.01, 3600, live=True)

    @property
    def where(self) -> str:
        """The destination, for people."""
        return self.folder if self.type == "file" else self.url

    def wrong(self, beside: Callable[[str], Path]) -> Iterator[tuple[str, str]]:
        name, such_as = _DESTINATIONS[self.type]
        if not getattr(self, name):
            yield name, f"is missing: say where batches go, such as {such_as}"
        kind = _SCHEMES[self.url.partition(":")[0]] if self.url else self.type
        for key_, kind_ in (("url", kind), ("folder", "file" if self.folder else self.type)):
            if kind_ != self.type:
                yield key_, f'is for type "{kind_}", this sink is type "{self.type}"'
        if self.key_file and not self.cert_file:
            yield "key_file", "is given without cert_file"
        for name in ("token_file", "ca_file", "cert_file", "key_file", "proxy_login_file"):
            value = getattr(self, name)
            if value and (name != "key_file" or self.cert_file) and not beside(value).is_file():
                yield name, f"is {value!r}: there is no file {beside(value)}"
