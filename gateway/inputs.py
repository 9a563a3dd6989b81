"""Ways into the gateway beside the boards' own, as one: what they have in common, and asking all of them.

It knows none of them: app.py makes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from gateway.config import Config
from gateway.messages import Committed


class Input(Protocol):
    """Something that makes records for devices that the gateway speaks for."""

    @property
    def alive(self) -> bool:
        """False when a thread of it ended before `stop`."""
        ...

    def start(self) -> None:
        """Begin; returns at once."""
        ...

    def tune(self, config: Config) -> None:
        """Take up what may change at once."""
        ...

    def committed(self, news: Committed) -> None:
        """In the writer's thread, after each commit."""
        ...

    def deafen(self) -> None:
        """Take nothing further; what was taken may still be answered."""
        ...

    def stop(self, flush_s: float) -> None:
        """Answer what is durable, and end."""
        ...


class Inputs:
    """All of them."""

    def __init__(self, inputs: Iterable[Input] = ()) -> None:
        self._inputs = tuple(inputs)

    @property
    def alive(self) -> bool:
        return all(one.alive for one in self._inputs)

    def start(self) -> None:
        for one in self._inputs:
            one.start()

    def tune(self, config: Config) -> None:
        for one in self._inputs:
            one.tune(config)

    def committed(self, news: Committed) -> None:
        for one in self._inputs:
            one.committed(news)

    def deafen(self) -> None:
        for one in self._inputs:
            one.deafen()

    def stop(self, flush_s: float) -> None:
        for one in self._inputs:
            one.stop(flush_s)
