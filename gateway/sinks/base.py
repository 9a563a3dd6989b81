"""What every sink is to the uploader.

A sink sends the very bytes it is given and answers with what it knows, never with what it hopes: `send` returns Stored
only when the other side named this batch as stored. Otherwise it raises SinkUnavailable (retry, byte-identical),
BatchUnfit (its rows in another form) or BatchRejected (this batch never). Nothing else leaves `send`. It knows no retry
policy and no store.
"""

from __future__ import annotations

import ssl
from typing import NamedTuple, Protocol

from gateway.messages import Batch


class Stored(NamedTuple):
    """The other side's word for one batch. `duplicate`: it had it before. `new_rows`: rows it had not, if it said."""

    duplicate: bool
    new_rows: int | None


class Tuning(NamedTuple):
    """What may change while a sink works. `ssl_context`: certificates read anew, None where there is no TLS."""

    token: str | None
    connect_timeout_s: float
    read_timeout_s: float
    ssl_context: ssl.SSLContext | None = None


class Sink(Protocol):
    """One destination; safe to use from several threads at once.

    accepts: the content encodings that the other side said it takes; None while it has not said.
    """

    @property
    def accepts(self) -> frozenset[str] | None: ...

    def send(self, batch: Batch) -> Stored:
        """Deliver one batch; bounded by the sink's own time-outs."""

    def tune(self, tuning: Tuning) -> None:
        """Use this from the next send on; what is under way goes on as it began."""

    def close(self) -> None:
        """Let go of connections."""
