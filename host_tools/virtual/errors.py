"""What can go wrong with virtual boards, all of it fatal for the command at hand.

HostError
+-- VirtualError                one sentence: what, where, what to do
    +-- InterpreterMissing      no MicroPython found
    +-- InterpreterUnusable     found, but it does not run, is too old or lacks littlefs
    +-- ImageError              a flash image could not be made or read
    +-- BoardError              a board could not be started, or did not do what it was asked in time
"""

from __future__ import annotations

from host_tools.errors import HostError


class VirtualError(HostError):
    """Base of all errors of virtual boards."""


class InterpreterMissing(VirtualError):
    """No MicroPython was found."""


class InterpreterUnusable(VirtualError):
    """A MicroPython was found that cannot be a board."""


class ImageError(VirtualError):
    """A flash image could not be made or read."""


class BoardError(VirtualError):
    """A board could not be started, or did not do what it was asked in time."""
