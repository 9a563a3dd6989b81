"""Payloads of threshold models: JSON with integers only (docs/model.md), checked field by field.

Turns bytes into a Model or refuses them, naming the field, and writes the one payload of a Model. Knows no signature
(sign.py) and keeps nothing: a board may forget this module between two models.
"""

import json

from isocore.errors import ModelError
from isocore.fields import FIELDS
from isocore.model import PREDICTORS, ChannelParams, Model
from isocore.topics import is_device_id

PAYLOAD_VERSION = 1
PAYLOAD_BYTES_MAX = 4000
CHANNELS_MAX = 8
NAME_MAX = 32
SEQUENCE_MAX = 0x3FFFFFFF


def parse(payload):
    """Bytes of a payload into a Model. Raises ModelError and nothing else for anything wrong."""
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise ModelError("payload", "%d bytes, at most %d" % (len(payload), PAYLOAD_BYTES_MAX))
    try:
        data = json.loads(bytes(payload).decode())
    except (ValueError, UnicodeError, RuntimeError, MemoryError):
        # RuntimeError: nesting deeper than the interpreter's stack (RecursionError on CPython is one).
        raise ModelError("payload", "is not JSON") from None
    return from_dict(data)


def from_dict(data):
    """A decoded payload into a Model. Raises ModelError naming the field."""
    if not isinstance(data, dict):
        raise ModelError("payload", "must be an object")
    known = ("v", "fleet", "target", "sequence", "min_firmware", "expires_unix_s", "channels")
    for name in data:
        if name not in known:
            raise ModelError(str(name), "is not a field of a model")
    if data.get("v") != PAYLOAD_VERSION or isinstance(data.get("v"), bool):
        raise ModelError("v", "must be %d" % PAYLOAD_VERSION)
    fleet = data.get("fleet")
    if not is_device_id(fleet):
        raise ModelError("fleet", "must match [a-z0-9-]{1,32}")
    target = data.get("target")
    if not _is_target(target):
        raise ModelError("target", 'must be "*", "class:NAME" or "device:NAME"')
    sequence = _integer("sequence", data.get("sequence"), 1, SEQUENCE_MAX)
    expires = _integer("expires_unix_s", data.get("expires_unix_s", 0), 0, 0xFFFFFFFF)
    version = data.get("min_firmware", [0, 0, 0])
    if not isinstance(version, (list, tuple)) or len(version) != 3:
        raise ModelError("min_firmware", "must be three integers")
    version = tuple(_integer("min_firmware", part, 0, 9999) for part in version)
    return Model(fleet, target, sequence, version, expires, _channels(data.get("channels")))


def to_payload(model):
    """A Model into payload bytes: compact JSON, keys sorted, so that one model has one payload. Only for hosts."""
    channels = {name: params.as_dict() for name, params in model.channels.items()}
    data = {
        "v": PAYLOAD_VERSION,
        "fleet": model.fleet,
        "target": model.target,
        "sequence": model.sequence,
        "min_firmware": list(model.min_firmware),
        "expires_unix_s": model.expires_unix_s,
        "channels": channels,
    }
    return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()


def _is_target(target):
    if target == "*":
        return True
    if not isinstance(target, str):
        return False
    scope, _, name = target.partition(":")
    return scope in ("class", "device") and is_device_id(name)


def _integer(field, value, lowest, highest):
    if isinstance(value, bool) or not isinstance(value, int):
        raise ModelError(field, "must be an integer")
    if not lowest <= value <= highest:
        raise ModelError(field, "must be between %d and %d, got %d" % (lowest, highest, value))
    return value


def _channels(data):
    if not isinstance(data, dict) or not 0 < len(data) <= CHANNELS_MAX:
        raise ModelError("channels", "must be an object of 1 to %d channels" % CHANNELS_MAX)
    channels = {}
    for name in data:
        if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX:
            raise ModelError("channels", "a channel's name has 1 to %d characters" % NAME_MAX)
        channels[name] = _channel("channels." + name, data[name])
    return channels


def _channel(where, data):
    if not isinstance(data, dict):
        raise ModelError(where, "must be an object")
    params = ChannelParams()
    for name in data:
        value = data[name]
        if name == "predictor":
            if value not in PREDICTORS:
                raise ModelError(where + ".predictor", "must be one of " + ", ".join(PREDICTORS))
            params.predictor = PREDICTORS.index(value)
        elif name in FIELDS:
            setattr(params, name, _integer(where + "." + name, value, FIELDS[name][0], FIELDS[name][1]))
        else:
            raise ModelError(where + "." + str(name), "is not a field of a channel")
    check_limits(where, params)
    return params


def check_limits(where, params):
    """Refuse limits that contradict one another. `*_off` defaults to its `*_on`."""
    if params.high_off_milli is None:
        params.high_off_milli = params.high_on_milli
    if params.low_off_milli is None:
        params.low_off_milli = params.low_on_milli
    if params.high_on_milli is None and params.high_off_milli is not None:
        raise ModelError(where + ".high_off_milli", "stands without high_on_milli")
    if params.low_on_milli is None and params.low_off_milli is not None:
        raise ModelError(where + ".low_off_milli", "stands without low_on_milli")
    if params.high_on_milli is not None and params.high_off_milli > params.high_on_milli:
        raise ModelError(where + ".high_off_milli", "must not be above high_on_milli")
    if params.low_on_milli is not None and params.low_off_milli < params.low_on_milli:
        raise ModelError(where + ".low_off_milli", "must not be below low_on_milli")
    both = params.high_on_milli is not None and params.low_on_milli is not None
    if both and params.low_on_milli >= params.high_on_milli:
        raise ModelError(where + ".low_on_milli", "must be below high_on_milli")
    if params.valid_min_milli >= params.valid_max_milli:
        raise ModelError(where + ".valid_min_milli", "must be below valid_max_milli")
