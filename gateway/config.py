"""The configuration: TOML in, checked values out. Every key has a default, a unit in its name and a range.

The tables below are the one definition; docs/gateway.md lists them, which a test checks. Unknown keys are refused with
the nearest known one. It starts nothing and opens nothing but the file.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.errors import ConfigError
from gateway.wire import ENCODINGS

_ID = re.compile(r"[a-z0-9-]{1,32}")
_SINK_NAME = re.compile(r"[a-z0-9_]{1,32}")
LOG_LEVELS = ("debug", "info", "warning", "error")


def _key(default: Any, text: str, low: float | None = None, high: float | None = None, check: Any = None) -> Any:
    """A configuration key. `low` and `high` bound a number; `check` returns what is wrong with a string, or None."""
    return field(default=default, metadata={"help": text, "low": low, "high": high, "check": check})


def _check_id(value: str) -> str | None:
    return None if _ID.fullmatch(value) else "must match [a-z0-9-]{1,32}"


def _check_listen(value: str) -> str | None:
    if not value:
        return None
    host, _, port = value.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        return 'must be "" or "127.0.0.1:PORT"'
    return None if is_loopback(host) else "must be a loopback address: metrics and status are for this machine only"


def _check_url(value: str) -> str | None:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as exc:
        return f"is no URL: {exc}"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        return "must be https://HOST[:PORT][/PATH], or http:// for a loopback address"
    if parts.username or parts.password:
        return "must not contain credentials: use token_file"
    if parts.query or parts.fragment:
        return "must have neither query nor fragment"
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        return "must be https: plain http is for a loopback address only"
    return None


def _one_of(names: tuple[str, ...]) -> Callable[[str], str | None]:
    return lambda value: None if value in names else f"must be one of {', '.join(names)}"


def is_loopback(host: str) -> bool:
    """True for localhost and loopback addresses."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class GatewayConfig:
    """[gateway]"""

    id: str = _key("gw-1", "name of this gateway; with the batch number it identifies a batch", check=_check_id)
    data_dir: str = _key("/var/lib/isotherm", "folder of the store; relative paths start at the configuration file")


@dataclass(frozen=True)
class MqttConfig:
    """[mqtt]"""

    host: str = _key("127.0.0.1", "broker; without TLS a loopback address")
    port: int = _key(1883, "broker's port", 1, 65535)
    client_id: str = _key("", 'client id; "" is isotherm-gateway-ID')
    keepalive_s: int = _key(20, "silence after which the broker is probed", 2, 3600)
    backoff_max_s: float = _key(10.0, "longest wait between two attempts to connect", 0.1, 600)


@dataclass(frozen=True)
class IngestConfig:
    """[ingest]"""

    json_bytes_max: int = _key(8192, "largest meta, health or model/state", 256, 1048576)
    full_wait_s: float = _key(5.0, "how long a full queue stops the reading before a message is dropped", 0.0, 60)


@dataclass(frozen=True)
class StoreConfig:
    """[store]"""

    file: str = _key("isotherm.db", "database file in data_dir")
    queue_rows: int = _key(20000, "rows that may wait for the writer", 100, 10000000)
    commit_rows: int = _key(2000, "rows in one transaction at most", 1, 100000)
    commit_ms: int = _key(10, "wait for more rows before a commit; 0: none. Events never wait", 0, 1000)
    check_ms: int = _key(500, "time for the integrity check at start", 1, 600000)


@dataclass(frozen=True)
class MetricsConfig:
    """[metrics]"""

    listen: str = _key(
        "127.0.0.1:9464", 'address of /metrics and /status; port 0: any free one; "": off', check=_check_listen
    )


@dataclass(frozen=True)
class LogConfig:
    """[log]"""

    level: str = _key("info", "debug, info, warning or error", check=_one_of(LOG_LEVELS))


@dataclass(frozen=True)
class SinkConfig:
    """[sinks.NAME]"""

    type: str = _key("https", "kind of sink", check=_one_of(("https", "file")))
    url: str = _key("", "https: where batches go: URL/v1/batches", check=_check_url)
    folder: str = _key("", "file: where NDJSON files go; it must exist")
    token_file: str = _key("", 'file with a bearer token; "": none')
    ca_file: str = _key("", "PEM file of authorities to trust instead of the system's; \"\": the system's")
    compression: str = _key("auto", "auto, zstd or gzip", check=_one_of(ENCODINGS))
    live_rows: int = _key(1000, "rows of a live or alarm batch at most", 1, 20000)
    live_age_s: float = _key(10.0, "age at which live rows go up however few they are", 0.0, 86400)
    backfill_rows: int = _key(5000, "rows of a backfill batch at most", 1, 20000)
    backfill_after_s: float = _key(60.0, "rows that waited longer go by the backfill lane", 1.0, 864000)
    alarm_slots: int = _key(2, "alarm batches in flight", 1, 16)
    live_slots: int = _key(2, "live batches in flight", 1, 16)
    backfill_slots: int = _key(4, "backfill batches in flight", 1, 16)
    connect_timeout_s: float = _key(5.0, "time to connect", 0.1, 120)
    read_timeout_s: float = _key(30.0, "silence that ends a request", 0.1, 600)
    backoff_base_s: float = _key(0.5, "ceiling of the first wait after a failure; doubles each time", 0.01, 60)
    backoff_max_s: float = _key(60.0, "ceiling of any wait after a failure", 0.01, 3600)

    @property
    def where(self) -> str:
        """The destination, for people."""
        return self.folder if self.type == "file" else self.url


