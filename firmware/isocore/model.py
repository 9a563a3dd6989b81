"""Threshold models: data that says what a board watches and what it reports.

The values only; payload.py turns bytes into them and back. Of that file `parse`, `from_dict`, `to_payload` and
`check_limits` can be had from here too, and FIELDS of fields.py: both are loaded when first asked for, because a board
needs them for seconds of its life and its heap is small. This file knows neither signatures (sign.py) nor slots, and it
never decides whether a model is wanted here: `why_not` only answers.
"""

PREDICTOR_NONE = 0  # every sample is reported
PREDICTOR_HOLD = 1  # the last report stands until the reading leaves its error bound
PREDICTOR_TREND = 2  # the same, but it moves on with the slope, fading (predict.py)
PREDICTORS = ("none", "hold", "trend")


class ChannelParams:
    """What one channel is held to; attributes are FIELDS plus `predictor` (a PREDICTOR_* number).

    Limits that are None do not alarm. Zero rate limit, stuck time, heartbeat, delay or window means off.
    """

    def __init__(self):
        from isocore.fields import FIELDS

        for name in FIELDS:
            setattr(self, name, FIELDS[name][2])
        self.predictor = PREDICTOR_HOLD

    def as_dict(self):
        """The fields that differ from the defaults, as they stand in a payload."""
        from isocore.fields import FIELDS

        out = {}
        for name in FIELDS:
            value = getattr(self, name)
            if value != FIELDS[name][2]:
                out[name] = value
        if self.predictor != PREDICTOR_HOLD:
            out["predictor"] = PREDICTORS[self.predictor]
        return out


class Model:
    """One threshold model.

    fleet: str; target: "*", "class:<class>" or "device:<id>"; sequence: 1..2^30-1; min_firmware: (major, minor, patch);
    expires_unix_s: int, 0 for never; channels: {name: ChannelParams}.
    """

    def __init__(self, fleet, target, sequence, min_firmware=(0, 0, 0), expires_unix_s=0, channels=None):
        self.fleet = fleet
        self.target = target
        self.sequence = sequence
        self.min_firmware = min_firmware
        self.expires_unix_s = expires_unix_s
        self.channels = channels if channels is not None else {}

    def params(self, channel):
        """Parameters of a channel by name; defaults when the model does not mention it."""
        return self.channels.get(channel) or ChannelParams()

    def why_not(self, fleet, device, device_class, firmware, now_unix_s=None):
        """Why this model may not run on this board: "fleet", "target", "firmware", "expired", or None when it may.

        firmware: (major, minor, patch) of the board; now_unix_s: None while the board has no trusted time.
        """
        if self.fleet != fleet:
            return "fleet"
        if self.target not in ("*", "device:" + device, "class:" + device_class):
            return "target"
        if tuple(firmware) < tuple(self.min_firmware):
            return "firmware"
        if self.expires_unix_s and now_unix_s is not None and now_unix_s > self.expires_unix_s:
            return "expired"
        return None


def __getattr__(name):
    if name == "FIELDS":
        from isocore.fields import FIELDS

        return FIELDS
    if name in (
        "parse",
        "from_dict",
        "to_payload",
        "check_limits",
        "PAYLOAD_BYTES_MAX",
        "SEQUENCE_MAX",
        "CHANNELS_MAX",
    ):
        from isocore import payload

        return getattr(payload, name)
    raise AttributeError("isocore.model has no " + name)
