"""Every error the shared core raises.

    IsoError
    +-- FrameError      bytes that are not a frame; `.reason` says in which way
    +-- TopicError      a name that may not stand in a topic
    +-- SignatureError  a signed container that must not be trusted; `.reason`
    +-- ModelError      a payload that is no valid model; `.field` names the culprit
        +-- TrustError  one that is no valid list of keys or of members; `.field`

`reason` is one of a fixed set of slugs, so that it can name a counter.
"""


class IsoError(Exception):
    """Base of all errors of the core. reason: a slug where there is one; the text is then what the error says."""

    def __init__(self, reason, text=None):
        super().__init__(reason if text is None else text)
        self.reason = reason


class FrameError(IsoError):
    """Bytes refused as a frame.

    reason: `type`, `short`, `long`, `version`, `flags`, `count`, `crc`, `tag`, `kind`, `order`, `range` or `canonical`.
    """


class TopicError(IsoError):
    """A device id outside `[a-z0-9-]{1,32}`, or a topic that is none of ours."""


class SignatureError(IsoError):
    """A signed container refused.

    reason: `size`, `magic`, `version`, `algorithm`, `kind`, `key`, `signature`.
    """


class ModelError(IsoError):
    """A model payload refused.

    field: dotted name of the offending field, such as `channels.temperature.high_on_milli`.
    """

    def __init__(self, field, text):
        super().__init__(field + ": " + text)
        self.field = field


class TrustError(ModelError):
    """A list of model keys, or of who may use the broker, refused. field: as in ModelError."""