SECTIONS: dict[str, type[Any]] = {
    "gateway": GatewayConfig,
    "mqtt": MqttConfig,
    "ingest": IngestConfig,
    "store": StoreConfig,
    "metrics": MetricsConfig,
    "log": LogConfig,
}


@dataclass(frozen=True)
class Config:
    """All of it, checked."""

    path: Path
    gateway: GatewayConfig
    mqtt: MqttConfig
    ingest: IngestConfig
    store: StoreConfig
    metrics: MetricsConfig
    log: LogConfig
    sinks: dict[str, SinkConfig]

    @property
    def data_dir(self) -> Path:
        """gateway.data_dir, absolute."""
        return (self.path.parent / self.gateway.data_dir).absolute()

    @property
    def store_path(self) -> Path:
        return self.data_dir / self.store.file

    @property
    def address_path(self) -> Path:
        """Where the daemon writes the address of its status page."""
        return self.data_dir / "status.address"

    @property
    def control_path(self) -> Path:
        """The socket over which commands ask the daemon for changes."""
        return self.data_dir / "control.sock"

    @property
    def client_id(self) -> str:
        return self.mqtt.client_id or f"isotherm-gateway-{self.gateway.id}"

    def beside(self, name: str) -> Path:
        """A path as the configuration file means it."""
        return (self.path.parent / name).absolute()


def load(path: Path) -> Config:
    """Read and check a configuration file. Raises ConfigError with one sentence."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read ({exc.strerror}); give the file with --config") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: is not UTF-8 text") from exc
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{path}: is not TOML: {exc}") from exc
    return parse(path, document)


def parse(path: Path, document: Mapping[str, Any]) -> Config:
    """Check a TOML document."""
    _refuse_unknown(path, "", document, [*SECTIONS, "sinks"])
    sections = {name: _section(path, name, kind, document.get(name, {})) for name, kind in SECTIONS.items()}
    sinks = document.get("sinks", {})
    if not isinstance(sinks, dict):
        raise ConfigError(f"{path}: sinks must hold tables such as [sinks.cloud]")
    checked = {}
    for name, table in sinks.items():
        if not _SINK_NAME.fullmatch(name):
            raise ConfigError(f"{path}: sinks.{name}: a sink's name must match [a-z0-9_]{{1,32}}")
        checked[name] = sink = _section(path, f"sinks.{name}", SinkConfig, table)
        _check_destination(path, name, sink)
    config = Config(path=path.absolute(), sinks=checked, **sections)
    _check_whole(path, config)
    return config


def _check_destination(path: Path, name: str, sink: SinkConfig) -> None:
    where = {"https": ("url", "https://cloud.example"), "file": ("folder", "/media/readings")}
    for kind, (key, such_as) in where.items():
        value = getattr(sink, key)
        if kind == sink.type and not value:
            raise ConfigError(f"{path}: sinks.{name}.{key} is missing: say where batches go, such as {such_as}")
        if kind != sink.type and value:
            raise ConfigError(f'{path}: sinks.{name}.{key} is for type "{kind}", this sink is type "{sink.type}"')


def _check_whole(path: Path, config: Config) -> None:
    if "/" in config.store.file or config.store.file in ("", ".", ".."):
        raise ConfigError(f"{path}: store.file must be a file name without a folder: the folder is gateway.data_dir")
    if not is_loopback(config.mqtt.host):
        raise ConfigError(f"{path}: mqtt.host must be a loopback address: a broker elsewhere needs TLS")
    for name, sink in config.sinks.items():
        for key in ("token_file", "ca_file"):
            value = getattr(sink, key)
            if value and not config.beside(value).is_file():
                raise ConfigError(f"{path}: sinks.{name}.{key}: there is no file {config.beside(value)}")


def _section(path: Path, name: str, kind: type[Any], table: Any) -> Any:
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: {name} must be a table: [{name}]")
    known = {f.name: f for f in fields(kind)}
    _refuse_unknown(path, f"{name}.", table, list(known))
    return kind(**{key: _value(path, f"{name}.{key}", known[key], value) for key, value in table.items()})


def _refuse_unknown(path: Path, prefix: str, table: Mapping[str, Any], known: list[str]) -> None:
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known are {', '.join(known)}"
            raise ConfigError(f"{path}: unknown key {prefix}{key}: {hint}")


def _value(path: Path, name: str, spec: Any, value: Any) -> Any:
    wanted = type(spec.default)
    meta = spec.metadata
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not wanted:
        kinds = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}
        raise ConfigError(f"{path}: {name} must be {kinds[wanted]}, not {value!r}")
    if meta["low"] is not None and not meta["low"] <= value <= meta["high"]:  # false for NaN as well
        raise ConfigError(f"{path}: {name} is {value}, it must be {meta['low']} to {meta['high']}")
    if isinstance(value, str) and "\0" in value:
        raise ConfigError(f"{path}: {name} contains a NUL character")
    if meta["check"] is not None:
        wrong = meta["check"](value)
        if wrong:
            raise ConfigError(f"{path}: {name} is {value!r}, it {wrong}")
    return value
