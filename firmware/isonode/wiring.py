"""What hangs on the board's pins, out of /config.json: sensors with their channels, and alarm outputs.

Part of config.py, which loads it once per boot. Knows what each kind needs (pins, addresses) and which pins can be
shared; touches none.
"""

from isonode.checks import PIN_MAX, boolean, entries, hexadecimal, integer, keys, text
from isonode.errors import ConfigError
from isonode.settings import Actuator, Channel, Sensor

CHANNELS_MAX = 8
UNITS = {"temperature": "degC", "humidity": "%RH"}
ALARMS = ("high", "low", "rate")
_BOTH = ("temperature", "humidity")
_ONLY = ("temperature",)

# kind: (quantities, I2C addresses; the first is the default)
SENSOR_KINDS = {
    "dht22": (_BOTH, None),
    "dht11": (_BOTH, None),
    "ds18b20": (_ONLY, None),
    "chip": (_ONLY, None),
    "sht3x": (_BOTH, (0x44, 0x45)),  # SHT3x-DIS, table 8
    "sht4x": (_BOTH, (0x44, 0x45, 0x46)),  # SHT4x: A, B and C types
    "bme280": (_BOTH, (0x76, 0x77)),  # section 6.2: SDO low, SDO high
    "tmp102": (_ONLY, (0x48, 0x49, 0x4A, 0x4B)),  # ADD0 on ground, supply, SDA, SCL
    "tmp117": (_ONLY, (0x48, 0x49, 0x4A, 0x4B)),
}


def parse(config, data):
    """Set channels, sensors and actuators of `config` from the decoded file. Raises ConfigError naming the field."""
    used = {}
    if config.strobe_pin is not None:
        used[config.strobe_pin] = "sampling.strobe_pin"
    config.channels = []
    config.sensors = _sensors(data.get("sensors"), config.channels, used)
    config.actuators = _actuators(data.get("actuators", []), config.channels, used)


def _pin(where, value, used, use=None):
    """A pin's number; it may be shared only for the very same `use`."""
    pin = integer(where, value, 0, PIN_MAX)
    if used.get(pin, use) != use or (pin in used and use is None):
        raise ConfigError(where, "pin %d is taken already by %s" % (pin, used[pin]))
    used[pin] = use or where
    return pin


# ---- sensors


def _sensors(data, channels, used):
    sensors = []
    on_bus = set()
    for i, item in enumerate(entries("sensors", data, 1, CHANNELS_MAX)):
        where = "sensors.%d" % i
        sensor = _sensor(where, item, channels, used)
        if sensor.address is not None:
            place = (sensor.scl, sensor.sda, sensor.address)
            if place in on_bus:
                raise ConfigError(where + ".address", "0x%02x is taken already on this bus" % sensor.address)
            on_bus.add(place)
        elif sensor.rom is not None:
            if sensor.rom in on_bus:
                raise ConfigError(where + ".rom", "is given twice")
            on_bus.add(sensor.rom)
        sensors.append(sensor)
    if len(channels) > CHANNELS_MAX:
        raise ConfigError("sensors", "more than %d channels" % CHANNELS_MAX)
    return sensors


def _sensor(where, item, channels, used):
    if not isinstance(item, dict):
        raise ConfigError(where, "must be an object")
    kind = item.get("type")
    if kind not in SENSOR_KINDS:
        raise ConfigError(where + ".type", "must be one of " + ", ".join(sorted(SENSOR_KINDS)))
    quantities, addresses = SENSOR_KINDS[kind]
    own = ("scl", "sda", "address") if addresses else ("pin", "rom") if kind == "ds18b20" else ("pin",)
    if kind == "chip":
        own = ()
    keys(where, item, ("type", "channels") + own)
    sensor = Sensor(kind, None, None, None)
    if addresses:
        sensor.scl = _pin(where + ".scl", item.get("scl"), used, "an I2C clock")
        sensor.sda = _pin(where + ".sda", item.get("sda"), used, "I2C data")
        sensor.address = _address(where + ".address", item.get("address", addresses[0]), addresses)
    elif kind == "ds18b20":
        sensor.pin = _pin(where + ".pin", item.get("pin"), used, "a 1-Wire bus")
        rom = item.get("rom")
        sensor.rom = None if rom is None else hexadecimal(where + ".rom", rom, 8)
    elif kind != "chip":
        sensor.pin = _pin(where + ".pin", item.get("pin"), used)
    sensor.channels = _channels(where + ".channels", item.get("channels", {}), quantities, channels)
    return sensor


