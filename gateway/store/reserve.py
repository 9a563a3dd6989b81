"""A file that holds room, so that a full disk still lets the store record its state and make room again.

When a commit finds the disk full the reserve is given up; from then on only changes of state are committed (what was
uploaded, what left), and readings wait, unacknowledged, until the reserve stands again.
"""

from __future__ import annotations

from gateway.store.disk import Disk


class Reserve:
    """size_bytes 0: none."""

    def __init__(self, disk: Disk, name: str, size_bytes: int) -> None:
        self._disk = disk
        self._name = name
        self._size_bytes = size_bytes

    @property
    def stands(self) -> bool:
        return not self._size_bytes or self._disk.size(self._name) == self._size_bytes

    @property
    def is_needed(self) -> bool:
        """True when the disk has so little room left that the reserve could hardly be made again."""
        return self._disk.free_bytes() < self._size_bytes

    def release(self) -> None:
        """Give the room up. Raises OSError."""
        self._disk.remove(self._name)

    def restore(self) -> bool:
        """Make it stand, with as much room beside it. False when there is not."""
        if self.stands:
            return True
        try:
            if self._disk.free_bytes() < 2 * self._size_bytes:
                return False
            self._disk.allocate(self._name, self._size_bytes)
        except OSError:
            return False
        return True
