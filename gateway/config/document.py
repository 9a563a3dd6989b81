"""The whole configuration: its sections, reading it, and what one section alone cannot show to be wrong."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.config import offload as offload_
from gateway.config import rules as rules_
from gateway.config import sinks as sinks_
from gateway.config import third_party as third_party_
from gateway.config import upload as upload_
from gateway.config.base import (
    BrokerAccessConfig,
    GatewayConfig,
    IngestConfig,
    LogConfig,
    MetricsConfig,
    MqttConfig,
    MqttSessionConfig,
    StoreConfig,
)
from gateway.config.check import FAULTS_MAX, Checker
from gateway.config.keys import family, section
from gateway.config.local import LocalConfig
from gateway.config.offload import AnalysisConfig, OffloadConfig
from gateway.config.rules import OutputConfig, RuleConfig
from gateway.config.sinks import SinkConfig
from gateway.config.third_party import ThirdPartyConfig
from gateway.config.upload import UploadConfig, WindowsConfig
from gateway.errors import ConfigError

_SESSION = """\
The connection that third-party devices' messages come by. A broker that takes fleet certificates only has no place for
them: give them one of their own, on this machine or with TLS."""
_ACCESS = """\
Who may use the broker beside this gateway: the fleet's signed lists are put in force as they come, so that a node can
be revoked at once."""


@dataclass(frozen=True)
class Config:
    """All of it, checked. A line here is a section of the file."""

    path: Path
    gateway: GatewayConfig = section(GatewayConfig)
    mqtt: MqttConfig = section(MqttConfig)
    mqtt_session: MqttSessionConfig = section(MqttSessionConfig, _SESSION)
    broker_access: BrokerAccessConfig = section(BrokerAccessConfig, _ACCESS)
    ingest: IngestConfig = section(IngestConfig)
    store: StoreConfig = section(StoreConfig)
    metrics: MetricsConfig = section(MetricsConfig)
    log: LogConfig = section(LogConfig)
    local: LocalConfig = section(LocalConfig)
    third_party: dict[str, ThirdPartyConfig] = family(third_party_.INTRO, what="a third-party table's name")
    windows: WindowsConfig = section(WindowsConfig)
    analyses: dict[str, AnalysisConfig] = family(
        offload_.ANALYSES_INTRO, name="[a-z0-9_-]{1,32}", what="an analysis' name", live=True
    )
    offload: OffloadConfig = section(OffloadConfig, offload_.OFFLOAD_INTRO)
    rules: dict[str, RuleConfig] = family(rules_.RULES_INTRO, name="[a-z0-9_-]{1,32}", what="a rule's name", live=True)
    outputs: dict[str, OutputConfig] = family(rules_.OUTPUTS_INTRO, what="an output's name")
    upload: dict[str, UploadConfig] = family(upload_.INTRO, what="a policy's name", live=True)
    sinks: dict[str, SinkConfig] = family(sinks_.INTRO, what="a sink's name")

    @property
    def data_dir(self) -> Path:
        """gateway.data_dir, absolute."""
        return self.beside(self.gateway.data_dir)

    @property
    def store_path(self) -> Path:
        return self.data_dir / self.store.file

    @property
    def address_path(self) -> Path:
        """Where the daemon writes the address of its status page."""
        return self.data_dir / "status.address"

    @property
    def starts_path(self) -> Path:
        """Where the daemon counts its starts."""
        return self.data_dir / "starts"

    @property
    def session_path(self) -> Path:
        """Where the daemon notes what the broker's session holds for third-party devices."""
        return self.data_dir / "session.json"

    @property
    def control_path(self) -> Path:
        """The socket over which commands ask the daemon for changes."""
        return self.data_dir / "control.sock"

    @property
    def client_id(self) -> str:
        return self.mqtt.client_id or f"isotherm-gateway-{self.gateway.id}"

    @property
    def device_id(self) -> str:
        """Under which name the gateway's own records go."""
        return self.gateway.device or self.gateway.id

    @property
    def session_broker(self) -> MqttConfig | MqttSessionConfig:
        """The broker of third-party devices."""
        return self.mqtt_session if self.mqtt_session.host else self.mqtt

    @property
    def session_id(self) -> str:
        """Client id of the persistent session that third-party devices' messages wait in."""
        return f"{self.client_id}-session"

    def wrong(self, beside: Callable[[str], Path]) -> Iterator[tuple[str, str]]:
        for name, rule in self.rules.items():
            if not rule.type and name not in rules_.WAITS:
                yield f"rules.{name}.type", f"is missing: {name} is no type, give one of {', '.join(rules_.WAITS)}"
        yield from self._analyses_wrong()
        if self.third_party and self.mqtt.cert_file and not self.mqtt_session.host:
            yield "mqtt_session.host", "is missing: third-party devices cannot use a broker that asks for certificates"

    def _analyses_wrong(self) -> Iterator[tuple[str, str]]:
        if self.offload.sink and self.offload.sink not in self.sinks:
            yield "offload.sink", f"is {self.offload.sink!r}, which is no sink of this file"
        for name, analysis in self.analyses.items():
            where = f"analyses.{name}"
            if analysis.length_s not in self.windows.lengths_s:
                yield f"{where}.length_s", f"is {analysis.length_s}, it must be one of windows.lengths_s"
            if analysis.look_back_s + 86400 > self.windows.keep_days * 86400:
                days = -(-analysis.look_back_s // 86400) + 1
                yield f"{where}.length_s", f"looks back {days - 1} days: windows.keep_days must be {days} or more"
            if analysis.place == "cloud" and not self.offload_sink:
                yield f"{where}.place", "is cloud, and there is no https sink to send it to"

    @property
    def offload_sink(self) -> str | None:
        """The sink whose receiver runs analyses."""
        found = [name for name, sink in self.sinks.items() if sink.url.startswith("http")]
        if self.offload.sink:
            return self.offload.sink if self.offload.sink in found else None
        return found[0] if found else None

    def beside(self, name: str) -> Path:
        """A path as the configuration file means it."""
        return (self.path.parent / name).absolute()


def load(path: Path) -> Config:
    """Read and check a configuration file. Raises ConfigError with a sentence for each mistake."""
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
    """Check a TOML document. Raises ConfigError with every mistake, a line each."""
    checker = Checker(lambda name: (path.parent / name).absolute())
    config: Config = checker.section("", Config, dict(document), path=path.absolute())
    faults = checker.faults
    if faults:
        more = [f"{len(faults) - FAULTS_MAX} more mistakes"] if len(faults) > FAULTS_MAX else []
        raise ConfigError("\n".join(f"{path}: {fault}" for fault in faults[:FAULTS_MAX] + more))
    return config
