"""Every error the host tools raise, and the exit code each ends in.

    HostError            exit 1   the work could not be done; the text says what to do next
    +-- InputError       exit 2   what the user gave cannot be used: a file, an option, a name
    |   +-- TraceError            a trace; names file, line and column
    |   +-- KeyFileError          a key file
    |   +-- ModelFileError        a model or a signed container
    +-- TrainingRefused  exit 1   too little or faulty data; never a guess
    +-- RetryableError   exit 1   the other side did not answer in time; the same command may be run again
    |   +-- BrokerError           no broker, or it went away
    |   +-- DeadlineError         boards that did not report before the deadline
    +-- StoreError       exit 1   the receiver's store cannot be opened or is in use

A text is one sentence for people. It knows nothing of command lines: `cli.py` prints it.
"""

from __future__ import annotations

from pathlib import Path


class HostError(Exception):
    """Base of all errors of the host tools."""

    exit_code = 1


class InputError(HostError):
    """What the user gave cannot be used."""

    exit_code = 2


class TraceError(InputError):
    """A trace that cannot be read. `path`, `line` (1-based, 0 when no line is to blame) and `column` say where."""

    def __init__(self, path: Path, text: str, line: int = 0, column: str = "") -> None:
        where = str(path)
        if line:
            where += f", line {line}"
        if column:
            where += f", column {column}"
        super().__init__(f"{where}: {text}")
        self.path = path
        self.line = line
        self.column = column


class KeyFileError(InputError):
    """A key file that is missing, unreadable or not a P-256 key."""


class ModelFileError(InputError):
    """A model payload or a signed container that is refused."""


class TrainingRefused(HostError):
    """The history does not carry a model; the text says why."""


class RetryableError(HostError):
    """The other side did not answer in time."""


class BrokerError(RetryableError):
    """No broker, or it went away."""


class DeadlineError(RetryableError):
    """Not every board reported before the deadline."""


class StoreError(HostError):
    """The receiver's store cannot be opened, or another process holds it."""
