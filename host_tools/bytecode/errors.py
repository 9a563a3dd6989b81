"""What can go wrong while the firmware is built, all of it fatal for the command at hand.

HostError
+-- BuildError    the firmware's sources cannot be linked or compiled; names the file
"""

from __future__ import annotations

from host_tools.errors import HostError


class BuildError(HostError):
    """The firmware could not be built."""
