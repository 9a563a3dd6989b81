"""[local] and [local.sensors.NAME]: what is wired to the gateway's own board. Declarations only."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from gateway.config.keys import family, key, one_of

SENSORS_INTRO = """\
Sensors on the gateway's own pins, a table each. They need the packages of the extra `pi`, which `make install` brings
on a Raspberry Pi. The processor's own temperature:

    [local.sensors.cpu]
    kind = "cpu"
"""
# Which package a kind of sensor is read through.
_PACKAGES = {"cpu": "gpiozero", "dht22": "adafruit_dht", "ds18b20": None}
_PIN_MAX = 27  # BCM numbers on the 40-pin header
_CHANNEL = "[a-z0-9-]{1,20}"


def _w1_id(value: str) -> str | None:
    fine = not value or re.fullmatch(r"(?:22|28)-[0-9a-f]{12}", value)
    return None if fine else "must be a name in w1_folder such as 28-0316a2793fff"


def _public_key(value: str) -> str | None:
    fine = re.fullmatch("[0-9a-f]{128}", value)
    return None if fine else "must be 128 hexadecimal digits: x and y of a P-256 public key"


@dataclass(frozen=True)
class SensorConfig:
    """[local.sensors.NAME]"""

    kind: str = key("", "cpu, dht22 or ds18b20", check=one_of(tuple(_PACKAGES)), required=True)
    pin: int = key(-1, "dht22: BCM number of the pin its data line is at", -1, _PIN_MAX)
    pulseio: bool = key(False, "dht22: time its pulses in a helper process of Adafruit Blinka's instead of in this one")
    id: str = key("", 'ds18b20: its name in w1_folder, such as 28-0316a2793fff; "": the only one there', check=_w1_id)

    def wrong(self, beside: Callable[[str], Path]) -> Iterator[tuple[str, str]]:
        if self.kind == "dht22" and self.pin < 0:
            yield "pin", "is missing: say at which pin (BCM number) the data line is, such as 4"
        package = _PACKAGES[self.kind]
        if package and find_spec(package) is None:
            yield (
                "kind",
                f"{self.kind} needs the package {package}, which is not here: install the extra isotherm[pi]",
            )


@dataclass(frozen=True)
class LocalConfig:
    """[local]"""

    period_s: float = key(10.0, "time between two rounds of readings; a DHT22 needs 2 s", 2.0, 3600)
    read_timeout_s: float = key(5.0, "time after which a sensor that does not answer is a fault", 1.0, 60)
    fleet: str = key("", 'fleet whose threshold models are taken; "": none is')
    model_keys: tuple[str, ...] = key((), "public keys that may sign models", check=_public_key, several_max=8)
    trial_samples: int = key(20, "good samples after which a new model is kept", 1, 10000, unit="samples")
    w1_folder: str = key("/sys/bus/w1/devices", "where the kernel shows 1-Wire devices")
    cpu_file: str = key("/sys/class/thermal/thermal_zone0/temp", "where the kernel shows the processor's temperature")
    sensors: dict[str, SensorConfig] = family(SENSORS_INTRO, name=_CHANNEL, what="a sensor's name")

    def wrong(self, beside: Callable[[str], Path]) -> Iterator[tuple[str, str]]:
        if bool(self.fleet) != bool(self.model_keys):
            yield "fleet", "and model_keys belong together: give both, or neither"
        taken: dict[tuple[str, object], str] = {}
        for name, sensor in self.sensors.items():
            where = (sensor.kind, sensor.pin if sensor.kind == "dht22" else sensor.id)
            if where in taken:
                yield "sensors", f"{name} and {taken[where]} are the same {sensor.kind}"
            taken[where] = name
