"""Every error of the gateway, by what to do about it.

    GatewayError
    +-- RetryableError       the same thing may work later, unchanged
    |   +-- StoreBusy        full or failing disk, locked file: nothing was committed
    |   +-- SinkUnavailable  no proof that the other side stored the batch; carries retry_after_s and reason
    |   +-- BatchUnfit       the sink never takes this batch as it is frozen, but may take its rows in another form
    +-- RejectedError        this one thing will never be accepted; the rest goes on
    |   +-- MessageRejected  an incoming message; `.reason` names its counter
    |   +-- BatchRejected    the sink refused this very batch; `.reason` is kept with it
    +-- FatalError           the process cannot do its work; `.exit_code`
        +-- ConfigError      a configuration that must be corrected; names file and key
        +-- StoreDamaged     the database file is corrupt
        +-- StoreUnusable    the database cannot be opened, locked or created

It knows nothing of where errors are raised. `reason` is one of a small fixed set of slugs, so that it can label a
counter.
"""

from __future__ import annotations


class GatewayError(Exception):
    """Base of all errors of the gateway."""


class RetryableError(GatewayError):
    """Try again later."""


class StoreBusy(RetryableError):
    """A transaction could not be committed; nothing of it is stored."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class SinkUnavailable(RetryableError):
    """No explicit reply for the batch. It may or may not have been stored; only a retry can tell."""

    def __init__(self, reason: str, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.reason = reason
        self.retry_after_s = retry_after_s


class BatchUnfit(RetryableError):
    """The rows may be taken in smaller batches (`reason` too_large), or in another encoding (`reason` encoding)."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class RejectedError(GatewayError):
    """One item is refused for good."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class MessageRejected(RejectedError):
    """An incoming message that is not taken."""


class BatchRejected(RejectedError):
    """The sink will never take this batch as it is."""


class FatalError(GatewayError):
    """The gateway must stop, or cannot start."""

    exit_code = 1


class ConfigError(FatalError):
    """The configuration is wrong. The text is a line for each mistake, one sentence that names file and key."""

    exit_code = 2


class StoreDamaged(FatalError):
    """SQLite reports a corrupt file."""


class StoreUnusable(FatalError):
    """The database cannot be opened: permissions, another gateway running, a newer schema."""
