"""The part of app.py for what the gateway itself speaks for: its own sensors, and third-party devices."""

from __future__ import annotations

from gateway.config import Config
from gateway.describe import channels_of
from gateway.ingest import Ingest
from gateway.inputs import Input, Inputs
from gateway.local.stage import Local
from gateway.metrics import Metrics
from gateway.mqtt import BrokerLink
from gateway.own import Own, start_number
from gateway.store import Reader
from gateway.third_party.stage import ThirdParty, end_session


class OwnInputs:
    """`open` once the store is; `inputs` are empty before."""

    def __init__(self, config: Config, own: Own, metrics: Metrics, link: BrokerLink) -> None:
        self._config = config
        self._own = own
        self._metrics = metrics
        self._link = link
        self._reader: Reader | None = None
        self._local: Local | None = None
        self.inputs = Inputs()

    def open(self, ingest: Ingest) -> None:
        """Tell of the devices that the store knows, which are boards' or the gateway's own, and make the inputs."""
        config = self._config
        reader = self._reader = Reader(config.store_path)
        devices = reader.known()
        known = {name: meta or {} for name, (own, meta) in devices.items() if own}
        ingest.begin(name for name, (own, _) in devices.items() if not own)
        self._own.begin(
            start_number(config.starts_path), {name: channels_of(meta) or () for name, meta in known.items()}
        )
        inputs: list[Input] = []
        if config.local.sensors:
            self._local = Local(config, self._own, self._metrics, self._link)
            inputs.append(self._local)
        if config.third_party:
            inputs.append(ThirdParty(config, self._own, self._metrics, known, lambda device: device in reader.known()))
        else:
            end_session(config)
        self.inputs = Inputs(inputs)

    def offer(self, device: str, container: bytes) -> None:
        """A model came for a device of the gateway's own."""
        if self._local is not None:
            self._local.offer(device, container)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
