"""The sections that every gateway has: who it is, its broker, its store, how it is watched.

Declarations only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.config.keys import is_loopback, key, listen_address, matching, one_of

LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class GatewayConfig:
    """[gateway]"""

    id: str = key(
        "gw-1", "name of this gateway; with the batch number it identifies a batch", check=matching("[a-z0-9-]{1,32}")
    )
    data_dir: str = key("/var/lib/isotherm", "folder of the store; relative paths start at the configuration file")
    device: str = key(
        "", 'device id of what the gateway itself measures and decides; "" is id', check=matching("|[a-z0-9-]{1,32}")
    )


@dataclass(frozen=True)
class MqttConfig:
    """[mqtt]"""

    host: str = key("127.0.0.1", "broker; without TLS a loopback address")
    port: int = key(1883, "broker's port; 8883 is usual with TLS", 1, 65535)
    ca_file: str = key("", 'PEM file of the fleet\'s authority, which turns TLS on; "": no TLS')
    cert_file: str = key("", "PEM file with this gateway's certificate")
    key_file: str = key("", 'PEM file with its private key; "": it is in cert_file')
    client_id: str = key("", 'client id; "" is isotherm-gateway-ID')
    keepalive_s: int = key(20, "silence after which the broker is probed", 2, 3600)
    backoff_max_s: float = key(10.0, "longest wait between two attempts to connect", 0.1, 600)

    def wrong(self, beside: Callable[[str], Path]) -> Iterator[tuple[str, str]]:
        yield from _broker_wrong(self.host, self.ca_file, self.cert_file, self.key_file, beside)


@dataclass(frozen=True)
class MqttSessionConfig:
    """[mqtt_session]"""

    host: str = key("", 'broker of third-party devices; "": that of [mqtt]')
    port: int = key(1883, "its port, where host is given", 1, 65535)
    ca_file: str = key("", 'PEM file of an authority, which turns TLS on; "": no TLS')
    cert_file: str = key("", 'PEM file with a client certificate; "": none')
    key_file: str = key("", 'PEM file with its private key; "": it is in cert_file')

    def wrong(self, beside: Callable[[str], Path]) -> Iterator[tuple[str, str]]:
        if self.host:
            yield from _broker_wrong(self.host, self.ca_file, self.cert_file, self.key_file, beside)
        elif self.ca_file or self.cert_file or self.key_file:
            yield "host", "is missing: files for TLS are given"


def _broker_wrong(
    host: str, ca_file: str, cert_file: str, key_file: str, beside: Callable[[str], Path]
) -> Iterator[tuple[str, str]]:
    if not ca_file and not is_loopback(host):
        yield "host", f"is {host!r}, it must be a loopback address: a broker elsewhere needs TLS (ca_file)"
    if cert_file and not ca_file:
        yield "ca_file", "is missing: cert_file is given"
    if key_file and not cert_file:
        yield "cert_file", "is missing: key_file is given"
    for name, value in (("ca_file", ca_file), ("cert_file", cert_file), ("key_file", key_file)):
        if value and not beside(value).is_file():
            yield name, f"names {beside(value)}, which is no file"


@dataclass(frozen=True)
class BrokerAccessConfig:
    """[broker_access]"""

    folder: str = key("", 'folder of acl and crl.pem that the broker beside this gateway reads; "": not ours to keep')
    fleet: str = key("home", "name of the fleet", check=matching("[a-z0-9-]{1,32}"))
    root_key: str = key("", "the fleet's root key, as `isotherm keys show` prints it", check=matching("|[0-9a-f]{128}"))
    pid_file: str = key("", 'file with the broker\'s process id, which gets SIGHUP; "": `command` is run')
    command: tuple[str, ...] = key((), 'what has the broker read them, such as ["systemctl", "reload", "mosquitto"]')

    def wrong(self, beside: Callable[[str], Path]) -> Iterator[tuple[str, str]]:
        if not self.folder:
            return
        if not beside(self.folder).is_dir():
            yield "folder", f"names {beside(self.folder)}, which is no folder"
        if not self.root_key:
            yield "root_key", "is missing: whose word counts must be said"
        if bool(self.pid_file) == bool(self.command):
            yield "pid_file", "or command must be given, and only one: the broker must be told of changes"


@dataclass(frozen=True)
class IngestConfig:
    """[ingest]"""

    json_bytes_max: int = key(8192, "largest meta, health or model/state", 256, 1048576, live=True)
    devices_max: int = key(
        5000,
        "boards that the store may know; what comes from further ids is refused",
        1,
        1000000,
        unit="devices",
        live=True,
    )
    full_wait_s: float = key(
        5.0, "how long a full queue stops the reading before a message is dropped", 0.0, 60, live=True
    )


@dataclass(frozen=True)
class StoreConfig:
    """[store]"""

    file: str = key("isotherm.db", "database file in data_dir")
    queue_rows: int = key(20000, "rows that may wait for the writer", 100, 10000000)
    commit_rows: int = key(2000, "rows in one transaction at most", 1, 100000)
    commit_ms: int = key(10, "wait for more rows before a commit; 0: none. Events never wait", 0, 1000)
    check_ms: int = key(500, "time for the integrity check at start", 1, 600000)
    max_mib: int = key(4096, "what the store may take on the disk; 0: no bound", 0, 1048576, unit="MiB")
    max_days: float = key(0.0, "age at which readings leave, uploaded or not; 0: no bound", 0.0, 36500)
    uploaded_days: float = key(7.0, "how long readings stay after every sink has them", 0.0, 36500)
    thin_window_s: int = key(900, "windows that old readings are thinned to when room runs out", 60, 86400)
    segment_rows: int = key(50000, "rows of a segment file", 1000, 1000000)
    segment_age_s: float = key(86400.0, "time after which fewer rows make a segment", 60.0, 31536000)
    segment_check_s: float = key(5.0, "time between two checks of a segment file", 0.1, 86400)
    reserve_mib: int = key(4, "room kept to record state when the disk is full; 0: none", 0, 1024, unit="MiB")

    def wrong(self, beside: Callable[[str], Path]) -> Iterator[tuple[str, str]]:
        if "/" in self.file or self.file in ("", ".", ".."):
            yield "file", "must be a file name without a folder: the folder is gateway.data_dir"
        least = 64 + self.reserve_mib
        if 0 < self.max_mib < least:
            yield "max_mib", f"must be 0 or at least {least}: main file, its log and the reserve need that"


@dataclass(frozen=True)
class MetricsConfig:
    """[metrics]"""

    listen: str = key(
        "127.0.0.1:9464", 'address of /metrics and /status; port 0: any free one; "": off', check=listen_address
    )


@dataclass(frozen=True)
class LogConfig:
    """[log]"""

    level: str = key("info", "debug, info, warning or error", check=one_of(LOG_LEVELS), live=True)