def _channels(where, wanted, quantities, channels):
    keys(where, wanted, quantities)
    numbers = {}
    for quantity in quantities:
        if quantity not in wanted:
            continue
        name = text(where + "." + quantity, wanted[quantity], 1)
        for channel in channels:
            if channel.name == name:
                raise ConfigError(where + "." + quantity, "names a channel twice: " + name)
        numbers[quantity] = len(channels)
        channels.append(Channel(name, quantity, UNITS[quantity]))
    if not numbers:
        raise ConfigError(where, "must name at least one channel")
    return numbers


def _address(where, value, allowed):
    """An I2C address, as a number or as "0x44"; JSON has no hexadecimal numbers."""
    number = value
    if isinstance(value, str):
        try:
            number = int(value, 16)
        except ValueError:
            number = None
    if isinstance(number, bool) or number not in allowed:
        raise ConfigError(where, "must be one of " + ", ".join(["0x%02x" % one for one in allowed]))
    return number


# ---- alarm outputs

_OUTPUT_KEYS = (
    "type",
    "pin",
    "channel",
    "on",
    "active",
    "safe",
    "latching",
    "release_pin",
    "release_level",
    "blink_ms",
)


def _actuators(data, channels, used):
    actuators = []
    for i, item in enumerate(entries("actuators", data, 0, 8)):
        where = "actuators.%d" % i
        keys(where, item, _OUTPUT_KEYS)
        kind = item.get("type")
        if kind not in ("relay", "led", "buzzer"):
            raise ConfigError(where + ".type", "must be relay, led or buzzer")
        pin = _pin(where + ".pin", item.get("pin"), used)
        number = -1
        for at, channel in enumerate(channels):
            if channel.name == item.get("channel"):
                number = at
        if number < 0:
            raise ConfigError(where + ".channel", "is none of the sensors' channels")
        on = entries(where + ".on", item.get("on", ["high", "low"]), 1, len(ALARMS))
        for name in on:
            if name not in ALARMS:
                raise ConfigError(where + ".on", "may hold " + ", ".join(ALARMS))
        active = integer(where + ".active", item.get("active", 1), 0, 1)
        safe = integer(where + ".safe", item.get("safe", 0), 0, 1)
        made = Actuator(kind, pin, number, on, active, safe)
        made.latching = boolean(where + ".latching", item.get("latching", False))
        if "release_pin" in item:
            made.release_pin = _pin(where + ".release_pin", item["release_pin"], used, "a release button")
        if "release_level" in item and made.release_pin is None:
            raise ConfigError(where + ".release_level", "stands without release_pin")
        made.release_level = integer(where + ".release_level", item.get("release_level", 0), 0, 1)
        if made.release_pin is not None and not made.latching and kind != "buzzer":
            raise ConfigError(where + ".release_pin", "is only for latching outputs and for buzzers")
        made.blink_ms = integer(where + ".blink_ms", item.get("blink_ms", 0), 0, 60000)
        if made.blink_ms and kind == "relay":
            raise ConfigError(where + ".blink_ms", "is not for a relay: it would wear out")
        if 0 < made.blink_ms < 50:
            raise ConfigError(where + ".blink_ms", "must be 0 or between 50 and 60000")
        actuators.append(made)
    return actuators
