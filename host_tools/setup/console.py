"""What one sees of set-up: a line a step, alive on a terminal, plain in a log.

Knows nothing of the steps. On a terminal the line of the running step is rewritten in place; elsewhere a step prints
once, when it ends.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import TextIO

NAME_COLUMNS = 22


class Step:
    """The line of one step, from its start to `done`."""

    def __init__(self, stream: TextIO, name: str, clock: Callable[[], float], live: bool) -> None:
        self._stream = stream
        self._name = name
        self._clock = clock
        self._live = live
        self._started_s = clock()
        self._detail = ""

    def note(self, detail: str) -> None:
        """Say what the step is at; seen on a terminal only."""
        self._detail = detail
        self.tick()

    def tick(self) -> None:
        """Rewrite the line, so that its seconds move while a child program is silent."""
        if not self._live:
            return
        columns = shutil.get_terminal_size().columns
        line = f"  {self._name:<{NAME_COLUMNS}} {self._elapsed_s():4.0f} s  {self._detail}"
        self._stream.write("\r\x1b[K" + line[: columns - 1])
        self._stream.flush()

    def done(self, result: str) -> None:
        """End the line."""
        self._clear()
        self._stream.write(f"  {self._name:<{NAME_COLUMNS}} {result} ({self._elapsed_s():.1f} s)\n")
        self._stream.flush()

    def failed(self) -> None:
        """Clear the live line; the error is told elsewhere."""
        self._clear()

    def _clear(self) -> None:
        if self._live:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _elapsed_s(self) -> float:
        return self._clock() - self._started_s


class Console:
    """Makes steps, and prints the few lines around them."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._live = stream.isatty()

    def say(self, text: str) -> None:
        """Print one line."""
        self._stream.write(text + "\n")
        self._stream.flush()

    def step(self, name: str) -> Step:
        """Begin a step."""
        step = Step(self._stream, name, self._clock, self._live)
        step.tick()
        return step
