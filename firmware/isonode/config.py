"""/config.json into checked settings, or one ConfigError that names the field.

Knows the format and nothing of the hardware; touches no pin. Unknown keys are refused, so that a misspelt one is not
silently ignored. What hangs on the pins is read by wiring.py. Needed once per boot: the application forgets these
modules afterwards, so what lives on is in settings.py.
"""

import json

from isocore.topics import is_device_id
from isonode import goodconfig, lazy
from isonode.checks import PIN_MAX as _PIN_MAX
from isonode.checks import entries as _list
from isonode.checks import hexadecimal as _hex
from isonode.checks import integer as _integer
from isonode.checks import is_address as _is_address
from isonode.checks import is_name as _is_name
from isonode.checks import keys as _keys
from isonode.checks import text as _text
from isonode.errors import ConfigError
from isonode.settings import Settings, Tls

PATH = "/config.json"
_BYTES_MAX = 16777216

# name: (lowest, highest, default)
LINK_FIELDS = {
    "keepalive_s": (5, 3600, 30),
    "window": (1, 16, 4),  # frames in flight
    "linger_ms": (0, 3600000, 500),  # how long a report may wait for company, on the network's clock
    "ack_timeout_ms": (100, 600000, 3000),
    "backoff_max_ms": (100, 3600000, 60000),
    "connect_timeout_ms": (100, 120000, 10000),
}
OUTBOX_FIELDS = {
    "ram_records": (4, 255, 64),
    "spill_records": (1, 127, 32),
    "spill_age_s": (1, 86400, 600),
    "segment_bytes": (4096, 1048576, 4096),
    "capacity_bytes": (12288, _BYTES_MAX, 262144),
}
OTHER_FIELDS = {
    "trial_samples": (1, 1000, 5),
    "trial_timeout_ms": (1000, 3600000, 300000),  # for the gateway's ack, on the network's clock
    "watchdog_ms": (1000, 600000, 60000),
    "health_s": (10, 86400, 3600),
    "boot_base": (0, 0x3FFFFFFE, 0),  # boots are numbered above this (docs/adr/0006)
}
POWER_FIELDS = {
    "radio_s": (60, 86400, 3600),  # the radio is switched on at least so often: health, models, time
    "awake_s": (5, 300, 30),  # and for so long at most
}
_TOP = ("device", "class", "fleet", "board", "gateway", "wifi", "clock", "ntp", "power", "sampling")
_TOP = _TOP + ("sensors", "actuators", "model_keys", "root_key", "reading_key", "link", "outbox")
_READING_KEY_BYTES = 32


def load(path=PATH):
    """Read and check the file. Raises ConfigError."""
    try:
        with open(path) as file:
            text = file.read()
    except OSError:
        raise ConfigError("file", "is missing: provision the board")
    except ValueError:
        raise ConfigError("file", "is not UTF-8")
    try:
        return parse(json.loads(text))
    except ValueError:
        raise ConfigError("file", "is not JSON")


def load_any():
    """In safe mode: the file, or else the copy of the last one that a board ran well with. Raises ConfigError."""
    try:
        return load()
    except ConfigError as error:
        kept = goodconfig.load()
        if kept is None:
            raise error
        settings = parse(json.loads(kept))
        settings.config_error = str(error)
        return settings


def parse(data):
    """A decoded file into Settings. Raises ConfigError naming the field."""
    _keys("", data, _TOP + tuple(OTHER_FIELDS))
    config = Settings()
    config.config_error = None
    config.device = _device_id("device", data.get("device"))
    config.device_class = _device_id("class", data.get("class", "default"))
    config.fleet = _device_id("fleet", data.get("fleet", "default"))
    config.board = _text("board", data.get("board", ""))
    gateway = data.get("gateway")
    _keys("gateway", gateway, ("host", "fallback", "port", "user", "password", "tls"))
    config.host = _text("gateway.host", gateway.get("host"), 1)
    config.named, config.fallback = _whereabouts(config.host, gateway.get("fallback"))
    config.port = _integer("gateway.port", gateway.get("port", 1883), 1, 65535)
    config.tls = _tls(gateway.get("tls"), config.host)
    config.user = _text("gateway.user", gateway.get("user", "")) or None
    config.password = _text("gateway.password", gateway.get("password", ""))
    wifi = data.get("wifi", {})
    _keys("wifi", wifi, ("ssid", "password"))
    config.ssid = _text("wifi.ssid", wifi.get("ssid", ""))
    config.wifi_password = _text("wifi.password", wifi.get("password", ""))
    _clock(config, data.get("clock", "gateway"), data.get("ntp", {}))
    _sampling(config, data.get("sampling"))
    _wiring(config, data)
    config.model_keys = _model_keys(data.get("model_keys", []))
    config.power = _power(config, data.get("power", {}))
    config.root_key = _root_key(data)
    config.link = _fields("link", data.get("link", {}), LINK_FIELDS)
    config.outbox = _outbox(data.get("outbox", {}))
    config.outbox["key"] = _reading_key(config, data) if "reading_key" in data else None
    for name in OTHER_FIELDS:
        low, high, default = OTHER_FIELDS[name]
        setattr(config, name, _integer(name, data.get(name, default), low, high))
    return config


