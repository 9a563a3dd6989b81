"""Every error of the board's application.

    NodeError
    +-- ConfigError     fatal: /config.json cannot be used; `.field` names the culprit
    +-- LinkError       retryable: the connection is closed and tried again after a pause; `.reason` is a slug
    |   +-- LinkRefused the broker answered, and said no: the same, with a longer pause
    +-- ModelRefused    rejected: this model will not run here; `.reason` is a slug, the running one stays

Sensors raise nothing: what they cannot read is a fault code (isocore.record).
"""


class NodeError(Exception):
    """Base of all errors of the application. reason: a slug, which the error's text begins with."""

    def __init__(self, reason, text=""):
        super().__init__(reason + (": " + text if text else ""))
        self.reason = reason


class ConfigError(NodeError):
    """field: dotted name of the offending field, such as `sensors.0.pin`."""

    def __init__(self, field, text):
        super().__init__("config.json", field + ": " + text)
        self.field = field


class LinkError(NodeError):
    """reason: `wifi`, `resolve`, `connect`, `tls`, `timeout`, `closed`, `io`, `protocol`, `silence` or `no_ack`."""


class LinkRefused(LinkError):
    """The broker refused: CONNACK return code (MQTT 3.1.1 table 3.1) or SUBACK failure (clause 3.9.3)."""


class ModelRefused(NodeError):
    """reason: a slug of SignatureError, of Model.why_not, or `payload`, `sequence`, `reverted`, `storage`."""
