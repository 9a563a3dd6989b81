"""Every way in which set-up can fail, each with the exit code that `bootstrap.py` documents.

    SetupError
    +-- NetworkError     retryable: run the same command again
    +-- SpaceError       retryable after making room
    +-- MissingError     the system's package manager must bring something; the text names the command
    +-- WriteError       a folder is not writable
    +-- IntegrityError   fatal: what was fetched is not what was pinned

A text is one sentence: what is wrong, and what to do next.
"""

from __future__ import annotations


class SetupError(Exception):
    """Base, and a step that failed for a reason of its own."""

    exit_code = 1


class NetworkError(SetupError):
    """The package index or the mirror did not answer."""

    exit_code = 4


class SpaceError(SetupError):
    """Too little room on the disk to begin."""

    exit_code = 5


class MissingError(SetupError):
    """A system package is absent and cannot be installed from here."""

    exit_code = 6


class IntegrityError(SetupError):
    """A download does not have the pinned hash."""

    exit_code = 7


class WriteError(SetupError):
    """A folder cannot be written."""

    exit_code = 8