def _power(config, data):
    """`mode`: True when the board sleeps deeply between its samples."""
    _keys("power", data, ("mode", "radio_s", "awake_s"))
    mode = data.get("mode", "always-on")
    if mode not in ("always-on", "deep-sleep"):
        raise ConfigError("power.mode", 'must be "always-on" or "deep-sleep"')
    power = _fields("power", {name: data[name] for name in POWER_FIELDS if name in data}, POWER_FIELDS)
    power["mode"] = mode == "deep-sleep"
    if power["mode"] and config.period_ms < 10000:
        raise ConfigError("sampling.period_ms", "must be 10000 or more for deep sleep")
    if power["mode"] and config.actuators:
        raise ConfigError("actuators", "do not work in deep sleep: outputs let go of their pins")
    return power


def _clock(config, clock, ntp):
    if clock not in ("rtc", "gateway", "sntp"):
        raise ConfigError("clock", 'must be "rtc", "gateway" or "sntp"')
    config.clock = clock
    _keys("ntp", ntp, ("host", "port", "every_s"))
    config.ntp_host = _text("ntp.host", ntp.get("host", ""))
    if config.ntp_host and not _is_address(config.ntp_host) and not _is_name(config.ntp_host):
        raise ConfigError("ntp.host", "must be an IPv4 address or a host's name")
    config.ntp_port = _integer("ntp.port", ntp.get("port", 123), 1, 65535)
    config.ntp_every_s = _integer("ntp.every_s", ntp.get("every_s", 3600), 15, 86400)  # RFC 4330, section 10


def _whereabouts(host, fallback):
    """(whether `host` is a name, address to try when that does not lead anywhere, or "")."""
    named = not _is_address(host)
    if named and not _is_name(host):
        raise ConfigError("gateway.host", "must be an IPv4 address or a host's name")
    if fallback is None:
        return named, ""
    if not named:
        raise ConfigError("gateway.fallback", "is for a gateway.host that is a name")
    if not _is_address(fallback):
        raise ConfigError("gateway.fallback", "must be an IPv4 address")
    return named, fallback


def _tls(data, host):
    """None without TLS. `host` is the name that the certificate must be for, unless `tls.host` gives another."""
    if data is None:
        return None
    _keys("gateway.tls", data, ("ca", "cert", "key", "host"))
    paths = [_text("gateway.tls." + name, data.get(name), 2) for name in ("ca", "cert", "key")]
    return Tls(paths[0], paths[1], paths[2], _text("gateway.tls.host", data.get("host", host), 1))


def _wiring(config, data):
    from isonode import wiring

    wiring.parse(config, data)
    del wiring
    lazy.forget("isonode.wiring")
    lazy.forget("isonode.checks")


def _device_id(where, value):
    if not is_device_id(value):
        raise ConfigError(where, "must match [a-z0-9-]{1,32}")
    return value


def _fields(where, data, fields):
    """Integers by name."""
    _keys(where, data, fields)
    out = {}
    for name in fields:
        low, high, default = fields[name]
        out[name] = _integer(where + "." + name, data.get(name, default), low, high)
    return out


def _outbox(data):
    out = _fields("outbox", data, OUTBOX_FIELDS)
    if out["spill_records"] > out["ram_records"] // 2:
        raise ConfigError("outbox.spill_records", "must be at most half of ram_records")
    if out["capacity_bytes"] < 3 * out["segment_bytes"]:
        raise ConfigError("outbox.capacity_bytes", "must hold three segments")
    return out


def _sampling(config, data):
    _keys("sampling", data, ("period_ms", "strobe_pin"))
    if len(data) != 1:
        raise ConfigError("sampling", "must have either period_ms or strobe_pin")
    config.period_ms = 0
    config.strobe_pin = None
    if "period_ms" in data:
        config.period_ms = _integer("sampling.period_ms", data["period_ms"], 20, 86400000)
    else:
        config.strobe_pin = _integer("sampling.strobe_pin", data["strobe_pin"], 0, _PIN_MAX)


def _model_keys(data):
    found = []
    for i, item in enumerate(_list("model_keys", data, 0, 8)):
        where = "model_keys.%d" % i
        _keys(where, item, ("id", "key"))
        found.append(_hex(where + ".key", item.get("key"), 64))
    return found


def _root_key(data):
    """The fleet's root, which says by signed lists which keys may sign models; None: `model_keys` says so."""
    if "root_key" not in data:
        return None
    if data.get("model_keys"):
        raise ConfigError("model_keys", "are for a board without root_key")
    return _hex("root_key", data["root_key"], 64)


def _reading_key(config, data):
    """The key that frames are tagged with, from the file that `reading_key` names; it never stands in the JSON.

    Without a sound file the board goes on untagged, which the cloud flags and `config_error` tells: measuring and
    alarms do not hang on it.
    """
    path = _text("reading_key", data["reading_key"], 2)
    try:
        with open(path, "rb") as file:
            key = file.read(_READING_KEY_BYTES + 1)
    except OSError:
        key = b""
    if len(key) == _READING_KEY_BYTES:
        return key
    config.config_error = "reading_key: %s does not hold %d bytes" % (path, _READING_KEY_BYTES)
    return None
