"""The board's flash: a host file as a NOR block device under littlefs, with its wear counted.

Erase blocks of 4096 bytes (the smallest erase unit of the chips' flash). A host file outlives SIGKILL, so a power cut
keeps what was programmed; `on_operation` is called before each program and erase and may end the board there.
Must not know files or littlefs.
"""

import vfs

BLOCK_BYTES = 4096
_ERASED = b"\xff" * 256

_IOCTL_BLOCK_COUNT = 4
_IOCTL_BLOCK_SIZE = 5
_IOCTL_BLOCK_ERASE = 6


class FileFlash:
    def __init__(self, path):
        self._file = open(path, "r+b")
        self._blocks = self._file.seek(0, 2) // BLOCK_BYTES
        self.erases = 0
        self.programs = 0
        self.programmed_bytes = 0
        self.on_operation = None  # function(kind, block): "program" or "erase", about to happen

    def readblocks(self, block, buf, offset_bytes=0):
        self._file.seek(block * BLOCK_BYTES + offset_bytes)
        self._file.readinto(buf)

    def writeblocks(self, block, buf, offset_bytes=0):
        if self.on_operation:
            self.on_operation("program", block)
        self._file.seek(block * BLOCK_BYTES + offset_bytes)
        self._file.write(buf)
        self.programs += 1
        self.programmed_bytes += len(buf)

    def erase(self, block):
        if self.on_operation:
            self.on_operation("erase", block)
        self._file.seek(block * BLOCK_BYTES)
        for _ in range(BLOCK_BYTES // len(_ERASED)):
            self._file.write(_ERASED)
        self.erases += 1

    def ioctl(self, operation, argument):
        if operation == _IOCTL_BLOCK_COUNT:
            return self._blocks
        if operation == _IOCTL_BLOCK_SIZE:
            return BLOCK_BYTES
        if operation == _IOCTL_BLOCK_ERASE:
            self.erase(argument)
        return 0


def create(path, size_bytes):
    """A blank chip with an empty littlefs."""
    with open(path, "wb") as file:
        for _ in range(size_bytes // len(_ERASED)):
            file.write(_ERASED)
    vfs.VfsLfs2.mkfs(FileFlash(path))


def mount(device, where):
    """Mount as the ESP32 and RP2 images do: littlefs 2 with its default sizes."""
    vfs.mount(vfs.VfsLfs2(device), where)
